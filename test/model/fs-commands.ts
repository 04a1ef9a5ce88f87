/** Random operations on a file system and on the plain tree, with everything unpleasant in between: crashes, evictions, outages, strangers. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { FallocateMode, OpenFlag, RenameFlag } from '../../src/fuse/ops.js';
import { errnoOf, type FsHarness } from '../support/fs-harness.js';
import { endOutage, expectBytes, expectForeign, expectFreshMount, expectStore, expectTree } from './expectations.js';
import { directories, files, join, Model } from './model.js';
import { cutPower } from './power-cut.js';
import { tombstoneMs } from '../../src/journal/attempts.js';
import { FileType } from '../../src/meta/inode.js';
import { allocate, journal, newFile, Refused, resize, write, type DirNode } from './plain-tree.js';

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
  await real.letGo();
  if (outcome === 'EIO' && (model.offline || real.faulty.injected.length > faults)) return false;
  let wanted = 'ok';
  try {
    plain();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    wanted = error.errno;
  }
  model.noteDeaths(real);
  expect(outcome).toBe(wanted);
  return wanted === 'ok';
}

function pick<T>(list: readonly T[], index: number): T {
  return list[index % list.length]!; // modulo keeps a pick valid while shrinking
}

/** Bytes that tell where they belong. */
function pattern(seed: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let index = 0; index < length; index++) bytes[index] = seed * 31 + index * 7 + (index >> 8);
  return bytes;
}

class NewName extends Step {
  constructor(readonly kind: 'create' | 'mkdir' | 'symlink' | 'fifo' | 'link', readonly dir: number, readonly name: string, readonly n: number) {
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
      case 'fifo':
        await both(model, real, () => model.tree.add(path, { kind: 'fifo', mode: 0o600 | (this.n & 0o77) }), () => real.mknod(path, FileType.FIFO | 0o600 | (this.n & 0o77)));
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
  constructor(readonly kind: 'write' | 'truncate' | 'chmod' | 'utimens' | 'xattr' | 'no xattr' | 'overwrite' | 'read', readonly n: number, readonly offset: number, readonly length: number) {
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
      case 'no xattr': {
        const name = `user.${length % 3}`;
        return void (await both(model, real, () => { if (!node.xattrs.delete(name)) throw new Refused('ENODATA'); }, () => real.removexattr(path, name)));
      }
      case 'read': {
        let got = Buffer.alloc(0);
        const read = await both(model, real, () => undefined, async () => { got = Buffer.from(await real.using(path, OpenFlag.RDONLY, (handle) => real.pread(handle, offset, length))); });
        if (read) expectBytes(got, node.content.subarray(offset, offset + length), path);
      }
    }
  }
}

/** fallocate(2) in all its modes; what moves bytes wants whole blocks. */
class Allocate extends Step {
  constructor(readonly kind: 'extend' | 'keep size' | 'punch' | 'zero' | 'collapse' | 'insert', readonly n: number, readonly offset: number, readonly length: number) {
    super(`${kind}(#${n} @${offset} ${length}B)`);
  }
  override check(model: Readonly<Model>): boolean { return files(model as Model).length > 0; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const path = pick(files(model), this.n);
    const node = model.tree.file(path);
    const moves = this.kind === 'collapse' || this.kind === 'insert';
    const offset = moves ? this.offset - this.offset % 4096 : this.offset;
    const length = moves ? Math.max(4096, this.length - this.length % 4096) : Math.max(1, this.length);
    const mode = { 'extend': 0, 'keep size': FallocateMode.KEEP_SIZE, 'punch': FallocateMode.PUNCH_HOLE | FallocateMode.KEEP_SIZE, 'zero': FallocateMode.ZERO_RANGE, 'collapse': FallocateMode.COLLAPSE_RANGE, 'insert': FallocateMode.INSERT_RANGE }[this.kind];
    await both(model, real, () => allocate(node, this.kind, offset, length), () => real.using(path, OpenFlag.RDWR, (handle) => real.fallocate(handle, mode, offset, length)));
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
    if (source === target && Math.abs(this.offset - this.outOffset) < this.length) return; // the kernel refuses what overlaps
    let count = 0;
    const done = await both(model, real, () => undefined, () => real.using(from, OpenFlag.RDONLY, (a) => real.using(to, OpenFlag.RDWR, async (b) => {
      count = await real.copyRange(a, this.offset, b, this.outOffset, this.length);
    })));
    if (!done) return;
    const data = source.content.subarray(this.offset, this.offset + this.length);
    expect(count).toBe(data.length);
    write(target, this.outOffset, Buffer.from(data));
  }
}

