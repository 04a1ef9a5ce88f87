/** Random operations on a file system and on the plain tree, with everything unpleasant in between: crashes, evictions, outages, strangers. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { FallocateMode, OpenFlag, RenameFlag } from '../../src/fuse/ops.js';
import { errnoOf, type FsHarness, type Handle } from '../support/fs-harness.js';
import { newFile, PlainTree, Refused, resize, write, type FileNode, type Node } from './plain-tree.js';

/** Names that only the other client of the bucket uses; commands of ours stay away from them. */
const foreignDirectory = 'z';
const foreignNames = ['s0', 's1'];

export class Model {
  readonly tree = new PlainTree();
  /** What a stranger put, by key. */
  readonly foreign = new Map<string, string>();
  readonly handles: { readonly node: FileNode; readonly handle: Handle; readonly writable: boolean }[] = [];
  offline = false;
}

type Command = fc.AsyncCommand<Model, FsHarness>;

export abstract class Step implements Command {
  constructor(private readonly label: string) {}
  check(_model: Readonly<Model>): boolean { return true; }
  abstract run(model: Model, real: FsHarness): Promise<void>;
  toString(): string { return this.label; }
}

/**
 * Does the same to both. Both succeed, or both refuse with the same errno. While S3 is out of reach, or was made to fail right now, EIO is a
 * right answer too, and then nothing may have changed (promise 5).
 */
async function both(model: Model, real: FsHarness, plain: () => void, act: () => Promise<unknown>): Promise<boolean> {
  const faults = real.faulty.injected.length;
  const outcome = await errnoOf(act);
  if (outcome === 'EIO' && (model.offline || real.faulty.injected.length > faults)) return false;
  let wanted = 'ok';
  try {
    plain();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    wanted = error.errno;
  }
  expect(outcome).toBe(wanted);
  return wanted === 'ok';
}

function pick<T>(list: readonly T[], index: number): T {
  return list[index % list.length]!; // modulo keeps a pick valid while shrinking
}

function files(model: Model): string[] { return model.tree.paths((node) => node.kind === 'file'); }
function directories(model: Model): string[] { return ['', ...model.tree.paths((node) => node.kind === 'dir')]; }
function join(dir: string, name: string): string { return dir === '' ? name : `${dir}/${name}`; }

/** Bytes that tell where they belong. */
function pattern(seed: number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (seed * 31 + index * 7 + (index >> 8)) & 0xff));
}

class NewName extends Step {
  constructor(readonly kind: 'create' | 'mkdir' | 'symlink' | 'link', readonly dir: number, readonly name: string, readonly n: number) {
    super(`${kind}(dir #${dir}, ${name}, ${n})`);
  }
  override check(model: Readonly<Model>): boolean { return this.kind !== 'link' || files(model as Model).length > 0; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const path = join(pick(directories(model), this.dir), this.name);
    switch (this.kind) {
      case 'create': {
        const data = pattern(this.n, this.n);
        const there = model.tree.get(path);
        if (there) {
          await both(model, real, () => { throw new Refused('EEXIST'); }, () => real.create(path, OpenFlag.WRONLY | OpenFlag.EXCL));
          return;
        }
        const node = newFile();
        const made = await both(model, real, () => model.tree.add(path, node), async () => {
          const handle = await real.create(path, OpenFlag.WRONLY | OpenFlag.EXCL);
          await real.pwrite(handle, 0, data);
          await real.closeFile(handle);
        });
        if (made) write(node, 0, data);
        return;
      }
      case 'mkdir':
        await both(model, real, () => model.tree.add(path, { kind: 'dir', children: new Map(), mode: 0o700 | (this.n & 0o77) }), () => real.mkdir(path, 0o700 | (this.n & 0o77)));
        return;
      case 'symlink':
        await both(model, real, () => model.tree.add(path, { kind: 'symlink', target: `to-${this.n}` }), () => real.symlink(path, `to-${this.n}`));
        return;
      case 'link': {
        const from = pick(files(model), this.n);
        await both(model, real, () => model.tree.add(path, model.tree.must(from)), () => real.link(from, path));
      }
    }
  }
}

