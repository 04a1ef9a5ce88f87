import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../base/log.js';
import { Metrics } from '../base/metrics.js';
import { Db } from '../db/db.js';
import { Discovery } from './discovery.js';
import { FileType, isDirectory, rootIno, type Inode } from './inode.js';
import { InodeTable } from './inode-table.js';
import type { ObjectRow } from './object-table.js';
import { Tree } from './tree.js';

let dir: string;
let db: Db;
let tree: Tree;
let discovery: Discovery;
const time = { sec: 1000, nsec: 5 };

function open(): void {
  db = Db.open({ dir, log: silentLog, metrics: new Metrics(), ballastBytes: 0 });
  tree = new Tree(db);
  discovery = new Discovery(tree, { uid: 7, gid: 8, umask: 0o027 });
}
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'hearthfs-meta-'));
  open();
  db.tx(() => tree.createRoot({ uid: 0, gid: 0, mode: 0o040755, time }));
});
afterEach(async () => {
  await db.close({ clean: true });
  rmSync(dir, { recursive: true });
});

const seen = (key: string, etag = 'e1') => ({ key, etag, sizeBytes: 3, lastModifiedMs: 5_000_500 });
const add = (parent: number, name: string): Inode => db.tx(() => discovery.addObject(parent, name, seen(`${tree.directoryKey(parent)!}${name}`), 1));
const addDir = (parent: number, name: string): Inode => db.tx(() => discovery.addDirectory(parent, name, null, 1));

describe('inodes', () => {
  test('are stored completely: what is read back by another daemon is what was saved', async () => {
    const inode = add(rootIno, 'a');
    db.tx(() => {
      Object.assign(inode, {
        mode: 0o120777, uid: 1, gid: 2, rdev: 3, sizeBytes: 2 ** 42, atime: { sec: -5, nsec: 1 }, mtime: { sec: 2 ** 34, nsec: 999_999_999 }, ctime: time, nlink: 4, gen: 5, mgen: 6,
        baseGen: 4, unsealed: true, sealedUnsynced: false, attrsComplete: true, content: 99, target: Buffer.from([0xff, 0x41]), xattrs: { 'user.x': 'AA==' }, foreign: { metadata: { a: 'b' } }, lastModifiedMs: 12,
        marker: true, complete: true, listedAtMs: 77, opens: 2,
      });
      tree.inodes.save(inode);
    });
    const saved = structuredClone(inode);
    await db.close({ clean: true });
    open();
    const read = tree.inodes.mustGet(inode.ino);
    expect({ ...read, target: [...read.target!] }).toEqual({ ...saved, target: [0xff, 0x41] });
  });

  test('keep their numbers for themselves, across deletes and daemons (K14)', async () => {
    const first = add(rootIno, 'a').ino;
    db.tx(() => tree.inodes.remove(first));
    expect(add(rootIno, 'b').ino).toBeGreaterThan(first);
    const last = add(rootIno, 'c').ino;
    await db.close({ clean: false });
    open();
    expect(add(rootIno, 'd').ino).toBeGreaterThan(last);
  });

  test('are as before after a transaction that rolled back, for whoever holds them', () => {
    const inode = add(rootIno, 'a');
    expect(() => db.tx(() => {
      inode.nlink++;
      inode.mode = FileType.REG | 0o600;
      tree.inodes.save(inode);
      throw new Error('no');
    })).toThrow('no');
    expect(inode).toMatchObject({ nlink: 1, mode: FileType.REG | 0o640 });
    expect(tree.inodes.get(inode.ino)).toMatchObject({ nlink: 1 });
  });

  test('count once what a transaction does that has to run twice (D5)', () => {
    const inode = add(rootIno, 'a');
    const work = (fail: boolean): void => db.tx(() => {
      inode.nlink++;
      tree.inodes.save(inode);
      if (fail) throw new Error('disk full');
    });
    expect(() => work(true)).toThrow();
    work(false);
    expect(inode.nlink).toBe(2);
  });

  test('keep what only memory knows through a rollback: size and times of a file being written', () => {
    const inode = add(rootIno, 'a');
    inode.sizeBytes = 500;
    tree.inodes.keepVolatile(inode);
    expect(() => db.tx(() => {
      inode.mode = FileType.REG;
      tree.inodes.settle(inode);
      throw new Error('no');
    })).toThrow('no');
    expect(inode).toMatchObject({ sizeBytes: 500, mode: FileType.REG | 0o640 });
    expect([...tree.inodes.volatileInodes]).toEqual([inode]);
    db.tx(() => tree.inodes.settle(inode));
    expect([...tree.inodes.volatileInodes]).toEqual([]);
    expect(db.prepare<[number], { size: number }>('SELECT size FROM inode WHERE ino = ?').get(inode.ino)!.size).toBe(500);
  });

  test('that were made by a transaction that rolled back never were', () => {
    let ino = 0;
    expect(() => db.tx(() => {
      ino = discovery.addObject(rootIno, 'a', seen('a'), 1).ino;
      throw new Error('no');
    })).toThrow('no');
    expect(tree.inodes.get(ino)).toBeUndefined();
    expect(tree.dentries.get(rootIno, 'a')).toBeUndefined();
    expect(tree.objects.get('a')).toBeUndefined();
  });

  test('being written stay in memory however many others are read', () => {
    const table = new InodeTable(db, 2);
    const inode = table.mustGet(add(rootIno, 'a').ino);
    inode.sizeBytes = 12_345;
    table.keepVolatile(inode);
    for (let i = 0; i < 5; i++) table.mustGet(add(rootIno, `${i}`).ino);
    expect(table.mustGet(inode.ino)).toBe(inode);
  });
});

