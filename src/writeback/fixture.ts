/** For the tests of this room: a mount without a kernel. Real database, real content files, S3 in memory; names and files change as `fs/` would change them. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManualClock, timeFromMs } from '../base/clock.js';
import { copyState } from '../base/copy-state.js';
import { silentLog } from '../base/log.js';
import { Metrics } from '../base/metrics.js';
import { ContentStore } from '../cache/content-store.js';
import type { ContentFile } from '../cache/content-file.js';
import { Db } from '../db/db.js';
import { AttemptTable } from '../journal/attempts.js';
import { ConflictTable } from '../journal/conflicts.js';
import { Journal } from '../journal/journal.js';
import { Discovery } from '../meta/discovery.js';
import { FileType, isDirectory, rootIno, type Inode } from '../meta/inode.js';
import { Tree } from '../meta/tree.js';
import type { Body, Key, ObjectStore } from '../s3/object-store.js';
import { LongKeyStore } from '../s3/long-key-store.js';
import { LongKeys } from '../s3/long-keys.js';
import { FaultyStore, type FaultyOptions } from '../s3/faulty-store.js';
import { MemoryObjectStore } from '../s3/memory-object-store.js';
import { StoreError } from '../s3/store-error.js';
import { ObjectReader } from '../prefetch/object-reader.js';
import { BlockDigestTable } from './block-digests.js';
import { nameOf, parentOf } from './desired.js';
import { HardLinks } from './hard-links.js';
import { defaultWritebackConfig, type WritebackConfig, type WritebackDeps } from './ports.js';
import type { Sealer } from './seal.js';
import { Writeback } from './writeback.js';

/** In memory where there is such a place: these tests wait for fdatasync thousands of times. */
const root = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const KiB = 1024;
/** Inodes, names and journal keys in memory: so few that they come and go in every test. */
const cachedMax = 4;
export const testConfig = {
  ...defaultWritebackConfig, groupMs: 0, atOnceBytesMax: 2 * KiB, uploadsMax: 4, singlePutBytesMax: 64 * KiB, partBytes: 16 * KiB, copyPartBytes: 16 * KiB, copyBytesMax: 256 * KiB,
  metadataPutBytesMax: KiB, coalesceAboveBytes: 128 * KiB, holdBytesMax: 128 * KiB, reuseAboveBytes: 96 * KiB, reusePartBytesMin: 8 * KiB,
};

export type Mutation = 'put' | 'copy' | 'delete' | 'completeUpload' | 'createUpload' | 'uploadPart' | 'uploadPartCopy';

/** Sees every request as it reaches S3, and what it found there. */
export interface Tap {
  before?(op: Mutation, key: Key, body?: Body): void;
  /** It was executed, and the answer has not been seen yet. */
  after?(op: Mutation, key: Key): void | Promise<void>;
}

export class TestMount {
  readonly busy = new Set<number>();
  readonly announced: string[] = [];
  readonly deps: Omit<WritebackDeps, 'group'>;
  readonly writeback: Writeback;
  private readonly reader: ObjectReader;
  isClosed = false;
  private isDead = false;

