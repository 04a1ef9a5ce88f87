import type Database from 'better-sqlite3';

export interface TransactionOwner {
  readonly inTransaction: boolean;
  tx<T>(fn: () => T extends PromiseLike<unknown> ? never : T): T;
}

export interface RunResult { readonly changes: number }

/**
 * A prepared statement with its parameter and row types. One that writes and is run outside a transaction becomes a transaction of
 * its own, so that every commit is counted, gated and durable by the same path.
 */
export class Statement<P extends unknown[] = unknown[], R = unknown> {
  private readonly writes: boolean;
  constructor(private readonly owner: TransactionOwner, private readonly inner: Database.Statement<unknown[]>) {
    this.writes = !inner.readonly;
  }

  run(...params: P): RunResult {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<RunResult>(() => this.inner.run(...params));
    return this.inner.run(...params);
  }

  get(...params: P): R | undefined {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<{ row: unknown }>(() => ({ row: this.inner.get(...params) })).row as R | undefined;
    return this.inner.get(...params) as R | undefined;
  }

  all(...params: P): R[] {
    if (this.writes && !this.owner.inTransaction) return this.owner.tx<unknown[]>(() => this.inner.all(...params)) as R[];
    return this.inner.all(...params) as R[];
  }
}
