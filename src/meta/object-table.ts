import { LRUCache } from 'lru-cache';
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

/** Inodes whose content lies under more keys than this are asked for anew each time. */
const keysRememberedMax = 8;

/**
 * Rows of `object` behind a bounded cache that knows of unknown keys, too; only this class writes them.
 *
 * Invariant: the keys of what `byIno` remembers are all in `byKey`, so a row that is about to change says whose list changes with it.
 */
export class ObjectTable {
  private readonly byKey: LRUCache<Key, ObjectRow | 'unknown'>;
  /** ino -> the objects made from it. */
  private readonly byIno: LRUCache<number, readonly ObjectRow[]>;

  /** @param cachedMax of each kind; the default is some 5 MB. */
  constructor(private readonly db: Db, private readonly cachedMax = 20_000) {
    this.byKey = new LRUCache({ max: cachedMax, dispose: (row) => this.forgetHolder(row) });
    this.byIno = new LRUCache({ max: cachedMax });
  }

  get(key: Key): ObjectRow | undefined {
    const cached = this.byKey.get(key);
    if (cached !== undefined) return cached === 'unknown' ? undefined : cached;
    const found = this.db.prepare<[string], Row>('SELECT * FROM object WHERE key = ?').get(key);
    const row = found && fromRow(found);
    this.byKey.set(key, row ?? 'unknown');
    return row;
  }

  /** In a transaction. */
  put(row: ObjectRow): void {
    const held = row.ino === null ? undefined : this.byIno.get(row.ino);
    this.drop(row.key, row.ino);
    this.db.prepare('INSERT OR REPLACE INTO object (key, etag, size, last_modified, version_id, ino, gen, mgen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
      .run(row.key, row.etag, row.sizeBytes, row.lastModifiedMs, row.versionId, row.ino, row.gen, row.mgen);
    this.byKey.set(row.key, row);
    // Most inodes have one object: then what is known of the inode stays known
    if (held && row.etag !== null && held.every(({ key }) => key === row.key)) this.byIno.set(row.ino!, [row]);
  }

  /** The number was given to an inode just now: no row names it yet. */
  isNew(ino: number): void {
    this.byIno.set(ino, []);
  }

  /** In a transaction: S3 is known to hold nothing under `key`. */
  setAbsent(key: Key): void {
    this.put({ key, etag: null, sizeBytes: null, lastModifiedMs: null, versionId: null, ino: null, gen: null, mgen: null });
  }

  /** In a transaction: nothing is known about `key` any more. */
  forget(key: Key): void {
    this.drop(key, null);
    this.db.prepare('DELETE FROM object WHERE key = ?').run(key);
  }

  /** Keys whose object holds exactly this content. */
  holding(ino: number, gen: number): ObjectRow[] {
    return this.madeFrom(ino).filter((row) => row.gen === gen);
  }

  /** Objects made from any version of the inode. */
  madeFrom(ino: number): readonly ObjectRow[] {
    const cached = this.byIno.get(ino);
    if (cached) return cached;
    const rows = this.db.prepare<[number], Row>('SELECT * FROM object WHERE ino = ? AND etag IS NOT NULL').all(ino).map(fromRow);
    if (rows.length > Math.min(keysRememberedMax, this.cachedMax)) return rows;
    for (const row of rows) this.byKey.set(row.key, row);
    this.byIno.set(ino, rows);
    return rows;
  }

  /** Known objects whose key starts with `prefix`, ascending; `after` continues. */
  under(prefix: string, limit: number, after = ''): ObjectRow[] {
    return this.db.prepare<[string, string, string, number], Row>('SELECT * FROM object WHERE key >= ? AND key < ? AND key > ? ORDER BY key LIMIT ?')
      .all(prefix, prefix + '\u{10ffff}', after, limit).map(fromRow);
  }

  /** The row is about to change, and to name `ino`: forgotten now, and again if the transaction rolls back. */
  private drop(key: Key, ino: number | null): void {
    this.byKey.delete(key); // and with it what is known of the inode it named
    if (ino !== null) this.byIno.delete(ino);
    this.db.onRollback(() => {
      this.byKey.delete(key);
      this.byIno.clear(); // which inode it had named is not known any more, and its list may have been looked at since
    });
  }

  private forgetHolder(row: ObjectRow | 'unknown'): void {
    if (row !== 'unknown' && row.ino !== null) this.byIno.delete(row.ino);
  }
}

function fromRow(row: Row): ObjectRow {
  return { key: row.key, etag: row.etag, sizeBytes: row.size, lastModifiedMs: row.last_modified, versionId: row.version_id, ino: row.ino, gen: row.gen, mgen: row.mgen };
}
