/**
 * The content files of a mount: which exist, what of them is here, what may go. Owns `<dir>/content/` and the `content` table.
 *
 * Invariants
 *  1. A dirty file is never evicted, nor is one that is held (`acquire`) or pinned (K5).
 *  2. No file is unlinked before the transaction that removed its row (and any that made it clean) is durable (J3).
 *  3. Ids, and so names, are never reused (J3).
 *  4. Everything clean here may be deleted with the daemon stopped: it is fetched again. A dirty file that is gone is an error that is shown.
 *  5. Eviction takes whole files, by unlink (D6).
 *
 * Methods marked *tx* change rows and belong in the caller's transaction; they undo their part of memory and disk if it rolls back.
 */
import { sharedAbort } from '../base/shared-abort.js';
import fs from 'node:fs';
import { assert } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { createFlags, realDisk, type Disk } from '../base/disk.js';
import { errorCode } from '../base/errno.js';
import type { Log } from '../base/log.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Metrics } from '../base/metrics.js';
import { RangeSet, type Range } from '../base/range-set.js';
import type { Db } from '../db/db.js';
import { claimDirectory } from '../db/state-dir.js';
import { Bookkeeping } from './bookkeeping.js';
import { ContentLostError } from './cache-error.js';
import { ChangeLog } from './change-log.js';
import { checksumsOf } from './checksums.js';
import { ContentDir, rootShard } from './content-dir.js';
import { ContentIds } from './content-ids.js';
import { ContentFile, decodeMissing, type ContentHost, type ContentStat } from './content-file.js';
import { ContentRows } from './content-rows.js';
import type { ContentStats, ContentStoreOptions } from './content-store-options.js';
import { EvictionIndex, Flag } from './eviction-index.js';
import { Evictor, type Eviction } from './evictor.js';
import { FdCache } from './fd-cache.js';
import { FileSync } from './file-sync.js';
import { Handles } from './handles.js';
import { Integrity } from './integrity.js';
import { Leaving } from './leaving.js';
import { areBooksGood, loadIndex, restoreFiles, scanFiles, type RecoveryReport } from './recovery.js';
import { shedRanges } from './shed.js';
import { Space } from './space.js';
import { SpareFiles, type SpareFile } from './spare-files.js';

export class ContentStore implements ContentHost {
  // dependencies
  readonly db: Db;
  readonly disk: Disk;
  readonly fds: FdCache;
  readonly changes = new ChangeLog();
  private readonly clock: Clock;
  private readonly log: Log;
  private readonly metrics: Metrics;
  private readonly rows: ContentRows;
  private readonly files: ContentDir;
  private readonly space: Space;
  private readonly syncs: FileSync;
  private readonly leaving: Leaving;
  private readonly books: Bookkeeping;
  private readonly integrity: Integrity;
  private readonly evictor: Evictor;
  private readonly index = new EvictionIndex();
  private readonly ids: ContentIds;
  private readonly spares: SpareFiles;
  private readonly booksAreGood: boolean;
  // state
  private readonly handles = new Handles();
  private readonly holds = new Map<number, number>();
  private loading: Promise<void>;
  private isLoaded = false;
  private timer: NodeJS.Timeout | undefined;
  private maintaining: Promise<void> | undefined;
  private recovering: Promise<unknown> | undefined;
  private closing: Promise<void> | undefined;
  private readonly stopping = sharedAbort();

  /** @throws UserError if the directory is not ours to use. Returns without having looked at every file: see `recover()`. */
  static async open(options: ContentStoreOptions): Promise<ContentStore> {
    claimDirectory(options.dir);
    return Promise.resolve(new ContentStore(options));
  }

