/**
 * The gate of D2: two words of shared memory. Each side announces itself before it looks at the other, so at least one sees
 * the other. Nobody's correctness depends on it (a PASSIVE checkpoint may run beside transactions), only whether the log starts
 * over; so both sides wait a bounded time and then go on.
 */
const inTransaction = 0;
const closed = 1;

/** Longest time a transaction is held back: several times the longest gate measured (12 ms), short against a request's patience. */
const holdMsMax = 50;

export const gateBytes = 8;

/** Main thread, before BEGIN. */
export function enterTransaction(gate: Int32Array): void {
  Atomics.store(gate, inTransaction, 1);
  if (Atomics.load(gate, closed) === 0) return;
  Atomics.store(gate, inTransaction, 0);
  Atomics.notify(gate, inTransaction);
  Atomics.wait(gate, closed, 1, holdMsMax);
  Atomics.store(gate, inTransaction, 1);
}

/** Main thread, after COMMIT or ROLLBACK. */
export function leaveTransaction(gate: Int32Array): void {
  Atomics.store(gate, inTransaction, 0);
  if (Atomics.load(gate, closed) === 1) Atomics.notify(gate, inTransaction);
}

/** Worker: closes the gate and waits for the transaction inside, if any. False if it did not end in time. */
export function holdTransactions(gate: Int32Array): boolean {
  Atomics.store(gate, closed, 1);
  return Atomics.load(gate, inTransaction) === 0 || Atomics.wait(gate, inTransaction, 1, holdMsMax) !== 'timed-out';
}

export function letTransactionsGo(gate: Int32Array): void {
  Atomics.store(gate, closed, 0);
  Atomics.notify(gate, closed);
}
