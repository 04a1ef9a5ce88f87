import { expect, test } from 'vitest';
import { enterTransaction, gateBytes, holdTransactions, leaveTransaction, letTransactionsGo } from './gate.js';

const newGate = (): Int32Array => new Int32Array(new SharedArrayBuffer(gateBytes));

function elapsedMs(fn: () => void): number {
  const start = performance.now();
  fn();
  return performance.now() - start;
}

test('D2: a transaction waits while the gate is closed, a bounded time', () => {
  const gate = newGate();
  expect(holdTransactions(gate)).toBe(true);
  expect(elapsedMs(() => enterTransaction(gate))).toBeGreaterThan(40);
  leaveTransaction(gate);
  letTransactionsGo(gate);
  expect(elapsedMs(() => enterTransaction(gate))).toBeLessThan(40);
});

test('D2: the checkpoint waits for the transaction inside, and does without the quiet moment if that takes too long', () => {
  const gate = newGate();
  enterTransaction(gate);
  expect(elapsedMs(() => expect(holdTransactions(gate)).toBe(false))).toBeGreaterThan(40);
  leaveTransaction(gate);
  expect(holdTransactions(gate)).toBe(true);
});
