/**
 * One life of a daemon without a kernel and without processes: everything `daemon/compose` wires, on a directory and a store that outlive it.
 * Nothing runs by itself: no timers, writeback is driven by hand.
 */
import fs, { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ManualClock } from '../../src/base/clock.js';
import { realDisk, type Disk } from '../../src/base/disk.js';
import { Errno } from '../../src/base/errno.js';
import { SystemError } from '../../src/base/libc.js';
import { createLog } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import { ContentStore } from '../../src/cache/content-store.js';
import { Db } from '../../src/db/db.js';
import type { FsConfig } from '../../src/fs/deps.js';
import { HearthFs } from '../../src/fs/file-system.js';
import { FallocateMode } from '../../src/fuse/ops.js';
import { AttemptTable } from '../../src/journal/attempts.js';
import { ConflictTable } from '../../src/journal/conflicts.js';
import { Journal } from '../../src/journal/journal.js';
import { Discovery } from '../../src/meta/discovery.js';
import { rootIno } from '../../src/meta/inode.js';
import { Tree } from '../../src/meta/tree.js';
import { ObjectReader } from '../../src/prefetch/object-reader.js';
import { LongKeyStore } from '../../src/s3/long-key-store.js';
import { LongKeys } from '../../src/s3/long-keys.js';
import type { ObjectStore } from '../../src/s3/object-store.js';
import { StoreError } from '../../src/s3/store-error.js';
import { defaultWritebackConfig, type WritebackConfig } from '../../src/writeback/ports.js';
import { BlockDigestTable } from '../../src/writeback/block-digests.js';
import { HardLinks } from '../../src/writeback/hard-links.js';
import { Writeback } from '../../src/writeback/writeback.js';

/** As if the store below were that much of a bucket. */
const keyPrefix = 'test/';

export interface DaemonOptions {
  readonly config?: Partial<FsConfig>;
  readonly limitBytes?: number;
  readonly disk?: Disk;
  /** A disk whose power can be cut (`cutPower`). */
  readonly powerCuts?: boolean;
  readonly partBytes?: number;
  readonly umask?: number;
  /** Supplementary groups of processes, by their ids. */
  readonly groups?: Readonly<Record<number, readonly number[]>>;
  /** Inodes, names and journal keys in memory; few of them: what is looked up is read from the database again. */
  readonly cachedMax?: number;
  /** State in the temporary directory on a real disk; default: in memory, where syncs cost nothing. */
  readonly onDisk?: boolean;
  /** Sizes at which write-back changes its ways. */
  readonly writeback?: Partial<Pick<WritebackConfig, 'singlePutBytesMax' | 'partBytes' | 'copyBytesMax' | 'copyPartBytes' | 'metadataPutBytesMax' | 'holdBytesMax'>>;
}

export interface World {
  readonly dir: string;
  /** Another one after a power cut. */
  readonly bootId: string;
  readonly store: ObjectStore;
  readonly clock: ManualClock;
  readonly health: { isOffline: boolean };
  readonly random: () => number;
  /** Called at every point at which the process may die and leave another state behind: around commits, disk calls and requests. */
  readonly point: (what: string) => void;
  /** A request that changes S3 leaves once this resolves. */
  readonly mayLeave: () => Promise<void> | undefined;
}

export class FsDaemon {
  /** What the kernel was told to forget: `name parent/name`, `content ino`. */
  readonly notices: string[] = [];
  /** Errors that were logged: a bug in most tests. */
  readonly errors: string[];
  private dead = false;

  private constructor(
    readonly db: Db, readonly tree: Tree, readonly journal: Journal, readonly attempts: AttemptTable, readonly conflicts: ConflictTable, readonly contents: ContentStore,
    readonly reader: ObjectReader, readonly writeback: Writeback, readonly fs: HearthFs, readonly metrics: Metrics, readonly config: FsConfig, errors: string[],
    private readonly line: Line,
  ) {
    this.errors = errors;
  }

