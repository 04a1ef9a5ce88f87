import { expect, it } from 'vitest';
import { powerCutFact, takeOver, wasPowerCut } from './previous-run.js';

/** Of the database of a mount, from start to start. */
function facts(): Map<string, string> & { fact(name: string): string | undefined; setFact(name: string, value: string): void } {
  const map = new Map<string, string>();
  return Object.assign(map, { fact: (name: string) => map.get(name), setFact: (name: string, value: string) => void map.set(name, value) });
}

it('a machine that was started anew is a power cut unless the run had ended in order', () => {
  const db = facts();
  expect(takeOver(db, 'A').first).toBe(true);
  expect(wasPowerCut(takeOver(db, 'A'))).toBe(false);
  expect(wasPowerCut(takeOver(db, 'B'))).toBe(true);
  db.setFact(powerCutFact, '0');
  db.setFact('clean', '1');
  expect(wasPowerCut(takeOver(db, 'C'))).toBe(false);
});

it('a power cut stays one until what it left is put right, however many starts fail before, and in whatever order they end (S6)', () => {
  const db = facts();
  takeOver(db, 'A');
  expect(wasPowerCut(takeOver(db, 'B'))).toBe(true);
  expect(wasPowerCut(takeOver(db, 'B'))).toBe(true);
  db.setFact('clean', '1');
  expect(wasPowerCut(takeOver(db, 'B'))).toBe(true);
  db.setFact(powerCutFact, '0');
  expect(wasPowerCut(takeOver(db, 'B'))).toBe(false);
});
