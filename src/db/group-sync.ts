/**
 * Group commit (D1): one sync covers every transaction that had been accepted when it started; whoever comes later waits for the next, which all late
 * comers share. What is synced is the redo log, or the `-wal` where that lacks something (`Db`).
 *
 * D4: a failed sync means the kernel may have dropped the dirty pages: no second try can succeed honestly. All waiters fail, and
 * every later call.
 */
import type { Metrics } from '../base/metrics.js';

/** A sync about to start, and what it will cover. */
export interface PendingSync { readonly seq: number; run(): Promise<void> }

const done = Promise.resolve();

export class GroupSync {
  durableSeq = 0;
  private running: { readonly seq: number; readonly promise: Promise<void> } | undefined;
  private next: Promise<void> | undefined;
  private failure: Error | undefined;

  /** @param hooks `begin` may throw: then there is no sync, and nothing has failed for good. */
  constructor(private readonly metrics: Metrics, private readonly hooks: { readonly seq: () => number; begin(): PendingSync; advanced(): void; failed(error: Error): void }) {}

  durable(): Promise<void> {
    if (this.failure) return Promise.reject(this.failure);
    const target = this.hooks.seq();
    if (target <= this.durableSeq) return done;
    if (!this.running) return this.start();
    if (target <= this.running.seq) return this.running.promise;
    this.next ??= this.running.promise.then(() => {
      this.next = undefined;
      return this.start();
    });
    return this.next;
  }

  /** What is under way is over. */
  async idle(): Promise<void> {
    while (this.running) await this.running.promise.catch(() => undefined);
  }

  private start(): Promise<void> {
    const sync = this.hooks.begin();
    const promise = this.run(sync).finally(() => (this.running = undefined));
    // `next` is attached to the same promise, after this handler: `running` is cleared before it starts another.
    this.running = { seq: sync.seq, promise };
    return promise;
  }

  private async run(sync: PendingSync): Promise<void> {
    const start = performance.now();
    try {
      await sync.run();
    } catch (cause) {
      const error = new Error('Cannot make the journal durable', { cause });
      this.failure = error;
      this.hooks.failed(error);
      throw error;
    }
    this.metrics.add('db.syncs');
    this.metrics.observeUs('db.sync_us', (performance.now() - start) * 1000);
    this.durableSeq = sync.seq;
    this.hooks.advanced();
  }
}
