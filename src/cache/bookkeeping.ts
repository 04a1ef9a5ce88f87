/** Writes eviction state and sizes back to the rows, late and in batches: losing some costs a little order, nothing else. */
import type { Db } from '../db/db.js';
import type { ContentRows } from './content-rows.js';
import type { EvictionIndex } from './eviction-index.js';

const staleMax = 50_000;

export class Bookkeeping {
  /** What the cache held by the books of the last run. */
  readonly bookedBytes: number;
  /** And how many files, about. */
  readonly bookedFiles: number;
  private readonly stale = new Set<number>();

  constructor(private readonly db: Db, private readonly rows: ContentRows, private readonly index: EvictionIndex, private readonly usedBytes: () => number) {
    this.bookedBytes = Number(db.fact('content.bytes') ?? 0);
    this.bookedFiles = Number(db.fact('content.files') ?? 0);
  }

  get isBehind(): boolean { return this.stale.size > 0; }

  later(id: number): void {
    this.stale.add(id);
    if (this.stale.size >= staleMax && !this.db.inTransaction) this.write(1000);
  }

  forget(id: number): void {
    this.stale.delete(id);
  }

  writeSums(): void {
    this.db.setFact('content.bytes', String(this.usedBytes()));
    this.db.setFact('content.files', String(this.index.count));
  }

  write(count: number): void {
    this.db.tx(() => {
      for (const id of this.stale) {
        if (count-- <= 0) break;
        const state = this.index.state(id);
        if (state) this.rows.setState(id, state);
        this.stale.delete(id);
      }
      this.writeSums();
    });
  }
}