describe('names', () => {
  test('are listed by ascending id, and the newest id is known to a daemon that made none (K12)', async () => {
    for (const name of ['c', 'a', 'b']) add(rootIno, name);
    const listed = tree.dentries.list(rootIno, 0, 10);
    expect(listed.map(({ name }) => name)).toEqual(['c', 'a', 'b']);
    expect(tree.dentries.list(rootIno, listed[0]!.id, 1).map(({ name }) => name)).toEqual(['a']);
    await db.close({ clean: true });
    open();
    expect(tree.dentries.newestId).toBe(listed[2]!.id);
    add(rootIno, 'd');
    expect(tree.dentries.newestId).toBeGreaterThan(listed[2]!.id);
  });
});

describe('keys', () => {
  test('are paths; a directory\'s ends in a slash; the root\'s is empty; and back', () => {
    const d = addDir(rootIno, 'd');
    const e = addDir(d.ino, 'e');
    const file = add(e.ino, 'ä b');
    expect([tree.directoryKey(rootIno), tree.directoryKey(e.ino), tree.keysOf(file), tree.keysOf(d)]).toEqual(['', 'd/e/', ['d/e/ä b'], ['d/']]);
    expect(tree.pathOf(e.ino)).toBe('/d/e');
    for (const [key, inode] of [['d/e/ä b', file], ['d/e/', e], ['', tree.inodes.mustGet(rootIno)]] as const) expect(tree.resolve(key)?.inode).toBe(inode);
    for (const key of ['d/e', 'd/e/ä b/', 'd//e/', 'd/x', '/d/', 'd/e/ä b/c']) expect(tree.resolve(key), key).toBeUndefined();
  });

  test('follow a moved directory at once, and back on rollback', () => {
    const d = addDir(rootIno, 'd');
    const e = addDir(d.ino, 'e');
    expect(tree.directoryKey(e.ino)).toBe('d/e/');
    const move = (): void => {
      tree.dentries.remove(tree.dentries.get(rootIno, 'd')!);
      tree.dentries.insert(rootIno, 'moved', d.ino, 1);
      tree.directoriesMoved();
      expect(tree.directoryKey(e.ino)).toBe('moved/e/');
    };
    expect(() => db.tx(() => { move(); throw new Error('no'); })).toThrow('no');
    expect(tree.directoryKey(e.ino)).toBe('d/e/');
    db.tx(move);
    expect(tree.directoryKey(e.ino)).toBe('moved/e/');
    db.tx(() => { tree.dentries.remove(tree.dentries.get(rootIno, 'moved')!); tree.directoriesMoved(); });
    expect([tree.directoryKey(e.ino), tree.keysOf(e), tree.pathOf(e.ino)]).toEqual([undefined, [], undefined]);
  });

  test('isWithin() looks up the path; incompleteWithin() down the directories', () => {
    const d = addDir(rootIno, 'd');
    const e = addDir(d.ino, 'e');
    const f = addDir(rootIno, 'f');
    add(e.ino, 'file');
    expect([tree.isWithin(e.ino, d.ino), tree.isWithin(d.ino, d.ino), tree.isWithin(d.ino, e.ino), tree.isWithin(f.ino, d.ino), tree.isWithin(e.ino, rootIno)]).toEqual([true, true, false, false, true]);
    expect(tree.incompleteWithin(d.ino, 10).map(({ ino }) => ino).sort()).toEqual([d.ino, e.ino].sort());
    expect(tree.incompleteWithin(rootIno, 2)).toHaveLength(2);
    for (const each of [d, e]) db.tx(() => { each.complete = true; tree.inodes.save(each); });
    expect(tree.incompleteWithin(d.ino, 10)).toEqual([]);
    expect(tree.incompleteWithin(rootIno, 10).map(({ ino }) => ino).sort()).toEqual([rootIno, f.ino].sort());
  });
});

