import Database from 'better-sqlite3';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { Metrics } from '../base/metrics.js';
import { DbOpener } from '../../test/support/db-opener.js';
import type { Db } from './db.js';
import { LateRows, type LateWrite } from './late-rows.js';

const dbs = new DbOpener();
afterEach(() => dbs.clean());

const put = 'INSERT OR REPLACE INTO replay (uniq, opcode, result) VALUES (?, ?, ?)';
const remove = 'DELETE FROM replay WHERE uniq = ?';
const write = (db: Db, row: string, value: string, isNew = false): void => {
  const statement = db.prepare<[string, string, string]>(put);
  if (isNew) statement.lateNew(row, row, value, '');
  else statement.late(row, row, value, '');
};
const drop = (db: Db, row: string): void => db.prepare<[string]>(remove).late(row, row);
const rowsOf = (db: Db): string[] => db.prepare<[], { uniq: string; opcode: string }>('SELECT uniq, opcode FROM replay ORDER BY uniq').all().map(({ uniq, opcode }) => `${uniq}=${opcode}`);
const killed = (dir: string): string => dbs.killed(dir);

/** What of it SQLite has been told. */
class Told implements LateWrite {
  readonly calls: string[] = [];
  failing = false;
  constructor(readonly table: string, readonly removes = false) {}
  runLate(params: readonly unknown[]): void {
    if (this.failing) throw new Error('full');
    this.calls.push(params.join());
  }
}

test('of many writes of a row the last is run, and none of a row that came and went', () => {
  const late = new LateRows();
  const into = new Told('a');
  const from = new Told('a', true);
  late.put('x', into, [1], true);
  late.put('x', into, [2], false);
  late.put('gone', into, [3], true);
  late.put('gone', from, ['gone'], false);
  late.put('old', into, [4], false);
  late.put('old', from, ['old'], false); // SQLite may have it: it must go there too
  expect([into.calls, from.calls]).toEqual([[], []]);
  late.runAll();
  expect([into.calls, from.calls, late.isEmpty]).toEqual([['2'], ['old'], true]);
  late.put('x', into, [5], false);
  late.put('x', from, ['x'], false); // new it was once
  late.runAll();
  expect(from.calls).toEqual(['old', 'x']);
});

test('who names the table finds all of it written, who reads a row that row, and other tables wait', () => {
  const late = new LateRows();
  const a = new Told('a');
  const b = new Told('b');
  late.put(1, a, ['a1'], true);
  late.put(2, a, ['a2'], true);
  late.put(1, b, ['b1'], true);
  late.runRow('a', 2);
  late.runRow('a', 3);
  expect(a.calls).toEqual(['a2']);
  late.runNamed(new Set(['SELECT', 'c']));
  expect(a.calls).toEqual(['a2']);
  late.runNamed(new Set(['SELECT', 'a']));
  expect([a.calls, b.calls, late.isEmpty]).toEqual([['a2', 'a1'], [], false]);
});

test('what fails waits on, and what was run before it does not', () => {
  const late = new LateRows();
  const told = new Told('a');
  const full = new Told('a');
  full.failing = true;
  late.put(1, told, [1], true);
  late.put(2, full, [2], true);
  late.put(3, told, [3], true);
  expect(() => late.runAll()).toThrow('full');
  full.failing = false;
  late.runAll();
  expect([told.calls, full.calls]).toEqual([['1', '3'], ['2']]);
});

test('as many wait as are sure to fit in memory', () => {
  const late = new LateRows();
  const told = new Told('a');
  for (let row = 0; row < 10_001; row++) late.put(row, told, [row], true);
  expect(told.calls).toHaveLength(10_000);
});

test('a transaction that is rolled back takes its late writes along, and leaves those of the ones before', () => {
  const dir = dbs.temp();
  const db = dbs.open(dir);
  write(db, 'a', '1', true);
  write(db, 'b', '1', true);
  expect(() => db.tx(() => {
    write(db, 'a', '2');
    drop(db, 'b');
    write(db, 'never', '1', true);
    throw new Error('no');
  })).toThrow('no');
  expect(rowsOf(db)).toEqual(['a=1', 'b=1']);
  expect(rowsOf(dbs.open(killed(dir)))).toEqual(['a=1', 'b=1']);
});

