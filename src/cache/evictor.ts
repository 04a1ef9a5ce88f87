/** Takes files out of the cache: rows in a transaction, that one durable, then the unlinks (J3). Whole files only (D6). */
import type { Metrics } from '../base/metrics.js';
import type { Db } from '../db/db.js';
import { Flag, type EvictionIndex } from './eviction-index.js';
import type { Leaving } from './leaving.js';

export interface Eviction {
  readonly bytes?: number;
  readonly ids?: readonly number[];
}

/** Files per transaction and sync: bounds both the time on the main thread and the unlinks in flight. */
const batchMax = 256;

export class Evictor {
  evictedFiles = 0;
  evictedBytes = 0;

  constructor(
    private readonly db: Db,
    private readonly index: EvictionIndex,
    private readonly leaving: Leaving,
    private readonly metrics: Metrics,
    private readonly store: { remove(id: number): void; know(id: number): void },
  ) {}

  /** Answers what was freed, files removed earlier and not yet unlinked included where `bytes` was asked for. */
  async evict(what: Eviction): Promise<{ files: number; bytes: number }> {
    const wanted = what.bytes ?? Infinity;
    const candidates = what.ids ? what.ids[Symbol.iterator]() : undefined;
    let files = 0;
    let bytes = 0;
    for (;;) {
      const { batch, isLast } = this.take(wanted - bytes, candidates);
      if (batch.length > 0) {
        await this.db.durable();
        await this.leaving.finishAll(batch.map((entry) => entry.id));
        files += batch.length;
        for (const entry of batch) bytes += entry.bytes;
      }
      if (isLast || bytes >= wanted) break;
    }
    this.evictedFiles += files;
    this.evictedBytes += bytes;
    this.metrics.add('cache.evicted_files', files);
    this.metrics.add('cache.evicted_bytes', bytes);
    if (what.bytes !== undefined && bytes < wanted) bytes += await this.finishRemovals();
    return { files, bytes };
  }

  private take(bytes: number, candidates?: Iterator<number>): { batch: { id: number; bytes: number }[]; isLast: boolean } {
    return this.db.tx(() => {
      const batch: { id: number; bytes: number }[] = [];
      for (let sum = 0; sum < bytes && batch.length < batchMax; ) {
        let id: number | undefined;
        if (candidates) {
          const next = candidates.next();
          if (next.done) return { batch, isLast: true };
          id = next.value;
          this.store.know(id);
          if (!this.index.isEvictable(id)) continue;
        } else {
          id = this.index.victim();
          if (id === undefined) return { batch, isLast: true };
          this.index.bury(id);
        }
        const entry = { id, bytes: this.index.bytesOf(id) };
        batch.push(entry);
        sum += entry.bytes;
        // Out of its queue, so that it is not picked twice; back in if the transaction fails.
        this.index.setFlag(id, Flag.held, true);
        this.db.onRollback(() => this.index.setFlag(id, Flag.held, false));
        this.store.remove(id);
      }
      return { batch, isLast: false };
    });
  }

  /** Files whose rows went with their inodes take space until the journal's next sync: ask for it now. */
  private async finishRemovals(): Promise<number> {
    if (this.leaving.size === 0) return 0;
    const before = this.leaving.bytes;
    await this.db.durable();
    await this.leaving.finishAll();
    return Math.max(0, before - this.leaving.bytes);
  }
}