  private constructor(
    readonly dir: string, readonly clock: ManualClock, readonly memory: MemoryObjectStore, readonly faulty: FaultyStore, readonly tap: Tap,
    readonly db: Db, readonly contents: ContentStore, config: Partial<WritebackConfig>, hooks: Partial<WritebackDeps['hooks']>, sealer?: Sealer,
  ) {
    const tree = new Tree(db, cachedMax);
    if (!tree.inodes.get(rootIno)) db.tx(() => tree.createRoot({ uid: 0, gid: 0, mode: FileType.DIR | 0o755, time: clock.time() }));
    tapMemory(memory, tap);
    const keys = new LongKeys('');
    const store = new LongKeyStore(mortal(faulty, () => this.isDead), keys);
    const reader = new ObjectReader({
      store, contents, clock, log: silentLog, metrics: new Metrics(), config: { partBytes: 64 * KiB, smallFileBytes: 16 * KiB, downloadsMax: 4, windowBytesMax: 256 * KiB, readMode: 'stream' },
    });
    this.reader = reader;
    let seed = 1;
    const tables = { tree, journal: new Journal(db, clock, cachedMax), attempts: new AttemptTable(db), conflicts: new ConflictTable(db), digests: new BlockDigestTable(db) };
    const links = new HardLinks({
      ...tables, clock, log: silentLog, metrics: new Metrics(), openCount: () => 0, orphaned: () => undefined, config: { keyPrefix: '', uploadDelayMs: testConfig.uploadDelayMs, readOnly: false },
      kernel: { nameChanged: (parent, name) => this.announced.push(`${parent}/${name}`), contentChanged: () => undefined },
    });
    this.deps = {
      db, ...tables, links,
      contents: {
        find: (id) => contents.find(id), create: (size) => contents.create(size, size > 0 ? 'all' : 'none'), setDirty: (id, dirty) => contents.setDirty(id, dirty), isDirty: (id) => contents.isDirty(id),
        remove: (id) => contents.remove(id), sync: (ids) => contents.sync(ids), isUnsynced: (id) => contents.isUnsynced(id), reserve: async (bytes) => contents.hold(bytes), changesSince: (id, gen) => contents.changes.since(id, gen), noteChecksums: (id, bytes) => contents.noteChecksums(id, bytes),
      },
      reader, discovery: new Discovery(tree, { uid: 0, gid: 0, umask: 0o022 }), store, keys, clock, log: silentLog, metrics: new Metrics(),
      random: () => (seed = (seed * 48271) % 2147483647) / 2147483647, hostname: 'alpha',
      config: { ...testConfig, scratchDir: join(dir, 'scratch'), ...config },
      hooks: {
        isBusy: (ino) => this.busy.has(ino), holdWrites: () => () => undefined, nameChanged: (parent, name) => this.announced.push(`${parent}/${name}`), contentChanged: () => undefined, ...hooks,
      },
    };
    this.writeback = new Writeback(this.deps, sealer);
  }

  static async open(options: {
    dir?: string; clock?: ManualClock; memory?: MemoryObjectStore; faults?: FaultyOptions; faulty?: FaultyStore; tap?: Tap; config?: Partial<WritebackConfig>;
    hooks?: Partial<WritebackDeps['hooks']>; sealer?: (mount: TestMount) => Sealer;
  } = {}): Promise<TestMount> {
    const dir = options.dir ?? mkdtempSync(join(root, 'hearthfs-writeback-'));
    const clock = options.clock ?? new ManualClock();
    const memory = options.memory ?? new MemoryObjectStore({ clock, partSizeMin: 1 });
    const metrics = new Metrics();
    const db = Db.open({ dir, log: silentLog, metrics, ballastBytes: 0 });
    const contents = await ContentStore.open({ db, dir, limitBytes: 1 << 30, minFree: { bytes: 0 }, clock, log: silentLog, metrics, upkeepMs: 0 });
    const mount = new TestMount(dir, clock, memory, options.faulty ?? new FaultyStore(memory, options.faults), options.tap ?? {}, db, contents, options.config ?? {}, options.hooks ?? {});
    await contents.recover();
    await mount.writeback.recover();
    return mount;
  }

  /** As after kill -9 at this very moment: what is on disk now is opened by the next process, which meets the same S3. */
  async crash(options: { tap?: Tap; faulty?: FaultyStore; powerCut?: boolean } = {}): Promise<TestMount> {
    const dir = this.copyState();
    await this.close();
    return this.reopen(dir, options);
  }

  /** kill -9 at this very moment: nothing of what this process does from here on reaches anybody. Answers the state for `reopen`. */
  die(): string {
    this.isDead = true;
    return this.copyState();
  }

