import { expect, test } from 'vitest';
import { TxGroup } from './tx-group.js';

/** Counts commits; a transaction that throws is taken back. */
class Tables {
  commits = 0;
  rows: string[] = [];
  tx<T>(fn: () => T): T {
    const before = [...this.rows];
    try {
      const result = fn();
      this.commits++;
      return result;
    } catch (error) {
      this.rows = before;
      throw error;
    }
  }
}
const group = (tables: Tables, waitMs = 0): TxGroup => new TxGroup(tables as unknown as ConstructorParameters<typeof TxGroup>[0], () => waitMs);

test('what comes in one turn is one commit, in order, each with its own answer', async () => {
  const tables = new Tables();
  const together = group(tables);
  const answers = await Promise.all(['a', 'b', 'c'].map((row) => together.run(() => {
    tables.rows.push(row);
    return row.toUpperCase();
  })));
  expect(answers).toEqual(['A', 'B', 'C']);
  expect(tables.rows).toEqual(['a', 'b', 'c']);
  expect(tables.commits).toBe(1);
});

test('one that throws fails alone, and the others are kept', async () => {
  const tables = new Tables();
  const together = group(tables, 1);
  const outcomes = await Promise.allSettled(['a', 'b', 'c'].map((row) => together.run(() => {
    tables.rows.push(row);
    if (row === 'b') throw new Error('no');
    return row;
  })));
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(tables.rows).toEqual(['a', 'c']);
});

test('who comes after a commit is in the next', async () => {
  const tables = new Tables();
  const together = group(tables);
  await together.run(() => 1);
  await together.run(() => 2);
  expect(tables.commits).toBe(2);
});
