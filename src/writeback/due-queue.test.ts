import { expect, test } from 'vitest';
import type { JournalRow } from '../journal/journal.js';
import { DueQueue } from './due-queue.js';

/** Rows in memory, with the journal's order. */
function journal(...keys: string[]): { rows: Map<string, JournalRow>; queries: number; due(nowMs: number, limit: number): JournalRow[]; get(key: string): JournalRow | undefined } {
  return {
    rows: new Map(keys.map((key, i) => [key, row(key, i)])),
    queries: 0,
    due(nowMs, limit) {
      this.queries++;
      return [...this.rows.values()].filter(({ parked, dueMs }) => parked === null && dueMs <= nowMs).sort((a, b) => a.dueMs - b.dueMs).slice(0, limit);
    },
    get(key) { return this.rows.get(key); },
  };
}
const row = (key: string, dueMs: number, parked: string | null = null): JournalRow => ({ key, sinceMs: 0, dueMs, tries: 0, parked, error: null });

function taking(from: ReturnType<typeof journal>): { next(nowMs?: number): string | undefined; taken: Set<string> } {
  const taken = new Set<string>();
  const queue = new DueQueue(from, (key) => taken.has(key));
  return {
    taken,
    next: (nowMs = 1000) => {
      const found = queue.first(nowMs, taken.size)?.key;
      if (found !== undefined) taken.add(found);
      return found;
    },
  };
}

test('rows come longest due first, each once while it is taken, and many of one query', () => {
  const rows = journal('a', 'b', 'c');
  const { next } = taking(rows);
  expect([next(), next(), next()]).toEqual(['a', 'b', 'c']);
  expect(rows.queries).toBe(1);
  expect(next()).toBeUndefined();
});

test('the first stays first until it is taken', () => {
  const queue = new DueQueue(journal('a', 'b'), () => false);
  expect(queue.first(1000, 0)?.key).toBe('a');
  expect(queue.first(1000, 0)?.key).toBe('a');
});

test('what was put off, parked or cleared since it was read ahead is not handed out', () => {
  const rows = journal('a', 'b', 'c', 'd', 'e');
  const { next } = taking(rows);
  expect(next()).toBe('a');
  rows.rows.set('b', row('b', 5000));
  rows.rows.set('c', row('c', 0, 'invalid'));
  rows.rows.delete('d');
  expect(next()).toBe('e');
  expect(next()).toBeUndefined();
  expect(next(5000)).toBe('b');
});

test('nothing that is due is missed: not what became due later, nor what was given back, nor behind any number of taken ones', () => {
  const rows = journal(...Array.from({ length: 1000 }, (_, i) => `k${i}`));
  const { next, taken } = taking(rows);
  for (let i = 0; i < 1000; i++) expect(next()).toBe(`k${i}`);
  expect(next()).toBeUndefined();
  taken.delete('k3');
  expect(next()).toBe('k3');
  rows.rows.set('new', row('new', 999));
  expect(next(998)).toBeUndefined();
  expect(next(999)).toBe('new');
});