class Remove extends Step {
  constructor(readonly n: number) { super(`remove(#${n})`); }
  override check(model: Readonly<Model>): boolean { return model.tree.paths().length > 0; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const path = pick(model.tree.paths(), this.n);
    if (model.tree.must(path).kind === 'dir') await both(model, real, () => model.tree.rmdir(path), () => real.rmdir(path));
    else await both(model, real, () => model.tree.unlink(path), () => real.unlink(path));
  }
}

class Rename extends Step {
  constructor(readonly n: number, readonly dir: number, readonly name: string, readonly mode: 'plain' | 'noreplace' | 'exchange') {
    super(`rename(#${n}, dir #${dir}, ${name}, ${mode})`);
  }
  override check(model: Readonly<Model>): boolean { return model.tree.paths().length > 0; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const from = pick(model.tree.paths(), this.n);
    const to = join(pick(directories(model), this.dir), this.name);
    const flags = this.mode === 'plain' ? 0 : this.mode === 'exchange' ? RenameFlag.EXCHANGE : RenameFlag.NOREPLACE;
    await both(model, real, () => model.tree.rename(from, to, this.mode), () => real.rename(from, to, flags));
  }
}

class Change extends Step {
  constructor(readonly kind: 'write' | 'truncate' | 'chmod' | 'utimens' | 'xattr' | 'punch' | 'zero' | 'overwrite' | 'read', readonly n: number, readonly offset: number, readonly length: number) {
    super(`${kind}(#${n} @${offset} ${length}B)`);
  }
  override check(model: Readonly<Model>): boolean { return files(model as Model).length > 0; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const path = pick(files(model), this.n);
    const node = model.tree.file(path);
    const { offset, length } = this;
    const data = pattern(offset + length, length);
    switch (this.kind) {
      case 'write': return void (await both(model, real, () => write(node, offset, data), () => real.writeAt(path, offset, data)));
      case 'truncate': return void (await both(model, real, () => resize(node, offset), () => real.truncate(path, offset)));
      case 'overwrite': {
        await both(model, real, () => { resize(node, 0); write(node, 0, data); }, () => real.using(path, OpenFlag.WRONLY | OpenFlag.TRUNC, (handle) => real.pwrite(handle, 0, data)));
        return;
      }
      case 'chmod': return void (await both(model, real, () => { node.mode = 0o600 | (length & 0o77); }, () => real.chmod(path, 0o600 | (length & 0o77))));
      case 'utimens': {
        const sec = 1_000_000_000 + offset;
        return void (await both(model, real, () => { node.mtimeSec = sec; }, () => real.utimens(path, undefined, { sec, nsec: 5 })));
      }
      case 'xattr': return void (await both(model, real, () => node.xattrs.set(`user.${length % 3}`, `v${offset}`), () => real.setxattr(path, `user.${length % 3}`, `v${offset}`)));
      case 'punch': case 'zero': {
        const mode = this.kind === 'punch' ? FallocateMode.PUNCH_HOLE | FallocateMode.KEEP_SIZE : FallocateMode.PUNCH_HOLE | FallocateMode.KEEP_SIZE;
        await both(model, real, () => {
          node.content.fill(0, Math.min(offset, node.content.length), Math.min(offset + length, node.content.length));
          node.mtimeSec = undefined;
        }, () => real.using(path, OpenFlag.RDWR, (handle) => real.fs.fallocate(real.context(), handle.ino, handle.fh, offset, Math.max(1, length), mode)));
        return;
      }
      case 'read': {
        let got = Buffer.alloc(0);
        const read = await both(model, real, () => undefined, async () => { got = Buffer.from(await real.using(path, OpenFlag.RDONLY, (handle) => real.pread(handle, offset, length))); });
        if (read) expectBytes(got, node.content.subarray(offset, offset + length), path);
      }
    }
  }
}

class CopyRange extends Step {
  constructor(readonly n: number, readonly m: number, readonly offset: number, readonly outOffset: number, readonly length: number) { super(`copy(#${n} @${offset} to #${m} @${outOffset} ${length}B)`); }
  override check(model: Readonly<Model>): boolean { return !model.offline && files(model as Model).length > 0; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const from = pick(files(model), this.n);
    const to = pick(files(model), this.m);
    const source = model.tree.file(from);
    const target = model.tree.file(to);
    if (source === target) return;
    let count = 0;
    const done = await both(model, real, () => undefined, () => real.using(from, OpenFlag.RDONLY, (a) => real.using(to, OpenFlag.RDWR, async (b) => {
      count = await real.fs.copyFileRange(real.context(), a.ino, a.fh, this.offset, b.ino, b.fh, this.outOffset, this.length);
    })));
    if (!done) return;
    const data = source.content.subarray(this.offset, this.offset + this.length);
    expect(count).toBe(data.length);
    write(target, this.outOffset, Buffer.from(data));
  }
}

