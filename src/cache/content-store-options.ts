import type { Clock } from '../base/clock.js';
import type { Disk } from '../base/disk.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { Db } from '../db/db.js';
import type { MinFree } from './space.js';

export interface ContentStoreOptions {
  readonly db: Db;
  /** The cache directory; content files go below `content/` there. */
  readonly dir: string;
  readonly limitBytes: number;
  readonly minFree: MinFree;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly disk?: Disk;
  /** How long `reserve` waits with nothing being freed; default 30 s. */
  readonly noProgressMs?: number;
  /** Descriptors kept open; default 512. */
  readonly fdsMax?: number;
  /** Empty files made ahead at most (`SpareFiles`); default 64. */
  readonly sparesMax?: number;
  /** How often upkeep runs, default 1 s; 0: never by itself, tests call `maintain()`. */
  readonly upkeepMs?: number;
}

export interface ContentStats {
  readonly cacheBytes: number;
  readonly dirtyBytes: number;
  readonly evictableBytes: number;
  readonly limitBytes: number;
  readonly files: number;
  readonly evictions: number;
  readonly evictedBytes: number;
  readonly openFds: number;
  readonly reservationsWaiting: number;
}