  private constructor(options: ContentStoreOptions) {
    this.db = options.db;
    this.disk = options.disk ?? realDisk;
    this.clock = options.clock;
    this.log = options.log;
    this.metrics = options.metrics;
    this.fds = new FdCache(this.disk, options.fdsMax ?? 512);
    this.rows = new ContentRows(this.db);
    this.booksAreGood = areBooksGood(this.db);
    this.files = new ContentDir(options.dir);
    this.ids = new ContentIds((multiple) => this.db.reserveIds('content', multiple));
    this.books = new Bookkeeping(this.db, this.rows, this.index, () => this.usedBytes());
    this.integrity = new Integrity({
      find: (id) => this.find(id), isDirty: (id) => this.isDirty(id), isUnsynced: (id) => this.syncs.isUnsynced(id), evict: (what) => this.evict(what),
    }, this.rows, this.stopping.signal, this.log, this.metrics);
    this.space = new Space(
      {
        usedBytes: () => this.usedBytes(),
        evictableBytes: () => this.index.evictableBytes,
        evict: async (bytes) => (await this.evict({ bytes })).bytes,
        explain: () => `${this.index.dirtyBytes} of them not uploaded yet, the rest in use or pinned`,
      },
      options.dir, options.limitBytes, options.minFree, options.noProgressMs ?? 30_000, options.clock,
    );
    this.syncs = new FileSync(this.db, this.disk, this.fds, this.files, (file) => {
      this.recount(file);
      this.integrity.want(file.id);
    });
    this.spares = new SpareFiles(this.disk, this.files, this.ids, this.syncs, options.clock, options.sparesMax ?? 64);
    this.leaving = new Leaving((id) => this.unlink(id), (id, error) => {
      if (error !== undefined) this.log.warn('a content file cannot be removed; the next start tries again', { room: 'cache', id, error });
      this.space.changed();
    });
    this.evictor = new Evictor(this.db, this.index, this.leaving, this.metrics, { remove: (id) => this.remove(id), know: (id) => this.ensureIndexed(id) });
    this.index.expect(this.books.bookedFiles);
    if (!this.db.previous.clean) this.rows.dirty().forEach((id) => this.syncs.inherit(id)); // now: an upload may ask before all is loaded
    this.loading = loadIndex(this.rows, this.index, this.stopping.signal).then(() => {
      this.isLoaded = !this.stopping.signal.aborted;
      this.space.changed();
    });
    this.loading.catch((error: unknown) => this.db.fail(error as Error));
    const upkeepMs = options.upkeepMs ?? 1000;
    if (upkeepMs > 0) this.timer = setInterval(() => void this.maintain(), upkeepMs).unref();
    this.metrics.gauge('cache.bytes', () => this.usedBytes());
    this.metrics.gauge('cache.dirty_bytes', () => this.index.dirtyBytes);
    this.metrics.gauge('cache.limit_bytes', () => this.space.limitBytes);
    this.metrics.gauge('cache.files', () => this.index.count);
  }

  // ---- files

  /**
   * *tx.* A new file of `sizeBytes`, all holes; `missing` says whether those are still in S3 or are its content (zeros).
   * @param owner its inode: one that comes back soon after its content was evicted is kept longer this time.
   */
  create(sizeBytes: number, missing: 'all' | 'none', owner = 0, dirty = false): ContentFile {
    const spare = this.spares.take();
    const made = spare ?? this.newFile();
    const { id, path } = made;
    const ranges = missing === 'all' ? RangeSet.of({ start: 0, end: sizeBytes }) : new RangeSet();
    const file = new ContentFile(this, id, path, ranges, sizeBytes);
    this.fds.adopt(file, made, sizeBytes > 0);
    const undo = (): void => {
      file.removed = true;
      this.forget(id);
      this.index.remove(id);
      this.fds.drop(file);
      this.disk.unlinkSync('content.undo', path);
    };
    try {
      if (sizeBytes > 0) this.disk.truncate('content.create', made.fd, sizeBytes);
      const usedAtMs = this.clock.now();
      this.index.add(id, { bytes: 0, hits: 0, queue: 0, usedAtMs, dirty, pinned: false, owner });
      this.rows.insert(id, ranges.encode(), dirty, this.index.state(id)!.queue, usedAtMs);
    } catch (error) {
      undo();
      throw error;
    }
    this.db.onRollback(undo);
    this.handles.add(file);
    this.syncs.created(file, spare !== undefined);
    return file;
  }

  /**
   * The file, or undefined if it was evicted or never was. The same object as long as anybody has it.
   * @throws ContentLostError if it holds data S3 lacks and is not there.
   */
  find(id: number): ContentFile | undefined {
    const known = this.handles.get(id);
    if (known) return known.removed ? undefined : known;
    const row = this.rows.get(id);
    if (!row) return undefined;
    const path = this.files.path(id);
    const stat = fs.statSync(path, { throwIfNoEntry: false });
    if (!stat) return this.gone(id, path, row.dirty === 1);
    if (!this.index.has(id)) this.addRow(row);
    const file = new ContentFile(this, id, path, decodeMissing(id, row.missing), stat.size, row.unsynced === null ? undefined : decodeMissing(id, row.unsynced));
    this.handles.add(file);
    return file;
  }