class OpenFile extends Step {
  constructor(readonly n: number, readonly writable: boolean) { super(`open(#${n}, ${writable ? 'rw' : 'r'})`); }
  override check(model: Readonly<Model>): boolean { return model.handles.length < 4 && files(model as Model).length > 0; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const path = pick(files(model), this.n);
    await both(model, real, () => undefined, async () => {
      const handle = await real.open(path, this.writable ? OpenFlag.RDWR : OpenFlag.RDONLY);
      model.handles.push({ node: model.tree.file(path), handle, writable: this.writable });
    });
  }
}

class UseHandle extends Step {
  constructor(readonly kind: 'write' | 'read' | 'close' | 'fsync', readonly n: number, readonly offset: number, readonly length: number) { super(`handle #${n} ${kind} @${offset} ${length}B`); }
  override check(model: Readonly<Model>): boolean { return model.handles.length > 0; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const { node, handle, writable } = pick(model.handles, this.n);
    const { offset, length } = this;
    switch (this.kind) {
      case 'write': {
        if (!writable) return;
        const data = pattern(offset, length);
        return void (await both(model, real, () => write(node, offset, data), () => real.pwrite(handle, offset, data)));
      }
      case 'fsync': return void (await both(model, real, () => undefined, () => real.fsync(handle)));
      case 'read': {
        let got = Buffer.alloc(0);
        const read = await both(model, real, () => undefined, async () => { got = Buffer.from(await real.pread(handle, offset, length)); });
        if (read) expectBytes(got, node.content.subarray(offset, offset + length), 'open file');
        return;
      }
      case 'close':
        model.handles.splice(model.handles.findIndex((open) => open.handle === handle), 1);
        await real.closeFile(handle);
    }
  }
}

class Happen extends Step {
  constructor(readonly what: 'crash' | 'remount' | 'evict' | 'later' | 'soon' | 'upload some' | 'sync' | 'outage begins' | 'outage ends' | 'fresh mount' | 'compare' | 'compare all') { super(what); }
  async run(model: Model, real: FsHarness): Promise<void> {
    switch (this.what) {
      case 'crash':
        await real.crash();
        // What was being written has the time of its content file now
        for (const path of files(model)) model.tree.file(path).mtimeSec = undefined;
        break;
      case 'remount':
        if (model.offline) return;
        for (const { handle } of model.handles.splice(0)) await real.closeFile(handle);
        await real.remount();
        break;
      case 'evict': await real.evict(); break;
      case 'later': real.clock.advance(real.daemon.config.ttlMs! + 1000); break;
      case 'soon': real.clock.advance(1500); break;
      case 'upload some':
        real.clock.advance(1500);
        await real.daemon.writeback.runDue();
        break;
      case 'outage begins': model.offline = true; real.setOffline(true); break;
      case 'outage ends': endOutage(model, real); break;
      case 'sync':
        // What is open and unlinked and only in S3 stays there until it is closed (J4)
        if (model.offline || model.handles.some(({ node }) => model.tree.nlink(node) === 0)) return;
        await real.sync();
        expectStore(model, real);
        break;
      case 'fresh mount': if (!model.offline && model.handles.every(({ node }) => model.tree.nlink(node) > 0)) await expectFreshMount(model, real); break;
      case 'compare': if (!model.offline) await expectTree(model, real, { content: false }); break;
      case 'compare all': if (!model.offline) await expectTree(model, real, { content: true }); break;
    }
    real.checkInvariants();
  }
}

class Fault extends Step {
  constructor(readonly op: 'put' | 'delete' | 'copy' | 'head' | 'list' | 'getToFile' | '*', readonly fault: 'lost' | 'fail' | 'throttle', readonly times: number) { super(`fault(${op} ${fault} x${times})`); }
  run(_model: Model, real: FsHarness): Promise<void> {
    real.faulty.script(this.op, { fault: this.fault }, this.times);
    return Promise.resolve();
  }
}

