import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { silentLog } from '../base/log.js';
import { Metrics } from '../base/metrics.js';
import { Db } from '../db/db.js';
import { AttemptTable, type Attempt } from './attempts.js';
import { ConflictTable } from './conflicts.js';
import { Journal } from './journal.js';

let dir: string;
let db: Db;
let clock: ManualClock;
let journal: Journal;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'hearthfs-journal-'));
  db = Db.open({ dir, log: silentLog, metrics: new Metrics(), ballastBytes: 0 });
  clock = new ManualClock(1_000_000);
  journal = new Journal(db, clock);
});
afterEach(async () => {
  await db.close({ clean: true });
  rmSync(dir, { recursive: true });
});

test('J11: each mark moves the due time back, but never more than 30 s after the first', () => {
  journal.mark('log', 1000);
  for (let i = 0; i < 29; i++) {
    clock.advance(900);
    journal.mark('log', 1000);
  }
  expect(journal.get('log')).toMatchObject({ sinceMs: 1_000_000, dueMs: clock.now() + 1000 });
  for (let i = 0; i < 10; i++) {
    clock.advance(900);
    journal.mark('log', 1000);
  }
  expect(journal.get('log')!.dueMs).toBeLessThanOrEqual(clock.now());
  expect(journal.due(clock.now(), 10).map((row) => row.key)).toEqual(['log']);
});

test('a mark during a backoff keeps the backoff, the count of tries and the first moment', () => {
  journal.mark('a', 1000);
  journal.defer('a', 1_500_000, 'no connection', 4);
  clock.advance(10_000);
  journal.mark('a', 1000);
  expect(journal.get('a')).toEqual({ key: 'a', sinceMs: 1_000_000, dueMs: 1_500_000, tries: 4, parked: null, error: 'no connection' });
});

test('a parked row is not due, and is tried again once the key is marked', () => {
  journal.mark('a', 0);
  journal.park('a', 'access-denied', 'S3 said no');
  clock.advance(10_000_000);
  expect(journal.due(clock.now(), 10)).toEqual([]);
  expect(journal.nextDueMs()).toBeUndefined();
  expect(journal.parkedCount()).toBe(1);
  journal.mark('a', 1000);
  expect(journal.parkedCount()).toBe(0);
  expect(journal.get('a')).toMatchObject({ parked: null, error: null, tries: 0, dueMs: clock.now() });
});

test('unparkAll() makes every parked row due and leaves the others as they are', () => {
  journal.mark('a', 0);
  journal.mark('b', 60_000);
  journal.park('a', 'locked', 'x');
  expect(journal.unparkAll()).toBe(1);
  expect(journal.due(clock.now(), 10).map((row) => row.key)).toEqual(['a']);
});

test('rows are handed out oldest due first and never before they are due', () => {
  journal.mark('late', 500);
  journal.mark('early', 100);
  journal.mark('future', 5000);
  expect(journal.due(clock.now() + 1000, 10).map((row) => row.key)).toEqual(['early', 'late']);
  expect(journal.due(clock.now() + 1000, 1).map((row) => row.key)).toEqual(['early']);
  expect(journal.nextDueMs()).toBe(1_000_100);
  expect(journal.nextDueMs(1_000_500)).toBe(1_005_000);
});

test('hastenAll() makes waiting rows due, but no parked one', () => {
  journal.mark('a', 60_000);
  journal.mark('b', 60_000);
  journal.park('b', 'locked', 'x');
  journal.hastenAll();
  expect(journal.due(clock.now(), 10).map((row) => row.key)).toEqual(['a']);
});

test('list() and under() go through keys in order, in pages', () => {
  for (const key of ['d/', 'd/a', 'd/b/c', 'd0', 'e', 'd/\u{10fffe}']) journal.mark(key, 0);
  const all: string[] = [];
  for (let page = journal.list(2); page.length > 0; page = journal.list(2, page.at(-1)!.key)) all.push(...page.map((row) => row.key));
  expect(all).toEqual(['d/', 'd/a', 'd/b/c', 'd/\u{10fffe}', 'd0', 'e']);
  expect(journal.under('d/', 10)).toEqual(['d/a', 'd/b/c', 'd/\u{10fffe}']);
});

test('listeners hear once per commit, after it, and not of a transaction that rolled back', () => {
  let heard = 0;
  const stop = journal.onMarked(() => {
    expect(db.inTransaction).toBe(false);
    heard++;
  });
  db.tx(() => {
    journal.mark('a', 0);
    journal.mark('b', 0);
    expect(heard).toBe(0);
  });
  expect(heard).toBe(1);
  expect(() => db.tx(() => {
    journal.mark('c', 0);
    throw new Error('no');
  })).toThrow('no');
  expect(heard).toBe(1);
  expect(journal.has('c')).toBe(false);
  db.tx(() => journal.mark('d', 0));
  expect(heard).toBe(2);
  stop();
  db.tx(() => journal.mark('e', 0));
  expect(heard).toBe(2);
});

test('walks are kept in order until removed', () => {
  journal.addWalk(7, 'old/');
  journal.addWalk(8, 'older/');
  const [first] = journal.walks();
  expect(journal.walks().map(({ ino, oldPrefix }) => [ino, oldPrefix])).toEqual([[7, 'old/'], [8, 'older/']]);
  journal.removeWalk(first!.id);
  expect(journal.walks().map(({ ino }) => ino)).toEqual([8]);
});

