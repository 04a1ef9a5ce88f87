import fs from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { afterEach, expect, test, vi } from 'vitest';
import { Errno } from '../base/errno.js';
import { FaultyDisk } from '../base/faulty-disk.js';
import { Metrics } from '../base/metrics.js';
import type { Db, DbOptions } from './db.js';
import { DbOpener } from '../../test/support/db-opener.js';

const dbs = new DbOpener();
const temp = (): string => dbs.temp();
const openDb = (dir?: string, options?: Partial<DbOptions>): Db => dbs.open(dir, options);

/** What a new daemon finds after a kill: the files as they are now, those named in `but` as they were in another directory. */
function killed(dir: string, but: { readonly [name: string]: string | undefined } = {}): string {
  const copy = temp();
  for (const name of fs.readdirSync(dir)) if (name !== 'lock' && name !== 'state.db-shm' && !(name in but)) fs.cpSync(join(dir, name), join(copy, name), { recursive: true });
  for (const [name, from] of Object.entries(but)) if (from !== undefined) fs.cpSync(join(from, name), join(copy, name));
  return copy;
}

const add = (db: Db, name: string): unknown => db.prepare<[string]>("INSERT INTO fact (name, value) VALUES (?, '1') ON CONFLICT (name) DO UPDATE SET value = value || '+1'").run(name);

afterEach(() => dbs.clean());

test('an accepted transaction survives a kill by the redo log alone, and the next daemon commits it', () => {
  const dir = temp();
  const db = openDb(dir);
  add(db, 'a');
  expect(openDb(killed(dir, { redo: undefined })).fact('a')).toBeUndefined(); // SQLite has not committed it
  const first = killed(dir);
  const after = openDb(first);
  expect(after.fact('a')).toBe('1');
  expect(openDb(killed(first, { redo: undefined })).fact('a')).toBe('1');
});

test('what is durable survives a power cut by the redo log alone, also after SQLite committed it without a sync', async () => {
  const disk = new FaultyDisk();
  const dir = temp();
  const db = openDb(dir, { disk });
  add(db, 'a');
  await db.durable();
  add(db, 'b');
  await db.durable();
  await db.checkpoint(); // commits, and says so to nobody who waits for durability
  add(db, 'c');
  disk.powerCut();
  const after = openDb(killed(dir));
  expect(['a', 'b', 'c'].map((name) => after.fact(name))).toEqual(['1', '1', undefined]);
});

test('what was committed is not run again, however often the daemon is killed', async () => {
  const dir = temp();
  const db = openDb(dir);
  add(db, 'a');
  await db.durable();
  add(db, 'b');
  let at = killed(dir);
  for (let i = 0; i < 3; i++) {
    const next = openDb(at);
    expect([next.fact('a'), next.fact('b')]).toEqual(['1', '1']);
    at = killed(at);
  }
});

test('the log starts over only once the -wal is synced: what a daemon before made durable may be nowhere else', async () => {
  const dir = temp();
  const db = openDb(dir);
  add(db, 'a');
  await db.durable();
  const disk = new FaultyDisk();
  const order: string[] = [];
  disk.hook = (label) => order.push(label);
  openDb(killed(dir), { disk });
  expect(order.indexOf('wal.sync')).toBeGreaterThanOrEqual(0);
  expect(order.indexOf('wal.sync')).toBeLessThan(order.indexOf('db.redo'));
});

test('a transaction that is rolled back takes nothing accepted with it and leaves nothing in the log', () => {
  const dir = temp();
  const db = openDb(dir);
  add(db, 'a');
  expect(() => db.tx(() => { add(db, 'a'); add(db, 'never'); throw new Error('no'); })).toThrow('no');
  expect(() => db.tx(() => { throw new Error('changes nothing'); })).toThrow('changes nothing');
  add(db, 'a');
  for (const each of [db, openDb(killed(dir))]) expect([each.fact('a'), each.fact('never')]).toEqual(['1+1', undefined]);
});

