import type { Db } from '../db/db.js';
import type { ETag, Key } from '../s3/object-store.js';

/**
 * What S3 holds under a key, as far as this mount knows (J1). An etag belongs to a key, never to an inode.
 * `etag: null` is *known absent*; no row is *unknown*.
 */
export interface ObjectRow {
  readonly key: Key;
  readonly etag: ETag | null;
  readonly sizeBytes: number | null;
  readonly lastModifiedMs: number | null;
  readonly versionId: string | null;
  /** The inode, content and metadata generation the object was made from, or was given when it was discovered. */
  readonly ino: number | null;
  readonly gen: number | null;
  readonly mgen: number | null;
}

interface Row { key: string; etag: string | null; size: number | null; last_modified: number | null; version_id: string | null; ino: number | null; gen: number | null; mgen: number | null }

export class ObjectTable {
  constructor(private readonly db: Db) {}

  get(key: Key): ObjectRow | undefined {
    const row = this.db.prepare<[string], Row>('SELECT * FROM object WHERE key = ?').get(key);
    return row && fromRow(row);
  }

  /** In a transaction. */
  put(row: ObjectRow): void {
    this.db.prepare('INSERT OR REPLACE INTO object (key, etag, size, last_modified, version_id, ino, gen, mgen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
      .run(row.key, row.etag, row.sizeBytes, row.lastModifiedMs, row.versionId, row.ino, row.gen, row.mgen);
  }

  /** In a transaction: S3 is known to hold nothing under `key`. */
  setAbsent(key: Key): void {
    this.put({ key, etag: null, sizeBytes: null, lastModifiedMs: null, versionId: null, ino: null, gen: null, mgen: null });
  }

  /** In a transaction: nothing is known about `key` any more. */
  forget(key: Key): void {
    this.db.prepare('DELETE FROM object WHERE key = ?').run(key);
  }

  /** Keys whose object holds exactly this content. */
  holding(ino: number, gen: number): ObjectRow[] {
    return this.db.prepare<[number, number], Row>('SELECT * FROM object WHERE ino = ? AND gen = ? AND etag IS NOT NULL').all(ino, gen).map(fromRow);
  }

  /** Objects made from any version of the inode. */
  madeFrom(ino: number): ObjectRow[] {
    return this.db.prepare<[number], Row>('SELECT * FROM object WHERE ino = ? AND etag IS NOT NULL').all(ino).map(fromRow);
  }

  /** Known objects whose key starts with `prefix`, ascending; `after` continues. */
  under(prefix: string, limit: number, after = ''): ObjectRow[] {
    return this.db.prepare<[string, string, string, number], Row>('SELECT * FROM object WHERE key >= ? AND key < ? AND key > ? ORDER BY key LIMIT ?')
      .all(prefix, prefix + '\u{10ffff}', after, limit).map(fromRow);
  }
}

function fromRow(row: Row): ObjectRow {
  return { key: row.key, etag: row.etag, sizeBytes: row.size, lastModifiedMs: row.last_modified, versionId: row.version_id, ino: row.ino, gen: row.gen, mgen: row.mgen };
}