  /** *tx.* The row goes with the transaction, the file once that is durable (J3). */
  remove(id: number): void {
    this.db.tx(() => {
      this.rows.remove(id);
      const file = this.handles.get(id);
      if (file) file.removed = true;
      this.db.onRollback(() => {
        if (file) file.removed = false;
      });
      this.db.afterCommit(() => {
        this.leaving.add(id, this.index.bytesOf(id));
        this.index.remove(id);
        this.forget(id);
        if (file) this.handles.left(file);
      });
      this.db.afterDurable(() => void this.leaving.finish(id));
    });
  }
  /** After a power cut, before anything else, with the files that were being written. */
  restore(ids: readonly number[]): void { restoreFiles(ids, this.db, this.rows, this.files, this.disk, this.log); }

  /** *tx.* A dirty file holds bytes S3 lacks. */
  setDirty(id: number, dirty: boolean): void {
    this.ensureIndexed(id);
    if (this.index.isSet(id, Flag.dirty) === dirty) return;
    this.rows.setDirty(id, dirty);
    this.index.setFlag(id, Flag.dirty, dirty);
    this.db.onRollback(() => this.index.setFlag(id, Flag.dirty, !dirty));
    if (dirty) return;
    this.db.afterCommit(() => {
      this.integrity.want(id);
      this.space.changed();
    });
  }

  isDirty(id: number): boolean {
    this.ensureIndexed(id);
    return this.index.isSet(id, Flag.dirty);
  }

  /** The file is in use (open, being transferred) until the returned function is called, once, with what the file looks like by then if that is known. */
  acquire(file: ContentFile): (stat?: ContentStat) => void {
    this.ensureIndexed(file.id);
    this.holds.set(file.id, (this.holds.get(file.id) ?? 0) + 1);
    this.index.setFlag(file.id, Flag.held, true);
    this.touch(file);
    let held = true;
    return (stat) => {
      if (!held) return;
      held = false;
      const left = this.holds.get(file.id)! - 1;
      if (left > 0) {
        this.holds.set(file.id, left);
        return;
      }
      this.holds.delete(file.id);
      if (file.removed) this.fds.drop(file); // unlinked: now its space is free
      else this.recount(file, stat);
      this.index.setFlag(file.id, Flag.held, false);
      this.space.changed();
    };
  }

  pin(id: number): void { this.setPinned(id, true); }
  unpin(id: number): void { this.setPinned(id, false); }

  /** An access; many in a row are one. `acquire` counts as one. Costs a few array reads. */
  touch(file: ContentFile): void {
    if (this.index.touch(file.id, this.clock.now())) this.books.later(file.id);
  }

  // ---- room

  /** Before writes and GETs: immediate where there is room, else after eviction. @throws CacheFullError after a bounded wait without progress. */
  reserve(bytes: number, signal?: AbortSignal | (() => AbortSignal)): MaybePromise<void> {
    const held = this.space.hold(bytes, signal);
    return typeof held === 'function' ? held() : held.then((release) => release());
  }

  /** `reserve` that stays counted until the returned function is called, for bytes that land later. */
  hold(bytes: number, signal?: AbortSignal): MaybePromise<() => void> {
    return this.space.hold(bytes, signal);
  }

  /** All content files lie below it. */
  get directory(): string { return this.files.root; }
  /** From now on the kernel reads and writes content files by itself, through descriptors that are opened so: for new files they are ready. */
  openForKernel(open: (path: string) => Promise<number>): void { this.spares.openReader = open; }
  /** D5: open for writing without passthrough from here on. */
  get isAboveHighWater(): boolean { return this.space.isAboveHighWater; }

  setLimit(limitBytes: number): void {
    this.space.limitBytes = limitBytes;
    this.space.changed();
    if (this.usedBytes() > limitBytes) this.evict({ bytes: this.usedBytes() - limitBytes }).catch(() => undefined);
  }

  /** Counts the disk space of a file that may have grown without a reservation: the kernel writes it (D5). */
  recount(file: ContentFile, stat = file.stat()): void {
    const bytes = stat && Number(stat.blocks) * 512;
    if (bytes === undefined || bytes === this.index.bytesOf(file.id)) return;
    this.index.setBytes(file.id, bytes);
    this.books.later(file.id);
  }

