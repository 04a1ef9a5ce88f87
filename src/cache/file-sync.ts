/**
 * Which content files have data, names or presence that is not on stable storage, and putting it there (D1): the file, then the
 * directory that names it, then (in the database, whose own sync is the caller's next step) what of it is present.
 */
import { Semaphore } from '../base/semaphore.js';
import type { Disk } from '../base/disk.js';
import type { Db } from '../db/db.js';
import { rootShard, shardCount, type ContentDir } from './content-dir.js';
import type { ContentFile, PresenceSnapshot } from './content-file.js';
import type { FdCache } from './fd-cache.js';

/** More files than this at once: one syncfs is cheaper than so many fdatasyncs. */
const syncsMax = 128;
/** Those under way at the same time share the commits of a journaling file system. Half of libuv's threads: the journal's own sync finds one. */
const syncsAtOnce = 8;
/** Rounds of upkeep (of a second) after which also a file that is still being fetched is put on record. */
const landingRoundsMax = 10;

export class FileSync {
  /** Written since their last sync. Strong references: what they know is stored nowhere else. */
  private readonly unsynced = new Map<number, ContentFile>();
  /** Presence ahead of the database. */
  private readonly unstored = new Map<number, { readonly file: ContentFile; rounds: number; landing: boolean }>();
  /** Dirty files of a run that ended without order: nobody knows what of them was synced. */
  private readonly inherited = new Set<number>();
  /** Directories with names made since their last sync, and how many. */
  private readonly newNames = new Map<number, number>();
  private readonly slots = new Semaphore(syncsAtOnce);

  constructor(
    private readonly db: Db,
    private readonly disk: Disk,
    private readonly fds: FdCache,
    private readonly files: ContentDir,
    private readonly done: (file: ContentFile) => void,
  ) {
    if (!db.previous.clean) for (let shard = rootShard; shard < shardCount; shard++) this.newNames.set(shard, 1);
  }

  get unstoredIds(): number[] { return [...this.unstored.keys()]; }
  get unsyncedIds(): number[] { return [...this.unsynced.keys(), ...this.inherited]; }
  isInherited(id: number): boolean { return this.inherited.has(id); }

  /**
   * One round of upkeep: files whose presence is to be stored now. Not those into which bytes still land: syncing a gigabyte while it arrives costs the download
   * a good part of its speed, and a crash before only means to fetch again what came last.
   */
  due(): number[] {
    const ids: number[] = [];
    for (const [id, state] of this.unstored) {
      if (!state.landing || state.file.isComplete || ++state.rounds >= landingRoundsMax) ids.push(id);
      state.landing = false;
    }
    return ids;
  }

  isUnsynced(id: number): boolean { return this.unsynced.has(id) || this.inherited.has(id); }

  /** A name was made in the directory of this shard. */
  named(shard: number): void {
    this.newNames.set(shard, (this.newNames.get(shard) ?? 0) + 1);
  }

  created(file: ContentFile, isNameDurable: boolean): void {
    if (!isNameDurable) this.named(this.files.shardOf(file.id));
    this.unsynced.set(file.id, file);
  }

  wrote(file: ContentFile): void {
    if (!file.removed) this.unsynced.set(file.id, file);
  }

  landed(file: ContentFile): void {
    if (file.removed) return;
    const known = this.unstored.get(file.id);
    if (known) known.landing = true;
    else this.unstored.set(file.id, { file, rounds: 0, landing: true });
  }

  inherit(id: number): void {
    this.inherited.add(id);
  }

  forget(id: number): void {
    this.unsynced.delete(id);
    this.unstored.delete(id);
    this.inherited.delete(id);
  }

  async sync(files: ReadonlySet<ContentFile>): Promise<void> {
    if (files.size > syncsMax) await this.syncAll(files);
    else await Promise.all([...files].map((file) => this.syncOne(file)));
  }

  syncOne(file: ContentFile): Promise<void> {
    return this.slots.run(async () => {
      if (file.removed) return;
      const { version } = file;
      const snapshot = file.presenceSnapshot();
      const { fd, unpin } = this.fds.pin(file);
      try {
        // At once: on a journaling file system the first of them to commit takes the others along
        await Promise.all([
          this.disk.fdatasync('content.sync', fd).catch((error: unknown) => this.failed(error)), this.syncNames(this.files.shardOf(file.id)), this.syncNames(rootShard),
        ]);
      } finally {
        unpin();
      }
      this.synced(file, version, snapshot);
    });
  }

  private async syncAll(files: ReadonlySet<ContentFile>): Promise<void> {
    const states = [...files].filter((file) => !file.removed).map((file) => ({ file, version: file.version, snapshot: file.presenceSnapshot() }));
    if (states.length === 0) return;
    const names = new Map(this.newNames);
    const { fd, unpin } = this.fds.pin(states[0]!.file);
    try {
      await this.disk.syncFileSystem('content.syncfs', fd).catch((error: unknown) => this.failed(error));
    } finally {
      unpin();
    }
    for (const [shard, count] of names) if (this.newNames.get(shard) === count) this.newNames.delete(shard);
    this.db.tx(() => {
      for (const { file, version, snapshot } of states) this.synced(file, version, snapshot);
    });
  }

  /** The names made so far in these directories, and those of the directories, are durable when it resolves. */
  async syncDirectories(shards: Iterable<number>): Promise<void> {
    await Promise.all([...new Set([...shards, rootShard])].map((shard) => this.syncNames(shard)));
  }

  private async syncNames(shard: number): Promise<void> {
    const count = this.newNames.get(shard);
    if (count === undefined) return;
    await this.disk.syncDirectory('content.dirsync', this.files.shardPath(shard)).catch((error: unknown) => this.failed(error));
    if (this.newNames.get(shard) === count) this.newNames.delete(shard);
  }

  /** D4: the kernel may have dropped what it could not write; a second sync would succeed and mean nothing. */
  private failed(cause: unknown): never {
    const error = new Error('Cannot make content files durable', { cause });
    this.db.fail(error);
    throw error;
  }

  private synced(file: ContentFile, version: number, snapshot: PresenceSnapshot): void {
    if (file.removed) return;
    if (file.version === version) this.unsynced.delete(file.id);
    this.inherited.delete(file.id);
    file.storePresence(snapshot);
    const state = this.unstored.get(file.id);
    if (state) state.rounds = 0;
    if (!file.hasUnstoredPresence) this.unstored.delete(file.id);
    this.done(file);
  }
}
