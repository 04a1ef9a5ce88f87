import { hostname } from 'node:os';
import { join } from 'node:path';
import { mkdirSync } from 'node:fs';
import { systemClock, type Clock } from '../base/clock.js';
import { Lifetime } from '../base/lifetime.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { groupsOfProcess } from '../base/process-groups.js';
import { ContentStore } from '../cache/content-store.js';
import { Db } from '../db/db.js';
import type { KernelCache } from '../fs/deps.js';
import { HearthFs } from '../fs/file-system.js';
import { AttemptTable } from '../journal/attempts.js';
import { ConflictTable } from '../journal/conflicts.js';
import { Journal } from '../journal/journal.js';
import { Discovery } from '../meta/discovery.js';
import { rootIno } from '../meta/inode.js';
import { Tree } from '../meta/tree.js';
import { ObjectReader } from '../prefetch/object-reader.js';
import type { Capabilities } from '../s3/capabilities.js';
import { ConditionalStore } from '../s3/conditional-store.js';
import type { Health } from '../s3/health.js';
import { LongKeyStore } from '../s3/long-key-store.js';
import { LongKeys } from '../s3/long-keys.js';
import type { TransferPool } from '../transfer/transfer-pool.js';
import { defaultWritebackConfig } from '../writeback/ports.js';
import { BlockDigestTable } from '../writeback/block-digests.js';
import { HardLinks } from '../writeback/hard-links.js';
import { Writeback } from '../writeback/writeback.js';
import { checkBucketIdentity } from './bucket-identity.js';
import type { MountConfig } from './config.js';
import { JournalInterval } from './journal-interval.js';
import { serverCapabilities } from './server-capabilities.js';

const MiB = 2 ** 20;
/** Files up to this size are fetched whole when they are opened. */
const smallFileBytes = 8 * MiB;
const partBytes = 8 * MiB;
const windowBytesMax = 256 * MiB;

/** Everything a daemon is made of, wired; the only place that builds things. Not yet serving: the caller starts the session. */
export interface Parts {
  readonly config: MountConfig;
  readonly clock: Clock;
  readonly db: Db;
  readonly tree: Tree;
  readonly journal: Journal;
  readonly conflicts: ConflictTable;
  readonly contents: ContentStore;
  readonly reader: ObjectReader;
  readonly writeback: Writeback;
  readonly fs: HearthFs;
  readonly health: Health;
  readonly capabilities: Capabilities;
  readonly readOnly: boolean;
}

/**
 * @param generation how many daemons served this kernel connection before; 0 for a new mount.
 * @param opening awaited after the cache directory is found good: what is wrong with that is said first.
 * @param kernel late-bound: the session that owns the notifier starts after everything else.
 */
