/**
 * Random changes to a tree, interleaved with the loop's own steps, lost answers, failures, strangers who write the same keys, evictions and
 * crashes. At the end, when S3 answers again: S3 is what the tree says; no object of a stranger was replaced or deleted without having been seen;
 * no object was ever torn; and what was written is under its name, under a conflict name, or had been in S3 before others replaced it.
 */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Key } from '../s3/object-store.js';
import { FaultyStore, type Fault } from '../s3/faulty-store.js';
import { MemoryObjectStore } from '../s3/memory-object-store.js';
import { ManualClock } from '../base/clock.js';
import { isDirectory } from '../meta/inode.js';
import { scratchPrefix } from './desired.js';
import { TestMount, type Mutation } from './fixture.js';
import { checkModel, modelSeed, modelTimeoutMs } from '../../test/support/model-run.js';

const files = ['a', 'b', 'c', 'd/x', 'd/y', 'e/x', 'e/s/x'];
const dirs = ['d', 'e', 'e/s', 'f'];
const sizes = [0, 10, 3000, 70_000, 200_000]; // empty, small, beyond a metadata PUT, multipart, beyond what is held

type Op =
  | { op: 'create' | 'write' | 'truncate' | 'chmod' | 'unlink' | 'stranger' | 'mkdir' | 'rmdir'; at: number; size: number }
  | { op: 'rename' | 'exchange' | 'link' | 'renameDir'; at: number; to: number }
  | { op: 'evict' | 'crash' | 'settle' }
  | { op: 'run'; ms: number; turns: number };

const index = fc.nat(50);
const opArbitrary: fc.Arbitrary<Op> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constantFrom('create' as const, 'write' as const), at: index, size: fc.nat(sizes.length - 1) }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constantFrom('truncate' as const, 'chmod' as const, 'unlink' as const, 'mkdir' as const, 'rmdir' as const), at: index, size: fc.nat(sizes.length - 1) }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constantFrom('rename' as const, 'exchange' as const, 'link' as const, 'renameDir' as const), at: index, to: index }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('stranger' as const), at: index, size: fc.nat(1) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom('evict' as const, 'crash' as const, 'settle' as const) }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant('run' as const), ms: fc.constantFrom(0, 500, 1500, 31_000), turns: fc.nat(30) }) },
);

const hash = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');

class Harness {
  mount!: TestMount;
  readonly clock = new ManualClock();
  readonly memory = new MemoryObjectStore({ clock: this.clock, partSizeMin: 1 });
  readonly faultOptions: { seed: number; rate: number; faults: Fault[] };
  readonly faulty: FaultyStore;
  /** What each inode made here holds, as its writers know it. */
  readonly content = new Map<number, Buffer>();
  /** Every state any file was ever in, and every state S3 ever held. */
  readonly valid = new Set<string>();
  readonly stored = new Set<string>();
  strangers = 0;
  private serial = 0;
  private readonly found = new Map<Key, { isStrangers: boolean; isSeen: boolean }>();
  private running: Promise<void> = Promise.resolve();
  readonly problems: string[] = [];

  constructor(seed: number, rate: number) {
    this.faultOptions = { seed, rate, faults: [{ fault: 'fail' }, { fault: 'lost' }, { fault: 'lost' }, { fault: 'throttle' }, { fault: 'cut' }] };
    this.faulty = new FaultyStore(this.memory, this.faultOptions);
  }

  readonly tap = {
    before: (op: Mutation, key: Key): void => {
      if (op === 'createUpload' || op === 'uploadPart' || op === 'uploadPartCopy') return;
      const object = this.memory.snapshot().get(key);
      const row = this.mount.deps.tree.objects.get(key);
      this.found.set(key, { isStrangers: object?.attributes.metadata['stranger'] !== undefined, isSeen: row?.etag === object?.etag });
    },
    after: (op: Mutation, key: Key): void => {
      if (op === 'createUpload' || op === 'uploadPart' || op === 'uploadPartCopy') return;
      const was = this.found.get(key)!;
      if (was.isStrangers && !was.isSeen) this.problems.push(`${op} of "${key}" went over a stranger's object nobody here had seen`);
      const now = this.memory.snapshot().get(key);
      if (now === undefined || key.endsWith('/')) return;
      this.stored.add(hash(now.bytes));
      if (!this.valid.has(hash(now.bytes))) this.problems.push(`${op} of "${key}" put ${now.bytes.length} bytes there that no file ever was`);
    },
  };

  async open(): Promise<void> {
    this.mount = await TestMount.open({ clock: this.clock, memory: this.memory, faulty: this.faulty, tap: this.tap });
  }

