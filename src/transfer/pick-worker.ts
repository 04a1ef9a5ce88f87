/** Which transfer worker takes a call. */
import type { PoolOp } from './messages.js';

export interface Candidate { readonly isReady: boolean; readonly load: number }

/**
 * What costs little goes to one worker as long as it has a connection for it: messages of many requests then cross together, and the code that
 * does it is compiled once (a third of the CPU of 10,000 HEADs by a fresh daemon). One worker can ask for more of them in a second than S3 allows per prefix.
 */
const together: ReadonlySet<PoolOp> = new Set<PoolOp>(['head', 'list']);

/** All else goes to the one with the least to do. One that still starts is better than none, but worse than any that serves. */
export function pickWorker<T extends Candidate>(workers: Iterable<T>, op: PoolOp, connectionsEach: number): T | undefined {
  const isSmall = together.has(op);
  let best: T | undefined;
  for (const worker of workers) {
    if (isSmall && worker.isReady && worker.load < connectionsEach) return worker;
    if (!best || (worker.isReady && !best.isReady) || (worker.isReady === best.isReady && worker.load < best.load)) best = worker;
  }
  return best;
}
