/**
 * Numbers that are never used twice, also across crashes (K14, J3): a high-water mark is stored ahead of use, a block at a time,
 * in the same transaction as (or an earlier one than) the first row that uses the block. What a block had left at a crash is skipped.
 */
import type { Db } from './db.js';

export const idBlock = 1000;

export class IdAllocator {
  private nextId: number;
  /** Ids below it may be handed out. */
  private limit: number;

  /** @param multiple the first id of each run is one of it, so that ids of one run can be told from those before. */
  constructor(private readonly db: Db, private readonly fact: string, multiple = 1) {
    this.nextId = this.limit = Math.ceil(Number(db.fact(fact) ?? 1) / multiple) * multiple;
  }

  next(): number {
    if (this.nextId >= this.limit) this.reserve();
    return this.nextId++;
  }

  private reserve(): void {
    const before = this.limit;
    this.limit = this.nextId + idBlock;
    this.db.tx(() => {
      this.db.setFact(this.fact, String(this.limit));
      // Undone with the transaction around it: then the mark on disk is the old one again, and the next caller must store it anew.
      this.db.onRollback(() => (this.limit = before));
    });
  }
}