  private fresh(size: number): Buffer {
    return Buffer.alloc(size, `${this.serial++}.`);
  }

  private note(ino: number, bytes: Buffer): void {
    this.content.set(ino, bytes);
    this.valid.add(hash(bytes));
  }

  private parentExists(path: string): boolean {
    const slash = path.lastIndexOf('/');
    return slash < 0 || this.isDir(path.slice(0, slash));
  }

  private isFile(path: string): boolean { return this.mount.deps.tree.resolve(path) !== undefined; }
  private isDir(path: string): boolean { return this.mount.deps.tree.resolve(`${path}/`) !== undefined; }

  async apply(op: Op): Promise<void> {
    const { mount } = this;
    switch (op.op) {
      case 'create': {
        const path = pick(files, op.at);
        if (mount.exists(path) || !this.parentExists(path)) return;
        const bytes = this.fresh(sizes[op.size]!);
        this.valid.add(hash(Buffer.alloc(0)));
        const inode = mount.create(path, bytes);
        return this.note(inode.ino, bytes);
      }
      case 'write': {
        const path = pick(files, op.at);
        if (!this.isFile(path)) return;
        await mount.rests(path);
        if (!this.isFile(path)) return;
        const { ino } = mount.inode(path);
        const before = this.content.get(ino);
        if (before === undefined) return; // a stranger's: what is in it is not our business
        const bytes = this.fresh(20);
        const offset = Math.min(before.length, op.at * 37);
        const after = Buffer.alloc(Math.max(before.length, offset + bytes.length));
        before.copy(after);
        bytes.copy(after, offset);
        mount.write(path, offset, bytes);
        return this.note(ino, after);
      }
      case 'truncate': {
        const path = pick(files, op.at);
        if (!this.isFile(path)) return;
        await mount.rests(path);
        if (!this.isFile(path)) return;
        const { ino } = mount.inode(path);
        const before = this.content.get(ino);
        if (before === undefined) return;
        const after = Buffer.alloc(op.at % 2 === 0 ? 0 : before.length + 5);
        before.copy(after);
        mount.truncate(path, after.length);
        return this.note(ino, after);
      }
      case 'chmod': {
        const path = pick([...files, ...dirs], op.at);
        if (mount.exists(path)) mount.chmod(path, 0o600 + op.at % 64);
        return;
      }
      case 'unlink': {
        const path = pick(files, op.at);
        if (!this.isFile(path)) return;
        const inode = mount.inode(path);
        if (inode.nlink === 1) this.content.delete(inode.ino);
        return mount.unlink(path);
      }
      case 'mkdir': {
        const path = pick(dirs, op.at);
        if (!mount.exists(path) && this.parentExists(path)) mount.mkdir(path);
        return;
      }
      case 'rmdir': {
        const path = pick(dirs, op.at);
        if (this.isDir(path) && mount.deps.tree.dentries.isEmpty(mount.inode(path).ino)) mount.unlink(path);
        return;
      }
      case 'rename': {
        const [from, to] = [pick(files, op.at), pick(files, op.to)];
        if (from === to || !this.isFile(from) || !this.parentExists(to)) return;
        if (this.isFile(to)) {
          const replaced = mount.inode(to);
          if (replaced.ino === mount.inode(from).ino) return;
          if (replaced.nlink === 1) this.content.delete(replaced.ino);
        }
        return mount.rename(from, to);
      }
      case 'exchange': {
        const [from, to] = [pick(files, op.at), pick(files, op.to)];
        if (from !== to && this.isFile(from) && this.isFile(to) && mount.inode(from).ino !== mount.inode(to).ino) mount.exchange(from, to);
        return;
      }
      case 'link': {
        const [from, to] = [pick(files, op.at), pick(files, op.to)];
        if (this.isFile(from) && !mount.exists(to) && this.parentExists(to)) mount.link(from, to);
        return;
      }
      case 'renameDir': {
        const [from, to] = [pick(dirs, op.at), pick(dirs, op.to)];
        if (from === to || !this.isDir(from) || !this.parentExists(to) || `${to}/`.startsWith(`${from}/`)) return;
        if (this.isDir(to) && !mount.deps.tree.dentries.isEmpty(mount.inode(to).ino)) return;
        if (`${from}/`.startsWith(`${to}/`)) return;
        return mount.rename(from, to);
      }
      case 'stranger': {
        this.strangers++;
        const bytes = this.fresh(15);
        this.valid.add(hash(bytes));
        await this.memoryPut(pick(files, op.at), bytes);
        return;
      }
      case 'evict':
        return mount.evict();
      case 'crash': {
        const dir = mount.die();
        await this.running;
        await mount.close();
        this.mount = await mount.reopen(dir, { tap: this.tap });
        return;
      }
      case 'settle':
        return this.finishQuietly();
      case 'run': {
        this.clock.advance(op.ms);
        await this.running;
        this.running = this.mount.writeback.runDue();
        for (let i = 0; i < op.turns; i++) await new Promise((resolve) => setImmediate(resolve));
        return;
      }
    }
  }

