import fs from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
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

test('an accepted transaction survives a kill by the redo log alone, and the next daemon commits it', async () => {
  const dir = temp();
  const db = openDb(dir);
  add(db, 'a');
  expect(openDb(killed(dir, { redo: undefined })).fact('a')).toBeUndefined(); // SQLite has not committed it
  const first = killed(dir);
  const after = openDb(first);
  expect(after.fact('a')).toBe('1');
  expect(openDb(killed(first, { redo: undefined })).fact('a')).toBe('1');
  await db.durable();
  expect(openDb(killed(dir, { redo: undefined })).fact('a')).toBe('1');
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
  const ends: number[] = [];
  for (let end = 0; ends.length < 3; ) ends.push((end += log.readUInt32LE(end))); // a record begins with its length
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

test('a log that does not follow what the database holds is not run: a power cut took what was between', async () => {
  const dir = temp();
  const db = openDb(dir);
  add(db, 'a');
  await db.durable();
  const before = killed(dir);
  add(db, 'b');
  await db.durable();
  add(db, 'c');
  const after = openDb(killed(dir, { 'state.db': before, 'state.db-wal': before }));
  expect([after.fact('a'), after.fact('b'), after.fact('c')]).toEqual(['1', undefined, undefined]);
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

test('a group is committed when the log is full, however many transactions come without a pause', () => {
  const dir = temp();
  const metrics = new Metrics();
  const db = openDb(dir, { metrics });
  const before = metrics.get('db.groups');
  for (let i = 0; i < 120; i++) db.setFact(`f${i}`, `${i}${'x'.repeat(20_000)}`);
  expect(metrics.get('db.groups') - before).toBe(2);
  expect(fs.statSync(join(dir, 'redo')).size).toBeLessThanOrEqual(1 << 20);
  const after = openDb(killed(dir));
  for (let i = 0; i < 120; i++) expect(after.fact(`f${i}`)?.length).toBe(String(i).length + 20_000);
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

test('after any sequence of transactions, failures, commits and kills the database is what was accepted', async () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('tx' as const), names: fc.array(fc.nat(5), { maxLength: 4 }), bytes: fc.constantFrom(0, 10, 30_000), fails: fc.boolean() }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'durable' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'kill' as const }) },
  );
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
    let dir = temp();
    let db = openDb(dir);
    const model = new Map<string, string>();
    const check = (of: Db): void => {
      for (let i = 0; i <= 5; i++) expect(of.fact(`n${i}`)).toBe(model.get(`n${i}`));
    };
    for (const each of steps) {
      if (each.kind === 'durable') await db.durable();
      else if (each.kind === 'kill') db = openDb((dir = killed(dir)));
      else {
        const failure = new Error('rolled back');
        try {
          db.tx(() => {
            for (const name of each.names) db.prepare<[string, string]>("INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = length(value) || excluded.value").run(`n${name}`, 'x'.repeat(each.bytes));
            if (each.fails) throw failure;
          });
          for (const name of each.names) {
            const old = model.get(`n${name}`);
            model.set(`n${name}`, `${old === undefined ? '' : old.length}${'x'.repeat(each.bytes)}`);
          }
        } catch (error) {
          if (error !== failure) throw error;
        }
      }
      check(db);
    }
    check(openDb(killed(dir)));
    await dbs.closeAll();
  }), { numRuns: 30 });
});
