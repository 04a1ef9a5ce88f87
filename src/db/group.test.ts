import type Database from 'better-sqlite3';
import { afterEach, expect, test } from 'vitest';
import { DbOpener } from '../../test/support/db-opener.js';
import type { Db } from './db.js';
import { DbError } from './db-error.js';

const dbs = new DbOpener();
afterEach(() => dbs.clean());

/** SQLite itself, which a full disk or an I/O error makes give its transaction up, in the middle of anything. */
const sqlOf = (db: Db): Database.Database => (db as unknown as { sql: Database.Database }).sql;
const givesUp = (db: Db): void => void sqlOf(db).exec('ROLLBACK');

const late = (db: Db, row: string): void => db.prepare<[string, string, string]>('INSERT OR REPLACE INTO replay (uniq, opcode, result) VALUES (?, ?, ?)').late(row, row, 'late', '');
const opcodeOf = (db: Db, row: string): string | undefined => db.prepare<[string], { opcode: string }>('SELECT opcode FROM replay WHERE uniq = ?').getRow(row, row)?.opcode;
const seen = (db: Db): unknown => [db.fact('a'), opcodeOf(db, 'r'), db.prepare<[], { n: number }>('SELECT count(*) AS n FROM replay').get()!.n];

test.each<[string, (db: Db) => unknown]>([
  ['a read of a row', (db) => db.fact('a')],
  ['a read of a row that waits', (db) => opcodeOf(db, 'r')],
  ['a read of many', (db) => db.prepare('SELECT * FROM fact').all()],
  ['a transaction', (db) => db.setFact('b', 'accepted')],
  ['a transaction that fails', (db) => expect(() => db.tx(() => { throw new Error('no'); })).toThrow('no')],
  ['a checkpoint', (db) => db.checkpoint()],
  ['durable()', (db) => db.durable()],
])('when SQLite has given the group up, all of it is there again for %s, and for the next daemon', async (_what, next) => {
  const dir = dbs.temp();
  const db = dbs.open(dir);
  db.tx(() => {
    db.setFact('a', 'accepted');
    late(db, 'r');
  });
  givesUp(db);
  await next(db);
  expect(seen(db)).toEqual(['accepted', 'late', 1]);
  await db.checkpoint();
  expect(seen(dbs.open(dbs.killed(dir)))).toEqual(['accepted', 'late', 1]);
});

test('as long as the disk is too full to run the group again nobody is told half of it, and nothing of it is lost', () => {
  const dir = dbs.temp();
  const db = dbs.open(dir);
  db.tx(() => {
    db.setFact('a', 'x'.repeat(20_000));
    late(db, 'r');
  });
  givesUp(db);
  const pages = sqlOf(db).pragma('page_count', { simple: true }) as number;
  sqlOf(db).pragma(`max_page_count = ${pages}`);
  for (const use of [() => db.fact('a'), () => opcodeOf(db, 'r'), () => db.prepare('SELECT * FROM replay').all(), () => db.setFact('b', 'refused')]) {
    expect(use).toThrow(expect.objectContaining({ name: 'DbError', kind: 'full' }) as DbError);
  }
  sqlOf(db).pragma(`max_page_count = ${pages + 1000}`);
  expect([db.fact('a')?.length, opcodeOf(db, 'r'), db.fact('b')]).toEqual([20_000, 'late', undefined]);
  expect(dbs.open(dbs.killed(dir)).fact('a')?.length).toBe(20_000);
});

test('a transaction that swallows the failure that took its beginning back is not accepted', () => {
  const db = dbs.open();
  db.setFact('a', 'accepted');
  expect(() => db.tx(() => {
    db.setFact('b', 'lost');
    givesUp(db);
  })).toThrow('swallowed');
  expect([db.fact('a'), db.fact('b')]).toEqual(['accepted', undefined]);
});

test('a transaction that fails before it wrote leaves no SQLite transaction open, for which a checkpoint would wait', () => {
  const db = dbs.open();
  expect(() => db.tx(() => { throw new Error('no'); })).toThrow('no');
  expect(sqlOf(db).inTransaction).toBe(false);
});
