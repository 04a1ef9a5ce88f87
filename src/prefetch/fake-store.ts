import fs from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import type { GetOptions, GetQuery, GetResult } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';

/** A request that waits for the test to let its bytes land. */
export class Get {
  private at: number;
  private settled = false;
  readonly result: Promise<GetResult>;
  private resolve!: (result: GetResult) => void;
  private reject!: (error: Error) => void;

  constructor(readonly key: string, readonly query: GetQuery, private readonly path: string, private readonly bytes: Buffer, readonly etag: string, private readonly options: GetOptions | undefined, abortsAtOnce: boolean) {
    this.at = query.start;
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    options?.signal?.addEventListener('abort', () => {
      if (abortsAtOnce) this.fail(new StoreError('aborted', 'aborted'));
    });
  }

  get range(): [number, number] { return [this.query.start, this.query.end]; }
  get isOver(): boolean { return this.settled; }

  land(length: number): void {
    const end = Math.min(this.at + length, this.query.end, this.bytes.length);
    const fd = fs.openSync(this.path, 'r+');
    fs.writeSync(fd, this.bytes, this.at, end - this.at, this.at);
    fs.closeSync(fd);
    this.options?.onRange?.(this.at, end);
    this.at = end;
  }

  finish(): void {
    if (this.settled) return;
    this.land(Infinity);
    this.settled = true;
    this.resolve({ etag: this.etag, lastModifiedMs: 0, lengthBytes: this.at - this.query.start, objectSizeBytes: this.bytes.length });
  }

  fail(error: Error): void {
    this.settled = true;
    this.reject(error);
  }
}

export class FakeStore {
  readonly objects = new Map<string, { etag: string; bytes: Buffer }>();
  readonly gets: Get[] = [];
  /** Finish every request at once. */
  automatic = true;
  /** False: an aborted request goes on writing until the test ends it. */
  abortsAtOnce = true;
  requests = 0;

  async getToFile(key: string, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult> {
    this.requests++;
    const object = this.objects.get(key);
    if (!object) throw new StoreError('not-found', `no ${key}`);
    if (query.etag !== undefined && query.etag !== object.etag) throw new StoreError('precondition-failed', `${key} changed`);
    const get = new Get(key, query, path, object.bytes, object.etag, options, this.abortsAtOnce);
    this.gets.push(get);
    if (this.automatic) await turn().then(() => get.finish());
    return get.result;
  }

  get open(): Get[] { return this.gets.filter((get) => !get.isOver); }
}
