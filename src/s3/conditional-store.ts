/**
 * For servers that ignore conditions (O2): look (HEAD), compare, then act without the condition. Another writer may come in between,
 * so this is "detected, not prevented", and `doctor` says so. Conditions the server honours pass through untouched.
 */
import type { Capabilities } from './capabilities.js';
import type {
  Body, CallOptions, CopySource, Expected, GetOptions, GetQuery, GetResult, Key, ListPage, ListQuery, ObjectAttributes, ObjectHead, ObjectStore, Part, Stored, Upload,
} from './object-store.js';
import { StoreError } from './store-error.js';

export class ConditionalStore implements ObjectStore {
  constructor(private readonly inner: ObjectStore, private readonly can: Capabilities) {}

  /** What the server does itself, in the words of `doctor`. */
  get protection(): 'prevented' | 'detected, not prevented' {
    const { can } = this;
    return can.putIfMatch && can.putIfNoneMatch && can.deleteIfMatch && can.copyIfMatch && can.copyIfNoneMatch && can.completeIfMatch && can.completeIfNoneMatch ? 'prevented' : 'detected, not prevented';
  }

  async put(key: Key, body: Body, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.inner.put(key, body, attributes, await this.demand(key, expected, this.can.putIfNoneMatch, this.can.putIfMatch, options), options);
  }

  async copy(source: CopySource, key: Key, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    await this.demandSource(source, options);
    return this.inner.copy(source, key, attributes, await this.demand(key, expected, this.can.copyIfNoneMatch, this.can.copyIfMatch, options), options);
  }

  async delete(key: Key, expected: Exclude<Expected, null>, options?: CallOptions): Promise<void> {
    if (expected === 'any' || this.can.deleteIfMatch) return this.inner.delete(key, expected, options);
    const head = await this.inner.head(key, options);
    if (!head) return;
    if (head.etag !== expected) throw changed(key, expected, head);
    return this.inner.delete(key, 'any', options);
  }

  async uploadPartCopy(key: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part> {
    await this.demandSource(source, options);
    return this.inner.uploadPartCopy(key, uploadId, number, source, start, end, options);
  }

  async completeUpload(key: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.inner.completeUpload(key, uploadId, parts, await this.demand(key, expected, this.can.completeIfNoneMatch, this.can.completeIfMatch, options), options);
  }

  head(key: Key, options?: CallOptions): Promise<ObjectHead | null> { return this.inner.head(key, options); }
  list(query: ListQuery, options?: CallOptions): Promise<ListPage> { return this.inner.list(query, options); }
  getToFile(key: Key, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult> { return this.inner.getToFile(key, query, path, options); }
  getBytes(key: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }> { return this.inner.getBytes(key, query, options); }
  createUpload(key: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string> { return this.inner.createUpload(key, attributes, options); }
  uploadPart(key: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part> { return this.inner.uploadPart(key, uploadId, number, body, options); }
  abortUpload(key: Key, uploadId: string, options?: CallOptions): Promise<void> { return this.inner.abortUpload(key, uploadId, options); }
  listParts(key: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null> { return this.inner.listParts(key, uploadId, options); }
  listUploads(prefix: string, options?: CallOptions): Promise<Upload[]> { return this.inner.listUploads(prefix, options); }
  presign(key: Key, expiresS: number): Promise<string> { return this.inner.presign(key, expiresS); }
  checkBucket(options?: CallOptions): ReturnType<ObjectStore['checkBucket']> { return this.inner.checkBucket(options); }
  close(): Promise<void> { return this.inner.close(); }

  /** Answers the condition that is left for the server to check. */
  private async demand(key: Key, expected: Expected, ifNoneMatch: boolean, ifMatch: boolean, options: CallOptions | undefined): Promise<Expected> {
    if (expected === 'any' || (expected === null ? ifNoneMatch : ifMatch)) return expected;
    const head = await this.inner.head(key, options);
    if ((head?.etag ?? null) !== expected) throw changed(key, expected, head);
    return 'any';
  }

  private async demandSource({ key, etag, versionId }: CopySource, options: CallOptions | undefined): Promise<void> {
    if (this.can.copySourceIfMatch || versionId !== undefined) return; // a version never changes
    const head = await this.inner.head(key, options);
    if (!head) throw new StoreError('not-found', `There is no object "${key}"`, { status: 404 });
    if (head.etag !== etag) throw changed(key, etag, head);
  }
}

function changed(key: Key, expected: string | null, head: ObjectHead | null): StoreError {
  const now = head ? `has etag ${head.etag}` : 'does not exist';
  return new StoreError('precondition-failed', `"${key}" ${now}, expected ${expected ?? 'nothing there'}`, { status: 412 });
}
