/**
 * Tells the kernel that names or data changed behind its back (K10). Such a write(2) can wait for a directory the kernel has locked
 * for a request that waits for us; so one dedicated thread does it and may block, while the main thread goes on answering (K16).
 *
 * Order is kept. The queue is bounded: beyond `queueMax` notices are dropped and counted, which leaves the kernel with its cache
 * timeouts. ENOENT (the kernel does not know the name or inode) is the ordinary case and ignored. A thread that cannot start (no
 * descriptors left) is tried again with each later notice, and is nothing that who changed a name hears of.
 */
import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { compiledEntry } from '../base/entry-url.js';
import { errnoName } from '../base/errno.js';
import { duplicate } from '../base/libc.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { deleteEntry, invalEntry, invalInode } from './notice.js';

/** From the worker: how many messages were written, and what failed other than with ENOENT. */
export interface NotifierReport { readonly done: number; readonly failed: number; readonly errno: number }

const queueMaxDefault = 65_536;
/** Handed to the worker at a time: what it has is out of our hands. */
const batchMax = 256;

export class Notifier {
  private readonly queue: Buffer[] = [];
  /** Kept until it is reported done: a thread that does not come to run has not written it. */
  private inWorker: readonly Buffer[] = [];
  private worker: Worker | undefined;
  private startFailed = false;
  private closed = false;
  private idle: (() => void)[] = [];

  /** @param device of the mounted connection. The worker comes with the first notice and writes to a duplicate of its own, closed when it ends. */
  static start(options: { device: number; log: Log; metrics: Metrics; queueMax?: number }): Notifier {
    return new Notifier(options.device, options.log.child({ room: 'fuse' }), options.metrics, options.queueMax ?? queueMaxDefault);
  }

  private constructor(private readonly device: number, private readonly log: Log, private readonly metrics: Metrics, private readonly queueMax: number) {
    metrics.gauge('fuse.notices_queued', () => this.queue.length + this.inWorker.length);
  }

  /** @throws SystemError, Error if there are no descriptors or no memory for it. */
  private startWorker(): Worker {
    const device = duplicate(this.device);
    let worker: Worker;
    try {
      worker = new Worker(compiledEntry(import.meta.url, './notifier-worker.js'), { workerData: { device } });
    } catch (error) {
      closeSync(device);
      throw error;
    }
    let hasReported = false;
    worker.unref();
    worker.on('exit', () => closeSync(device));
    worker.on('message', (report: NotifierReport) => {
      hasReported = true;
      this.onReport(report);
    });
    worker.on('error', (error) => {
      if (!hasReported) return this.onStartFailed(error); // also what it could not load
      this.closed = true;
      this.log.error('the notifier thread died: changes by others appear when cache timeouts end', { error });
      this.settle();
    });
    return worker;
  }

  private onStartFailed(error: unknown): void {
    this.worker = undefined;
    if (this.closed) return;
    this.queue.unshift(...this.inWorker);
    this.inWorker = [];
    if (!this.startFailed) this.log.error('cannot start the notifier thread: changes by others appear when cache timeouts end, or once it starts', { error });
    this.startFailed = true;
    this.settle();
  }

  invalEntry(parent: number, name: string, expireOnly: boolean): void {
    this.push(invalEntry(parent, name, expireOnly));
  }

  /** Without a range: all data and the attributes. */
  invalInode(ino: number, offset = 0, length = 0): void {
    this.push(invalInode(ino, offset, length));
  }

  deleteEntry(parent: number, child: number, name: string): void {
    this.push(deleteEntry(parent, child, name));
  }

  /** Resolves when everything told so far has reached the kernel, or cannot now. May take as long as the kernel holds its locks. */
  flush(): Promise<void> {
    if (this.closed || this.inWorker.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.idle.push(resolve));
  }

  /** Drops what is queued. The thread may be blocked inside the kernel; it ends by itself once it is let go. */
  close(): Promise<void> {
    if (this.closed) return Promise.resolve();
    this.closed = true;
    this.queue.length = 0;
    this.settle();
    this.worker?.postMessage('close');
    return Promise.resolve();
  }

  private push(message: Buffer): void {
    if (this.closed) return;
    if (this.queue.length >= this.queueMax) this.metrics.add('fuse.notices_dropped');
    else this.queue.push(message);
    if (this.inWorker.length === 0) this.send();
  }

  private send(): void {
    if (this.queue.length === 0) return this.settle();
    try {
      this.worker ??= this.startWorker();
    } catch (error) {
      return this.onStartFailed(error);
    }
    this.inWorker = this.queue.splice(0, batchMax);
    this.worker.postMessage(this.inWorker);
  }

  private onReport(report: NotifierReport): void {
    this.metrics.add('fuse.notices', report.done);
    if (report.failed > 0) {
      this.metrics.add('fuse.notices_failed', report.failed);
      this.log.warn('the kernel refused a notification', { error: errnoName(report.errno), count: report.failed });
    }
    this.inWorker = [];
    if (!this.closed) this.send();
  }

  private settle(): void {
    for (const resolve of this.idle.splice(0)) resolve();
  }
}