test('a record that was torn or damaged ends the log: what is before it counts', () => {
  const dir = temp();
  const db = openDb(dir);
  for (const name of ['a', 'b', 'c']) add(db, name);
  const log = fs.readFileSync(join(dir, 'redo'));
  const all: number[] = [];
  for (let end = 0; log.readUInt32LE(end) > 0; ) all.push((end += log.readUInt32LE(end))); // a record begins with its length
  const ends = all.slice(-3);
  const seen = (damage: (redo: string) => void): (string | undefined)[] => {
    const copy = killed(dir);
    damage(join(copy, 'redo'));
    const after = openDb(copy);
    return ['a', 'b', 'c'].map((name) => after.fact(name));
  };
  expect(seen((redo) => fs.truncateSync(redo, ends[2]! - 1))).toEqual(['1', '1', undefined]);
  expect(seen((redo) => fs.truncateSync(redo, ends[1]! + 3))).toEqual(['1', '1', undefined]);
  expect(seen((redo) => {
    const bytes = fs.readFileSync(redo);
    bytes[ends[1]! - 1]! ^= 1;
    fs.writeFileSync(redo, bytes);
  })).toEqual(['1', undefined, undefined]);
  expect(seen(() => undefined)).toEqual(['1', '1', '1']);
});

test('records that do not follow what the database holds are not run: a power cut took what was between', () => {
  const dir = temp();
  const db = openDb(dir);
  const before = killed(dir);
  add(db, 'a');
  db.setFact('long', 'x'.repeat(100_000)); // committed, and in no record
  add(db, 'c');
  const after = openDb(killed(dir, { 'state.db': before, 'state.db-wal': before }));
  expect([after.fact('a'), after.fact('long'), after.fact('c')]).toEqual(['1', undefined, undefined]);
});

test('what is committed without a record is durable when that is asked for, and so is what comes after it', async () => {
  const disk = new FaultyDisk();
  const dir = temp();
  const db = openDb(dir, { disk });
  db.setFact('long', 'x'.repeat(100_000));
  await db.durable();
  add(db, 'a');
  await db.durable();
  disk.powerCut();
  const after = openDb(killed(dir));
  expect([after.fact('long')?.length, after.fact('a')]).toEqual([100_000, '1']);
});

test('a transaction too long for the log is committed at once, with all before it', () => {
  const dir = temp();
  const db = openDb(dir);
  add(db, 'before');
  db.tx(() => {
    db.setFact('long', 'x'.repeat(100_000));
    add(db, 'long too');
  });
  add(db, 'after');
  const bare = openDb(killed(dir, { redo: undefined }));
  expect([bare.fact('before'), bare.fact('long')?.length, bare.fact('long too'), bare.fact('after')]).toEqual(['1', 100_000, '1', undefined]);
  expect(openDb(killed(dir)).fact('after')).toBe('1');
});

test('a group is committed when an area of the log is full, however many transactions come without a pause', () => {
  const dir = temp();
  const metrics = new Metrics();
  const db = openDb(dir, { metrics });
  const before = metrics.get('db.groups');
  for (let i = 0; i < 120; i++) db.setFact(`f${i}`, `${i}${'x'.repeat(20_000)}`);
  expect(metrics.get('db.groups') - before).toBe(2);
  expect(fs.statSync(join(dir, 'redo')).size).toBe(2 << 20);
  const after = openDb(killed(dir));
  for (let i = 0; i < 120; i++) expect(after.fact(`f${i}`)?.length).toBe(String(i).length + 20_000);
});

test('a group is committed 100 ms after its first transaction; after a failure at once, so that a row of failures does not run the same again and again', () => {
  vi.useFakeTimers();
  try {
    const metrics = new Metrics();
    const db = openDb(temp(), { metrics });
    const groups = (): number => metrics.get('db.groups') - before;
    const before = metrics.get('db.groups');
    add(db, 'a');
    vi.advanceTimersByTime(60);
    add(db, 'a');
    vi.advanceTimersByTime(39);
    expect(groups()).toBe(0);
    vi.advanceTimersByTime(1);
    expect(groups()).toBe(1);
    add(db, 'a');
    expect(() => db.tx(() => { add(db, 'never'); throw new Error('no'); })).toThrow('no');
    expect(groups()).toBe(2);
    expect([db.fact('a'), db.fact('never')]).toEqual(['1+1+1', undefined]);
  } finally {
    vi.useRealTimers();
  }
});

