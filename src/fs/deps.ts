import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { ContentStore } from '../cache/content-store.js';
import type { Db } from '../db/db.js';
import type { HardLinks } from '../writeback/hard-links.js';
import type { AttemptTable } from '../journal/attempts.js';
import type { Journal } from '../journal/journal.js';
import type { Discovery } from '../meta/discovery.js';
import type { Tree } from '../meta/tree.js';
import type { ObjectReader } from '../prefetch/object-reader.js';
import type { LongKeys } from '../s3/long-keys.js';
import type { ObjectStore } from '../s3/object-store.js';
import type { Health } from '../s3/health.js';

/** What a mount's file-system semantics are configured with; a slice of the mount's configuration. */
export interface FsConfig {
  /** Milliseconds a fact from S3 is trusted; null: nobody else writes. */
  ttlMs: number | null;
  attributes: 'full' | 'listing';
  writeMode: 'back' | 'through';
  fsync: 'local' | 'remote';
  readonly deadlineMs: number;
  readonly uploadDelayMs: number;
  readonly smallFileBytes: number;
  readonly readOnly: boolean;
  /** When reading a file moves its atime. */
  readonly atime: 'relatime' | 'noatime' | 'strictatime';
}

/** Waits for S3 to have what the tree has; implemented by `writeback/`. */
export interface Uploads {
  /** Resolves once everything about the inode is *uploaded*; rejects with the reason it is parked. */
  waitUploaded(ino: number, signal?: AbortSignal): Promise<void>;
  /** Resolves when a request for the key that left is over, and it is on record what became of it; undefined if there is none. */
  sending(key: string): Promise<void> | undefined;
}

/** Tells the kernel that what it has cached is no longer so. Never blocks the caller (K16). */
export interface KernelCache {
  nameChanged(parent: number, name: string): void;
  contentChanged(ino: number): void;
  /** Size or times; the pages are right. */
  attributesChanged(ino: number): void;
}

export interface FsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly db: Db;
  readonly tree: Tree;
  readonly discovery: Discovery;
  readonly journal: Journal;
  readonly attempts: AttemptTable;
  readonly links: HardLinks;
  readonly contents: ContentStore;
  readonly reader: ObjectReader;
  /** By paths: whatever their length. */
  readonly store: ObjectStore;
  readonly keys: LongKeys;
  readonly health: Pick<Health, 'isOffline'> & Partial<Pick<Health, 'status'>>;
  readonly uploads: Uploads;
  readonly kernel: KernelCache;
  /** Supplementary groups of a process, as far as they can be seen. */
  readonly groupsOf: (pid: number) => readonly number[];
  readonly config: FsConfig;
}