test('a late write outside a transaction is one by itself', () => {
  const db = dbs.open();
  const before = db.commitSeq;
  write(db, 'a', '1', true);
  drop(db, 'a');
  expect(db.commitSeq).toBe(before + 2);
});

test('D5: who only reads and finds the disk full is served all the same', () => {
  const dir = dbs.temp();
  const fatal: Error[] = [];
  const db = dbs.open(dir, { onFatal: (error) => fatal.push(error) });
  write(db, 'a', '1', true);
  const statement = db.prepare(put) as unknown as { runLate(params: readonly unknown[]): void };
  statement.runLate = () => {
    (db as unknown as { sql: Database.Database }).sql.exec('ROLLBACK'); // as SQLite does by itself
    throw new Database.SqliteError('database or disk is full', 'SQLITE_FULL');
  };
  expect(rowsOf(db)).toEqual(['a=1']);
  expect(fatal).toEqual([]);
  expect(rowsOf(dbs.open(killed(dir)))).toEqual(['a=1']);
});

test('D4: another failure to write what waits stops the database, and no reader gets a stale answer', () => {
  const fatal: Error[] = [];
  const db = dbs.open(dbs.temp(), { onFatal: (error) => fatal.push(error) });
  write(db, 'a', '1', true);
  const statement = db.prepare(put) as unknown as { runLate(params: readonly unknown[]): void };
  statement.runLate = () => { throw new Database.SqliteError('disk I/O error', 'SQLITE_IOERR'); };
  expect(() => rowsOf(db)).toThrow('stopped');
  expect(fatal).toHaveLength(1);
});

test('any sequence of late and other writes, failures, reads, commits and kills leaves what the same writes at once leave', async () => {
  const row = fc.constantFrom('a', 'b', 'c');
  const op = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('put' as const), row, value: fc.nat(9) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('drop' as const), row }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('all' as const), value: fc.nat(9) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('read' as const), row }) },
  );
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('tx' as const), ops: fc.array(op, { maxLength: 6 }), fails: fc.boolean(), isLong: fc.constantFrom(false, false, false, true) }) },
    { weight: 1, arbitrary: fc.constantFrom({ kind: 'commit' as const }, { kind: 'kill' as const }, { kind: 'look' as const }) },
  );
  const metrics = new Metrics();
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30, size: 'max' }), async (steps) => {
    let dir = dbs.temp();
    let db = dbs.open(dir, { metrics });
    let model = new Map<string, string>();
    const expected = (): string[] => [...model].sort().map(([name, value]) => `${name}=${value}`);
    for (const each of steps) {
      if (each.kind === 'commit') await db.checkpoint();
      else if (each.kind === 'look') expect(rowsOf(db)).toEqual(expected());
      else if (each.kind === 'kill') {
        dir = killed(dir);
        db = dbs.open(dir, { metrics });
      } else {
        const next = new Map(model);
        const failure = new Error('rolled back');
        try {
          db.tx(() => {
            for (const one of each.ops) {
              if (one.kind === 'put') {
                write(db, one.row, String(one.value), !next.has(one.row));
                next.set(one.row, String(one.value));
              } else if (one.kind === 'drop') {
                drop(db, one.row);
                next.delete(one.row);
              } else if (one.kind === 'all') {
                db.prepare<[string]>('UPDATE replay SET opcode = ?').run(String(one.value));
                for (const name of next.keys()) next.set(name, String(one.value));
              } else {
                const found = db.prepare<[string], { opcode: string }>('SELECT opcode FROM replay WHERE uniq = ?').getRow(one.row, one.row);
                expect(found?.opcode).toBe(next.get(one.row));
              }
            }
            if (each.isLong) db.setFact('long', 'x'.repeat(100_000));
            if (each.fails) throw failure;
          });
          model = next;
        } catch (error) {
          if (error !== failure) throw error;
        }
      }
    }
    expect(rowsOf(dbs.open(killed(dir)))).toEqual(expected());
    expect(rowsOf(db)).toEqual(expected());
    await dbs.clean();
  }), { numRuns: 40 });
});