test('J2: an attempt with its parts comes back as it was written', () => {
  const attempts = new AttemptTable(db);
  const attempt: Attempt = {
    key: 'k', op: 'multipart', nonce: 'n', expected: null, sourceKey: null, sourceEtag: null, ino: 5, gen: 2, mgen: 3,
    uploadId: null, partSizeBytes: 8, parts: [], sentAtMs: 9, outcome: 'sent',
  };
  attempts.put(attempt);
  expect(attempts.get('k')).toEqual(attempt);
  attempts.setParts('k', 'u', [{ number: 1, etag: 'e', sizeBytes: 8 }]);
  attempts.setOutcome('k', 'tombstone');
  expect(attempts.list('tombstone')).toEqual([{ ...attempt, uploadId: 'u', parts: [{ number: 1, etag: 'e', sizeBytes: 8 }], outcome: 'tombstone' }]);
  expect(attempts.list('sent')).toEqual([]);
  attempts.remove('k');
  expect(attempts.has('k')).toBe(false);
});

test('conflicts are listed newest first until dismissed', () => {
  const conflicts = new ConflictTable(db);
  conflicts.add({ key: 'a', keptAs: 'a.conflict', reason: 'changed-by-others', atMs: 1 });
  conflicts.add({ key: 'b', keptAs: null, reason: 'metadata-lost', atMs: 2 });
  expect(conflicts.list().map(({ key }) => key)).toEqual(['b', 'a']);
  conflicts.remove(conflicts.list()[0]!.id);
  expect(conflicts.count()).toBe(1);
  expect(conflicts.list()[0]).toMatchObject({ key: 'a', keptAs: 'a.conflict', reason: 'changed-by-others', atMs: 1 });
});

test('marks that follow one another at once are one, but not across anything else that happens to the row', () => {
  const commits = (): number => db.commitSeq;
  journal.mark('a', 1000);
  const before = commits();
  clock.advance(50);
  db.tx(() => journal.mark('b', 1000));
  journal.mark('a', 1000);
  expect(commits()).toBe(before + 1); // only b's
  clock.advance(60);
  journal.mark('a', 1000);
  expect(journal.get('a')!.dueMs).toBe(clock.now() + 1000);
  journal.clear('a');
  journal.mark('a', 1000);
  expect(journal.has('a')).toBe(true);
  journal.park('a', 'access-denied', 'no');
  journal.mark('a', 1000);
  expect(journal.get('a')).toMatchObject({ parked: null, dueMs: clock.now() + 1000 });
  expect(() => db.tx(() => {
    journal.mark('c', 1000);
    throw new Error('no');
  })).toThrow('no');
  journal.mark('c', 1000);
  expect(journal.has('c')).toBe(true);
});

test('whether a key has a row is remembered, and forgotten with each change, commit or rollback', () => {
  expect(journal.has('k')).toBe(false);
  journal.mark('k', 1000);
  expect(journal.has('k')).toBe(true);
  const undone = (change: () => void): void => {
    const before = journal.has('k');
    expect(() => db.tx(() => {
      change();
      expect(journal.has('k')).toBe(!before);
      throw new Error('no');
    })).toThrow('no');
    expect(journal.has('k')).toBe(before);
  };
  undone(() => journal.clear('k'));
  journal.clear('k');
  expect(journal.has('k')).toBe(false);
  undone(() => journal.mark('k', 1000));
});

test('what is remembered of attempts, rows and walks is what the tables say, also after a rollback', () => {
  const attempt = (key: string, nonce: string): Attempt => ({
    key, op: 'put', nonce, expected: null, sourceKey: null, sourceEtag: null, ino: 7, gen: 1, mgen: 1, uploadId: null, partSizeBytes: null, parts: [], sentAtMs: 5, outcome: 'sent',
  });
  const attempts = new AttemptTable(db);
  const check = (): void => {
    const fresh = new AttemptTable(db);
    for (const key of ['a', 'b', 'c']) expect(attempts.get(key)).toEqual(fresh.get(key));
    const freshJournal = new Journal(db, clock);
    for (const key of ['a', 'b', 'c']) expect(journal.get(key)).toEqual(freshJournal.get(key));
    expect(journal.walks()).toEqual(freshJournal.walks());
  };
  const change = (): void => {
    attempts.put(attempt('a', 'second'));
    attempts.remove('b');
    attempts.put(attempt('c', 'first'));
    attempts.setOutcome('c', 'ambiguous');
    attempts.setOutcome('never', 'ambiguous');
    journal.mark('a', 500);
    journal.park('a', 'access-denied', 'no');
    journal.clear('b');
    journal.mark('c', 100);
    journal.addWalk(9, 'new/');
    journal.removeWalk(journal.walks()[0]!.id);
    check();
  };
  db.tx(() => {
    attempts.put(attempt('a', 'first'));
    attempts.put(attempt('b', 'first'));
    journal.mark('a', 1000);
    journal.mark('b', 1000);
    journal.addWalk(8, 'old/');
  });
  check();
  const before = [attempts.list(), journal.list(10), journal.walks()];
  expect(() => db.tx(() => {
    change();
    throw new Error('no');
  })).toThrow('no');
  expect([attempts.list(), journal.list(10), journal.walks()]).toEqual(before);
  check();
  db.tx(change);
  check();
  expect([attempts.get('a')?.nonce, attempts.has('b'), attempts.get('c')?.outcome, attempts.has('never')]).toEqual(['second', false, 'ambiguous', false]);
  expect([journal.get('a')?.parked, journal.has('b'), journal.walks().map(({ oldPrefix }) => oldPrefix)]).toEqual(['access-denied', false, ['new/']]);
});
