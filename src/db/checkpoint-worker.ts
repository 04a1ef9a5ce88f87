/**
 * Worker thread: checkpoints the write-ahead log on its own connection (D2). Two PASSIVE passes move nearly everything while the
 * main thread goes on; the third runs with transactions held back, so that it reaches the end of the log and the next
 * transaction starts it over instead of appending for ever.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { holdTransactions, letTransactionsGo } from './gate.js';
import { Database } from './sqlite.js';

export interface CheckpointResult { readonly frames: number; readonly moved: number; readonly gateUs: number; readonly totalUs: number; readonly error?: string }

const { path, shared } = workerData as { path: string; shared: SharedArrayBuffer };
const gate = new Int32Array(shared);
const db = new Database(path, { fileMustExist: true });
db.pragma('synchronous = NORMAL');
db.pragma('wal_autocheckpoint = 0');

function passive(): { log: number; checkpointed: number } {
  return (db.pragma('wal_checkpoint(PASSIVE)') as { log: number; checkpointed: number }[])[0]!;
}

function checkpoint(): CheckpointResult {
  const start = performance.now();
  passive();
  passive();
  const closed = performance.now();
  let last: { log: number; checkpointed: number };
  const quiet = holdTransactions(gate);
  try {
    last = quiet ? passive() : { log: 0, checkpointed: 0 };
  } finally {
    letTransactionsGo(gate);
  }
  const end = performance.now();
  return { frames: last.log, moved: last.checkpointed, gateUs: (end - closed) * 1000, totalUs: (end - start) * 1000 };
}

parentPort!.on('message', (message: 'checkpoint' | 'close') => {
  if (message === 'close') {
    db.close();
    parentPort!.close();
    return;
  }
  try {
    parentPort!.postMessage(checkpoint());
  } catch (error) {
    parentPort!.postMessage({ frames: 0, moved: 0, gateUs: 0, totalUs: 0, error: String(error) } satisfies CheckpointResult);
  }
});