class ChmodDirectory extends Step {
  constructor(readonly n: number, readonly mode: number) { super(`chmod(dir #${n}, ${mode})`); }
  override check(model: Readonly<Model>): boolean { return directories(model as Model).length > 1; }
  async run(model: Model, real: FsHarness): Promise<void> {
    const path = pick(directories(model).slice(1), this.n);
    const mode = 0o700 | (this.mode & 0o77);
    await both(model, real, () => { (model.tree.must(path) as DirNode).mode = mode; }, () => real.chmod(path, mode));
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
      case 'fsync':
        if (await both(model, real, () => undefined, () => real.fsync(handle))) journal(node);
        return;
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
  constructor(readonly what: 'crash' | 'uploads begin' | 'remount' | 'evict' | 'later' | 'soon' | 'upload some' | 'sync' | 'outage begins' | 'outage ends' | 'fresh mount' | 'compare' | 'compare all' | 'power cut' | 'power cut, written back') { super(what); }
  async run(model: Model, real: FsHarness): Promise<void> {
    switch (this.what) {
      case 'crash': await real.crash(); break;
      case 'uploads begin':
        real.clock.advance(1500);
        await real.beginUploads();
        break;
      case 'remount':
        if (model.offline) return;
        for (const { handle } of model.handles.splice(0)) await real.closeFile(handle);
        await this.everythingJournaled(model, real, () => real.remount());
        break;
      case 'evict': await this.everythingJournaled(model, real, () => real.evict()); break;
      case 'power cut': if (!model.offline) await cutPower(model, real); break;
      case 'power cut, written back': if (!model.offline) await cutPower(model, real, 'written back'); break;
      case 'later': real.clock.advance(real.daemon.config.ttlMs! + 1000); break;
      case 'soon': real.clock.advance(1500); break;
      case 'upload some':
        real.clock.advance(1500);
        await real.uploadDue();
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
    await real.alive();
    model.noteDeaths(real);
    real.checkInvariants();
  }

  /** Unless the daemon dies over it. */
  private async everythingJournaled(model: Model, real: FsHarness, act: () => Promise<void>): Promise<void> {
    const { deaths } = real;
    await act();
    if (real.deaths === deaths) for (const path of files(model)) journal(model.tree.file(path));
  }
}

/** The daemon dies in the middle of what comes next, be it a request, an upload or its own start. */
class CrashSoon extends Step {
  constructor(readonly points: number) { super(`crash after ${points} points`); }
  run(_model: Model, real: FsHarness): Promise<void> {
    real.crashAfter(this.points);
    return Promise.resolve();
  }
}

const writes = ['put', 'delete', 'copy', 'completeUpload', 'uploadPart', 'createUpload'] as const;
/** Answers a server may give to any request that changes something, for reasons of its own; the request was not executed. */
const refusals = ['conflict', 'precondition-failed', 'not-found', 'unavailable'] as const;

class Fault extends Step {
  constructor(readonly op: (typeof writes)[number] | 'head' | 'list' | 'getToFile' | '*', readonly fault: 'lost' | 'fail' | 'throttle' | (typeof refusals)[number], readonly times: number) { super(`fault(${op} ${fault} x${times})`); }
  run(_model: Model, real: FsHarness): Promise<void> {
    const { fault } = this;
    if (fault === 'lost' || fault === 'fail' || fault === 'throttle') real.faulty.script(this.op, { fault }, this.times);
    else real.faulty.script(this.op, { fault: 'fail', kind: fault }, this.times);
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

/**
 * Another client changes an object of ours, at rest or while this mount has a change of its own that S3 lacks. Nothing is lost: theirs has the name,
 * ours is beside it, or what the contract says (SEMANTICS, Conflicts).
 */
class Race extends Step {
  constructor(readonly ours: 'nothing' | 'write' | 'chmod' | 'delete', readonly theirs: string | null, readonly n: number, readonly isEvicted: boolean) {
    super(`race(#${n}${isEvicted ? ', evicted' : ''}: we ${ours}, they ${theirs === null ? 'delete' : `put ${theirs}`})`);
  }
  override check(model: Readonly<Model>): boolean {
    return !model.offline && model.handles.every(({ node }) => model.tree.nlink(node) > 0) && this.candidates(model as Model).length > 0;
  }
  private candidates(model: Model): string[] {
    return files(model).filter((path) => model.tree.nlink(model.tree.must(path)) === 1 && model.handles.every(({ node }) => node !== model.tree.must(path)));
  }
  async run(model: Model, real: FsHarness): Promise<void> {
    real.faulty.clear();
    await real.sync();
    expectStore(model, real);
    for (let i = 0; i < 2; i++) { // a key whose answer got lost is ours until nothing of it can arrive any more (J6)
      real.clock.advance(tombstoneMs);
      await real.uploadDue();
    }
    const path = pick(this.candidates(model), this.n);
    if (this.isEvicted) await real.evict();
    else await bringHere(real, path);
    const node = model.tree.file(path);
    const { dir, name } = model.tree.parent(path);
    switch (this.ours) {
      case 'write':
        if (this.isEvicted) { // all of it: what others put over the bytes that were only in S3 nobody can bring back (base-lost)
          await real.writeFile(path, 'ours');
          resize(node, 0);
          write(node, 0, Buffer.from('ours'));
          break;
        }
        await real.writeAt(path, 1, 'ours');
        write(node, 1, Buffer.from('ours'));
        break;
      case 'chmod':
        await real.chmod(path, 0o600);
        node.mode = 0o600;
        break;
      case 'delete':
        await real.unlink(path);
        dir.children.delete(name);
        break;
      case 'nothing': break;
    }
    const text = `${this.theirs} ${real.clock.now()}`; // equal bytes have equal etags, and would be no other version
    if (this.theirs === null) await real.stranger.delete(path);
    else await real.stranger.put(path, text);
    await real.sync();
    real.clock.advance(real.daemon.config.ttlMs! + 1000);
    model.noteDeaths(real);
    const parent = path.slice(0, path.length - name.length);
    if (this.theirs !== null) {
      const theirs = { ...newFile(), isForeign: true };
      write(theirs, 0, Buffer.from(text));
      if (this.ours === 'write') {
        const kept = (await real.readdir(parent)).filter((each) => each.startsWith(`${name}.conflict-`) && !dir.children.has(each));
        expect(kept, `ours is kept beside theirs`).toHaveLength(1);
        dir.children.set(kept[0]!, node);
      }
      dir.children.set(name, theirs);
    } else if (this.ours === 'nothing' || (this.ours === 'chmod' && !(await real.exists(path)))) {
      dir.children.delete(name);
    }
    await forgetConflicts(real);
    await expectTree(model, real, { content: true });
    await real.sync();
    expectStore(model, real);
  }
}

/** All of it is here, whatever was evicted before, and stays if the daemon dies. */
async function bringHere(real: FsHarness, path: string): Promise<void> {
  for (let deaths = -1; deaths !== real.deaths;) {
    ({ deaths } = real);
    await real.readBytes(path);
    await real.using(path, OpenFlag.RDONLY, (handle) => real.fsync(handle));
  }
}

/** They were looked at; again if the daemon died over it. */
async function forgetConflicts(real: FsHarness): Promise<void> {
  for (let deaths = -1; deaths !== real.deaths;) {
    ({ deaths } = real);
    await errnoOf(async () => {
      const { conflicts, db } = real.daemon;
      db.tx(() => conflicts.list().forEach(({ id }) => conflicts.remove(id)));
      await db.durable();
    });
    await real.alive();
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
const text = fc.constantFrom('one', 'two', 'three and more');
/** Small files, and ones that are fetched in parts. */
const size = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 5000 }) }, { weight: 1, arbitrary: fc.integer({ min: 200_000, max: 500_000 }) });
const length = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 3000 }) }, { weight: 1, arbitrary: fc.integer({ min: 100_000, max: 300_000 }) });

