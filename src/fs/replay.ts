import type { Db } from '../db/db.js';
import type { RequestContext } from '../fuse/ops.js';

/** What a mutating request answered, enough to answer it again with fresh attributes. */
export interface ReplayResult {
  readonly ino?: number;
  readonly fh?: number;
  readonly count?: number;
  /**
   * Not an answer yet: the size of the file before a change of its bytes that is another one if it is done twice, and changes the size. The kernel lets
   * nobody else change the size while the request is out, so the size tells whether it was done.
   */
  readonly sizeBeforeBytes?: number;
}

/**
 * Answers to mutating requests whose reply may not have left (K11): written in the same transaction as the change, so a request that the
 * kernel sends again to the next daemon is answered, not executed twice. Rows go lazily, in the transaction of a later one, once the
 * reply's write(2) returned, whatever it returned: a request that got an answer, or is gone, is not sent again (K12).
 */
export class Replay {
  private readonly delivered: string[] = [];
  /** Numbers of this daemon's requests that have a row. */
  private readonly recorded = new Set<string>();

  constructor(private readonly db: Db) {}

  find(ctx: RequestContext): ReplayResult | undefined {
    if (!ctx.resent) return undefined;
    const row = this.db.prepare<[string], { result: string }>('SELECT result FROM replay WHERE uniq = ?').getRow(ctx.unique.toString(), ctx.unique.toString());
    return row && (JSON.parse(row.result) as ReplayResult);
  }

  /** In the transaction of the change. */
  record(ctx: RequestContext, opcode: string, result: ReplayResult): void {
    const uniq = ctx.unique.toString();
    const statement = this.db.prepare('INSERT OR REPLACE INTO replay (uniq, opcode, result) VALUES (?, ?, ?)');
    // What was sent again may have a row of an earlier daemon's
    if (ctx.resent || this.recorded.has(uniq)) statement.late(uniq, uniq, opcode, JSON.stringify(result));
    else {
      this.recorded.add(uniq);
      this.db.onRollback(() => this.recorded.delete(uniq));
      statement.lateNew(uniq, uniq, opcode, JSON.stringify(result));
    }
    if (this.delivered.length > 0) this.drop();
  }

  /**
   * The request is over: its row may go. Those of at most so many requests as were under way at once wait for the next change.
   * @returns whether it may have one.
   */
  replied(ctx: RequestContext): boolean {
    const uniq = ctx.unique.toString();
    if (!ctx.resent && !this.recorded.has(uniq)) return false;
    this.delivered.push(uniq);
    return true;
  }

  /** A new connection numbers its requests anew: nothing of the old one may be answered from here. */
  clear(): void {
    this.delivered.length = 0;
    this.recorded.clear();
    this.db.tx(() => this.db.prepare('DELETE FROM replay').run());
  }

  private drop(): void {
    const remove = this.db.prepare<[string], unknown>('DELETE FROM replay WHERE uniq = ?');
    const gone = this.delivered.splice(0);
    this.db.onRollback(() => this.delivered.push(...gone));
    for (const uniq of gone) {
      remove.late(uniq, uniq);
      if (this.recorded.delete(uniq)) this.db.onRollback(() => this.recorded.add(uniq));
    }
  }
}