class Stranger extends Step {
  constructor(readonly key: string, readonly text: string | null) { super(text === null ? `stranger deletes ${key}` : `stranger puts ${key} = ${text}`); }
  async run(model: Model, real: FsHarness): Promise<void> {
    if (this.text === null) {
      await real.stranger.delete(this.key);
      model.foreign.delete(this.key);
    } else {
      await real.stranger.put(this.key, this.text);
      model.foreign.set(this.key, this.text);
    }
  }
}

function endOutage(model: Model, real: FsHarness): void {
  model.offline = false;
  real.setOffline(false);
}

function expectBytes(got: Buffer, wanted: Buffer, what: string): void {
  if (got.equals(wanted)) return;
  const at = [...got].findIndex((byte, index) => byte !== wanted[index]);
  expect.fail(`${what}: ${got.length} bytes, wanted ${wanted.length}, first difference at ${at < 0 ? Math.min(got.length, wanted.length) : at}`);
}

/** The real tree shows what the plain one holds; names of strangers apart, which come and go with the TTL. */
async function expectTree(model: Model, real: FsHarness, options: { content: boolean }): Promise<void> {
  real.faulty.clear();
  const visit = async (path: string, node: Node): Promise<void> => {
    if (node.kind === 'symlink') {
      expect(await real.readlink(path), path).toBe(node.target);
      return;
    }
    const attr = await real.getattr(path);
    if (path !== '') expect(attr.mode & 0o7777, `mode of ${path}`).toBe(node.mode);
    if (node.kind === 'file') {
      expect(attr.mode >> 12, `type of ${path}`).toBe(0o10);
      expect(attr.sizeBytes, `size of ${path}`).toBe(node.content.length);
      expect(attr.nlink, `links of ${path}`).toBe(model.tree.nlink(node));
      if (node.mtimeSec !== undefined) expect(attr.mtime, `mtime of ${path}`).toEqual({ sec: node.mtimeSec, nsec: 5 });
      if (options.content) expectBytes(await real.readBytes(path), node.content, path);
      for (const [name, value] of node.xattrs) expect(await real.getxattr(path, name), `${name} of ${path}`).toBe(value);
      expect((await real.listxattr(path)).sort(), `xattrs of ${path}`).toEqual([...node.xattrs.keys()].sort());
      return;
    }
    const names = (await real.readdir(path)).filter((name) => path !== '' || (name !== foreignDirectory && !foreignNames.includes(name)));
    expect(names, `names in /${path}`).toEqual([...node.children.keys()].sort());
    for (const [name, child] of node.children) await visit(join(path, name), child);
  };
  await visit('', model.tree.root);
  for (const { node, handle } of model.handles) {
    const attr = await real.fstat(handle);
    expect(attr.sizeBytes, 'size of an open file').toBe(node.content.length);
  }
}

/** After the TTL, strangers' objects are shown as they are. */
async function expectForeign(model: Model, real: FsHarness): Promise<void> {
  real.faulty.clear();
  real.clock.advance(real.daemon.config.ttlMs! + 1000);
  const inDirectory = [...model.foreign.keys()].filter((key) => key.startsWith(`${foreignDirectory}/`)).map((key) => key.slice(2));
  const names = await real.readdir('');
  expect(names.filter((name) => foreignNames.includes(name))).toEqual([...model.foreign.keys()].filter((key) => foreignNames.includes(key)).sort());
  expect(names.includes(foreignDirectory)).toBe(inDirectory.length > 0);
  if (inDirectory.length > 0) expect(await real.readdir(foreignDirectory)).toEqual(inDirectory.sort());
  for (const [key, text] of model.foreign) expect(await real.readFile(key), key).toBe(text);
}

