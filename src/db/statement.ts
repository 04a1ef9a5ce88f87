import type Database from 'better-sqlite3';
import type { Loggable } from './redo-log.js';

export interface TransactionOwner {
  readonly inTransaction: boolean;
  tx<T>(fn: () => T extends PromiseLike<unknown> ? never : T): T;
  /** A statement of the running transaction has changed something. */
  wrote(statement: Loggable, params: readonly unknown[]): void;
}

export interface RunResult { readonly changes: number }

/**
 * A prepared statement with its parameter and row types. One that writes and is run outside a transaction becomes a transaction of
 * its own, so that every commit is counted, gated and durable by the same path.
 */
export class Statement<P extends unknown[] = unknown[], R = unknown> implements Loggable {
  logNumber = 0;
  loggedIn = 0;
  private readonly writes: boolean;
  constructor(private readonly owner: TransactionOwner, private readonly inner: Database.Statement<unknown[]>) {
    this.writes = !inner.readonly;
  }

  get sql(): string { return this.inner.source; }

  run(...params: P): RunResult {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<RunResult>(() => this.run(...params));
    const result = this.inner.run(...params);
    if (this.writes) this.owner.wrote(this, params);
    return result;
  }

  get(...params: P): R | undefined {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<{ row: unknown }>(() => ({ row: this.get(...params) })).row as R | undefined;
    const row = this.inner.get(...params) as R | undefined;
    if (this.writes) this.owner.wrote(this, params);
    return row;
  }

  all(...params: P): R[] {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<unknown[]>(() => this.all(...params)) as R[];
    const rows = this.inner.all(...params) as R[];
    if (this.writes) this.owner.wrote(this, params);
    return rows;
  }
}
