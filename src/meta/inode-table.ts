import { LRUCache } from 'lru-cache';
import { assert } from '../base/assert.js';
import type { Db } from '../db/db.js';
import { rootIno, type Inode } from './inode.js';

/**
 * Inodes: rows of `inode` behind a bounded cache.
 *
 * Invariants: 1. an inode number is never reused and never changes type (K14). 2. While an inode has changes that only memory knows
 * (`keepVolatile`: size and times of a file being written), the object in memory is the truth and stays in memory; after a
 * crash the content file gives them back. 3. A transaction that rolls back, or runs twice (D5), finds every inode it had saved as it was before:
 * whoever still holds the object sees the committed state, and `nlink--` counts once.
 */
export class InodeTable {
  private readonly cache: LRUCache<number, Inode>;
  private readonly volatile = new Map<number, Inode>();
  private readonly nextIno: () => number;

  constructor(private readonly db: Db, cachedInodesMax = 32_768) {
    this.cache = new LRUCache({ max: cachedInodesMax });
    const next = db.reserveIds('ino');
    this.nextIno = () => {
      let ino = next();
      while (ino <= rootIno) ino = next(); // the root's number is its own
      return ino;
    };
  }

  get(ino: number): Inode | undefined {
    const cached = this.volatile.get(ino) ?? this.cache.get(ino);
    if (cached) return cached;
    const row = this.db.prepare<[number], InodeRow>('SELECT * FROM inode WHERE ino = ?').getRow(ino, ino);
    if (!row) return undefined;
    const inode = fromRow(row);
    this.cache.set(ino, inode);
    return inode;
  }

  /** In a transaction. `ino` 1 is the root; others are numbered here. */
  create(fields: Omit<Inode, 'ino'>, ino = this.nextIno()): Inode {
    const inode: Inode = { ino, ...fields };
    this.write(inode, true);
    return inode;
  }

  /** In a transaction. What only memory knew is written along: nothing of it is volatile any more. */
  save(inode: Inode): void {
    this.write(inode, false);
  }

  private write(inode: Inode, isNew: boolean): void {
    this.db.onRollback(() => this.restore(inode)); // before the write: a full disk may fail right here
    const statement = this.db.prepare(upsert);
    if (isNew) statement.lateNew(inode.ino, ...toRow(inode));
    else statement.late(inode.ino, ...toRow(inode));
    this.cache.set(inode.ino, inode);
    if (!this.volatile.delete(inode.ino)) return;
    this.db.onRollback(() => this.volatile.set(inode.ino, inode));
  }

  /** Memory is ahead of the row (size, mtime, ctime while writing): keep it until `settle`. */
  keepVolatile(inode: Inode): void {
    this.volatile.set(inode.ino, inode);
  }

  get volatileInodes(): Iterable<Inode> { return this.volatile.values(); }

  /** In a transaction: write what only memory knew. */
  settle(inode: Inode): void {
    if (this.volatile.has(inode.ino)) this.save(inode);
  }

  /** In a transaction. */
  remove(ino: number): void {
    this.db.prepare('DELETE FROM inode WHERE ino = ?').late(ino, ino);
    this.cache.delete(ino);
    const written = this.volatile.get(ino);
    if (!written) return;
    this.volatile.delete(ino);
    this.db.onRollback(() => this.volatile.set(ino, written));
  }

  /** After a rollback: the row is the truth again, but for what only memory knows of a file being written. */
  private restore(inode: Inode): void {
    const row = this.db.prepare<[number], InodeRow>('SELECT * FROM inode WHERE ino = ?').getRow(inode.ino, inode.ino);
    if (!row) {
      this.cache.delete(inode.ino);
      return;
    }
    const { sizeBytes, mtime, ctime, atime } = inode;
    Object.assign(inode, fromRow(row), this.volatile.has(inode.ino) ? { sizeBytes, mtime, ctime, atime } : {});
  }

  orphans(): Inode[] {
    return this.db.prepare<[], { ino: number }>('SELECT ino FROM inode WHERE nlink = 0').all().map(({ ino }) => this.mustGet(ino));
  }