  /** The state on disk at this moment, for `reopen`. */
  copyState(): string {
    const dir = mkdtempSync(join(root, 'hearthfs-writeback-'));
    copyState(this.dir, dir);
    return dir;
  }

  reopen(dir: string, options: { tap?: Tap; faulty?: FaultyStore } = {}): Promise<TestMount> {
    return TestMount.open({ dir, clock: this.clock, memory: this.memory, faulty: options.faulty ?? this.faulty, tap: options.tap ?? {}, config: this.deps.config.uploadsMax ? { ...this.deps.config, scratchDir: join(dir, 'scratch') } : {} });
  }

  async close(clean = false): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    await this.writeback.stop();
    await this.reader.close();
    await this.contents.close();
    await this.db.close({ clean });
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Works until nothing is left but what is parked; time passes as it is waited for. */
  async settle(rounds = 400): Promise<void> {
    const { journal } = this.deps;
    for (let round = 0; round < rounds; round++) {
      if (this.isDead) return;
      await this.writeback.runDue();
      if (journal.count() === journal.parkedCount() && journal.walks().length === 0) return;
      const next = journal.nextDueMs(this.clock.now());
      this.clock.advance(Math.max(1000, Math.min(60_000, (next ?? 0) - this.clock.now())));
    }
    const left = journal.list(20).map((row) => `${row.key} tries=${row.tries} error=${row.error}`);
    throw new Error(`S3 still lacks: ${left.join('; ')}`);
  }

  // ---- changes as fs/ makes them

  inode(path: string): Inode {
    const found = this.deps.tree.resolve(path) ?? this.deps.tree.resolve(`${path}/`);
    if (!found) throw new Error(`no such name: ${path}`);
    return found.inode;
  }

  exists(path: string): boolean {
    return this.deps.tree.resolve(path) !== undefined || this.deps.tree.resolve(`${path}/`) !== undefined;
  }

  /** All names but the root, directories with a slash at the end. */
  names(): string[] {
    const found: string[] = [];
    const visit = (ino: number, prefix: string): void => {
      for (const dentry of this.deps.tree.dentries.list(ino, 0, 100_000)) {
        const isDir = isDirectory(this.deps.tree.inodes.mustGet(dentry.ino));
        found.push(prefix + dentry.name + (isDir ? '/' : ''));
        if (isDir) visit(dentry.ino, `${prefix}${dentry.name}/`);
      }
    };
    visit(rootIno, '');
    return found.sort();
  }

  create(path: string, data: string | Uint8Array): Inode {
    const { tree, db } = this.deps;
    const inode = db.tx(() => {
      const made = this.make(FileType.REG | 0o644, { unsealed: true });
      const file = this.contents.create(0, 'none');
      this.contents.setDirty(file.id, true);
      made.content = file.id;
      tree.inodes.save(made);
      this.addName(path, made);
      return made;
    });
    this.write(path, 0, data);
    return inode;
  }

  write(path: string, offset: number, data: string | Uint8Array): void {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    const inode = this.inode(path);
    const file = this.file(inode);
    this.beginChange(inode, file);
    file.write(bytes, offset);
    this.changed(inode, Math.max(inode.sizeBytes, offset + bytes.length));
  }

  /** What `fs/` waits for before it changes a file's bytes: nothing is being fetched into them. */
  async rests(path: string): Promise<void> {
    const { content } = this.inode(path);
    if (content !== null) await this.reader.cancel(content);
  }

  truncate(path: string, sizeBytes: number): void {
    const inode = this.inode(path);
    const file = this.file(inode);
    this.beginChange(inode, file);
    file.truncate(sizeBytes);
    this.changed(inode, sizeBytes);
  }

  chmod(path: string, mode: number): void {
    const { db, tree } = this.deps;
    const inode = this.inode(path);
    db.tx(() => {
      inode.mode = (inode.mode & FileType.MASK) | mode;
      inode.mgen++;
      if (isDirectory(inode)) inode.marker = true;
      tree.inodes.save(inode);
      this.mark(inode);
    });
  }