describe('objects', () => {
  test('known absent is not unknown; holders of a content are found by it', () => {
    const inode = add(rootIno, 'a');
    db.tx(() => { tree.objects.put({ ...tree.objects.get('a')!, key: 'copy' }); tree.objects.setAbsent('gone'); });
    expect(tree.objects.holding(inode.ino, 1).map(({ key }) => key)).toEqual(['a', 'copy']);
    expect(tree.objects.holding(inode.ino, 2)).toEqual([]);
    expect([tree.objects.get('gone')?.etag, tree.objects.get('never')]).toEqual([null, undefined]);
    db.tx(() => tree.objects.forget('copy'));
    expect(tree.objects.under('', 10).map(({ key }) => key)).toEqual(['a', 'gone']);
    expect(tree.objects.under('', 1, 'a').map(({ key }) => key)).toEqual(['gone']);
  });
});

describe('what is remembered of objects', () => {
  const look = (...inos: number[]): unknown => [...['a', 'b', 'c'].map((key) => tree.objects.get(key)?.etag), ...inos.map((ino) => tree.objects.madeFrom(ino).map(({ key, etag }) => [key, etag]))];
  const row = (key: string, ino: number, etag = 'e1', gen = 1): ObjectRow => ({ key, etag, sizeBytes: 3, lastModifiedMs: 1, versionId: null, ino, gen, mgen: 1 });

  test('is what is stored, whatever was looked at before: a key that names another inode, is gone, or came', () => {
    const [a, b] = [add(rootIno, 'a'), add(rootIno, 'b')];
    expect(look(a.ino, b.ino)).toEqual(['e1', 'e1', undefined, [['a', 'e1']], [['b', 'e1']]]);
    db.tx(() => tree.objects.put(row('a', b.ino, 'e2')));
    expect(look(a.ino, b.ino)).toEqual(['e2', 'e1', undefined, [], [['a', 'e2'], ['b', 'e1']]]);
    db.tx(() => tree.objects.put(row('c', a.ino)));
    db.tx(() => tree.objects.forget('a'));
    expect(look(a.ino, b.ino)).toEqual([undefined, 'e1', 'e1', [['c', 'e1']], [['b', 'e1']]]);
    db.tx(() => tree.objects.setAbsent('c'));
    expect(look(a.ino, b.ino)).toEqual([undefined, 'e1', null, [], [['b', 'e1']]]);
    db.tx(() => tree.objects.put(row('b', b.ino, 'e5', 2)));
    expect([tree.objects.holding(b.ino, 1), tree.objects.holding(b.ino, 2).map(({ etag }) => etag)]).toEqual([[], ['e5']]);
  });

  test('is as it was after a rollback, however often it was looked at meanwhile', () => {
    const [a, b] = [add(rootIno, 'a'), add(rootIno, 'b')];
    const before = look(a.ino, b.ino);
    expect(() => db.tx(() => {
      tree.objects.put(row('a', b.ino, 'e9'));
      expect(look(a.ino, b.ino)).toEqual(['e9', 'e1', undefined, [], [['a', 'e9'], ['b', 'e1']]]);
      tree.objects.forget('b');
      tree.objects.put(row('c', a.ino));
      expect(look(a.ino, b.ino)).toEqual(['e9', undefined, 'e1', [['c', 'e1']], [['a', 'e9']]]);
      throw new Error('no');
    })).toThrow('no');
    expect(look(a.ino, b.ino)).toEqual(before);
  });

  test('holds for an inode under more keys than are remembered', () => {
    const { ino } = add(rootIno, 'a');
    const keys = Array.from({ length: 20 }, (_, i) => `k${String(i).padStart(2, '0')}`);
    for (const key of keys) {
      db.tx(() => tree.objects.put(row(key, ino)));
      expect(tree.objects.madeFrom(ino).map((each) => each.key)).toContain(key);
    }
    expect(tree.objects.madeFrom(ino).map(({ key }) => key)).toEqual(['a', ...keys]);
    for (const key of keys) db.tx(() => tree.objects.forget(key));
    expect(tree.objects.madeFrom(ino).map(({ key }) => key)).toEqual(['a']);
  });
});