export async function compose(config: MountConfig, generation: number, opening: Promise<TransferPool>, kernel: KernelCache, life: Lifetime, log: Log, metrics: Metrics): Promise<Parts> {
  const clock = systemClock;
  const db = Db.open({ dir: config.cacheDir, log, metrics, onFatal: (error) => fatal(log, error) });
  let clean = false;
  life.defer(() => db.close({ clean }));
  const claim = checkBucketIdentity(db, config);
  const contents = life.own(await ContentStore.open({ db, dir: config.cacheDir, limitBytes: config.cacheSizeBytes, minFree: config.minFree, clock, log, metrics }));
  // Tables make their statements: done while the threads that talk to S3 start
  const tree = new Tree(db);
  const journal = new Journal(db, clock);
  const attempts = new AttemptTable(db);
  const conflicts = new ConflictTable(db);
  const discovery = new Discovery(tree, { uid: config.uid, gid: config.gid, umask: config.umask });
  const digests = new BlockDigestTable(db);

  const pool = life.own(await opening);
  const health = pool.health;
  const capabilities = await serverCapabilities(pool, db, config, clock.now(), log, generation === 0);
  claim();
  pool.setEtagQuotes(capabilities.etagQuotes);
  const keys = new LongKeys(config.prefix);
  const store = new LongKeyStore(new ConditionalStore(pool, capabilities), keys);

  if (!tree.inodes.get(rootIno)) {
    db.tx(() => tree.createRoot({ uid: config.uid, gid: config.gid, mode: 0o040000 | (0o777 & ~config.umask), time: clock.time() }));
  }
  const reader = life.own(new ObjectReader({
    store, contents, clock, log, metrics,
    config: { partBytes, smallFileBytes, downloadsMax: config.downloadsMax, windowBytesMax, readMode: config.readMode },
  }));
  const scratchDir = join(config.cacheDir, 'scratch');
  mkdirSync(scratchDir, { recursive: true });

  const late: { fs?: HearthFs } = {};
  const links = new HardLinks({
    tree, journal, attempts, conflicts, clock, log, metrics, kernel, openCount: (ino) => late.fs?.files.openCount(ino) ?? 0, orphaned: (ino) => late.fs?.orphaned(ino),
    config: { keyPrefix: config.prefix, uploadDelayMs: config.uploadDelayMs, readOnly: config.readOnly || capabilities.readOnly },
  });
  const writeback = new Writeback({
    db, tree, journal, attempts, conflicts, links, digests, reader, discovery, store, keys, clock, log, metrics, random: Math.random, hostname: hostname(),
    contents: {
      find: (id) => contents.find(id), create: (sizeBytes) => contents.create(sizeBytes, sizeBytes > 0 ? 'all' : 'none'), setDirty: (id, dirty) => contents.setDirty(id, dirty), isDirty: (id) => contents.isDirty(id),
      remove: (id) => contents.remove(id), sync: (ids) => contents.sync(ids), isUnsynced: (id) => contents.isUnsynced(id), reserve: async (bytes) => contents.hold(bytes), changesSince: (id, gen) => contents.changes.since(id, gen), noteChecksums: (id, bytes) => contents.noteChecksums(id, bytes),
    },
    config: { ...defaultWritebackConfig, uploadDelayMs: config.uploadDelayMs, uploadsMax: config.uploadsMax, scratchDir },
    hooks: {
      isBusy: (ino) => late.fs?.isBusy(ino) ?? false, holdWrites: (ino) => late.fs?.holdWrites(ino) ?? (() => undefined),
      // Where room gets short, writers wait for uploads (D5): then these come first
      isForegroundBusy: () => (late.fs?.foreground.isBusy ?? false) && contents.stats().dirtyBytes < config.cacheSizeBytes / 4,
      nameChanged: (parent, name) => kernel.nameChanged(parent, name),
      contentChanged: (ino) => kernel.contentChanged(ino),
      openCount: (ino) => late.fs?.files.openCount(ino) ?? 0,
      isOpenAsListed: (ino) => config.attributes === 'listing' && (late.fs?.files.openCount(ino) ?? 0) > 0,
      orphaned: (ino) => late.fs?.orphaned(ino),
      kernelWrites: {
        hasWriters: (ino) => late.fs?.passthrough.hasWriters(ino) ?? false,
        refresh: (ino) => {
          const inode = tree.inodes.get(ino);
          if (inode) late.fs?.passthrough.refresh(inode);
        },
        sealed: (ino, stat) => late.fs?.passthrough.sealed(ino, stat),
      },
    },
  });
  const fs = (late.fs = new HearthFs({
    clock, log, metrics, db, tree, discovery, journal, attempts, links, contents, reader, store, keys, health, uploads: writeback, kernel, groupsOf: groupsOfProcess,
    config: {
      ttlMs: config.ttlMs, attributes: config.attributes, writeMode: config.writeMode, fsync: config.fsync, deadlineMs: config.deadlineMs,
      uploadDelayMs: config.uploadDelayMs, smallFileBytes, readOnly: config.readOnly, atime: atimeOf(config),
    },
  }, generation));
  if (generation === 0) fs.newConnection();
  else fs.sameConnection();
  life.own(fs.passthrough);
  // A cache of a million files is looked through while the mount serves
  contents.recover().catch((error: unknown) => log.warn('the content files could not be looked through: what a crash left there takes room until the next start', { room: 'cache', error }));
  await writeback.recover();
  life.defer(async () => {
    await writeback.stop();
    await fs.durability.all();
    clean = true;
  });
  life.own(new JournalInterval(fs.durability, config.journalIntervalMs, log));
  if (!config.readOnly && !capabilities.readOnly) writeback.start();
  return { config, clock, db, tree, journal, conflicts, contents, reader, writeback, fs, health, capabilities, readOnly: config.readOnly || capabilities.readOnly };
}

/** A mount that changes nothing changes no atime. */
export function atimeOf(config: Pick<MountConfig, 'atime' | 'readOnly'>): MountConfig['atime'] {
  return config.readOnly ? 'noatime' : config.atime;
}

/** D4: the disk failed. Stop at once; the supervisor starts the next daemon, which recovers. */
function fatal(log: Log, error: Error): void {
  log.error('stopping: the disk failed under the journal', { room: 'daemon', error });
  process.exit(70);
}