  unsealed(): Inode[] {
    return this.db.prepare<[], { ino: number }>('SELECT ino FROM inode WHERE unsealed = 1').all().map(({ ino }) => this.mustGet(ino));
  }

  sealedUnsynced(): Inode[] {
    return this.db.prepare<[], { ino: number }>('SELECT ino FROM inode WHERE unsealed = 2').all().map(({ ino }) => this.mustGet(ino));
  }

  /** Inodes with a name whose objects say that they are one hard-linked file (J10); more than one until they are joined, or if they must not be. */
  byLink(linkId: string): Inode[] {
    return this.db.prepare<[string], { ino: number }>('SELECT ino FROM inode WHERE link_id = ? AND nlink > 0 ORDER BY ino').all(linkId).map(({ ino }) => this.mustGet(ino));
  }

  mustGet(ino: number): Inode {
    const inode = this.get(ino);
    assert(inode, `inode ${ino} has no row`);
    return inode;
  }
}

interface InodeRow {
  ino: number; mode: number; uid: number; gid: number; rdev: number; size: number;
  atime_s: number; atime_ns: number; mtime_s: number; mtime_ns: number; ctime_s: number; ctime_ns: number;
  nlink: number; gen: number; mgen: number; base_gen: number | null; unsealed: number; attrs: number; content: number | null;
  target: Buffer | null; xattrs: string | null; foreign_attrs: string | null; link_id: string | null; link_offset: number; last_modified: number | null;
  marker: number; complete: number; listed_at: number; opens: number;
}

const columns = ['ino', 'mode', 'uid', 'gid', 'rdev', 'size', 'atime_s', 'atime_ns', 'mtime_s', 'mtime_ns', 'ctime_s', 'ctime_ns', 'nlink', 'gen', 'mgen',
  'base_gen', 'unsealed', 'attrs', 'content', 'target', 'xattrs', 'foreign_attrs', 'link_id', 'link_offset', 'last_modified', 'marker', 'complete', 'listed_at', 'opens'];
const upsert = `INSERT INTO inode (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})
  ON CONFLICT(ino) DO UPDATE SET ${columns.slice(1).map((column) => `${column} = excluded.${column}`).join(', ')}`;

function fromRow(row: InodeRow): Inode {
  return {
    ino: row.ino, mode: row.mode, uid: row.uid, gid: row.gid, rdev: row.rdev, sizeBytes: row.size,
    atime: { sec: row.atime_s, nsec: row.atime_ns }, mtime: { sec: row.mtime_s, nsec: row.mtime_ns }, ctime: { sec: row.ctime_s, nsec: row.ctime_ns },
    nlink: row.nlink, gen: row.gen, mgen: row.mgen, baseGen: row.base_gen, unsealed: row.unsealed === 1, sealedUnsynced: row.unsealed === 2, attrsComplete: row.attrs === 1,
    content: row.content, target: row.target,
    xattrs: row.xattrs === null ? null : (JSON.parse(row.xattrs) as Record<string, string>),
    foreign: row.foreign_attrs === null ? null : (JSON.parse(row.foreign_attrs) as Inode['foreign']),
    linkId: row.link_id, linkOffset: row.link_offset, lastModifiedMs: row.last_modified, marker: row.marker === 1, complete: row.complete === 1, listedAtMs: row.listed_at, opens: row.opens,
  };
}

function toRow(inode: Inode): unknown[] {
  return [inode.ino, inode.mode, inode.uid, inode.gid, inode.rdev, inode.sizeBytes, inode.atime.sec, inode.atime.nsec, inode.mtime.sec, inode.mtime.nsec,
    inode.ctime.sec, inode.ctime.nsec, inode.nlink, inode.gen, inode.mgen, inode.baseGen, inode.unsealed ? 1 : inode.sealedUnsynced ? 2 : 0, inode.attrsComplete ? 1 : 0, inode.content,
    inode.target, inode.xattrs && JSON.stringify(inode.xattrs), inode.foreign && JSON.stringify(inode.foreign), inode.linkId, inode.linkOffset, inode.lastModifiedMs,
    inode.marker ? 1 : 0, inode.complete ? 1 : 0, inode.listedAtMs, inode.opens];
}