describe('what others made', () => {
  test('has the defaults of the mount until a HEAD completes it', () => {
    expect(add(rootIno, 'a')).toMatchObject({ mode: 0o100640, uid: 7, gid: 8, sizeBytes: 3, attrsComplete: false, mtime: { sec: 5000, nsec: 500_000_000 }, nlink: 1 });
    const before = tree.inodes.mustGet(rootIno).nlink;
    expect(addDir(rootIno, 'd')).toMatchObject({ mode: 0o040750, attrsComplete: false, marker: false, nlink: 2 });
    expect(tree.inodes.mustGet(rootIno).nlink).toBe(before + 1);
  });

  test('in another version keeps the number and forgets the rest; superseded, the name gets another number', () => {
    const inode = add(rootIno, 'a');
    db.tx(() => discovery.refresh(inode, seen('a', 'e2')));
    expect(inode).toMatchObject({ gen: 2, attrsComplete: false, content: null, unsealed: false });
    expect(tree.objects.get('a')).toMatchObject({ etag: 'e2', ino: inode.ino, gen: 2, mgen: inode.mgen });
    const next = db.tx(() => discovery.supersede(tree.dentries.get(rootIno, 'a')!, seen('a', 'e3'), 1, null));
    expect(next.ino).not.toBe(inode.ino);
    expect(tree.resolve('a')?.inode).toBe(next);
    expect(isDirectory(next)).toBe(false);
  });
});

describe('names', () => {
  test('are found as they are after a rollback, however often they were asked for before and meanwhile', () => {
    const [one, two] = [add(rootIno, 'one'), add(rootIno, 'two')];
    const look = (): unknown => [tree.dentries.get(rootIno, 'one')?.ino, tree.dentries.get(rootIno, 'new')?.ino, ...[one, two].map(({ ino }) => tree.dentries.ofInode(ino).map(({ name }) => name))];
    const before = look();
    expect(before).toEqual([one.ino, undefined, ['one'], ['two']]);
    expect(() => db.tx(() => {
      tree.dentries.insert(rootIno, 'new', two.ino, 1);
      tree.dentries.repoint(tree.dentries.get(rootIno, 'one')!, two.ino, 1);
      expect(look()).toEqual([two.ino, two.ino, [], ['one', 'two', 'new']]);
      tree.dentries.remove(tree.dentries.get(rootIno, 'new')!);
      expect(look()).toEqual([two.ino, undefined, [], ['one', 'two']]);
      throw new Error('no');
    })).toThrow('no');
    expect(look()).toEqual(before);
  });

  test('of an inode are all there, from the first to more than are remembered', () => {
    const { ino } = add(rootIno, 'n00');
    const names = ['n00'];
    for (let i = 1; i < 20; i++) {
      names.push(`n${String(i).padStart(2, '0')}`);
      db.tx(() => tree.dentries.insert(rootIno, names[i]!, ino, 1));
      expect(tree.dentries.ofInode(ino).map(({ name }) => name)).toEqual(names);
    }
  });

  test('between two others are looked for in the order of bytes', () => {
    add(rootIno, 'b');
    add(rootIno, '\u{1f600}'); // after \uffee in UTF-8, before it in UTF-16
    const isFree = (first: string, last: string): boolean => tree.dentries.isFree(rootIno, first, last);
    expect([isFree('a', 'az'), isFree('a', 'b'), isFree('b', 'c'), isFree('ba', 'c'), isFree('\uffee', '\u{1f601}'), isFree('c', '\uffee'), tree.dentries.isFree(99, 'a', 'z')])
      .toEqual([true, false, false, true, false, true, true]);
  });

  test('changed through an old view of them are not remembered as that view had them', () => {
    const [one, two] = [add(rootIno, 'one'), add(rootIno, 'two')];
    const old = tree.dentries.get(rootIno, 'one')!;
    db.tx(() => tree.dentries.repoint(old, two.ino, 1));
    expect(tree.dentries.ofInode(two.ino)).toHaveLength(2);
    db.tx(() => tree.dentries.confirm(old, 9));
    expect(tree.dentries.get(rootIno, 'one')).toMatchObject({ ino: two.ino, checkedAtMs: 9 });
    expect([one, two].map(({ ino }) => tree.dentries.ofInode(ino).length)).toEqual([0, 2]);
    db.tx(() => tree.dentries.remove(old));
    expect(tree.dentries.ofInode(two.ino).map(({ name }) => name)).toEqual(['two']);
  });
});
