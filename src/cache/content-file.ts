/**
 * One content file: as long as the file it stands for, sparse where bytes are still only in S3. `missing` says which those are.
 *
 * Invariants
 *  1. st_size is the logical size, also while the kernel writes the file itself (passthrough, K8).
 *  2. `stored` (the presence in the database) is never smaller than `missing`: after a crash a byte may be fetched again, but one written
 *     here is never taken from S3. So a write whose range is still in `stored` stores before it returns, whether or not `missing`
 *     had it; presence gained by a GET is stored later, after the data was synced.
 *  3. Ranges of `missing` end at or before the size.
 *  4. A byte that is on record as missing and changed here is on record as `unsynced` until a sync covers it: a power cut that takes the change brings
 *     back the need for what S3 holds, not zeros (J4).
 *
 * Everything here is synchronous but `sync()`; the caller has made sure nobody fetches into a range it writes.
 */
import fs from 'node:fs';
import { AssertionError, assert } from '../base/assert.js';
import { timeFromNs, type Time } from '../base/clock.js';
import type { Db } from '../db/db.js';
import type { Disk } from '../base/disk.js';
import { fileStat, lseek, setFileTimes, type FileStat } from '../base/libc.js';
import { RangeSet, type Range } from '../base/range-set.js';
import type { ChangeLog } from './change-log.js';
import type { FdCache } from './fd-cache.js';
import { isQuiescent } from './lease.js';

export type ReadonlyRangeSet = Pick<RangeSet, 'isEmpty' | 'sizeBytes' | 'covers' | 'intersects' | 'intersection' | 'clone' | 'encode' | typeof Symbol.iterator>;

/** Linux fallocate(2) modes and lseek(2) whences. */
const Mode = { KEEP_SIZE: 1, PUNCH_HOLE: 2, COLLAPSE_RANGE: 8, ZERO_RANGE: 16, INSERT_RANGE: 32 } as const;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

export type ContentStat = FileStat;

/** What a sync that is about to start will cover. */
export interface PresenceSnapshot { readonly missing: RangeSet; readonly unsynced: RangeSet; readonly epoch: number; readonly recordedEarly: number }

/** What a content file needs of its store. */
export interface ContentHost {
  readonly db: Db;
  readonly disk: Disk;
  readonly fds: FdCache;
  readonly changes: ChangeLog;
  storeMissing(id: number, missing: Buffer, unsynced: Buffer | null): void;
  /** The file takes about this much more of the disk. */
  grew(id: number, bytes: number): void;
  /** Bytes were written that no sync has covered yet. */
  wrote(file: ContentFile): void;
  /** Presence was gained that is not stored yet. */
  landed(file: ContentFile): void;
  syncFile(file: ContentFile): Promise<void>;
  /** Nobody knows what of it reached the disk: it comes from a run that ended without order. */
  isInherited(id: number): boolean;
}

export class ContentFile {
  /** Row and file are gone or going; the descriptor may still serve who holds it. */
  removed = false;
  /** Counts changes of the bytes. */
  version = 0;
  /** Disk space at a version. */
  private counted: { readonly version: number; readonly bytes: number } | undefined;
  /** Counts what makes presence snapshots taken earlier useless. */
  private epoch = 0;
  /** As far as known here; the kernel may have made it longer (passthrough). For estimates only. */
  private knownSize: number;

  constructor(
    private readonly host: ContentHost,
    readonly id: number,
    readonly path: string,
    private missingSet: RangeSet,
    sizeBytes: number,
    private unsynced = new RangeSet(),
  ) {
    this.knownSize = sizeBytes;
    this.stored = missingSet.clone();
    // After a crash between a truncation and its commit (K11: file effects come first).
    this.clip(sizeBytes);
  }

  private stored: RangeSet;
  private fetches = 0;
  private timesKept: { readonly version: number; readonly atime: Time; readonly mtime: Time } | undefined;
  /** Counts presence put on record before a sync covered its data, and how much of that count syncs have covered since. */
  private recordedEarly = 0;
  private recordedCovered = 0;

  get sizeBytes(): number {
    return (this.knownSize = fs.fstatSync(this.host.fds.get(this, false)).size);
  }

  /** Without a look at the file: exact unless the kernel writes it (passthrough). */
  get knownSizeBytes(): number { return this.knownSize; }
  get missing(): ReadonlyRangeSet { return this.missingSet; }
  get isComplete(): boolean { return this.missingSet.isEmpty; }
  /** Presence in memory is ahead of the database. */
  get hasUnstoredPresence(): boolean { return this.stored.sizeBytes !== this.missingSet.sizeBytes; }
  /**
   * Every byte is here, on record as present, and what was fetched is on stable storage: neither a crash nor (once that record is durable) a power cut
   * brings back a need for what S3 holds (J4).
   */
  get isKept(): boolean {
    return this.isComplete && !this.hasUnstoredPresence && this.unsynced.isEmpty && this.recordedCovered === this.recordedEarly && !this.host.isInherited(this.id);
  }

