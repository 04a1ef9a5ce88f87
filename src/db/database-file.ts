/** The database file `state.db` and the redo log beside it: how they are opened, and what is said of one that cannot be. */
import { join } from 'node:path';
import type Sqlite from 'better-sqlite3';
import { errorCode } from '../base/errno.js';
import { UserError } from '../base/user-error.js';
import { DbError, isFull, translateSqliteError } from './db-error.js';
import { migrate, schemaVersion } from './migrate.js';
import { readRedo, type RedoStatement } from './redo-log.js';
import { Database } from './sqlite.js';

/** A log left behind by a burst is cut back to this when it starts over. */
const journalSizeLimit = 16 * 1024 * 1024;

export function redoPath(dir: string): string {
  return join(dir, 'redo');
}

/** @param makeRoom called if the disk is full; true if it is worth another try (D5). */
export function openFile(path: string, redo: string, makeRoom: () => boolean): Sqlite.Database {
  try {
    return opened(path, redo);
  } catch (error) {
    if (!isFull(error) || !makeRoom()) throw error;
    return opened(path, redo);
  }
}

function opened(path: string, redo: string): Sqlite.Database {
  const sql = new Database(path);
  try {
    sql.pragma('busy_timeout = 5000');
    const mode = sql.pragma('journal_mode = WAL', { simple: true });
    if (mode !== 'wal') throw new UserError(`Cannot keep the state database at ${path}: its file system does not support shared memory; choose a --cache-dir on a local disk`);
    sql.pragma('synchronous = NORMAL');
    sql.pragma('wal_autocheckpoint = 0');
    sql.pragma(`journal_size_limit = ${journalSizeLimit}`);
    sql.pragma('cache_size = -24576'); // 24 MiB; what falls out is a copy from the page cache away
    sql.pragma('temp_store = MEMORY');
    const version = schemaVersion(sql, path);
    if (version > 0) redoAccepted(sql, redo); // before a migration changes what the statements were written for
    migrate(sql, version);
    return sql;
  } catch (error) {
    sql.close();
    throw error;
  }
}

/** Written down with each group: the number of its last transaction in the redo log. */
export const storeNumberSql = "INSERT INTO fact (name, value) VALUES ('redo', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/** Of the last transaction that SQLite has committed. */
export function committedNumber(sql: Sqlite.Database): number {
  return Number((sql.prepare("SELECT value FROM fact WHERE name = 'redo'").get() as { value: string } | undefined)?.value ?? 0);
}

/** After a kill: what was accepted and not committed yet. */
function redoAccepted(sql: Sqlite.Database, path: string): void {
  const { statements, last } = readRedo(path, committedNumber(sql));
  if (statements.length === 0) return;
  sql.exec('BEGIN IMMEDIATE');
  runAgain(sql, statements);
  sql.prepare(storeNumberSql).run(String(last));
  sql.exec('COMMIT');
}

export function runAgain(sql: Sqlite.Database, statements: Iterable<RedoStatement>): void {
  const prepared = new Map<string, Sqlite.Statement<unknown[]>>();
  for (const { sql: text, params } of statements) {
    let statement = prepared.get(text);
    if (!statement) prepared.set(text, (statement = sql.prepare(text)));
    if (statement.reader) statement.all(...params);
    else statement.run(...params);
  }
}

export function explain(error: unknown, dir: string): unknown {
  const known = translateSqliteError(error);
  if (known instanceof DbError && known.kind === 'damaged') {
    return new UserError(
      `The state database ${join(dir, 'state.db')} is damaged (${(error as Error).message}); move the directory aside (mv ${dir} ${dir}.damaged) and mount again, and never delete it: files not uploaded yet are in ${dir}.damaged/content`,
      1, { cause: error },
    );
  }
  if (known instanceof DbError && known.kind === 'full') return known;
  if (known instanceof DbError) return new UserError(`Cannot open the state database in ${dir}: ${known.message}`, 1, { cause: error });
  if (error instanceof UserError || errorCode(error) === undefined) return error;
  return new UserError(`Cannot open the state database in ${dir} (${errorCode(error)})`, 1, { cause: error });
}