  /** Evicts about `bytes`, or these `ids`, or everything: only what is clean, unheld and unpinned. Resolves when the space is free. */
  async evict(what: Eviction): Promise<{ files: number; bytes: number }> {
    if (!what.ids && this.index.evictableBytes === 0 && !this.isLoaded) await this.loading;
    return this.evictor.evict(what);
  }

  /** Room inside a file bigger than the cache: gives up what of `ranges` is here and not busy, if the file is clean and incomplete. */
  async shed(file: ContentFile, ranges: readonly Range[], isBusy: (range: Range) => boolean): Promise<number> {
    if (file.removed || file.isComplete || this.isDirty(file.id) || this.index.isSet(file.id, Flag.pinned)) return 0;
    const bytes = await shedRanges(this, file, ranges, isBusy);
    this.metrics.add('cache.shed_bytes', bytes);
    this.recount(file);
    this.space.changed();
    return bytes;
  }

  // ---- durability

  /** D1: data and names of these files are on stable storage when it resolves; then `db.durable()` makes them *journaled*. */
  async sync(ids: Iterable<number>): Promise<void> {
    const files = new Set<ContentFile>();
    for (const id of ids) {
      try {
        const file = this.find(id);
        if (file) files.add(file);
        else this.syncs.forget(id);
      } catch (error) {
        if (!(error instanceof ContentLostError)) throw error; // reported by find() already; the others must not wait for it
        this.syncs.forget(id);
      }
    }
    await this.syncs.sync(files);
  }

  /** Files with data (or a name) that no sync has covered. Those the kernel writes in passthrough are the caller's to know. */
  unsynced(): number[] { return this.syncs.unsyncedIds; }
  isUnsynced(id: number): boolean { return this.syncs.isUnsynced(id); }
  isKept(id: number): boolean { return this.handles.get(id)?.isKept ?? false; }
  syncFile(file: ContentFile): Promise<void> { return this.syncs.syncOne(file); }

  // ---- checks

  /** *tx.* `bytes` is all of the file, unchanged since it was read. Nothing is kept of a file that is dirty or not synced: its checksums come later. */
  noteChecksums(id: number, bytes: Uint8Array): void {
    if (!this.isDirty(id) && !this.syncs.isUnsynced(id) && this.find(id)?.isComplete) this.rows.setChecksums(id, checksumsOf(bytes));
  }

  /**
   * Reads the whole file and compares its checksums. False: it is damaged; a clean one is dropped, to be fetched again, a dirty one
   * is reported and stays. True also if there were no checksums and it can be read.
   */
  verify(file: ContentFile): Promise<boolean> {
    return this.integrity.verify(file);
  }

  /**
   * Once per start, beside everything else: loads the index, then removes files without rows, finds rows without files, and after a crash
   * counts the disk space of each. Lost dirty files are in `lost`, and their rows stay. `close` stops it.
   */
  recover(): Promise<RecoveryReport> {
    const recovering = this.loading.then(() => scanFiles({
      db: this.db, rows: this.rows, index: this.index, files: this.files, disk: this.disk, isOfEarlierRun: (id) => this.ids.isOfEarlierRun(id),
      signal: this.stopping.signal, booksAreGood: this.booksAreGood, isLeaving: (id) => this.leaving.has(id), counted: (id) => this.books.later(id),
      vanished: (ids) => this.db.tx(() => ids.forEach((id) => this.remove(id))), log: this.log, metrics: this.metrics,
    }));
    this.recovering = recovering.then(() => this.space.changed(), () => undefined); // of a failure the caller is told
    return recovering;
  }

  stats(): ContentStats {
    return {
      cacheBytes: this.usedBytes(), dirtyBytes: this.index.dirtyBytes, evictableBytes: this.index.evictableBytes, limitBytes: this.space.limitBytes,
      files: this.index.count, evictions: this.evictor.evictedFiles, evictedBytes: this.evictor.evictedBytes, openFds: this.fds.size, reservationsWaiting: this.space.waiting,
    };
  }

  /** One round of upkeep, run by a timer: everything here may be late without harm. Never rejects. */
  maintain(): Promise<void> {
    this.maintaining ??= this.upkeep()
      .catch((error: unknown) => {
        this.metrics.add('cache.upkeep_failures');
        this.log.warn('upkeep of the cache failed', { room: 'cache', error });
      })
      .finally(() => (this.maintaining = undefined));
    return this.maintaining;
  }

