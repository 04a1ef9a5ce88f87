/**
 * Transactions of many small works that come at about the same time, as one: a commit costs more than what most of them write.
 *
 * Invariants: 1. works run in the order they came, each whole or not at all. 2. If one of them throws, each runs again in a transaction by itself, so it
 * alone fails. A work may so run twice, as in any transaction (`Db`, invariant 3).
 */
import type { Db } from './db.js';

interface Entry { readonly work: () => unknown; readonly resolve: (value: unknown) => void; readonly reject: (error: unknown) => void }

export class TxGroup {
  private entries: Entry[] = [];

  /** @param waitMs how long the first waits for company; 0: for what comes in the same turn of the event loop. */
  constructor(private readonly db: Pick<Db, 'tx'>, private readonly waitMs: () => number) {}

  /** Resolves after the commit, with what `work` answered. @throws what it threw, DbError. */
  run<T>(work: () => T extends PromiseLike<unknown> ? never : T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.entries.push({ work, resolve: resolve as (value: unknown) => void, reject });
      if (this.entries.length > 1) return;
      const waitMs = this.waitMs();
      if (waitMs > 0) setTimeout(() => this.commit(), waitMs);
      else setImmediate(() => this.commit());
    });
  }

  private commit(): void {
    const entries = this.entries;
    this.entries = [];
    if (entries.length > 1) {
      try {
        const answers = this.db.tx(() => entries.map(({ work }) => work()));
        for (const [index, { resolve }] of entries.entries()) resolve(answers[index]);
        return;
      } catch {
        // Nothing of it was kept; each by itself says which it was
      }
    }
    for (const { work, resolve, reject } of entries) {
      try {
        resolve(this.db.tx(() => [work()])[0]);
      } catch (error) {
        reject(error);
      }
    }
  }
}