  mkdir(path: string): Inode {
    return this.deps.db.tx(() => {
      const made = this.make(FileType.DIR | 0o755, { marker: true, complete: true, nlink: 2, sizeBytes: 4096 });
      this.addName(path, made);
      return made;
    });
  }

  symlink(path: string, target: string): Inode {
    return this.deps.db.tx(() => {
      const made = this.make(FileType.LINK | 0o777, { target: Buffer.from(target), sizeBytes: target.length });
      this.addName(path, made);
      return made;
    });
  }

  link(path: string, other: string): void {
    const { db, tree } = this.deps;
    const inode = this.inode(path);
    db.tx(() => {
      this.deps.links.ensureId(inode);
      inode.nlink++;
      inode.mgen++;
      tree.inodes.save(inode);
      this.addName(other, inode);
      this.mark(inode);
    });
  }

  unlink(path: string): void {
    const { db, tree, journal } = this.deps;
    const inode = this.inode(path);
    db.tx(() => {
      const key = isDirectory(inode) ? `${path}/` : path;
      tree.dentries.remove(this.dentry(path)!);
      inode.nlink = isDirectory(inode) ? 0 : inode.nlink - 1;
      tree.inodes.save(inode);
      if (isDirectory(inode)) tree.directoriesMoved();
      journal.mark(key, 1000);
      this.keepParent(path);
      if (inode.nlink === 0) this.reap(inode);
      else {
        inode.mgen++;
        tree.inodes.save(inode);
        this.mark(inode);
      }
    });
  }

  rename(from: string, to: string): void {
    const { db, tree, clock } = this.deps;
    const inode = this.inode(from);
    db.tx(() => {
      if (this.exists(to)) this.unlink(to);
      tree.dentries.remove(this.dentry(from)!);
      tree.dentries.insert(this.parent(to).ino, nameOf(to), inode.ino, clock.now());
      this.moved(inode, from, to);
      this.keepParent(from);
    });
  }

  exchange(a: string, b: string): void {
    const { db, tree, clock } = this.deps;
    const [first, second] = [this.inode(a), this.inode(b)];
    const [from, to] = [this.dentry(a)!, this.dentry(b)!];
    db.tx(() => {
      tree.dentries.repoint(from, second.ino, clock.now());
      tree.dentries.repoint(to, first.ino, clock.now());
      this.moved(first, a, b);
      this.moved(second, b, a);
    });
  }

  /** Everything clean leaves the cache. */
  async evict(): Promise<void> {
    await this.contents.evict({ bytes: Number.MAX_SAFE_INTEGER });
  }

  private moved(inode: Inode, from: string, to: string): void {
    const { tree, journal } = this.deps;
    const end = isDirectory(inode) ? '/' : '';
    inode.mgen++;
    if (isDirectory(inode)) {
      tree.directoriesMoved();
      inode.marker = true;
      journal.addWalk(inode.ino, `${from}/`);
    }
    tree.inodes.save(inode);
    journal.mark(from + end, 1000);
    journal.mark(to + end, 1000);
  }

  private make(mode: number, fields: Partial<Inode>): Inode {
    const time = timeFromMs(this.clock.now());
    return this.deps.tree.inodes.create({
      mode, uid: 0, gid: 0, rdev: 0, sizeBytes: 0, atime: time, mtime: time, ctime: time, nlink: 1, gen: 1, mgen: 1, baseGen: null, unsealed: false, sealedUnsynced: false,
      attrsComplete: true, content: null, target: null, xattrs: null, foreign: null, linkId: null, linkOffset: 0, lastModifiedMs: null, marker: false, complete: false, listedAtMs: 0, opens: 0, ...fields,
    });
  }

  private addName(path: string, inode: Inode): void {
    this.deps.tree.dentries.insert(this.parent(path).ino, nameOf(path), inode.ino, this.clock.now());
    this.deps.journal.mark(isDirectory(inode) ? `${path}/` : path, 1000);
  }