  /** Idempotent. Stores what is only in memory. */
  close(): Promise<void> { return (this.closing ??= this.shut()); }

  // ---- ContentHost

  storeMissing(id: number, missing: Buffer, unsynced: Buffer | null): void { this.rows.setMissing(id, missing, unsynced); }

  grew(id: number, bytes: number): void {
    this.index.setBytes(id, this.index.bytesOf(id) + bytes);
    this.books.later(id);
  }

  wrote(file: ContentFile): void { this.syncs.wrote(file); }
  landed(file: ContentFile): void { this.syncs.landed(file); }
  isInherited(id: number): boolean { return this.syncs.isInherited(id); }

  // ---- private

  private newFile(): SpareFile {
    for (;;) {
      const id = this.ids.next();
      const path = this.files.path(id);
      try {
        return { id, path, fd: this.disk.open('content.create', path, createFlags, 0o600) };
      } catch (error) {
        // EEXIST is a leftover of a transaction that a power cut took back; recover() removes it, and its name stays unused.
        if (errorCode(error) === 'EEXIST') continue;
        if (errorCode(error) !== 'ENOENT' || !this.files.makeShard(id)) throw error;
        this.syncs.named(rootShard);
        return { id, path, fd: this.disk.open('content.create', path, createFlags, 0o600) };
      }
    }
  }

  private usedBytes(): number {
    const indexed = this.index.bytes + this.leaving.bytes;
    return this.isLoaded ? indexed : Math.max(indexed, this.books.bookedBytes);
  }

  private forget(id: number): void {
    this.handles.forget(id);
    this.syncs.forget(id);
    this.books.forget(id);
    this.integrity.forget(id);
    this.changes.forget(id);
  }

  private addRow(row: ReturnType<ContentRows['get']>): void {
    if (!row) return;
    this.index.add(row.id, { bytes: row.allocated, hits: row.hits, queue: row.queue === 1 ? 1 : 0, usedAtMs: row.used_at, dirty: row.dirty === 1, pinned: row.pinned === 1 });
  }

  private ensureIndexed(id: number): void {
    if (!this.index.has(id) && !this.leaving.has(id)) this.addRow(this.rows.get(id));
  }

  private gone(id: number, path: string, dirty: boolean): undefined {
    if (dirty) {
      this.metrics.add('cache.lost_files');
      throw new ContentLostError(id, path);
    }
    this.log.warn('a cached file is gone from the cache directory and will be fetched again', { room: 'cache', id });
    this.remove(id);
  }

  private setPinned(id: number, pinned: boolean): void {
    this.ensureIndexed(id);
    if (this.index.isSet(id, Flag.pinned) === pinned) return;
    this.db.tx(() => {
      this.rows.setPinned(id, pinned);
      this.index.setFlag(id, Flag.pinned, pinned);
      this.db.onRollback(() => this.index.setFlag(id, Flag.pinned, !pinned));
    });
    if (!pinned) this.space.changed();
  }

  private async unlink(id: number): Promise<void> {
    try {
      await this.disk.unlink('content.unlink', this.files.path(id));
    } finally {
      const file = this.handles.peek(id);
      if (file && !this.holds.has(id)) this.fds.drop(file);
    }
  }

  private async upkeep(): Promise<void> {
    if (this.leaving.size > 0) await this.db.durable();
    for (const id of this.holds.keys()) {
      const file = this.handles.peek(id); // D5: the kernel may be writing it
      if (file && !file.removed) this.recount(file);
    }
    this.space.relieveIfFull();
    await this.spares.upkeep();
    await this.sync(this.syncs.due());
    while (this.books.isBehind && !this.stopping.signal.aborted) {
      this.books.write(500);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await this.integrity.computeSome();
  }

  private async shut(): Promise<void> {
    assert(!this.db.inTransaction, 'close() inside a transaction');
    clearInterval(this.timer);
    this.stopping.abort();
    await this.loading;
    await this.recovering;
    await this.maintaining;
    await this.space.close();
    await this.spares.close();
    try {
      await this.sync(new Set([...this.syncs.unsyncedIds, ...this.syncs.unstoredIds]));
      while (this.books.isBehind) this.books.write(5000);
      if (this.isLoaded) this.books.writeSums();
      if (this.leaving.size > 0) {
        await this.db.durable();
        await this.leaving.finishAll();
      }
    } finally {
      this.fds.close();
    }
  }
}
