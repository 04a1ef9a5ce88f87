import { Database } from './sqlite.js';

/** What a transaction can fail with besides its own function's errors. `fs/` maps `full` to ENOSPC, the rest to EIO. */
export type DbErrorKind =
  | 'full' // no space left, ballast included; nothing was changed
  | 'io' // the disk failed
  | 'damaged' // the file's structure is broken
  | 'stopped'; // an earlier failure stopped the database, or it is closed

export class DbError extends Error {
  override readonly name = 'DbError';
  constructor(readonly kind: DbErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** SQLite's own errors by meaning; anything else (errors thrown by the transaction's function, bugs in SQL) as it is. */
export function translateSqliteError(error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) return error;
  if (error.code === 'SQLITE_FULL') return new DbError('full', 'No space left for the state database', { cause: error });
  if (error.code.startsWith('SQLITE_IOERR') || error.code.startsWith('SQLITE_CANTOPEN')) return new DbError('io', `The state database cannot be read or written: ${error.code}`, { cause: error });
  if (error.code.startsWith('SQLITE_CORRUPT') || error.code === 'SQLITE_NOTADB') return new DbError('damaged', `The state database is damaged: ${error.message}`, { cause: error });
  return error;
}

export function isFull(error: unknown): boolean {
  return error instanceof Database.SqliteError && error.code === 'SQLITE_FULL';
}
