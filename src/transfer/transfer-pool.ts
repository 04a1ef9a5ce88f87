/**
 * `ObjectStore` in worker threads. The main thread only posts a call to the worker with the least to do and gets its answer back;
 * sockets, signatures, XML and file I/O happen there. Bytes cross by transfer, listings by columns.
 *
 * Retries and `Health` are here and not in the workers: one state for the whole mount, and a call whose worker died goes to another
 * one. Mutations of a dead worker fail with `unavailable` (J5).
 */
import { sharedAbort } from '../base/shared-abort.js';
import { sleep } from '../base/backoff.js';
import { systemClock, type Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { silenceSdkNodeWarning } from '../s3/aws-config.js';
import type { EtagQuotes, EtagQuoting } from '../s3/capabilities.js';
import { Health, type HealthOptions } from '../s3/health.js';
import type {
  Body, CallOptions, CopySource, Expected, GetOptions, GetQuery, GetResult, Key, ListPage, ListQuery, ObjectAttributes, ObjectHead, ObjectStore, Part, Stored, Upload,
} from '../s3/object-store.js';
import { recordSample, type RequestSample } from '../s3/request-metrics.js';
import { RetryStore, type RetryOptions } from '../s3/retry-store.js';
import type { S3Settings } from '../s3/s3-context.js';
import { StoreError } from '../s3/store-error.js';
import { unpackPage, type PackedPage, type PoolOp, type WorkerSettings } from './messages.js';
import { pickWorker } from './pick-worker.js';
import { PoolWorker } from './pool-worker.js';

export interface TransferPoolOptions extends S3Settings {
  readonly log: Log;
  readonly metrics?: Metrics;
  readonly clock?: Clock;
  readonly health?: HealthOptions;
  readonly retry?: Partial<Pick<RetryOptions, 'deadlineMs' | 'firstDelayMs' | 'longestDelayMs' | 'offlineTryMs' | 'random' | 'sleep'>>;
  /** Do not wait for a worker: calls queue until one serves. For a daemon that takes over, whose callers are waiting (default: wait). */
  readonly startInBackground?: boolean;
  /** Every request as it ends, besides `metrics` (cost accounting). */
  readonly observe?: (sample: RequestSample) => void;
}

export interface TransferPool extends ObjectStore, EtagQuoting {
  readonly health: Health;
  /** Calls in the workers now. */
  readonly inFlight: number;
  readonly threadIds: readonly number[];
  /** For tests of crashes: ends one worker as a bug in it would. */
  killWorker(threadId: number): Promise<void>;
}

/** A worker that dies as soon as it starts is not restarted in a tight loop. */
const restartDelayMs = 1000;
const drainMs = 30_000;

/**
 * Opens once the first worker serves, or at once; `connectionsMax` is divided among the workers.
 * @throws UserError, StoreError if a worker cannot start.
 */
export async function openTransferPool(options: TransferPoolOptions, workers: number): Promise<TransferPool> {
  silenceSdkNodeWarning(); // workers inherit the environment
  const clock = options.clock ?? systemClock;
  const { metrics, observe } = options;
  const threads = new Threads(workerSettings(options, workers), Math.max(1, workers), options.log, (sample) => {
    if (metrics) recordSample(metrics, sample);
    observe?.(sample);
  });
  metrics?.gauge('s3.in_flight', () => threads.inFlight);
  try {
    const ready = threads.firstReady();
    if (options.startInBackground) ready.catch((error: unknown) => options.log.error('no transfer worker can start', { room: 'transfer', error }));
    else await ready;
  } catch (error) {
    await threads.close();
    throw error;
  }
  const health = new Health(clock, options.health);
  const pool = new RetryingPool(threads, { deadlineMs: options.deadlineMs, ...options.retry, clock, health });
  metrics?.gauge('s3.slowed_to', () => (pool.congestion.limitNow === Infinity ? 0 : Math.floor(pool.congestion.limitNow)));
  return pool;
}

class RetryingPool extends RetryStore implements TransferPool {
  constructor(private readonly threads: Threads, options: RetryOptions) {
    super(threads, options);
  }
  get inFlight(): number { return this.threads.inFlight; }
  get threadIds(): readonly number[] { return this.threads.threadIds; }
  setEtagQuotes(quotes: EtagQuotes): void { this.threads.setEtagQuotes(quotes); }
  killWorker(threadId: number): Promise<void> { return this.threads.killWorker(threadId); }
}

class Threads implements ObjectStore, EtagQuoting {
  private readonly workers = new Set<PoolWorker>();
  private quotes: EtagQuotes;
  private closed = false;
  private readonly stop = sharedAbort();
  private readonly restarts = new Set<Promise<void>>();
  private isComplete = false;

  constructor(private readonly settings: WorkerSettings, private readonly count: number, private readonly log: Log, private readonly onSample: (sample: RequestSample) => void) {
    this.quotes = settings.etagQuotes ?? 'quoted';
    this.start();
  }

  async firstReady(): Promise<void> { await Promise.race([...this.workers].map((worker) => worker.ready)); }
  get inFlight(): number { return [...this.workers].reduce((sum, worker) => sum + worker.load, 0); }
  get threadIds(): number[] { return [...this.workers].map((worker) => worker.threadId); }

  setEtagQuotes(quotes: EtagQuotes): void {
    this.quotes = quotes;
    for (const worker of this.workers) worker.setEtagQuotes(quotes);
  }

  async killWorker(threadId: number): Promise<void> { await [...this.workers].find((worker) => worker.threadId === threadId)?.terminate(); }

  async head(key: Key, options?: CallOptions): Promise<ObjectHead | null> { return (await this.call('head', [key], options)) as ObjectHead | null; }
  async list(query: ListQuery, options?: CallOptions): Promise<ListPage> { return unpackPage((await this.call('list', [query], options)) as PackedPage); }
  async getToFile(key: Key, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult> { return (await this.call('getToFile', [key, query, path], options)) as GetResult; }
  async getBytes(key: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }> {
    return (await this.call('getBytes', [key, query], options)) as GetResult & { bytes: Uint8Array };
  }
  async put(key: Key, body: Body, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    const sent = ownBody(body);
    return (await this.call('put', [key, sent.body, attributes, expected], options, sent.transfer)) as Stored;
  }
  async copy(source: CopySource, key: Key, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    return (await this.call('copy', [source, key, attributes, expected], options)) as Stored;
  }
  async delete(key: Key, expected: Exclude<Expected, null>, options?: CallOptions): Promise<void> { await this.call('delete', [key, expected], options); }
  async createUpload(key: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string> { return (await this.call('createUpload', [key, attributes], options)) as string; }
  async uploadPart(key: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part> {
    const sent = ownBody(body);
    return (await this.call('uploadPart', [key, uploadId, number, sent.body], options, sent.transfer)) as Part;
  }
  async uploadPartCopy(key: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part> {
    return (await this.call('uploadPartCopy', [key, uploadId, number, source, start, end], options)) as Part;
  }
  async completeUpload(key: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored> {
    return (await this.call('completeUpload', [key, uploadId, parts, expected], options)) as Stored;
  }
  async abortUpload(key: Key, uploadId: string, options?: CallOptions): Promise<void> { await this.call('abortUpload', [key, uploadId], options); }
  async listParts(key: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null> { return (await this.call('listParts', [key, uploadId], options)) as Part[] | null; }
  async listUploads(prefix: string, options?: CallOptions): Promise<Upload[]> { return (await this.call('listUploads', [prefix], options)) as Upload[]; }
  async presign(key: Key, expiresS: number): Promise<string> { return (await this.call('presign', [key, expiresS], undefined)) as string; }
  async checkBucket(options?: CallOptions): ReturnType<ObjectStore['checkBucket']> { return (await this.call('checkBucket', [], options)) as Awaited<ReturnType<ObjectStore['checkBucket']>>; }

  /** Idempotent. Calls in flight finish first, for `drainMs` at most. */
  async close(): Promise<void> {
    this.closed = true;
    this.stop.abort();
    await Promise.all(this.restarts);
    const drained = new AbortController();
    const closing = [...this.workers].map((worker) => worker.close());
    await Promise.race([Promise.all(closing).finally(() => drained.abort()), sleep(drainMs, drained.signal)]);
    await Promise.all([...this.workers].map((worker) => worker.terminate()));
  }

  private call(op: PoolOp, args: readonly unknown[], options: GetOptions | undefined, transfer: ArrayBuffer[] = []): Promise<unknown> {
    if (this.closed) return Promise.reject(new StoreError('aborted', 'The transfer pool is closed'));
    const best = pickWorker(this.workers, op, this.settings.connectionsMax);
    if (!best) return Promise.reject(new StoreError('unavailable', 'All transfer workers ended; they are being restarted', { code: 'EWORKER' }));
    return best.call(op, args, options, transfer);
  }

  private start(): void {
    const startedMs = performance.now();
    const worker = new PoolWorker({ ...this.settings, etagQuotes: this.quotes }, {
      log: this.log, onSample: this.onSample,
      onExit: (ended, clean) => {
        this.workers.delete(ended);
        if (clean || this.closed) return;
        this.log.error('a transfer worker ended; starting another', { room: 'transfer' });
        if (performance.now() - startedMs > restartDelayMs) return this.start();
        const restart = sleep(restartDelayMs, this.stop.signal).then(() => {
          this.restarts.delete(restart);
          if (!this.closed) this.start();
        });
        this.restarts.add(restart);
      },
    });
    this.workers.add(worker);
    worker.ready.then(() => this.startOthers(), () => undefined); // said by who waits for it, or in the log as it ends
  }

  /** Once one serves, the first or what came for it: who opens the pool waits for one, each takes a processor for its start, and what one cannot the others cannot. */
  private startOthers(): void {
    if (this.isComplete || this.closed) return;
    this.isComplete = true;
    for (let i = 1; i < this.count; i++) this.start();
  }
}

/** Exactly what a worker may know: options hold functions, which cannot cross. */
function workerSettings(options: TransferPoolOptions, workers: number): WorkerSettings {
  const { bucket, prefix, endpoint, region, profile, pathStyle, requestTimeoutMs, deadlineMs, connectTimeoutMs, etagQuotes, caBundle } = options;
  return {
    bucket, prefix, pathStyle, requestTimeoutMs, deadlineMs, logLevel: options.log.level, connectionsMax: Math.max(1, Math.ceil(options.connectionsMax / Math.max(1, workers))),
    ...(endpoint !== undefined && { endpoint }), ...(region !== undefined && { region }), ...(profile !== undefined && { profile }), ...(connectTimeoutMs !== undefined && { connectTimeoutMs }),
    ...(etagQuotes !== undefined && { etagQuotes }), ...(caBundle !== undefined && { caBundle }),
  };
}

/** The caller's bytes are borrowed: a copy of exactly these bytes crosses, by transfer. */
function ownBody(body: Body): { body: Body; transfer: ArrayBuffer[] } {
  if (body.kind === 'file') return { body, transfer: [] };
  const bytes = new Uint8Array(body.bytes); // copies
  return { body: { kind: 'bytes', bytes }, transfer: [bytes.buffer] };
}
