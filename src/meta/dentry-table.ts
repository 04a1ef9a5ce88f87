import { LRUCache } from 'lru-cache';
import type { Db } from '../db/db.js';

/** A name in a directory. `id` is its readdir cookie: ascending, never reused (K12). */
export interface Dentry {
  readonly id: number;
  readonly parent: number;
  readonly name: string;
  readonly ino: number;
  /** When S3 last confirmed the name, or when it was made here; milliseconds. */
  readonly checkedAtMs: number;
}

interface Row { id: number; parent: number; name: string; ino: number; checked_at: number }

/** Inodes with more names than this are asked for anew after each change. */
const namesRememberedMax = 8;

/** Rows of `dentry` behind a bounded cache that knows of absent names, too; only this class writes them. */
export class DentryTable {
  private readonly byName: LRUCache<string, Dentry | 'none'>;
  private readonly byIno: LRUCache<number, readonly Dentry[]>;
  private readonly nextId: () => number;
  private lastId: number;

  /** @param cachedMax of each kind; the default is some 5 MB. */
  constructor(private readonly db: Db, cachedMax = 20_000) {
    this.byName = new LRUCache({ max: cachedMax });
    this.byIno = new LRUCache({ max: cachedMax });
    this.nextId = db.reserveIds('dentry');
    this.lastId = db.prepare<[], { id: number | null }>('SELECT max(id) AS id FROM dentry').get()?.id ?? 0;
  }

  get(parent: number, name: string): Dentry | undefined {
    const cacheKey = keyOf(parent, name);
    const cached = this.byName.get(cacheKey);
    if (cached !== undefined) return cached === 'none' ? undefined : cached;
    const row = this.db.prepare<[number, string], Row>('SELECT * FROM dentry WHERE parent = ? AND name = ?').get(parent, name);
    const dentry = row && fromRow(row);
    this.byName.set(cacheKey, dentry ?? 'none');
    return dentry;
  }

  /** In the order in which the names were made. */
  ofInode(ino: number): readonly Dentry[] {
    const cached = this.byIno.get(ino);
    if (cached) return cached;
    const dentries = this.db.prepare<[number], Row>('SELECT * FROM dentry WHERE ino = ? ORDER BY id').all(ino).map(fromRow);
    this.byIno.set(ino, dentries);
    return dentries;
  }

  /** Names of `parent` with an id above `after`, in id order: readdir. */
  list(parent: number, after: number, limit: number): Dentry[] {
    return this.db.prepare<[number, number, number], Row>('SELECT * FROM dentry WHERE parent = ? AND id > ? ORDER BY id LIMIT ?').all(parent, after, limit).map(fromRow);
  }

  isEmpty(parent: number): boolean {
    return this.db.prepare('SELECT 1 FROM dentry WHERE parent = ? LIMIT 1').get(parent) === undefined;
  }

  /** No name of `parent` lies between the two, in the order of their UTF-8 bytes; themselves included. */
  isFree(parent: number, first: string, last: string): boolean {
    return this.db.prepare<[number, string, string], unknown>('SELECT 1 FROM dentry WHERE parent = ? AND name >= ? AND name <= ? LIMIT 1').get(parent, first, last) === undefined;
  }

  count(parent: number): number {
    return (this.db.prepare<[number], { n: number }>('SELECT count(*) AS n FROM dentry WHERE parent = ?').get(parent))!.n;
  }

  /** The newest id given out; entries above it did not exist when a directory was opened. */
  get newestId(): number { return this.lastId; }

  /** In a transaction. The name must be free. */
  insert(parent: number, name: string, ino: number, checkedAtMs: number): Dentry {
    const id = this.nextId();
    this.lastId = id;
    const known = this.byIno.get(ino);
    this.db.prepare('INSERT INTO dentry (id, parent, name, ino, checked_at) VALUES (?, ?, ?, ?, ?)').run(id, parent, name, ino, checkedAtMs);
    const dentry = { id, parent, name, ino, checkedAtMs };
    this.forget(dentry, undefined);
    this.byName.set(keyOf(parent, name), dentry);
    if (known && known.length < namesRememberedMax) this.byIno.set(ino, [...known, dentry]);
    return dentry;
  }

  /** The number was given to an inode just now: it has no name yet. */
  isNew(ino: number): void {
    this.byIno.set(ino, []);
  }

  /** In a transaction: the name now means another inode; it keeps its place in the directory. */
  repoint(dentry: Dentry, ino: number, checkedAtMs: number): void {
    this.forget({ ...dentry, ino }, this.get(dentry.parent, dentry.name));
    this.db.prepare('UPDATE dentry SET ino = ?, checked_at = ? WHERE id = ?').run(ino, checkedAtMs, dentry.id);
  }

  /** In a transaction. */
  remove(dentry: Dentry): void {
    this.forget(dentry, this.get(dentry.parent, dentry.name));
    this.db.prepare('DELETE FROM dentry WHERE id = ?').run(dentry.id);
  }

  /** In a transaction. */
  confirm(dentry: Dentry, checkedAtMs: number): void {
    this.forget(dentry, this.get(dentry.parent, dentry.name)); // what the caller holds may be old
    this.db.prepare('UPDATE dentry SET checked_at = ? WHERE id = ?').run(checkedAtMs, dentry.id);
  }

  /** The name is about to change: forgotten now, and again if the transaction rolls back. */
  private forget(after: Dentry, before: Dentry | undefined): void {
    const cacheKey = keyOf(after.parent, after.name);
    const drop = (): void => {
      this.byName.delete(cacheKey);
      this.byIno.delete(after.ino);
      if (before) this.byIno.delete(before.ino);
    };
    drop();
    this.db.onRollback(drop);
  }
}

function keyOf(parent: number, name: string): string {
  return `${parent}/${name}`;
}

function fromRow(row: Row): Dentry {
  return { id: row.id, parent: row.parent, name: row.name, ino: row.ino, checkedAtMs: row.checked_at };
}
