/** What writeback needs of the cache, of prefetch and of the file system above: interfaces, because those rooms have other faces too. */
import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { Range, RangeSet } from '../base/range-set.js';
import type { Db } from '../db/db.js';
import type { TxGroup } from '../db/tx-group.js';
import type { AttemptTable } from '../journal/attempts.js';
import type { ConflictTable } from '../journal/conflicts.js';
import type { Journal } from '../journal/journal.js';
import type { Discovery } from '../meta/discovery.js';
import type { Tree } from '../meta/tree.js';
import type { LongKeys } from '../s3/long-keys.js';
import type { ETag, Key, ObjectStore } from '../s3/object-store.js';
import type { BlockDigestTable } from './block-digests.js';
import type { Limits } from './desired.js';
import type { HardLinks } from './hard-links.js';

export interface LocalFile {
  readonly id: number;
  readonly path: string;
  readonly isComplete: boolean;
  /** Complete, on record as such, and synced: also after a crash or power cut nothing of it has to come from S3. */
  readonly isKept: boolean;
  /** Ranges that are only in S3. */
  readonly missing: Iterable<Range>;
}

export interface LocalContents {
  find(id: number): LocalFile | undefined;
  /** In a transaction: a file as long as the object, all of it missing. */
  create(sizeBytes: number): LocalFile;
  /** In a transaction: dirty files are never evicted. */
  setDirty(id: number, dirty: boolean): void;
  isDirty(id: number): boolean;
  /** Room on the disk and within the cache's limit, until the answer is called. @throws CacheFullError */
  reserve(bytes: number): Promise<() => void>;
  /** In a transaction: unlinked once that is durable (J3). */
  remove(id: number): void;
  /** What may differ from what the file held at the end of a generation; undefined: nobody knows. */
  changesSince(id: number, gen: number): RangeSet | undefined;
  /** It was written since its last sync, for all we know. */
  isUnsynced(id: number): boolean;
  /** In a transaction: `bytes` is all of a file, which has not been changed since it was read. */
  noteChecksums(id: number, bytes: Uint8Array): void;
  /** The bytes of these files are on stable storage when it resolves. */
  sync(ids: readonly number[]): Promise<void>;
}

/** Where the missing bytes of a file are, asked anew for each request (O3). */
export interface ByteSource {
  readonly file: LocalFile;
  locate(): { readonly key: Key; readonly etag: ETag; readonly versionId?: string } | null;
}

export interface ByteReader {
  fetchWhole(source: ByteSource, signal: AbortSignal): Promise<unknown>;
  /** Until all of [start, end) is here. */
  ensure(source: ByteSource, start: number, end: number, options: { readonly signal: AbortSignal }): Promise<unknown>;
}

export interface WritebackHooks {
  /** Someone has it open for writing. */
  isBusy(ino: number): boolean;
  /** Programs make many changes right now: uploads can wait a little. */
  isForegroundBusy?(): boolean;
  /** The name means something else now: the kernel must look it up again. */
  nameChanged(parentIno: number, name: string): void;
  /** The content under an inode number is another one. */
  contentChanged(ino: number): void;
  /** In a transaction: the inode lost its last name here; whoever has it open keeps it. */
  orphaned?(ino: number): void;
  /** How many handles of the inode are open: what an orphan is kept for. */
  openCount?(ino: number): number;
  /** It is open as the file it looks like, though nobody knows its attributes: only with `--attributes listing`. */
  isOpenAsListed?(ino: number): boolean;
  /** Files the kernel writes itself, without telling (S). Absent: every write comes through this process. */
  readonly kernelWrites?: {
    hasWriters(ino: number): boolean;
    /** Size and times from the content file into the inode. */
    refresh(ino: number): void;
    /** In the transaction of a seal: what the content file looks like now is sealed; another ctime or size begins the next generation. */
    sealed(ino: number, stat: { readonly ctimeNs: bigint; readonly size: bigint }): void;
  };
  /** Whoever changes the inode's bytes through this process waits until the answer is called. */
  holdWrites(ino: number): () => void;
}

export interface WritebackConfig extends Limits {
  /** Silence after the last change before a key is looked at (J11). */
  readonly uploadDelayMs: number;
  /** While many keys are worked on their transactions wait so long for each other. */
  readonly groupMs: number;
  /** Files up to this size are sealed and read in one stretch of the main thread, when the page cache has what was written a moment ago: some 20 us. */
  readonly atOnceBytesMax: number;
  /** Keys worked on at the same time. */
  readonly uploadsMax: number;
  /** Smallest part of a multipart upload. */
  readonly partBytes: number;
  /** Parts of one upload in flight. */
  readonly partsInFlightMax: number;
  /** Largest part of a copy by parts; at most 5 GiB. */
  readonly copyPartBytes: number;
  /** Changed files from this size on are compared with what S3 holds, to send only what changed. Files with bytes missing here always are. */
  readonly reuseAboveBytes: number;
  /** Smallest part that is not the last; 5 MiB in S3. */
  readonly reusePartBytesMin: number;
  /** Bytes of whole objects in memory, all uploads together; the thread that sends them has as much again. */
  readonly memoryBytesMax: number;
  /** Changes of nothing but metadata above this size wait 60 s for company (J11). */
  readonly coalesceAboveBytes: number;
  /** Where a frozen copy of a file that never rests is kept while it is uploaded; emptied at start. */
  readonly scratchDir: string;
}

const MiB = 1024 * 1024;
export const defaultWritebackConfig: Omit<WritebackConfig, 'scratchDir'> = {
  uploadDelayMs: 1000,
  groupMs: 3,
  atOnceBytesMax: 256 * 1024,
  uploadsMax: 8,
  partBytes: 8 * MiB,
  partsInFlightMax: 12,
  copyPartBytes: 512 * MiB,
  reuseAboveBytes: 64 * MiB,
  reusePartBytesMin: 5 * MiB,
  memoryBytesMax: 32 * MiB,
  coalesceAboveBytes: 100 * MiB,
  singlePutBytesMax: 16 * MiB,
  copyBytesMax: 5 * 1024 * MiB,
  metadataPutBytesMax: MiB,
  holdBytesMax: 256 * MiB,
};

export interface WritebackDeps {
  readonly db: Db;
  /** Small transactions of many uploads in one commit. */
  readonly group: TxGroup;
  readonly tree: Tree;
  readonly journal: Journal;
  readonly attempts: AttemptTable;
  readonly conflicts: ConflictTable;
  readonly links: HardLinks;
  readonly digests: BlockDigestTable;
  readonly contents: LocalContents;
  readonly reader: ByteReader;
  readonly discovery: Discovery;
  /** By paths: whatever their length. */
  readonly store: ObjectStore;
  readonly keys: LongKeys;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** In [0, 1). */
  readonly random: () => number;
  readonly hostname: string;
  readonly config: WritebackConfig;
  readonly hooks: WritebackHooks;
}