  static async start(world: World, generation: number, options: DaemonOptions): Promise<FsDaemon> {
    const { dir, clock, health } = world;
    const errors: string[] = [];
    const log = createLog('error', (line) => void errors.push(line.trim()));
    const metrics = new Metrics();
    const line = new Line(world);
    const keys = new LongKeys(keyPrefix);
    const store = new LongKeyStore(line.store, keys);
    const disk = tappedDisk(options.disk ?? realDisk, world.point);
    const db = Db.open({ dir, log, metrics, ballastBytes: 0, disk, bootId: world.bootId, onFatal: (error) => void errors.push(`fatal: ${String(error)}`) });
    tapCommits(db, world.point);
    const contents = await ContentStore.open({ db, dir, limitBytes: options.limitBytes ?? 2 ** 30, minFree: { bytes: 0 }, clock, log, metrics, upkeepMs: 0, disk, noProgressMs: 200 });
    const cachedMax = options.cachedMax ?? 256;
    const tree = new Tree(db, cachedMax);
    const umask = options.umask ?? 0o022;
    if (!tree.inodes.get(rootIno)) db.tx(() => tree.createRoot({ uid: 0, gid: 0, mode: 0o040755, time: clock.time() }));
    const journal = new Journal(db, clock, cachedMax);
    const attempts = new AttemptTable(db);
    const conflicts = new ConflictTable(db);
    const discovery = new Discovery(tree, { uid: 0, gid: 0, umask });
    const smallFileBytes = options.config?.smallFileBytes ?? 4096;
    const reader = new ObjectReader({
      store, contents, clock, log, metrics,
      config: { partBytes: options.partBytes ?? 2 ** 20, smallFileBytes, downloadsMax: 8, windowBytesMax: 2 ** 24, readMode: 'stream' },
    });
    const scratchDir = join(dir, 'scratch');
    mkdirSync(scratchDir, { recursive: true });
    const late: { fs?: HearthFs; notices?: string[] } = {};
    const kernel = {
      nameChanged: (parent: number, name: string) => void late.notices?.push(`name ${parent}/${name}`),
      contentChanged: (ino: number) => void late.notices?.push(`content ${ino}`),
      attributesChanged: (ino: number) => void late.notices?.push(`attributes ${ino}`),
    };
    const links = new HardLinks({
      tree, journal, attempts, conflicts, clock, log, metrics, kernel, openCount: (ino) => late.fs?.files.openCount(ino) ?? 0, orphaned: (ino) => late.fs?.orphaned(ino),
      config: { keyPrefix, uploadDelayMs: 1000, readOnly: false },
    });
    const writeback = new Writeback({
      db, tree, journal, attempts, conflicts, links, digests: new BlockDigestTable(db), reader, discovery, store, keys, clock, log, metrics, random: world.random, hostname: 'host',
      contents: { find: (id) => contents.find(id), create: (sizeBytes) => contents.create(sizeBytes, sizeBytes > 0 ? 'all' : 'none'), setDirty: (id, dirty) => contents.setDirty(id, dirty), isDirty: (id) => contents.isDirty(id), remove: (id) => contents.remove(id), sync: (ids) => contents.sync(ids), changesSince: (id, gen) => contents.changes.since(id, gen), isUnsynced: (id) => contents.isUnsynced(id), reserve: async (bytes) => contents.hold(bytes), noteChecksums: (id, bytes) => contents.noteChecksums(id, bytes) },
      config: { ...defaultWritebackConfig, uploadDelayMs: 1000, scratchDir, ...options.writeback },
      hooks: { isBusy: (ino) => late.fs?.isBusy(ino) ?? false, holdWrites: (ino) => late.fs?.holdWrites(ino) ?? (() => undefined), openCount: (ino) => late.fs?.files.openCount(ino) ?? 0, isOpenAsListed: (ino) => options.config?.attributes === 'listing' && (late.fs?.files.openCount(ino) ?? 0) > 0, orphaned: (ino) => late.fs?.orphaned(ino), ...kernel },
    });
    const config: FsConfig = {
      ttlMs: 60_000, attributes: 'full', writeMode: 'back', fsync: 'local', deadlineMs: 5000, uploadDelayMs: 1000, smallFileBytes, readOnly: false, atime: 'relatime', ...options.config,
    };
    const hearth = (late.fs = new HearthFs({ clock, log, metrics, db, tree, discovery, journal, attempts, links, contents, reader, store, keys, health, uploads: writeback, kernel, groupsOf: (pid) => options.groups?.[pid] ?? [], config }, generation));
    if (generation === 0) hearth.newConnection();
    else hearth.sameConnection();
    await contents.recover();
    await writeback.recover();
    const daemon = new FsDaemon(db, tree, journal, attempts, conflicts, contents, reader, writeback, hearth, metrics, config, errors, line);
    late.notices = daemon.notices;
    return daemon;
  }

  /** Orderly shutdown. */
  async stop(): Promise<void> {
    if (this.dead) return;
    this.dead = true;
    await this.writeback.stop();
    await this.fs.durability.all();
    await this.reader.close();
    await this.contents.close();
    await this.db.close({ clean: true });
  }

