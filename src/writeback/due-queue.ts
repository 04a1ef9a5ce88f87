import type { Journal, JournalRow } from '../journal/journal.js';
import type { Key } from '../s3/object-store.js';

/** Read ahead of what is asked for: with dozens of visits under way, each that ends would read the rows of all the others to find the next one. */
const aheadMax = 256;

/**
 * The rows of the journal that are due, longest due first, some of their keys read ahead. What was read ahead is only a hint: each row is looked at anew
 * before it is handed out, so one that was put off, parked or cleared meanwhile is not. One that became due meanwhile comes after those read ahead.
 */
export class DueQueue {
  private ahead: Key[] = [];
  private at = 0;

  /** @param isTaken somebody works on the key. */
  constructor(private readonly journal: Pick<Journal, 'due' | 'get'>, private readonly isTaken: (key: Key) => boolean) {}

  /**
   * Stays first until it is taken, or not due any more. undefined: nothing is due that is not taken.
   * @param takenCount at most so many keys are taken.
   */
  first(nowMs: number, takenCount: number): JournalRow | undefined {
    for (; this.at < this.ahead.length; this.at++) {
      const key = this.ahead[this.at]!;
      if (this.isTaken(key)) continue;
      const row = this.journal.get(key);
      if (row !== undefined && row.parked === null && row.dueMs <= nowMs) return row;
    }
    const rows = this.journal.due(nowMs, takenCount + aheadMax).filter(({ key }) => !this.isTaken(key));
    this.ahead = rows.map(({ key }) => key);
    this.at = 0;
    return rows[0];
  }
}