  private keepParent(path: string): void {
    const parent = this.parent(path);
    if (parent.ino === rootIno || parent.marker) return;
    parent.marker = true;
    parent.mgen++;
    this.deps.tree.inodes.save(parent);
    this.deps.journal.mark(parentOf(path), 1000);
  }

  private reap(inode: Inode): void {
    const { tree } = this.deps;
    if (inode.content !== null && this.contents.find(inode.content)) {
      this.contents.setDirty(inode.content, false);
      this.contents.remove(inode.content);
    }
    tree.inodes.remove(inode.ino);
  }

  private mark(inode: Inode): void {
    for (const key of this.deps.tree.keysOf(inode)) this.deps.journal.mark(key, 1000);
  }

  file(inode: Inode): ContentFile {
    const known = inode.content === null ? undefined : this.contents.find(inode.content);
    if (known) return known;
    return this.deps.db.tx(() => {
      const file = this.contents.create(inode.sizeBytes, inode.sizeBytes > 0 ? 'all' : 'none');
      inode.content = file.id;
      this.deps.tree.inodes.save(inode);
      return file;
    });
  }

  private beginChange(inode: Inode, file: ContentFile): void {
    if (inode.unsealed) return;
    this.deps.db.tx(() => {
      if (!file.isKept) inode.baseGen ??= inode.gen;
      else inode.baseGen = null;
      inode.gen++;
      inode.mgen++;
      inode.unsealed = true;
      this.contents.setDirty(file.id, true);
      this.contents.changes.begin(file.id, inode.gen);
      this.deps.tree.inodes.save(inode);
      this.mark(inode);
    });
  }

  private changed(inode: Inode, sizeBytes: number): void {
    inode.sizeBytes = sizeBytes;
    inode.mtime = inode.ctime = this.clock.time();
    this.deps.tree.inodes.keepVolatile(inode);
  }

  private parent(path: string): Inode {
    const key = parentOf(path);
    return key === '' ? this.deps.tree.inodes.mustGet(rootIno) : this.deps.tree.resolve(key)!.inode;
  }

  private dentry(path: string): ReturnType<Tree['dentries']['get']> {
    return this.deps.tree.dentries.get(this.parent(path).ino, nameOf(path));
  }
}

/** A store that dies with its mount, and whose methods a test may replace without touching the next mount's. */
function mortal(store: ObjectStore, isDead: () => boolean): ObjectStore {
  const replaced = new Map<string | symbol, unknown>();
  return new Proxy(store, {
    set: (_target, name, value) => (replaced.set(name, value), true),
    get: (target, name) => {
      const method = (replaced.get(name) ?? Reflect.get(target, name)) as (...args: unknown[]) => Promise<unknown>;
      return async (...args: unknown[]): Promise<unknown> => {
        const dead = new StoreError('unavailable', 'this process is dead');
        if (isDead()) throw dead;
        const result = await method.apply(target, args);
        if (isDead()) throw dead;
        return result;
      };
    },
  });
}

function tapMemory(memory: MemoryObjectStore, tap: Tap): void {
  // What is executed is seen below the faults; what is lost on the way to S3 is not.
  const watched = ['put', 'copy', 'delete', 'completeUpload', 'createUpload', 'uploadPart', 'uploadPartCopy'] as const;
  for (const op of watched) {
    const original = (MemoryObjectStore.prototype[op] as (...args: unknown[]) => Promise<unknown>).bind(memory);
    (memory as unknown as Record<string, unknown>)[op] = async (...args: unknown[]): Promise<unknown> => {
      const key = (op === 'copy' ? args[1] : args[0]) as Key;
      tap.before?.(op, key, op === 'put' ? (args[1] as Body) : undefined);
      const result = await original(...args);
      await tap.after?.(op, key);
      return result;
    };
  }
}