  /** A stranger's request does not pass through our tap. */
  private memoryPut(key: Key, bytes: Buffer): Promise<unknown> {
    return MemoryObjectStore.prototype.put.call(this.memory, key, { kind: 'bytes', bytes }, { metadata: { stranger: '1' } }, 'any');
  }

  /** S3 catches up in the middle, so that later changes start from clean objects. */
  async finishQuietly(): Promise<void> {
    await this.running;
    const { rate } = this.faultOptions;
    this.faultOptions.rate = 0;
    await this.mount.settle();
    this.faultOptions.rate = rate;
  }

  async finish(): Promise<void> {
    await this.running;
    this.faultOptions.rate = 0;
    await this.mount.settle();
    // Late arrivals: tombstones have their time.
    for (let minute = 0; minute < 17; minute++) {
      this.clock.advance(60_000);
      await this.mount.settle();
    }
  }

  check(): void {
    const { mount, problems } = this;
    const { tree, journal, attempts } = mount.deps;
    const objects = this.memory.snapshot();
    const parked = new Set(journal.list(1000).map((row) => {
      if (row.parked !== 'base-lost' || this.strangers === 0) problems.push(`"${row.key}" is parked: ${row.parked} ${row.error}`);
      return row.key;
    }));
    if (attempts.list().length > 0) problems.push(`attempts are left: ${attempts.list().map(({ key, outcome }) => `${key} ${outcome}`).join(', ')}`);
    const names = mount.names();
    for (const key of names) {
      if (parked.has(key)) continue;
      const object = objects.get(key);
      const inode = mount.inode(key.replace(/\/$/, ''));
      if (isDirectory(inode)) {
        if (inode.marker !== (object !== undefined)) problems.push(`marker "${key}" is ${object ? 'there' : 'missing'}`);
        continue;
      }
      if (object === undefined) {
        problems.push(`"${key}" is missing in S3`);
        continue;
      }
      const isUnseen = object.attributes.metadata['stranger'] !== undefined && tree.objects.get(key)?.etag !== object.etag;
      if (isUnseen) continue; // came after we were clean; a listing will find it
      const expected = this.content.get(inode.ino);
      if (expected !== undefined && !object.bytes.equals(expected)) problems.push(`"${key}" holds other bytes than its file`);
      if (expected !== undefined && object.attributes.metadata['mode'] !== String(inode.mode)) problems.push(`"${key}" has another mode than its file`);
    }
    const all = new Set(names);
    for (const [key, object] of objects) {
      if (key.startsWith(scratchPrefix)) problems.push(`scratch object "${key}" is left`);
      else if (!all.has(key) && object.attributes.metadata['stranger'] === undefined) problems.push(`"${key}" should be gone from S3`);
    }
    for (const [ino, bytes] of this.content) {
      const inode = tree.inodes.get(ino);
      if (inode && tree.keysOf(inode).length > 0) continue; // checked above
      if (!this.stored.has(hash(bytes))) problems.push(`what was written to inode ${ino} is nowhere and never was in S3`);
    }
    if (this.memory.openUploads > 0) problems.push(`${this.memory.openUploads} uploads are left open`);
    expect(problems).toEqual([]);
  }
}

function pick<T>(list: readonly T[], at: number): T {
  return list[at % list.length]!;
}

test(`promises 1 to 3: whatever happens in whatever order, S3 ends up as the tree, whole, and nobody lost anything (HEARTHFS_MODEL_SEED=${modelSeed})`, async () => {
  await checkModel('write-back model', fc.asyncProperty(fc.array(opArbitrary, { minLength: 5, maxLength: 45 }), fc.nat(1_000_000), fc.constantFrom(0, 0.1, 0.3), async (ops, seed, rate) => {
    const harness = new Harness(seed, rate);
    await harness.open();
    try {
      for (const op of ops) await harness.apply(op);
      await harness.finish();
      harness.check();
    } finally {
      await harness.mount.close();
    }
  }), { runs: 40, ms: 100_000 });
}, modelTimeoutMs(100_000));
