/** Brings the schema up to date: `PRAGMA user_version` is the last migration applied; each one is a transaction of its own. */
import type Database from 'better-sqlite3';
import { UserError } from '../base/user-error.js';
import { migrations } from './schema.js';

/** 'hfsd': tells our files from other SQLite databases. */
const applicationId = 0x68667364;

/** @returns the schema's version, 0 for a new file. @throws UserError if the file is not ours to use. */
export function schemaVersion(db: Database.Database, path: string): number {
  const version = db.pragma('user_version', { simple: true }) as number;
  const application = db.pragma('application_id', { simple: true }) as number;
  const newest = migrations.reduce((max, migration) => Math.max(max, migration.version), 0);
  if (version > newest) throw new UserError(`Cannot use ${path}: it was written by a newer hearthfs (schema ${version}, this one knows ${newest}); upgrade hearthfs or choose another --cache-dir`);
  const isEmpty = version === 0 && (db.prepare('SELECT count(*) AS n FROM sqlite_schema').get() as { n: number }).n === 0;
  if (!isEmpty && application !== applicationId) throw new UserError(`Cannot use ${path}: it is not a hearthfs database; choose another --cache-dir`);
  return version;
}

export function migrate(db: Database.Database, version: number): void {
  if (version === 0) db.pragma(`application_id = ${applicationId}`);
  for (const migration of migrations) {
    if (migration.version <= version) continue;
    db.exec('BEGIN IMMEDIATE');
    try {
      db.exec(migration.sql);
      db.pragma(`user_version = ${migration.version}`);
      db.exec('COMMIT');
    } catch (error) {
      if (db.inTransaction) db.exec('ROLLBACK');
      throw error;
    }
  }
}
