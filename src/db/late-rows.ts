/**
 * Writes of whole rows that SQLite need not see yet. A file that is made, written and closed changes its inode five times within a moment, its directory's with
 * every file, and what is written down for a request goes with the next: in a group only the last write of a row is run, and none of a row that came and went.
 * The redo log has them all (`Db.wrote`), so they are *accepted* like any other.
 *
 * Invariants: 1. a write that waits says all of its row: what the row is after it depends on nothing before it. No two rows of such a table exclude each
 * other, and nothing else in the database hangs on them, so their order does not matter. 2. A statement that names the table runs after what waits for it; one
 * that reads a single row (`getRow`) after what waits for that. 3. Nothing waits while SQLite has no transaction open: all of it is run before a commit, and forgotten with a rollback.
 */
export type RowKey = number | string;

export interface LateWrite {
  /** The only table it writes. */
  readonly table: string;
  /** It removes the row. */
  readonly removes: boolean;
  runLate(params: readonly unknown[]): void;
}

interface Waiting {
  readonly write: LateWrite;
  readonly params: readonly unknown[];
  /** SQLite has no such row. */
  readonly isNew: boolean;
}

/** One transaction may write more rows than fit a group's log. */
const waitingMax = 10_000;

export class LateRows {
  private readonly tables = new Map<string, Map<RowKey, Waiting>>();
  private waiting = 0;

  get isEmpty(): boolean { return this.waiting === 0; }

  /** @param isNew the table has no such row, as far as anybody who reads it sees. */
  put(row: RowKey, write: LateWrite, params: readonly unknown[], isNew: boolean): void {
    if (this.waiting >= waitingMax) this.runAll();
    let rows = this.tables.get(write.table);
    if (!rows) this.tables.set(write.table, (rows = new Map()));
    const before = rows.get(row);
    const entry: Waiting = { write, params, isNew: before ? before.isNew : isNew };
    if (before) this.waiting--;
    if (entry.isNew && write.removes) rows.delete(row);
    else {
      rows.set(row, entry);
      this.waiting++;
    }
  }

  /** @param words of the statement that is about to run. */
  runNamed(words: ReadonlySet<string>): void {
    if (this.waiting === 0) return;
    for (const [table, rows] of this.tables) if (rows.size > 0 && words.has(table)) this.runThose(rows);
  }

  runRow(table: string, row: RowKey): void {
    const rows = this.tables.get(table);
    const entry = rows?.get(row);
    if (rows && entry) this.runOne(rows, row, entry);
  }

  runAll(): void {
    if (this.waiting > 0) for (const rows of this.tables.values()) this.runThose(rows);
  }

  /** SQLite is back where none of it was written, and what was accepted is run again from the log. */
  clear(): void {
    for (const rows of this.tables.values()) rows.clear();
    this.waiting = 0;
  }

  private runThose(rows: Map<RowKey, Waiting>): void {
    for (const [row, entry] of rows) this.runOne(rows, row, entry);
  }

  /** One that fails waits on. */
  private runOne(rows: Map<RowKey, Waiting>, row: RowKey, { write, params }: Waiting): void {
    write.runLate(params);
    rows.delete(row);
    this.waiting--;
  }
}
