import fs from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, test } from 'vitest';
import { Errno } from '../base/errno.js';
import { FaultyDisk } from '../base/faulty-disk.js';
import { Metrics } from '../base/metrics.js';
import { UserError } from '../base/user-error.js';
import type { Db, DbOptions } from './db.js';
import { claimDirectory, resolveOutsideFuse, parseMountinfo } from './state-dir.js';
import { DbOpener } from '../../test/support/db-opener.js';

const dbs = new DbOpener();
const temp = (): string => dbs.temp();
const openDb = (dir?: string, options?: Partial<DbOptions>): Db => dbs.open(dir, options);

/** What a new daemon finds after a crash: a copy of the files as they are now. */
const copyOf = (dir: string): string => dbs.killed(dir);

afterEach(() => dbs.clean());

describe('transactions', () => {
  test('a committed transaction survives a crash, a thrown one leaves nothing', () => {
    const dir = temp();
    const db = openDb(dir);
    db.tx(() => db.setFact('a', '1'));
    expect(() => db.tx(() => { db.setFact('a', '2'); throw new Error('no'); })).toThrow('no');
    const after = openDb(copyOf(dir));
    expect(after.fact('a')).toBe('1');
    expect(after.previous).toEqual({ first: false, clean: false, sameBoot: true });
  });

  test('a nested call joins the outer transaction', () => {
    const db = openDb();
    const before = db.commitSeq;
    expect(() => db.tx(() => {
      db.tx(() => db.setFact('inner', 'x'));
      throw new Error('outer');
    })).toThrow('outer');
    expect(db.fact('inner')).toBeUndefined();
    expect(db.commitSeq).toBe(before);
  });

  test('an outer transaction that swallows the failure of an inner one cannot commit', () => {
    const db = openDb();
    expect(() => db.tx(() => {
      try {
        db.tx(() => { db.setFact('half', 'x'); throw new Error('inner'); });
      } catch { /* swallowed */ }
    })).toThrow('swallowed');
    expect(db.fact('half')).toBeUndefined();
    db.tx(() => db.setFact('next', 'fine'));
    expect(db.fact('next')).toBe('fine');
  });

  test('a promise is refused by the type and at run time', () => {
    const db = openDb();
    // @ts-expect-error a promise is no answer of a transaction
    expect(() => db.tx(async () => db.setFact('a', '1'))).toThrow('promise');
    expect(db.fact('a')).toBeUndefined();
    const answer: number = db.tx(() => 5);
    expect(answer).toBe(5);
  });

  test('hooks: afterCommit runs once after the outermost commit and is dropped by a rollback; onRollback runs latest first', () => {
    const db = openDb();
    const seen: string[] = [];
    db.tx(() => {
      db.tx(() => db.afterCommit(() => seen.push(`commit ${db.inTransaction}`)));
      db.onRollback(() => seen.push('never'));
      seen.push('body');
    });
    expect(seen).toEqual(['body', 'commit false']);
    seen.length = 0;
    expect(() => db.tx(() => {
      db.afterCommit(() => seen.push('never'));
      db.afterDurable(() => seen.push('never'));
      db.onRollback(() => seen.push('first'));
      db.onRollback(() => seen.push('second'));
      throw new Error('no');
    })).toThrow('no');
    db.tx(() => undefined);
    expect(seen).toEqual(['second', 'first']);
  });

  test('a statement that writes outside a transaction counts as one', () => {
    const db = openDb();
    const before = db.commitSeq;
    db.setFact('a', '1');
    expect(db.prepare<[string], { value: string }>('UPDATE fact SET value = 2 WHERE name = ? RETURNING value').get('a')).toEqual({ value: '2' });
    expect(db.commitSeq).toBe(before + 2);
  });
});

