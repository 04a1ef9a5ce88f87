import { beforeEach, expect, test } from 'vitest';
import { ChangeLog } from './change-log.js';

const KiB = 1024;
let log: ChangeLog;
beforeEach(() => { log = new ChangeLog(); });
const since = (id: number, gen: number): { start: number; end: number }[] | undefined => {
  const found = log.since(id, gen);
  return found && [...found].map(({ start, end }) => ({ start, end }));
};

test('changes are those of later generations only, rounded outwards', () => {
  log.begin(1, 5);
  log.changed(1, 70 * KiB, 71 * KiB);
  log.begin(1, 6);
  log.changed(1, 0, 1);
  expect(since(1, 4)).toEqual([{ start: 0, end: 128 * KiB }]);
  expect(since(1, 5)).toEqual([{ start: 0, end: 64 * KiB }]);
  expect(since(1, 6)).toEqual([]);
});

test('nothing is known of generations before the first, nor across a gap', () => {
  log.begin(1, 5);
  expect(since(1, 3)).toBeUndefined();
  expect(since(2, 5)).toBeUndefined();
  log.begin(1, 7); // somebody changed it in generation 6 without telling
  expect(since(1, 5)).toBeUndefined();
  expect(since(1, 6)).toEqual([]);
});

test('a generation that is not noted does not pass for a part of the one before', () => {
  log.begin(1, 5);
  log.end(1);
  log.changed(1, 0, 1);
  expect(since(1, 4)).toBeUndefined();
  expect(since(1, 5)).toBeUndefined();
});

test('S: while the kernel may write, and of generations it may have written in, nothing is known', () => {
  log.begin(1, 5);
  log.kernelWrites(1, true);
  expect(since(1, 5)).toBeUndefined();
  log.begin(1, 6);
  log.kernelWrites(1, false);
  log.begin(1, 7);
  log.changed(1, 0, 1);
  expect(since(1, 4)).toBeUndefined();
  expect(since(1, 5)).toBeUndefined();
  expect(since(1, 6)).toEqual([{ start: 0, end: 64 * KiB }]);
});

test('old generations are merged, never lost', () => {
  for (let gen = 1; gen <= 20; gen++) {
    log.begin(1, gen);
    log.changed(1, gen * 64 * KiB, gen * 64 * KiB + 1);
  }
  expect(since(1, 0)).toEqual([{ start: 64 * KiB, end: 21 * 64 * KiB }]);
  expect(since(1, 10)![0]!.start).toBeLessThanOrEqual(11 * 64 * KiB);
  expect(since(1, 19)).toEqual([{ start: 20 * 64 * KiB, end: 21 * 64 * KiB }]);
});

test('memory is bounded: a file changed everywhere, and the oldest of many files, are forgotten', () => {
  log.begin(1, 1);
  for (let i = 0; i < 5000; i++) log.changed(1, i * 128 * KiB, i * 128 * KiB + 1);
  expect(since(1, 0)).toBeUndefined();
  log.begin(2, 1);
  for (let id = 10; id < 2000; id++) log.begin(id, 1);
  expect(since(2, 0)).toBeUndefined();
  expect(since(1999, 0)).toEqual([]);
});

test('a truncation changes all that follows', () => {
  log.begin(1, 1);
  log.changed(1, 65 * KiB, Infinity);
  expect(log.since(1, 0)!.covers(64 * KiB, 2 ** 50)).toBe(true);
});