  /** Fills `into` from `offset`; short only at the end of the file. */
  read(into: Uint8Array, offset: number): number {
    const fd = this.host.fds.get(this, false);
    let done = 0;
    while (done < into.length) {
      const count = this.host.disk.pread('content.read', fd, into, done, into.length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  /** For splice(2) instead of `read`. Not to be kept: it may be closed as soon as another file is used. */
  readDescriptor(): number {
    return this.host.fds.get(this, false);
  }

  /** Writes all of `data`. If it throws, a first part of it may have been written and counts as such: look at `sizeBytes`. */
  write(data: Uint8Array, offset: number): void {
    const fd = this.host.fds.get(this, true);
    let done = 0;
    try {
      while (done < data.length) done += this.host.disk.pwrite('content.write', fd, data, done, data.length - done, offset + done);
    } finally {
      if (done > 0) this.becamePresent(offset, offset + done);
    }
  }

  truncate(sizeBytes: number): void {
    const before = this.sizeBytes;
    this.host.disk.truncate('content.truncate', this.host.fds.get(this, true), sizeBytes);
    this.knownSize = sizeBytes;
    this.clip(sizeBytes);
    this.changed(Math.min(before, sizeBytes), Infinity);
  }

  /** So that a crash finds in the file itself the times a program set after its last write. */
  setTimes(atime: Time, mtime: Time): void {
    setFileTimes(this.host.fds.get(this, false), atime, mtime);
    if (this.fetches > 0) this.timesKept = { version: this.version, atime, mtime };
  }

  /**
   * Other threads are about to write bytes from S3 into it. The answer, called when they have, gives it back the times it had, unless it was changed
   * here meanwhile: after a crash they are taken for those of the last change.
   */
  keepTimes(): () => void {
    if (this.fetches++ === 0) {
      const stat = this.stat();
      this.timesKept = stat && { version: this.version, atime: timeFromNs(stat.atimeNs), mtime: timeFromNs(stat.mtimeNs) };
    }
    return () => {
      if (!this.removed && this.timesKept?.version === this.version) setFileTimes(this.host.fds.get(this, false), this.timesKept.atime, this.timesKept.mtime);
      if (--this.fetches === 0) this.timesKept = undefined;
    };
  }

  /** fallocate(2). Punched and zeroed ranges become present; collapse and insert need a complete file. */
  fallocate(mode: number, offset: number, length: number): void {
    const moves = (mode & (Mode.COLLAPSE_RANGE | Mode.INSERT_RANGE)) !== 0;
    assert(!moves || this.isComplete, 'collapse and insert move bytes that are not here yet');
    this.host.disk.fallocate('content.fallocate', this.host.fds.get(this, true), mode, offset, length);
    const size = this.sizeBytes;
    if (moves) this.unsynced = new RangeSet(); // what lay there in S3 belongs elsewhere now
    if (mode & (Mode.PUNCH_HOLE | Mode.ZERO_RANGE)) this.drop(offset, offset + length);
    if (!(mode & Mode.PUNCH_HOLE) && !moves) this.host.grew(this.id, length);
    this.clip(size);
    this.changed(offset, moves ? Infinity : offset + length);
  }

  /** lseek(2) with SEEK_DATA or SEEK_HOLE; missing bytes count as data. Throws ENXIO as lseek does. */
  seek(offset: number, whence: number): number {
    const fd = this.host.fds.get(this, false);
    const size = this.sizeBytes;
    if (this.missingSet.isEmpty || offset >= size) return lseek(fd, offset, whence);
    if (whence === SEEK_DATA) {
      const missing = this.missingSet.intersection(offset, size)[0];
      if (!missing) return lseek(fd, offset, whence);
      if (missing.start === offset) return offset;
      try {
        return Math.min(missing.start, lseek(fd, offset, SEEK_DATA));
      } catch {
        return missing.start; // ENXIO: no data on disk behind offset
      }
    }
    assert(whence === SEEK_HOLE, `whence ${whence} is the caller's business`);
    let at = offset;
    while (at < size) {
      const missing = this.missingSet.intersection(at, size)[0];
      if (missing?.start === at) {
        at = missing.end;
        continue;
      }
      const hole = lseek(fd, at, SEEK_HOLE);
      if (!missing || hole < missing.start) return hole;
      at = missing.start;
    }
    return size;
  }

  /** What the file looks like on disk, to the nanosecond; undefined if it is gone. The kernel may be writing it (K8). */
  stat(): ContentStat | undefined {
    const fd = this.host.fds.peek(this);
    if (fd === undefined) return fs.statSync(this.path, { bigint: true, throwIfNoEntry: false });
    const stat = fileStat(fd); // without the way through the directories
    return stat.nlink > 0n ? stat : undefined;
  }

  /** Nobody writes it and no mapping can (S2). Our own descriptor for writing is given back first: it would spoil the proof. */
  isQuiescent(): boolean {
    this.host.fds.closeWriter(this);
    return isQuiescent(this.host.fds.get(this, false)); // which the next look at the file, and its sync, will want
  }

  /** A GET landed in [start, end): readable at once; stored once the data is synced. */
  markPresent(start: number, end: number): void {
    if (!this.missingSet.intersects(start, end)) return;
    this.host.grew(this.id, lengthOf(this.missingSet.intersection(start, end)));
    this.missingSet.remove(start, end);
    this.counted = undefined;
    this.host.landed(this);
  }

  /** These bytes are not worth keeping, or are damaged: they will be fetched again. Not durable until the commit is. */
  markMissing(...ranges: readonly Range[]): void {
    this.epoch++;
    const before = this.stored.clone();
    for (const { start, end } of ranges) this.missingSet.add(start, end);
    this.stored = this.missingSet.clone();
    this.store(before);
  }

  /** Data (and, for a new file, its name) on stable storage, and its presence stored. The commit is not durable by this: `db.durable()`. */
  sync(): Promise<void> {
    return this.host.syncFile(this);
  }

  /** Counted anew after each change that passes through here; whoever lets the kernel write the file says so (`kernelMayWrite`). */
  allocatedBytes(): number {
    if (this.counted?.version === this.version) return this.counted.bytes;
    const bytes = this.countAllocated();
    this.counted = { version: this.version, bytes };
    return bytes;
  }

  kernelMayWrite(): void {
    this.counted = undefined;
  }

  private countAllocated(): number {
    const fd = this.host.fds.peek(this); // opening one for this costs more than the path
    const stat = fd === undefined ? fs.statSync(this.path, { throwIfNoEntry: false }) : fs.fstatSync(fd);
    return (stat?.blocks ?? 0) * 512;
  }

  /** What a sync that starts now will make storable. */
  presenceSnapshot(): PresenceSnapshot {
    return { missing: this.missingSet.clone(), unsynced: this.unsynced.clone(), epoch: this.epoch, recordedEarly: this.recordedEarly };
  }

  /** Stores the presence of a snapshot whose data has been synced. */
  storePresence(snapshot: PresenceSnapshot): void {
    this.recordedCovered = Math.max(this.recordedCovered, snapshot.recordedEarly);
    if (this.removed || snapshot.epoch !== this.epoch) return;
    const before = this.stored;
    const after = new RangeSet();
    // `stored` may have shrunk meanwhile, by writes: what is missing needs both.
    for (const range of before) for (const part of snapshot.missing.intersection(range.start, range.end)) after.add(part.start, part.end);
    if (after.sizeBytes === before.sizeBytes && snapshot.unsynced.isEmpty) return;
    const unsynced = this.unsynced.clone();
    for (const { start, end } of snapshot.unsynced) this.unsynced.remove(start, end);
    this.stored = after;
    this.store(before, unsynced);
  }

  /**
   * Stores the presence as it is in memory, before the kernel may write the file itself: a byte it writes must never be taken from S3
   * after a crash (invariant 2). The data may not be synced yet, so who can wait calls `sync()` instead (D1).
   */
  storePresenceNow(): void {
    if (!this.hasUnstoredPresence) return;
    const before = this.stored;
    this.stored = this.missingSet.clone();
    this.store(before);
    this.recordedEarly++;
    this.host.wrote(this);
  }

  private becamePresent(start: number, end: number): void {
    const gap = lengthOf(this.missingSet.intersection(start, end));
    const growth = Math.max(0, end - Math.max(this.knownSize, start));
    if (gap + growth > 0) this.host.grew(this.id, gap + growth);
    this.knownSize = Math.max(this.knownSize, end);
    this.drop(start, end);
    this.changed(start, end);
  }

  private drop(start: number, end: number): void {
    this.missingSet.remove(start, end);
    if (!this.stored.intersects(start, end)) return;
    const before = this.stored.clone();
    const unsynced = this.unsynced.clone();
    for (const range of before.intersection(start, end)) this.unsynced.add(range.start, range.end);
    this.stored.remove(start, end);
    this.store(before, unsynced);
  }

  private clip(sizeBytes: number): void {
    this.drop(sizeBytes, Number.MAX_SAFE_INTEGER);
  }

  private store(before: RangeSet, unsyncedBefore = this.unsynced): void {
    if (this.removed) return;
    const undo = (): void => {
      this.stored = before;
      this.unsynced = unsyncedBefore;
    };
    try {
      this.host.storeMissing(this.id, this.stored.encode(), this.unsynced.isEmpty ? null : this.unsynced.encode());
    } catch (error) {
      undo();
      throw error;
    }
    this.host.db.onRollback(undo);
  }

  private changed(start: number, end: number): void {
    this.version++;
    this.host.changes.changed(this.id, start, end);
    this.host.wrote(this);
  }
}

function lengthOf(ranges: readonly Range[]): number {
  return ranges.reduce((sum, range) => sum + range.end - range.start, 0);
}

/** The recorded `missing` of a row; a damaged one is a bug or a damaged database, and then nothing may be served. */
export function decodeMissing(id: number, blob: Uint8Array): RangeSet {
  try {
    return RangeSet.decode(blob);
  } catch (cause) {
    throw new AssertionError(`presence of content ${id} cannot be decoded`, { cause });
  }
}
