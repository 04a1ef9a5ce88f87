import type Database from 'better-sqlite3';
import { assert } from '../base/assert.js';
import type { LateWrite, RowKey } from './late-rows.js';
import type { Loggable } from './redo-log.js';

export interface TransactionOwner {
  readonly inTransaction: boolean;
  tx<T>(fn: () => T extends PromiseLike<unknown> ? never : T): T;
  /** A statement of the running transaction has changed something. */
  wrote(statement: Loggable, params: readonly unknown[]): void;
  /** A statement of the running transaction changes a row, and may do so later. */
  wroteLate(row: RowKey, statement: LateWrite & Loggable, params: readonly unknown[], isNew: boolean): void;
  /** A statement of these words is about to run. */
  settle(words: ReadonlySet<string>): void;
  settleRow(table: string, row: RowKey): void;
  /** @returns whether the read that failed is worth another try. */
  readFailed(): boolean;
}

export interface RunResult { readonly changes: number }

/**
 * A prepared statement with its parameter and row types. One that writes and is run outside a transaction becomes a transaction of
 * its own, so that every commit is counted, gated and durable by the same path.
 */
export class Statement<P extends unknown[] = unknown[], R = unknown> implements Loggable, LateWrite {
  logNumber = 0;
  loggedIn = 0;
  readonly table: string;
  readonly removes: boolean;
  private readonly writes: boolean;
  private readonly words: ReadonlySet<string>;

  constructor(private readonly owner: TransactionOwner, private readonly inner: Database.Statement<unknown[]>) {
    this.writes = !inner.readonly;
    this.words = new Set(inner.source.match(/\w+/g));
    this.removes = inner.source.startsWith('DELETE');
    this.table = /\b(?:INTO|FROM)\s+(\w+)/.exec(inner.source)?.[1] ?? '';
  }

  get sql(): string { return this.inner.source; }

  run(...params: P): RunResult {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<RunResult>(() => this.run(...params));
    this.owner.settle(this.words);
    const result = this.inner.run(...params);
    if (this.writes) this.owner.wrote(this, params);
    return result;
  }

  /** `run` of an INSERT OR REPLACE, or an upsert as complete, or a DELETE of the row with this primary key: at the latest when somebody looks (`late-rows`). */
  late(row: RowKey, ...params: P): void {
    this.runLater(row, params, false);
  }

  /** `late`, where the table has no such row yet. */
  lateNew(row: RowKey, ...params: P): void {
    this.runLater(row, params, true);
  }

  get(...params: P): R | undefined {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<{ row: unknown }>(() => ({ row: this.get(...params) })).row as R | undefined;
    this.owner.settle(this.words);
    const row = this.getOne(params);
    if (this.writes) this.owner.wrote(this, params);
    return row;
  }

  /** `get` of a SELECT that looks at nothing but the row with this primary key. */
  getRow(row: RowKey, ...params: P): R | undefined {
    assert(!this.writes, 'a statement that writes may look at more than a row');
    this.owner.settleRow(this.table, row);
    return this.getOne(params);
  }

  all(...params: P): R[] {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<unknown[]>(() => this.all(...params)) as R[];
    this.owner.settle(this.words);
    const rows = this.getAll(params);
    if (this.writes) this.owner.wrote(this, params);
    return rows;
  }

  runLate(params: readonly unknown[]): void {
    this.inner.run(...params);
  }

  // Where the statement writes, a transaction runs, and nothing is tried again
  private getOne(params: readonly unknown[]): R | undefined {
    try {
      return this.inner.get(...params) as R | undefined;
    } catch (error) {
      if (!this.owner.readFailed()) throw error;
      return this.inner.get(...params) as R | undefined;
    }
  }

  private getAll(params: readonly unknown[]): R[] {
    try {
      return this.inner.all(...params) as R[];
    } catch (error) {
      if (!this.owner.readFailed()) throw error;
      return this.inner.all(...params) as R[];
    }
  }

  private runLater(row: RowKey, params: P, isNew: boolean): void {
    if (this.owner.inTransaction) this.owner.wroteLate(row, this, params, isNew);
    else this.owner.tx<undefined>(() => void this.owner.wroteLate(row, this, params, isNew));
  }
}
