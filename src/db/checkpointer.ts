/**
 * Decides when to checkpoint and has the worker do it (D2). Owns the worker thread, started at the first need. If the worker
 * cannot run, the main thread checkpoints by itself: slower, but the log stays bounded.
 */
import fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import { compiledEntry } from '../base/entry-url.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { CheckpointResult } from './checkpoint-worker.js';

/** A log this long is checkpointed, however few the commits: one may be a group of hundreds of pages. */
const walBytesMax = 32 * 1024 * 1024;

export class Checkpointer {
  private worker: Worker | undefined;
  private running: Promise<void> | undefined;
  private commits = 0;
  private broken = false;
  private closed = false;

  constructor(
    private readonly path: string,
    private readonly shared: SharedArrayBuffer,
    private readonly inline: () => void,
    private readonly log: Log,
    private readonly metrics: Metrics,
  ) {}

  /** After each commit of a group. */
  committed(): void {
    this.commits++;
    if (!this.running && !this.closed && this.walBytes() > walBytesMax) void this.run();
  }

  /** Moves the log into the database; joins a run in progress. Never rejects: a failed checkpoint only leaves the log longer. */
  run(): Promise<void> {
    if (this.closed) return Promise.resolve();
    this.running ??= this.checkpoint().finally(() => (this.running = undefined));
    return this.running;
  }

  /** The worker will want to have the database for itself for a moment. */
  get isRunning(): boolean { return this.running !== undefined; }

  /** Whether a checkpoint would have something to do. */
  get hasWork(): boolean { return this.commits > 0; }

  private walBytes(): number {
    return fs.statSync(`${this.path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }

  private async checkpoint(): Promise<void> {
    this.commits = 0;
    try {
      if (this.broken) this.inline();
      else this.record(await this.ask());
    } catch (error) {
      if (this.closed) return;
      this.broken = true;
      this.metrics.add('db.checkpoint_failures');
      this.log.error('the checkpoint worker failed; the main thread takes over', { room: 'db', error });
    }
  }

  private record(result: CheckpointResult): void {
    if (result.error !== undefined) {
      this.metrics.add('db.checkpoint_failures');
      this.log.warn('checkpoint failed', { room: 'db', error: result.error });
      return;
    }
    this.metrics.add('db.checkpoints');
    this.metrics.observeUs('db.checkpoint_us', result.totalUs);
    this.metrics.observeUs('db.gate_us', result.gateUs);
  }

  private ask(): Promise<CheckpointResult> {
    const worker = (this.worker ??= this.start());
    return new Promise((resolve, reject) => {
      const off = (): void => {
        worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      };
      const onMessage = (result: CheckpointResult): void => { off(); resolve(result); };
      const onError = (error: Error): void => { off(); reject(error); };
      const onExit = (code: number): void => { off(); reject(new Error(`the checkpoint worker exited with code ${code}`)); };
      worker.on('message', onMessage).on('error', onError).on('exit', onExit);
      worker.postMessage('checkpoint');
    });
  }

  private start(): Worker {
    const worker = new Worker(compiledEntry(import.meta.url, './checkpoint-worker.js'), { workerData: { path: this.path, shared: this.shared } });
    worker.on('error', () => undefined); // told to whoever waits in ask(), or found by the next one
    worker.unref();
    return worker;
  }

  async close(): Promise<void> {
    await this.running;
    this.closed = true;
    const worker = this.worker;
    if (!worker || this.broken) return;
    await new Promise<void>((resolve) => {
      worker.ref();
      worker.once('exit', () => resolve());
      worker.postMessage('close');
    });
  }
}
