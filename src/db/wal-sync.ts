/**
 * Group commit (D1). SQLite appends commits to the `-wal` without syncing it (synchronous=NORMAL); what makes them durable is
 * an fdatasync of that file from our own descriptor, in libuv's pool. One sync covers every commit that had returned when it
 * started; whoever comes later waits for the next, which all late comers share.
 *
 * D4: a failed sync means the kernel may have dropped the dirty pages: no second try can succeed honestly. All waiters fail, and
 * every later call.
 */
import fs from 'node:fs';
import type { Disk } from '../base/disk.js';
import type { Metrics } from '../base/metrics.js';

const done = Promise.resolve();

export class WalSync {
  durableSeq = 0;
  private running: { readonly seq: number; readonly promise: Promise<void> } | undefined;
  private next: Promise<void> | undefined;
  private fd: number | undefined;
  private failure: Error | undefined;

  constructor(
    private readonly walPath: string,
    private readonly disk: Disk,
    private readonly metrics: Metrics,
    private readonly hooks: { commitSeq(): number; advanced(): void; failed(error: Error): void },
  ) {}

  durable(): Promise<void> {
    if (this.failure) return Promise.reject(this.failure);
    const target = this.hooks.commitSeq();
    if (target <= this.durableSeq) return done;
    if (!this.running) return this.start();
    if (target <= this.running.seq) return this.running.promise;
    this.next ??= this.running.promise.then(() => {
      this.next = undefined;
      return this.start();
    });
    return this.next;
  }

  private start(): Promise<void> {
    const seq = this.hooks.commitSeq();
    const promise = this.sync(seq).finally(() => (this.running = undefined));
    // `next` is attached to the same promise, after this handler: `running` is cleared before it starts another.
    this.running = { seq, promise };
    return promise;
  }

  private async sync(seq: number): Promise<void> {
    const start = performance.now();
    try {
      await this.disk.fdatasync('wal.sync', this.open());
    } catch (cause) {
      const error = new Error('Cannot make the journal durable', { cause });
      this.failure = error;
      this.hooks.failed(error);
      throw error;
    }
    this.metrics.add('db.syncs');
    this.metrics.observeUs('db.sync_us', (performance.now() - start) * 1000);
    this.durableSeq = seq;
    this.hooks.advanced();
  }

  /** The descriptor of the `-wal` that has this name now: SQLite may have made a new one. */
  private open(): number {
    const named = fs.statSync(this.walPath).ino;
    if (this.fd !== undefined) {
      if (fs.fstatSync(this.fd).ino === named) return this.fd;
      this.disk.close(this.fd);
      this.fd = undefined;
    }
    // Only the -wal: opening and closing the database file itself would drop SQLite's POSIX locks (D3).
    const fd = this.disk.open('wal.open', this.walPath, fs.constants.O_RDONLY);
    if (fs.fstatSync(fd).ino !== fs.statSync(this.walPath).ino) {
      this.disk.close(fd);
      throw new Error(`${this.walPath} was replaced while it was opened`);
    }
    return (this.fd = fd);
  }

  async close(): Promise<void> {
    while (this.running) await this.running.promise.catch(() => undefined);
    if (this.fd !== undefined) this.disk.close(this.fd);
    this.fd = undefined;
  }
}