test('what a power cut took is not found again: neither run later nor taken for what was accepted since', async () => {
  const disk = new FaultyDisk();
  const dir = temp();
  const db = openDb(dir, { disk, onFatal: () => undefined });
  for (let i = 0; i < 55; i++) db.setFact(`f${i}`, 'x'.repeat(20_000)); // the log goes on in its second area
  await db.durable();
  db.setFact('long', 'x'.repeat(100_000)); // in no record, and the -wal that has it is not synced
  for (let i = 0; i < 3; i++) add(db, 'old');
  disk.powerCut((path) => path.endsWith('redo'));
  const cut = killed(dir);
  const second = openDb(cut);
  expect([second.fact('f54')?.length, second.fact('long'), second.fact('old')]).toEqual([20_000, undefined, undefined]);
  expect(openDb(killed(cut)).fact('old')).toBeUndefined();
  for (let i = 0; i < 4; i++) add(second, 'new');
  const third = openDb(killed(cut));
  expect([third.fact('old'), third.fact('new')]).toEqual([undefined, '1+1+1+1']);
});

test('D5: a full disk where the log would go on in its other area refuses transactions, and stops nothing', () => {
  const dir = temp();
  const db = openDb(dir);
  const { sql, group: inner } = db as unknown as { group: { commitStatement: { run(): void } }; sql: Database.Database };
  const { commitStatement } = inner;
  for (let i = 0; i < 49; i++) db.setFact(`f${i}`, 'x'.repeat(20_000));
  inner.commitStatement = { run: () => {
    sql.exec('ROLLBACK'); // as SQLite does by itself
    throw new Database.SqliteError('database or disk is full', 'SQLITE_FULL');
  } };
  for (let i = 49; i < 60; i++) {
    try {
      db.setFact(`f${i}`, 'x'.repeat(20_000));
    } catch (error) {
      expect(error).toMatchObject({ kind: 'full' });
    }
  }
  expect(() => add(db, 'a')).toThrow(expect.objectContaining({ kind: 'full' }));
  expect(openDb(killed(dir)).fact('f48')?.length).toBe(20_000);
  inner.commitStatement = commitStatement;
  add(db, 'a');
  expect([db.fact('a'), db.fact('f48')?.length]).toEqual(['1', 20_000]);
});

test('an area is used again only once the -wal is synced, however many transactions come without a pause', async () => {
  const disk = new FaultyDisk();
  const db = openDb(temp(), { disk });
  const before = disk.calls.get('wal.sync')!;
  for (let i = 0; i < 160; i++) db.setFact(`f${i}`, `${i}${'x'.repeat(20_000)}`); // both areas twice, the last one begun
  expect(disk.calls.get('wal.sync')).toBe(before + 3 + 1); // one each time the area changes, and one that could not be waited for
  await db.durable();
});

test('every kind of value and parameter comes back as it was', () => {
  const dir = temp();
  const db = openDb(dir);
  const insert = db.prepare("INSERT INTO inode (ino, mode, uid, gid, size, atime_s, atime_ns, mtime_s, mtime_ns, ctime_s, ctime_ns, nlink, gen, mgen, unsealed, attrs, target, link_id) VALUES (?, 1, 2, 3, ?, -5, 0.5, 4294967296, 0, 0, 0, 1, 1, 1, 0, 1, ?, ?)");
  insert.run(7, 2n ** 53n + 1n, Buffer.from([0, 255, 1]), 'ünï\u{1f600}\ue000');
  insert.run(8, 5 * 2 ** 40, Buffer.alloc(0), null);
  db.prepare('UPDATE inode SET uid = $uid, link_id = $link WHERE ino = $ino').run({ ino: 8, uid: 4294967295, link: '' });
  const returned = db.prepare<[number], { uid: number }>('DELETE FROM inode WHERE ino = ? RETURNING uid').all(1);
  expect(returned).toEqual([]);
  const rows = (of: Db): unknown[] => of.prepare('SELECT *, typeof(size) AS t1, typeof(target) AS t2, typeof(uid) AS t3 FROM inode ORDER BY ino').all();
  expect(rows(db)).toHaveLength(2);
  expect(rows(openDb(killed(dir)))).toEqual(rows(db));
});

