/**
 * Retries what `ObjectStore` marks idempotent, within the call's deadline, and nothing else: a mutation goes out once, and
 * what its silence means is writeback's question (J5). Reports every outcome to `Health`. While offline a call has one short
 * try, which is also the probe that finds S3 back.
 */
import { backoffMs, sleep } from '../base/backoff.js';
import type { Clock } from '../base/clock.js';
import { Congestion } from './congestion.js';
import type { Health } from './health.js';
import type {
  Body, CallOptions, CopySource, Expected, GetOptions, GetQuery, GetResult, Key, ListPage, ListQuery, ObjectAttributes, ObjectHead, ObjectStore, Part, Stored, Upload,
} from './object-store.js';
import { StoreError } from './store-error.js';

export interface RetryOptions {
  /** Of a call without one of its own; bodies get time for their size on top. */
  readonly deadlineMs: number;
  readonly clock: Clock;
  readonly health: Health;
  readonly firstDelayMs?: number;
  readonly longestDelayMs?: number;
  /** The one try of a call while offline. */
  readonly offlineTryMs?: number;
  readonly random?: () => number;
  readonly sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
}

const slowestBytesPerMs = 64;

export class RetryStore implements ObjectStore {
  readonly health: Health;
  /** One for everything that goes to this S3: SlowDown is about all of it. */
  readonly congestion = new Congestion();
  private readonly firstDelayMs: number;
  private readonly longestDelayMs: number;
  private readonly offlineTryMs: number;
  private readonly random: () => number;
  private readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;

  constructor(private readonly inner: ObjectStore, private readonly options: RetryOptions) {
    this.health = options.health;
    this.firstDelayMs = options.firstDelayMs ?? 100;
    this.longestDelayMs = options.longestDelayMs ?? 5000;
    this.offlineTryMs = options.offlineTryMs ?? 2000;
    this.random = options.random ?? Math.random;
    this.sleep = options.sleep ?? sleep;
  }

  head(key: Key, options?: CallOptions): Promise<ObjectHead | null> { return this.idempotent(options, 0, (each) => this.inner.head(key, each)); }
  list(query: ListQuery, options?: CallOptions): Promise<ListPage> { return this.idempotent(options, 0, (each) => this.inner.list(query, each)); }
  getBytes(key: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }> {
    return this.idempotent(options, query.end - query.start, (each) => this.inner.getBytes(key, query, each));
  }

  /** A retry goes on where the bytes ended, if the version is pinned; ranges already reported are never reported again. */
  async getToFile(key: Key, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult> {
    let landed = query.start;
    const onRange = (start: number, end: number): void => {
      landed = end;
      options?.onRange?.(start, end);
    };
    const result = await this.idempotent(options, query.end - query.start, async (each) => {
      const from = landed;
      try {
        const part = await this.inner.getToFile(key, { ...query, start: from }, path, { ...each, onRange });
        return { ...part, lengthBytes: part.lengthBytes + from - query.start };
      } catch (error) {
        if (landed > query.start && query.etag === undefined) throw new Unretried(error); // the rest might be of another version
        throw error;
      }
    });
    return result;
  }

  put(key: Key, body: Body, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> { return this.once(() => this.inner.put(key, body, attributes, expected, options), options); }
  copy(source: CopySource, key: Key, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.once(() => this.inner.copy(source, key, attributes, expected, options), options);
  }
  delete(key: Key, expected: Exclude<Expected, null>, options?: CallOptions): Promise<void> { return this.once(() => this.inner.delete(key, expected, options), options); }
  createUpload(key: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string> { return this.once(() => this.inner.createUpload(key, attributes, options), options); }
  uploadPart(key: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part> { return this.once(() => this.inner.uploadPart(key, uploadId, number, body, options), options); }
  uploadPartCopy(key: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part> {
    return this.once(() => this.inner.uploadPartCopy(key, uploadId, number, source, start, end, options), options);
  }
  completeUpload(key: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.once(() => this.inner.completeUpload(key, uploadId, parts, expected, options), options);
  }

  abortUpload(key: Key, uploadId: string, options?: CallOptions): Promise<void> { return this.idempotent(options, 0, (each) => this.inner.abortUpload(key, uploadId, each)); }
  listParts(key: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null> { return this.idempotent(options, 0, (each) => this.inner.listParts(key, uploadId, each)); }
  listUploads(prefix: string, options?: CallOptions): Promise<Upload[]> { return this.idempotent(options, 0, (each) => this.inner.listUploads(prefix, each)); }
  checkBucket(options?: CallOptions): ReturnType<ObjectStore['checkBucket']> { return this.idempotent(options, 0, (each) => this.inner.checkBucket(each)); }
  presign(key: Key, expiresS: number): Promise<string> { return this.inner.presign(key, expiresS); }
  close(): Promise<void> { return this.inner.close(); }

  private async once<T>(call: () => Promise<T>, options: CallOptions | undefined): Promise<T> {
    try {
      const value = await this.congestion.run(call, options?.deadlineMs ?? this.options.deadlineMs, options?.signal);
      this.health.succeeded();
      return value;
    } catch (error) {
      if (error instanceof StoreError) this.health.failed(error);
      throw error;
    }
  }

  private async idempotent<T>(options: CallOptions | undefined, bodyBytes: number, run: (each: CallOptions) => Promise<T>): Promise<T> {
    const { clock } = this.options;
    const signal = options?.signal;
    const endMs = clock.monotonic() + (options?.deadlineMs ?? this.options.deadlineMs + bodyBytes / slowestBytesPerMs);
    for (let attempt = 0; ; attempt++) {
      const wasOffline = this.health.isOffline;
      const leftMs = (): number => Math.max(1, endMs - clock.monotonic());
      const limits = (): CallOptions => ({ deadlineMs: wasOffline ? Math.min(leftMs(), this.offlineTryMs) : leftMs(), ...(signal && { signal }) });
      try {
        return await this.once(() => run(limits()), limits());
      } catch (error) {
        if (error instanceof Unretried) {
          if (error.cause instanceof StoreError) this.health.failed(error.cause);
          throw error.cause;
        }
        if (!(error instanceof StoreError) || (error.kind !== 'unavailable' && error.kind !== 'throttled') || this.health.isOffline) throw error;
        const delayMs = Math.max(backoffMs(attempt, this.firstDelayMs, this.longestDelayMs, this.random), error.details.retryAfterMs ?? 0);
        if (clock.monotonic() + delayMs >= endMs) throw error;
        await this.sleep(delayMs, signal);
        if (signal?.aborted) throw new StoreError('aborted', 'The request was aborted', {}, { cause: error });
      }
    }
  }
}

class Unretried extends Error {
  constructor(cause: unknown) { super('not to be retried', { cause }); }
}
