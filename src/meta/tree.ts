import { LRUCache } from 'lru-cache';
import { assert } from '../base/assert.js';
import type { Db } from '../db/db.js';
import type { Key } from '../s3/object-store.js';
import { DentryTable, type Dentry } from './dentry-table.js';
import { InodeTable } from './inode-table.js';
import { FileType, isDirectory, rootIno, type Inode } from './inode.js';
import { ObjectTable } from './object-table.js';

/**
 * The tree: names, inodes, what S3 holds per key, and the way from one to the other. No policy here: `fs/` decides what a
 * system call means, `writeback/` what has to be sent.
 *
 * A file's key is its path below the mount's root; a directory's key is its path with a `/` at the end; the root has `''`. Paths may be longer than
 * S3's keys: `s3/long-key-store` knows where such an object lies.
 */
export class Tree {
  readonly inodes: InodeTable;
  readonly dentries: DentryTable;
  readonly objects: ObjectTable;
  /** ino of a directory -> its key. Dropped as a whole when any directory moves. */
  private readonly directoryKeys: LRUCache<number, string>;

  /** @param cachedMax inodes, names, objects and paths of directories that are kept in memory, each; for tests, which want to see them come and go. */
  constructor(readonly db: Db, cachedMax?: number) {
    this.directoryKeys = new LRUCache({ max: cachedMax ?? 10_000, maxSize: 8 << 20, sizeCalculation: (key) => key.length + 1 });
    this.inodes = new InodeTable(db, cachedMax);
    this.dentries = new DentryTable(db, cachedMax);
    this.objects = new ObjectTable(db, cachedMax);
  }

  /** `''` for the root, `a/b/` below; undefined for a directory that has no name any more. */
  directoryKey(ino: number): string | undefined {
    if (ino === rootIno) return '';
    const below: Dentry[] = []; // a loop: trees may be deeper than calls may nest
    let key = this.directoryKeys.get(ino);
    for (let at = ino; key === undefined; ) {
      const dentry = this.dentries.ofInode(at)[0];
      if (!dentry) return undefined;
      below.push(dentry);
      at = dentry.parent;
      key = at === rootIno ? '' : this.directoryKeys.get(at);
    }
    for (const dentry of below.reverse()) this.directoryKeys.set(dentry.ino, (key += `${dentry.name}/`));
    return key;
  }

  /** The key of `name` in directory `parent` if it is (to be) a file, or with a slash a directory. */
  keyOf(parent: number, name: string, directory: boolean): Key | undefined {
    const prefix = this.directoryKey(parent);
    return prefix === undefined ? undefined : directory ? `${prefix}${name}/` : prefix + name;
  }

  /** Every key the inode should have an object under: one per name. */
  keysOf(inode: Inode): Key[] {
    if (inode.ino === rootIno) return [''];
    const keys: Key[] = [];
    for (const dentry of this.dentries.ofInode(inode.ino)) {
      const key = this.keyOf(dentry.parent, dentry.name, isDirectory(inode));
      if (key !== undefined) keys.push(key);
    }
    return keys;
  }

  /** What the tree has under `key`. A key with a slash at the end finds only a directory, one without only something else. */
  resolve(key: Key): { readonly inode: Inode; readonly dentry: Dentry | undefined } | undefined {
    if (key === '') return { inode: this.inodes.mustGet(rootIno), dentry: undefined };
    const wantDirectory = key.endsWith('/');
    const names = (wantDirectory ? key.slice(0, -1) : key).split('/');
    let parent = rootIno;
    let dentry: Dentry | undefined;
    for (const name of names) {
      if (dentry) parent = dentry.ino;
      dentry = this.dentries.get(parent, name);
      if (!dentry) return undefined;
    }
    const inode = this.inodes.mustGet(dentry!.ino);
    return isDirectory(inode) === wantDirectory ? { inode, dentry } : undefined;
  }

  /** Path below the mount point, for people: `/` for the root. The first name of a hard link. */
  pathOf(ino: number): string | undefined {
    const inode = this.inodes.get(ino);
    if (!inode) return undefined;
    const key = this.keysOf(inode)[0];
    return key === undefined ? undefined : '/' + key.replace(/\/$/, '');
  }

  /** After a directory got another name or parent, or lost its name. */
  directoriesMoved(): void {
    this.directoryKeys.clear();
    this.db.onRollback(() => this.directoryKeys.clear());
  }

  /** True if `ino` is `ancestor` or lies below it. */
  isWithin(ino: number, ancestor: number): boolean {
    for (let at: number | undefined = ino; at !== undefined; ) {
      if (at === ancestor) return true;
      if (at === rootIno) return false;
      at = this.dentries.ofInode(at)[0]?.parent;
    }
    return false;
  }

  /** Some directory at or below `ino` whose names are not all known, at most `limit` of them; one query, however many names there are. */
  incompleteWithin(ino: number, limit: number): Inode[] {
    return this.db.prepare<[number, number, number, number], { ino: number }>(`
      WITH RECURSIVE below(ino) AS (
        VALUES (?) UNION SELECT inode.ino FROM below JOIN dentry ON dentry.parent = below.ino JOIN inode ON inode.ino = dentry.ino WHERE inode.mode & ? = ?)
      SELECT below.ino FROM below JOIN inode ON inode.ino = below.ino WHERE inode.complete = 0 LIMIT ?`)
      .all(ino, FileType.MASK, FileType.DIR, limit).map((row) => this.inodes.mustGet(row.ino));
  }

  /** In a transaction: the root directory of a new database. */
  createRoot(fields: { uid: number; gid: number; mode: number; time: Inode['mtime'] }): Inode {
    assert(!this.inodes.get(rootIno), 'the root exists already');
    return this.inodes.create({
      mode: fields.mode, uid: fields.uid, gid: fields.gid, rdev: 0, sizeBytes: 4096, atime: fields.time, mtime: fields.time, ctime: fields.time,
      nlink: 2, gen: 1, mgen: 1, baseGen: null, unsealed: false, sealedUnsynced: false, attrsComplete: true, content: null, target: null, xattrs: null, foreign: null, linkId: null, linkOffset: 0, lastModifiedMs: null,
      marker: false, complete: false, listedAtMs: 0, opens: 0,
    }, rootIno);
  }
}