/** S3 holds the tree, and nothing else. */
function expectStore(model: Model, real: FsHarness): void {
  const objects = real.memory.snapshot();
  const wanted = new Map<string, Node>();
  for (const path of model.tree.paths()) {
    const node = model.tree.must(path);
    wanted.set(node.kind === 'dir' ? `${path}/` : path, node);
  }
  const ours = [...objects.keys()].filter((key) => !model.foreign.has(key));
  expect(ours.sort()).toEqual([...wanted.keys()].sort());
  for (const [key, node] of wanted) {
    const object = objects.get(key)!;
    if (node.kind === 'file') expectBytes(object.bytes, node.content, `object ${key}`);
    else expect(object.bytes.toString(), `object ${key}`).toBe(node.kind === 'symlink' ? node.target : '');
    if (node.kind !== 'symlink') expect(Number(object.attributes.metadata['mode']) & 0o7777, `mode of object ${key}`).toBe(node.mode);
  }
  for (const [key, text] of model.foreign) expect(objects.get(key)?.bytes.toString(), key).toBe(text);
  expect(real.daemon.conflicts.list()).toEqual([]);
}

async function expectFreshMount(model: Model, real: FsHarness): Promise<void> {
  real.faulty.clear();
  await real.sync();
  const other = await real.freshMount();
  try {
    for (const path of model.tree.paths()) await other.stat(path); // the names of a hard link are one file once all were looked up (J10)
    await expectTree({ ...model, tree: model.tree, handles: [] } as unknown as Model, other, { content: true });
    expect(other.daemon.conflicts.list()).toEqual([]);
    expect(other.journal.count()).toBe(0);
    other.checkInvariants();
  } finally {
    await other.close();
  }
}

/** After every sequence: all is well once S3 is there again. */
export async function expectAllIsWell(model: Model, real: FsHarness): Promise<void> {
  real.faulty.clear();
  endOutage(model, real);
  await expectTree(model, real, { content: true });
  await expectForeign(model, real);
  for (const { handle } of model.handles.splice(0)) await real.closeFile(handle);
  await real.sync();
  expectStore(model, real);
  await expectFreshMount(model, real);
  real.checkInvariants();
}

const index = fc.nat({ max: 30 });
const name = fc.constantFrom('a', 'b', 'c');
/** Small files, and ones that are fetched in parts. */
const size = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 5000 }) }, { weight: 1, arbitrary: fc.integer({ min: 200_000, max: 500_000 }) });
const length = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 3000 }) }, { weight: 1, arbitrary: fc.integer({ min: 100_000, max: 300_000 }) });

const operations: readonly (readonly [number, fc.Arbitrary<Step>])[] = [
  [5, fc.tuple(fc.constantFrom('create', 'create', 'create', 'mkdir', 'mkdir', 'symlink', 'link'), index, name, size).map((args) => new NewName(...args))],
  [4, fc.tuple(index, index, name, fc.constantFrom('plain', 'plain', 'noreplace', 'exchange')).map((args) => new Rename(...args))],
  [2, index.map((n) => new Remove(n))],
  [5, fc.tuple(fc.constantFrom('write', 'write', 'truncate', 'chmod', 'utimens', 'xattr', 'punch', 'overwrite', 'read', 'read'), index, size, length).map((args) => new Change(...args))],
  [1, fc.tuple(index, index, size, size, length).map((args) => new CopyRange(...args))],
  [1, fc.tuple(index, fc.boolean()).map((args) => new OpenFile(...args))],
  [2, fc.tuple(fc.constantFrom('write', 'read', 'close', 'fsync'), index, size, length).map((args) => new UseHandle(...args))],
  [3, fc.constantFrom('crash', 'remount', 'evict', 'evict', 'later', 'soon', 'upload some', 'upload some', 'upload some', 'sync').map((what) => new Happen(what))],
  [1, fc.constantFrom('outage begins', 'outage ends', 'outage ends', 'fresh mount', 'compare', 'compare all', 'compare all').map((what) => new Happen(what))],
  [1, fc.tuple(fc.constantFrom('put', 'delete', 'copy', 'head', 'list', 'getToFile', '*'), fc.constantFrom('lost', 'fail', 'throttle'), fc.integer({ min: 1, max: 3 })).map((args) => new Fault(...args))],
  [1, fc.tuple(fc.constantFrom('z/x', 'z/y', 's0', 's1'), fc.option(fc.constantFrom('one', 'two', 'three'))).map((args) => new Stranger(...args))],
];

/** `fc.commands` picks evenly: what should come more often is there more often. */
export const fsCommands: fc.Arbitrary<Command>[] = operations.flatMap(([weight, arbitrary]) => Array<fc.Arbitrary<Command>>(weight).fill(arbitrary));
