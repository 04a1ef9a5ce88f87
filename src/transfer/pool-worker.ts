/**
 * The main thread's end of one transfer worker: pending calls, and what becomes of them when the thread dies (`unavailable`: J5 says
 * what that means for a mutation). Never restarts itself; the pool does.
 */
import { Worker } from 'node:worker_threads';
import { compiledEntry } from '../base/entry-url.js';
import type { Log } from '../base/log.js';
import { UserError } from '../base/user-error.js';
import type { EtagQuotes } from '../s3/capabilities.js';
import type { GetOptions } from '../s3/object-store.js';
import type { RequestSample } from '../s3/request-metrics.js';
import { StoreError } from '../s3/store-error.js';
import type { FromWorker, PlainError, PoolOp, ToWorker, WorkerSettings } from './messages.js';
import { Outbox } from './outbox.js';

interface Pending {
  readonly op: PoolOp;
  readonly onRange: GetOptions['onRange'];
  resolve(value: unknown): void;
  reject(error: unknown): void;
  release(): void;
}

export interface PoolWorkerEvents {
  readonly log: Log;
  readonly onSample: (sample: RequestSample) => void;
  /** Once, when the thread is gone; `clean` if it was told to close. */
  readonly onExit: (worker: PoolWorker, clean: boolean) => void;
}

/** What a request leaves behind dies young: V8's default of 48 MB lets it lie, with the buffers of bodies, long after it is dead. */
const maxYoungGenerationSizeMb = 12;

export class PoolWorker {
  /** Settles when the thread serves; rejects if it could not start. */
  readonly ready: Promise<void>;
  isReady = false;
  private readonly thread: Worker;
  private readonly pending = new Map<number, Pending>();
  private readonly outbox = new Outbox<ToWorker>((messages, transfers) => this.thread.postMessage(messages, transfers));
  private readonly exited: Promise<void>;
  private startError: Error | undefined;
  private nextId = 1;
  private closing = false;

  constructor(settings: WorkerSettings, private readonly events: PoolWorkerEvents) {
    this.thread = new Worker(compiledEntry(import.meta.url, './worker.js'), { workerData: settings, name: 'transfer', resourceLimits: { maxYoungGenerationSizeMb } });
    let becomeReady!: () => void;
    let failToStart!: (error: Error) => void;
    this.ready = new Promise((resolve, reject) => {
      becomeReady = resolve;
      failToStart = reject;
    });
    this.ready.catch(() => undefined); // the pool looks at it when it wants to
    const take = (message: FromWorker): void => {
      switch (message.type) {
        case 'ready':
          this.isReady = true;
          return becomeReady();
        case 'failed':
          this.startError = fromPlainError(message.error);
          return failToStart(this.startError);
        default:
          return this.receive(message);
      }
    };
    this.thread.on('message', (messages: readonly FromWorker[]) => messages.forEach(take));
    this.thread.on('error', (error) => { this.startError ??= error; });
    this.exited = new Promise((resolve) => {
      this.thread.on('exit', (code) => {
        this.isReady = false;
        this.outbox.close();
        const error = new StoreError('unavailable', `A transfer worker ended (exit code ${code})`, { code: 'EWORKER' }, { cause: this.startError });
        failToStart(this.startError ?? error);
        for (const call of this.pending.values()) {
          call.release();
          call.reject(this.startError instanceof UserError ? this.startError : error);
        }
        this.pending.clear();
        events.onExit(this, this.closing);
        resolve();
      });
    });
  }

  get load(): number { return this.pending.size; }
  get threadId(): number { return this.thread.threadId; }

  call(op: PoolOp, args: readonly unknown[], options: GetOptions | undefined, transfer: readonly ArrayBuffer[]): Promise<unknown> {
    const signal = options?.signal;
    if (signal?.aborted) return Promise.reject(new StoreError('aborted', `The ${op} request was aborted`));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => this.post({ type: 'abort', id });
      signal?.addEventListener('abort', onAbort, { once: true });
      this.pending.set(id, { op, onRange: options?.onRange, resolve, reject, release: () => signal?.removeEventListener('abort', onAbort) });
      this.post({ type: 'call', id, op, args, ranges: options?.onRange !== undefined, abortable: signal !== undefined, ...(options?.deadlineMs !== undefined && { deadlineMs: options.deadlineMs }) }, transfer);
    });
  }

  setEtagQuotes(quotes: EtagQuotes): void { this.post({ type: 'etag-quotes', quotes }); }

  /** Lets calls in flight finish. */
  async close(): Promise<void> {
    this.closing = true;
    this.post({ type: 'close' });
    await this.exited;
  }

  /** At once: calls in flight fail. */
  async terminate(): Promise<void> {
    await this.thread.terminate();
    await this.exited;
  }

  private post(message: ToWorker, transfer?: readonly ArrayBuffer[]): void { this.outbox.post(message, transfer); }

  private receive(message: Exclude<FromWorker, { type: 'ready' | 'failed' }>): void {
    switch (message.type) {
      case 'range': return this.pending.get(message.id)?.onRange?.(message.start, message.end);
      case 'log': return this.events.log[message.level](message.message, message.fields);
      case 'done': case 'error': {
        for (const sample of message.samples) this.events.onSample(sample);
        const call = this.pending.get(message.id);
        if (!call) return;
        this.pending.delete(message.id);
        call.release();
        if (message.type === 'done') call.resolve(message.value);
        else call.reject(fromPlainError(message.error));
      }
    }
  }
}

function fromPlainError({ kind, name, message, details, stack }: PlainError): Error {
  if (kind !== undefined) return new StoreError(kind, message, details);
  if (name === 'UserError') return new UserError(message);
  const error = new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