test('D5: a log that cannot grow costs the ballast; without it the transaction fails alone and nothing accepted is lost', () => {
  const disk = new FaultyDisk();
  const dir = temp();
  const db = openDb(dir, { disk, ballastBytes: 1 << 20 });
  add(db, 'a');
  disk.fail('db.redo', { errno: Errno.ENOSPC });
  add(db, 'b');
  expect(fs.existsSync(join(dir, 'ballast'))).toBe(false);
  disk.fail('db.redo', { errno: Errno.ENOSPC });
  expect(() => add(db, 'c')).toThrow(expect.objectContaining({ kind: 'full' }));
  disk.fail('db.redo', { shortBytes: 10 });
  add(db, 'd');
  for (const each of [db, openDb(killed(dir))]) expect(['a', 'b', 'c', 'd'].map((name) => each.fact(name))).toEqual(['1', '1', undefined, '1']);
});

test('an orderly end leaves an empty log', async () => {
  const dir = temp();
  const db = openDb(dir);
  add(db, 'a');
  await db.close({ clean: true });
  expect(fs.statSync(join(dir, 'redo')).size).toBe(0);
  expect(openDb(dir).fact('a')).toBe('1');
});

test('after any sequence of transactions, failures, commits, kills and power cuts the database is what was accepted, or at least what was durable', async () => {
  const step = fc.oneof(
    // 16 of the long ones fill an area; the longest are too long for it
    { weight: 12, arbitrary: fc.record({ kind: fc.constant('tx' as const), names: fc.array(fc.nat(5), { maxLength: 4 }), bytes: fc.constantFrom(0, 10, 15_000, 60_000), fails: fc.boolean() }) },
    { weight: 3, arbitrary: fc.constant({ kind: 'durable' as const }) },
    { weight: 1, arbitrary: fc.constantFrom({ kind: 'commit' as const }, { kind: 'kill' as const }, { kind: 'power' as const, survives: false }, { kind: 'power' as const, survives: true }) },
  );
  const seen = { kills: 0, cuts: 0, lost: 0 };
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 70, size: 'max' }), async (steps) => {
    let dir = temp();
    let disk = new FaultyDisk();
    let db = openDb(dir, { disk, onFatal: () => undefined });
    // what the database was after each transaction since it was opened; `durable` and later ones may survive a power cut
    let states = [new Map<string, string>()];
    let durable = 0;
    const stateOf = (of: Db): Map<string, string> => new Map(Array.from({ length: 6 }, (_, i) => `n${i}`).flatMap((name) => {
      const value = of.fact(name);
      return value === undefined ? [] : [[name, value] as const];
    }));
    const reopen = (): void => {
      dir = killed(dir);
      disk = new FaultyDisk();
      db = openDb(dir, { disk, onFatal: () => undefined }); // a sync may be under way when the power is cut
    };
    for (const each of steps) {
      if (each.kind === 'durable') {
        await db.durable();
        durable = states.length - 1;
      } else if (each.kind === 'commit') await db.checkpoint();
      else if (each.kind === 'kill') {
        seen.kills++;
        reopen();
      } else if (each.kind === 'power') {
        seen.cuts++;
        disk.powerCut((path) => each.survives && path.endsWith('redo'));
        reopen();
        const now = stateOf(db);
        const survived = states.findLastIndex((state) => fc.stringify([...state].sort()) === fc.stringify([...now].sort()));
        expect(survived).toBeGreaterThanOrEqual(durable);
        seen.lost += survived < states.length - 1 ? 1 : 0;
        states = [now];
        durable = 0;
      } else {
        const failure = new Error('rolled back');
        const state = new Map(states.at(-1));
        try {
          db.tx(() => {
            for (const name of each.names) {
              db.prepare<[string, string]>("INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = length(value) || excluded.value").run(`n${name}`, 'x'.repeat(each.bytes));
              const old = state.get(`n${name}`);
              state.set(`n${name}`, `${old === undefined ? '' : old.length}${'x'.repeat(each.bytes)}`);
            }
            if (each.fails) throw failure;
          });
          states.push(state);
        } catch (error) {
          if (error !== failure) throw error;
        }
      }
      expect(stateOf(db)).toEqual(states.at(-1));
    }
    expect(stateOf(openDb(killed(dir)))).toEqual(states.at(-1));
    await dbs.clean();
  }), { numRuns: 30 });
  expect(Math.min(seen.kills, seen.cuts, seen.lost)).toBeGreaterThan(0);
});