  /** From here on it is as if the process were gone: what it asks S3 is not sent, what S3 answers is not heard. */
  kill(): void {
    this.dead = true;
    this.line.cut();
  }

  /** Frees what a killed daemon holds in this process; its directory must not be used any more. */
  async bury(): Promise<void> {
    await this.writeback.stop();
    await this.reader.close();
    await this.contents.close().catch(() => undefined);
    await this.db.close({ clean: false }).catch(() => undefined);
  }
}

/** The way to the store, which can be cut: the requests of a dead process neither leave nor come back. */
class Line {
  readonly store: ObjectStore;
  private isCut = false;

  constructor(world: World) {
    const guarded = async (name: string, call: () => Promise<unknown>): Promise<unknown> => {
      const dead = (): StoreError => new StoreError('aborted', 'the process is dead');
      if (this.isCut) throw dead();
      if (changesS3.has(name)) await world.mayLeave();
      world.point(`s3 ${name} leaves`);
      if (this.isCut) throw dead();
      const result = await call().then((value) => ({ value }), (error: unknown) => ({ error }));
      if (!this.isCut) world.point(`s3 ${name} was answered`);
      if (this.isCut) throw dead();
      if ('error' in result) throw result.error as Error;
      return result.value;
    };
    this.store = new Proxy(world.store, {
      get: (target, name) => {
        const member = Reflect.get(target, name) as unknown;
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => guarded(String(name), () => Promise.resolve((member as (...all: unknown[]) => unknown).apply(target, args)));
      },
    });
  }

  cut(): void { this.isCut = true; }
}

const changesS3 = new Set(['put', 'copy', 'delete', 'createUpload', 'uploadPart', 'uploadPartCopy', 'completeUpload', 'abortUpload']);

/** Points before and after every call that changes the disk. In a transaction too: then nothing of it is committed. */
function tappedDisk(disk: Disk, point: (what: string) => void): Disk {
  return new Proxy(disk, {
    get: (target, name) => {
      const member = Reflect.get(target, name) as unknown;
      if (typeof member !== 'function' || name === 'close' || name === 'pread') return typeof member === 'function' ? (member as () => void).bind(target) : member;
      return (...args: unknown[]): unknown => {
        const label = String(args[0]);
        point(`before ${label}`);
        const result = name === 'fallocate' ? fallocate(target, ...(args as Parameters<Disk['fallocate']>)) : (member as (...all: unknown[]) => unknown).apply(target, args);
        if (!(result instanceof Promise)) {
          point(`after ${label}`);
          return result;
        }
        return result.then((value: unknown) => {
          point(`after ${label}`);
          return value;
        });
      };
    },
  });
}

function tapCommits(db: Db, point: (what: string) => void): void {
  const tx = db.tx.bind(db);
  db.tx = (fn) => {
    if (db.inTransaction) return tx(fn);
    const result = tx(fn);
    point('committed');
    return result;
  };
}

/** Memory file systems know only some modes: the others by hand. */
function fallocate(disk: Disk, label: string, fd: number, mode: number, offset: number, length: number): void {
  try {
    return disk.fallocate(label, fd, mode, offset, length);
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== Errno.EOPNOTSUPP) throw error;
  }
  const size = fs.fstatSync(fd).size;
  const moves = mode & FallocateMode.COLLAPSE_RANGE ? offset + length >= size : mode & FallocateMode.INSERT_RANGE ? offset >= size : undefined;
  if (moves === true) throw new SystemError('fallocate', Errno.EINVAL);
  if (moves === undefined && !(mode & FallocateMode.ZERO_RANGE)) throw new SystemError('fallocate', Errno.EOPNOTSUPP);
  const all = Buffer.alloc(size);
  fs.readSync(fd, all, 0, size, 0);
  let after = all;
  if (mode & FallocateMode.COLLAPSE_RANGE) after = Buffer.concat([all.subarray(0, offset), all.subarray(offset + length)]);
  else if (mode & FallocateMode.INSERT_RANGE) after = Buffer.concat([all.subarray(0, offset), Buffer.alloc(length), all.subarray(offset)]);
  else {
    if (!(mode & FallocateMode.KEEP_SIZE)) after = Buffer.concat([all, Buffer.alloc(Math.max(0, offset + length - size))]);
    after.fill(0, Math.min(offset, after.length), Math.min(offset + length, after.length));
  }
  fs.writeSync(fd, after, 0, after.length, 0);
  fs.ftruncateSync(fd, after.length);
}