describe('durability (D1)', () => {
  test('a power cut keeps what durable() covered and may lose what it did not, never the other way round', async () => {
    const disk = new FaultyDisk();
    const dir = temp();
    const db = openDb(dir, { disk });
    db.setFact('a', 'journaled');
    await db.durable();
    db.setFact('b', 'accepted');
    disk.powerCut();
    const after = openDb(copyOf(dir));
    expect(after.fact('a')).toBe('journaled');
    expect(after.fact('b')).toBeUndefined();
  });

  test('one sync serves all waiters of a round, and late comers share the next', async () => {
    const disk = new FaultyDisk();
    const db = openDb(temp(), { disk });
    db.setFact('a', '1');
    const first = [db.durable(), db.durable()];
    db.setFact('a', '2');
    const second = [db.durable(), db.durable()];
    await Promise.all(first);
    expect(db.durableSeq).toBe(db.commitSeq - 1);
    await Promise.all(second);
    expect(db.durableSeq).toBe(db.commitSeq);
    expect(disk.calls.get('redo.sync')).toBe(2);
    await db.durable();
    expect(disk.calls.get('redo.sync')).toBe(2);
  });

  test('afterDurable runs when its own commit is synced, not when an earlier one is', async () => {
    const db = openDb();
    const seen: string[] = [];
    db.tx(() => { db.setFact('a', '1'); db.afterDurable(() => seen.push('a')); });
    const first = db.durable();
    db.tx(() => { db.setFact('b', '1'); db.afterDurable(() => seen.push('b')); });
    await first;
    expect(seen).toEqual(['a']);
    await db.durable();
    expect(seen).toEqual(['a', 'b']);
    db.afterDurable(() => seen.push('at once'));
    expect(seen).toEqual(['a', 'b', 'at once']);
  });

  test('D4: a failed sync fails all waiters, tells the owner once, and nothing is written or promised any more', async () => {
    const disk = new FaultyDisk();
    const fatal: Error[] = [];
    const db = openDb(temp(), { disk, onFatal: (error) => fatal.push(error) });
    db.setFact('a', '1');
    disk.fail('redo.sync', { errno: Errno.EIO });
    const waiters = await Promise.allSettled([db.durable(), db.durable()]);
    expect(waiters.map((waiter) => waiter.status)).toEqual(['rejected', 'rejected']);
    expect(fatal).toHaveLength(1);
    await expect(db.durable()).rejects.toThrow();
    expect(() => db.setFact('b', '1')).toThrow('stopped');
    expect(disk.calls.get('redo.sync')).toBe(1);
  });

  test('D2: the log starts over while transactions keep coming, and its file stays bounded', async () => {
    const metrics = new Metrics();
    const db = openDb(temp(), { metrics });
    const text = 'x'.repeat(2000);
    let written = 0;
    for (let round = 0; round < 12; round++) {
      for (let i = 0; i < 100; i++) db.setFact(`f${written++ % 500}`, `${written} ${text}`);
      let running = true;
      const run = db.checkpoint().then(() => (running = false));
      while (running) {
        db.setFact(`f${written++ % 500}`, `${written} ${text}`);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await run;
    }
    expect(metrics.get('db.checkpoints')).toBe(12); // by the worker, not by the fallback
    // The log's header counts how often it started over (sqlite.org/walformat.html: checkpoint sequence number).
    const header = Buffer.alloc(32);
    const fd = fs.openSync(`${db.path}-wal`, 'r');
    fs.readSync(fd, header, 0, 32, 0);
    fs.closeSync(fd);
    expect(header.readUInt32BE(12)).toBeGreaterThanOrEqual(6);
    db.setFact('last', 'still here');
    await db.durable();
    expect(db.integrityCheck()).toEqual([]);
    expect(db.fact('last')).toBe('still here');
  });
});

describe('identity', () => {
  test('ids ascend over restarts and rollbacks and are never handed out twice (K14, J3)', async () => {
    const dir = temp();
    const db = openDb(dir);
    const next = db.reserveIds('ino');
    const seen = [next(), next()];
    const aborted: number[] = [];
    expect(() => db.tx(() => { for (let i = 0; i < 1500; i++) aborted.push(next()); throw new Error('no'); })).toThrow('no');
    seen.push(next(), db.reserveIds('ino')());
    await db.close({ clean: true });
    const again = openDb(dir);
    seen.push(again.reserveIds('ino')());
    const all = [...seen, ...aborted];
    expect(new Set(all).size).toBe(all.length);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(again.previous).toEqual({ first: false, clean: true, sameBoot: true });
  });

  test('a block reserved in a transaction that rolled back is stored again before its ids are used', () => {
    const dir = temp();
    const db = openDb(dir);
    const next = db.reserveIds('n');
    expect(() => db.tx(() => { next(); throw new Error('no'); })).toThrow('no');
    const used = next();
    const after = openDb(copyOf(dir));
    expect(after.reserveIds('n')()).toBeGreaterThan(used);
  });
});

describe('a full disk (D5)', () => {
  test('the ballast is given up for the commit that needs it', () => {
    const dir = temp();
    const db = openDb(dir, { ballastBytes: 1 << 20 });
    expect(fs.statSync(join(dir, 'ballast')).blocks * 512).toBeGreaterThanOrEqual(1 << 20);
    let runs = 0;
    db.tx(() => {
      db.setFact('a', String(++runs));
      if (runs === 1) throw new Database.SqliteError('database or disk is full', 'SQLITE_FULL');
    });
    expect(db.fact('a')).toBe('2');
    expect(fs.existsSync(join(dir, 'ballast'))).toBe(false);
    const full = (): void => { throw new Database.SqliteError('database or disk is full', 'SQLITE_FULL'); };
    expect(() => db.tx(full)).toThrow(expect.objectContaining({ kind: 'full' }));
    db.setFact('b', 'goes on'); // a full disk does not stop the database
  });
});

describe('directories that cannot be used are refused in one sentence', () => {
  const refusal = (fn: () => unknown): string => {
    try {
      fn();
    } catch (error) {
      expect(error).toBeInstanceOf(UserError);
      return (error as Error).message;
    }
    throw new Error('was not refused');
  };

  test('in use by another daemon: names its pid, and is free again when that one closes', async () => {
    const dir = temp();
    const db = openDb(dir);
    expect(refusal(() => openDb(dir))).toContain(`pid ${process.pid}`);
    await db.close({ clean: true });
    openDb(dir);
  });

  test('damaged: says to move it aside and never delete it, and frees the lock', async () => {
    const dir = temp();
    await openDb(dir).close({ clean: true });
    fs.writeFileSync(join(dir, 'state.db'), Buffer.alloc(8192, 0x5a));
    expect(refusal(() => openDb(dir))).toMatch(/damaged.*mv .*never delete/);
    expect(refusal(() => openDb(dir))).toMatch(/damaged/);
  });

  test('gone, or emptied, beside cached files: they are not taken for leftovers', async () => {
    const dir = temp();
    await openDb(dir).close({ clean: true });
    fs.mkdirSync(join(dir, 'content/01'), { recursive: true });
    for (const name of fs.readdirSync(dir)) if (name.startsWith('state.db')) fs.rmSync(join(dir, name));
    await openDb(dir).close({ clean: true }); // no file yet: nothing to lose
    fs.writeFileSync(join(dir, 'content/01/257'), 'not uploaded yet');
    await openDb(dir).close({ clean: true });
    for (const name of fs.readdirSync(dir)) if (name.startsWith('state.db')) fs.rmSync(join(dir, name));
    expect(refusal(() => openDb(dir))).toMatch(/is gone, but there are cached files.*mv .*never delete/);
    fs.writeFileSync(join(dir, 'state.db'), '');
    expect(refusal(() => openDb(dir))).toMatch(/is gone/);
  });

  test('written by a newer version', async () => {
    const dir = temp();
    await openDb(dir).close({ clean: true });
    const raw = new Database(join(dir, 'state.db'));
    raw.pragma('user_version = 999');
    raw.close();
    expect(refusal(() => openDb(dir))).toMatch(/newer hearthfs \(schema 999/);
    fs.writeFileSync(join(dir, 'hearthfs-cache'), 'hearthfs cache directory, format 7\n');
    expect(refusal(() => openDb(dir))).toMatch(/newer hearthfs \(format 7/);
  });

  test("someone else's files, or someone else's database", () => {
    const dir = temp();
    fs.writeFileSync(join(dir, 'thesis.txt'), 'x');
    expect(refusal(() => openDb(dir))).toContain('thesis.txt');
    expect(fs.readdirSync(dir)).toEqual(['thesis.txt']);
    const other = temp();
    claimDirectory(other);
    const raw = new Database(join(other, 'state.db'));
    raw.exec('CREATE TABLE t (a)');
    raw.close();
    expect(refusal(() => openDb(other))).toContain('not a hearthfs database');
  });

  test('a file, or below a file', () => {
    const dir = temp();
    fs.writeFileSync(join(dir, 'file'), '');
    expect(refusal(() => openDb(join(dir, 'file')))).toContain('not a directory');
    expect(refusal(() => openDb(join(dir, 'file', 'below')))).toContain('not a directory');
  });

  test('inside a FUSE mount, also through a symbolic link, without looking inside (K17)', () => {
    const dir = temp();
    fs.symlinkSync(join(dir, 'mnt with space'), join(dir, 'link'));
    const mountinfo = `22 1 254:0 / / rw - ext4 /dev/vda rw\n90 22 0:50 / ${dir}/mnt\\040with\\040space rw - fuse.hearthfs hearthfs rw\n`;
    expect(refusal(() => claimDirectory(join(dir, 'mnt with space', 'a', 'b'), mountinfo))).toContain('FUSE');
    expect(refusal(() => claimDirectory(join(dir, 'link', 'a'), mountinfo))).toContain('FUSE');
    expect(resolveOutsideFuse(join(dir, 'mnt'), parseMountinfo(mountinfo))).toBe(join(dir, 'mnt'));
    // A local file system mounted on top hides the FUSE one.
    expect(() => claimDirectory(join(dir, 'mnt with space'), `${mountinfo}91 90 254:1 / ${dir}/mnt\\040with\\040space rw - ext4 /dev/vdb rw\n`)).not.toThrow();
  });
});