const operations: readonly (readonly [number, fc.Arbitrary<Step>])[] = [
  [5, fc.tuple(fc.constantFrom('create', 'create', 'create', 'mkdir', 'mkdir', 'symlink', 'fifo', 'link'), index, name, size).map((args) => new NewName(...args))],
  [4, fc.tuple(index, index, name, fc.constantFrom('plain', 'plain', 'noreplace', 'exchange')).map((args) => new Rename(...args))],
  [2, index.map((n) => new Remove(n))],
  [5, fc.tuple(fc.constantFrom('write', 'write', 'truncate', 'chmod', 'utimens', 'xattr', 'no xattr', 'overwrite', 'read', 'read'), index, size, length).map((args) => new Change(...args))],
  [1, fc.tuple(fc.constantFrom('extend', 'keep size', 'punch', 'zero', 'collapse', 'insert'), index, size, length).map((args) => new Allocate(...args))],
  [1, fc.tuple(index, index, size, size, length).map((args) => new CopyRange(...args))],
  [1, fc.tuple(index, fc.nat({ max: 63 })).map((args) => new ChmodDirectory(...args))],
  [1, fc.tuple(index, fc.boolean()).map((args) => new OpenFile(...args))],
  [2, fc.tuple(fc.constantFrom('write', 'read', 'close', 'fsync'), index, size, length).map((args) => new UseHandle(...args))],
  [1, fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 12 }) }, { weight: 2, arbitrary: fc.integer({ min: 1, max: 120 }) }).map((points) => new CrashSoon(points))],
  [3, fc.constantFrom('crash', 'uploads begin', 'uploads begin', 'remount', 'evict', 'evict', 'later', 'soon', 'upload some', 'upload some', 'upload some', 'sync').map((what) => new Happen(what))],
  [1, fc.constantFrom('power cut', 'power cut, written back', 'outage begins', 'outage ends', 'outage ends', 'fresh mount', 'compare', 'compare all', 'compare all').map((what) => new Happen(what))],
  [1, fc.oneof(
    fc.tuple(fc.constantFrom(...writes, 'head', 'list', 'getToFile', '*'), fc.constantFrom('lost', 'fail', 'throttle'), fc.integer({ min: 1, max: 3 })),
    fc.tuple(fc.constantFrom(...writes), fc.constantFrom(...refusals), fc.integer({ min: 1, max: 2 })),
  ).map(([op, fault, times]) => new Fault(op, fault, times))],
  [1, fc.tuple(fc.constantFrom('nothing', 'write', 'chmod', 'delete'), fc.option(text), index, fc.boolean()).map((args) => new Race(...args))],
  [1, fc.tuple(fc.constantFrom('z/x', 'z/y', 's0', 's1'), fc.option(fc.constantFrom('one', 'two', 'three'))).map((args) => new Stranger(...args))],
];

/** `fc.commands` picks evenly: what should come more often is there more often. */
export const fsCommands: fc.Arbitrary<Command>[] = operations.flatMap(([weight, arbitrary]) => Array<fc.Arbitrary<Command>>(weight).fill(arbitrary.map(noted)));

/** What a power cut may leave is a tree as it was after a step. */
function noted(step: Command): Command {
  return {
    check: (model) => step.check(model),
    run: async (model, real) => {
      await step.run(model, real);
      model.history.note(model, real);
    },
    toString: () => step.toString(),
  };
}
