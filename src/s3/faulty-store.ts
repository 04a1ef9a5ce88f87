/**
 * A wrapper that fails on purpose, for fault tests: by script (the next calls of one operation) and by chance from a seed.
 * `lost` is the cruel one: the request is executed and its answer never arrives (J5).
 */
import type {
  Body, CallOptions, CopySource, Expected, GetOptions, GetQuery, GetResult, Key, ListPage, ListQuery, ObjectAttributes, ObjectHead, ObjectStore, Part, Stored, Upload,
} from './object-store.js';
import { StoreError, type StoreErrorKind } from './store-error.js';

export type StoreOp = Exclude<keyof ObjectStore, 'close' | 'presign'>;
export type Fault =
  /** Fails without being executed; `unavailable` unless said otherwise. */
  | { readonly fault: 'fail'; readonly kind?: StoreErrorKind }
  /** Executed, then `unavailable`. */
  | { readonly fault: 'lost' }
  /** Not executed; ends at the call's abort or deadline (or `hangMs`). */
  | { readonly fault: 'hang'; readonly hangMs?: number }
  | { readonly fault: 'throttle'; readonly retryAfterMs?: number }
  /** A GET delivers its first half, then `unavailable`; other operations are `lost`. */
  | { readonly fault: 'cut' };

export interface FaultyOptions {
  readonly seed?: number;
  /** Chance of a fault per call, 0 to 1, among `faults`. */
  readonly rate?: number;
  readonly faults?: readonly Fault[];
}

interface Scripted { op: StoreOp | '*'; fault: Fault; left: number; key: ((key: string) => boolean) | undefined }

export class FaultyStore implements ObjectStore {
  private readonly scripted: Scripted[] = [];
  private state: number;
  private down = false;
  /** What was done to whom, in order: to be printed with a failing seed. */
  readonly injected: { op: StoreOp; key: string; fault: Fault['fault'] }[] = [];

  constructor(private readonly inner: ObjectStore, private readonly options: FaultyOptions = {}) {
    this.state = (options.seed ?? 1) >>> 0;
  }

  /** The next `times` calls of `op` (for which `key` holds) fail so; earlier scripts first. */
  script(op: StoreOp | '*', fault: Fault, times = 1, key?: (key: string) => boolean): this {
    this.scripted.push({ op, fault, left: times, key });
    return this;
  }

  /** While true every call is `unavailable` at once. */
  setDown(down: boolean): void { this.down = down; }
  clear(): void { this.scripted.length = 0; }

  head(key: Key, options?: CallOptions): Promise<ObjectHead | null> { return this.call('head', key, options, () => this.inner.head(key, options)); }
  list(query: ListQuery, options?: CallOptions): Promise<ListPage> { return this.call('list', query.prefix, options, () => this.inner.list(query, options)); }
  getToFile(key: Key, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult> {
    const half = { ...query, end: query.start + ((query.end - query.start) >> 1) };
    return this.call('getToFile', key, options, () => this.inner.getToFile(key, query, path, options), () => this.inner.getToFile(key, half, path, options));
  }
  getBytes(key: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }> { return this.call('getBytes', key, options, () => this.inner.getBytes(key, query, options)); }
  put(key: Key, body: Body, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.call('put', key, options, () => this.inner.put(key, body, attributes, expected, options));
  }
  copy(source: CopySource, key: Key, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.call('copy', key, options, () => this.inner.copy(source, key, attributes, expected, options));
  }
  delete(key: Key, expected: Exclude<Expected, null>, options?: CallOptions): Promise<void> { return this.call('delete', key, options, () => this.inner.delete(key, expected, options)); }
  createUpload(key: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string> { return this.call('createUpload', key, options, () => this.inner.createUpload(key, attributes, options)); }
  uploadPart(key: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part> {
    return this.call('uploadPart', key, options, () => this.inner.uploadPart(key, uploadId, number, body, options));
  }
  uploadPartCopy(key: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part> {
    return this.call('uploadPartCopy', key, options, () => this.inner.uploadPartCopy(key, uploadId, number, source, start, end, options));
  }
  completeUpload(key: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.call('completeUpload', key, options, () => this.inner.completeUpload(key, uploadId, parts, expected, options));
  }
  abortUpload(key: Key, uploadId: string, options?: CallOptions): Promise<void> { return this.call('abortUpload', key, options, () => this.inner.abortUpload(key, uploadId, options)); }
  listParts(key: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null> { return this.call('listParts', key, options, () => this.inner.listParts(key, uploadId, options)); }
  listUploads(prefix: string, options?: CallOptions): Promise<Upload[]> { return this.call('listUploads', prefix, options, () => this.inner.listUploads(prefix, options)); }
  checkBucket(options?: CallOptions): ReturnType<ObjectStore['checkBucket']> { return this.call('checkBucket', '', options, () => this.inner.checkBucket(options)); }
  presign(key: Key, expiresS: number): Promise<string> { return this.inner.presign(key, expiresS); }
  close(): Promise<void> { return this.inner.close(); }

  private async call<T>(op: StoreOp, key: string, options: CallOptions | undefined, run: () => Promise<T>, runHalf: () => Promise<unknown> = run): Promise<T> {
    const fault = this.down ? ({ fault: 'fail' } as const) : this.pick(op, key);
    if (!fault) return run();
    this.injected.push({ op, key, fault: fault.fault });
    switch (fault.fault) {
      case 'fail': throw new StoreError(fault.kind ?? 'unavailable', `${op} of "${key}" was made to fail`);
      case 'throttle': throw new StoreError('throttled', `${op} of "${key}" was made to slow down`, { status: 503, code: 'SlowDown', ...(fault.retryAfterMs !== undefined && { retryAfterMs: fault.retryAfterMs }) });
      case 'hang': return hang(op, options, fault.hangMs);
      case 'lost': await run(); break;
      case 'cut': await runHalf(); break;
    }
    throw new StoreError('unavailable', `The answer to ${op} of "${key}" was made to get lost`);
  }

  private pick(op: StoreOp, key: string): Fault | undefined {
    const index = this.scripted.findIndex((entry) => (entry.op === '*' || entry.op === op) && (entry.key?.(key) ?? true));
    const entry = this.scripted[index];
    if (entry) {
      if (--entry.left === 0) this.scripted.splice(index, 1);
      return entry.fault;
    }
    const { rate = 0, faults = [{ fault: 'fail' }] } = this.options;
    if (rate === 0 || this.random() >= rate) return undefined;
    return faults[Math.floor(this.random() * faults.length)];
  }

  /** Mulberry32: small, seeded, good enough to pick faults. */
  private random(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }
}

function hang(op: StoreOp, options: CallOptions | undefined, hangMs = options?.deadlineMs ?? 60_000): Promise<never> {
  return new Promise((_, reject) => {
    const { signal } = options ?? {};
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(new StoreError('aborted', `The ${op} request was aborted`));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      reject(new StoreError('unavailable', `${op} was made to hang until its deadline`, { code: 'ETIMEDOUT' }));
    }, hangMs);
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}
