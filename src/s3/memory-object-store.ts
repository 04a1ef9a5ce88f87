/**
 * `ObjectStore` in memory, for tests: behaves as AWS does, conditions, multipart and versions included, and can be told to
 * ignore conditions as other servers do (O2). Every method acts in one synchronous stretch after its latency, like a server
 * that serialises requests per key. Earns trust by passing the contract suite that the real client passes.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { errorCode } from '../base/errno.js';
import { sleep } from '../base/backoff.js';
import { systemClock, type Clock } from '../base/clock.js';
import type { Capabilities } from './capabilities.js';
import type {
  Body, CallOptions, CopySource, ETag, Expected, GetOptions, GetQuery, GetResult, Key, ListPage, ListQuery, ObjectAttributes, ObjectHead, ObjectStore, ObjectSummary, Part, Stored, Upload,
} from './object-store.js';
import { StoreError } from './store-error.js';

interface Version { versionId: string; bytes: Buffer; etag: ETag; attributes: ObjectAttributes; lastModifiedMs: number; deleted: boolean }
interface OpenUpload { key: Key; attributes: ObjectAttributes; initiatedMs: number; parts: Map<number, { bytes: Buffer; etag: ETag }> }

export interface MemoryStoreOptions {
  readonly clock?: Clock;
  readonly latencyMs?: number;
  readonly versioning?: boolean;
  /** Conditions set to false here are ignored, as some servers do. */
  readonly capabilities?: Partial<Capabilities>;
  /** Smallest part but the last; AWS has 5 MiB. */
  readonly partSizeMin?: number;
}

export class MemoryObjectStore implements ObjectStore {
  // dependencies
  private readonly clock: Clock;
  // state: versions per key, newest last
  private readonly versions = new Map<Key, Version[]>();
  private readonly uploads = new Map<string, OpenUpload>();
  private nextId = 1;
  /** How many calls of each method were made. */
  readonly calls = new Map<string, number>();

  constructor(private readonly options: MemoryStoreOptions = {}) {
    this.clock = options.clock ?? systemClock;
  }

  /** Current objects by key, for assertions. */
  snapshot(): Map<Key, { bytes: Buffer; attributes: ObjectAttributes; etag: ETag }> {
    const result = new Map<Key, { bytes: Buffer; attributes: ObjectAttributes; etag: ETag }>();
    for (const key of this.sortedKeys()) {
      const { bytes, attributes, etag } = this.current(key)!;
      result.set(key, { bytes, attributes, etag });
    }
    return result;
  }

  get openUploads(): number { return this.uploads.size; }

  async head(key: Key, options?: CallOptions): Promise<ObjectHead | null> {
    await this.enter('head', options);
    const found = this.current(key);
    return found ? this.headOf(key, found) : null;
  }

  private headOf(key: Key, found: Version): ObjectHead {
    return {
      ...summary(key, found), attributes: found.attributes, serverDateMs: this.clock.now(), ...(this.options.versioning && { versionId: found.versionId }),
      ...(found.attributes.tagging !== undefined && { tagCount: found.attributes.tagging.split('&').length }),
    };
  }

  async list(query: ListQuery, options?: CallOptions): Promise<ListPage> {
    await this.enter('list', options);
    const maxKeys = Math.min(query.maxKeys ?? 1000, 1000);
    const after = query.token ?? query.startAfter ?? '';
    const objects: ObjectSummary[] = [];
    const prefixes: string[] = [];
    let last = '';
    for (const key of this.sortedKeys()) {
      if (!key.startsWith(query.prefix) || compareBytes(key, after) <= 0) continue;
      const cut = query.delimiter ? key.indexOf(query.delimiter, query.prefix.length) : -1;
      const folded = cut < 0 ? undefined : key.slice(0, cut + 1);
      if (folded !== undefined && (prefixes.at(-1) === folded || folded === query.token)) continue;
      if (objects.length + prefixes.length >= maxKeys) return { objects, prefixes, token: last };
      if (folded !== undefined) prefixes.push(folded);
      else objects.push(summary(key, this.current(key)!));
      last = folded ?? key;
    }
    return { objects, prefixes };
  }

  async getBytes(key: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }> {
    await this.enter('get', options);
    return this.read(key, query);
  }

  async getToFile(key: Key, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult> {
    await this.enter('get', options);
    const { bytes, ...result } = this.read(key, query);
    localIo(path, 'r+', (fd) => {
      for (let at = 0; at < bytes.length; at += writeSync(fd, bytes, at, bytes.length - at, query.start + at));
    });
    const half = bytes.length >> 1; // two ranges, so that callers see more than one
    if (half > 0) options?.onRange?.(query.start, query.start + half);
    if (bytes.length > 0) options?.onRange?.(query.start + half, query.start + bytes.length);
    return result;
  }

  async put(key: Key, body: Body, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    const bytes = readBody(body);
    await this.enter('put', options);
    this.check(key, expected, 'putIfNoneMatch', 'putIfMatch');
    return this.store(key, bytes, attributes);
  }

  async copy(source: CopySource, key: Key, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    await this.enter('copy', options);
    const from = this.source(source);
    this.check(key, expected, 'copyIfNoneMatch', 'copyIfMatch');
    return this.store(key, from.bytes, { ...attributes, ...(attributes.tagging === undefined && from.attributes.tagging !== undefined && { tagging: from.attributes.tagging }) });
  }

  async delete(key: Key, expected: Exclude<Expected, null>, options?: CallOptions): Promise<void> {
    await this.enter('delete', options);
    const found = this.current(key);
    if (!found) return;
    this.check(key, expected, 'putIfNoneMatch', 'deleteIfMatch');
    if (this.options.versioning) this.push(key, { ...found, bytes: Buffer.alloc(0), deleted: true });
    else this.versions.delete(key);
  }

  async createUpload(key: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string> {
    await this.enter('createUpload', options);
    const uploadId = `upload-${this.nextId++}`;
    this.uploads.set(uploadId, { key, attributes, initiatedMs: this.clock.now(), parts: new Map() });
    return uploadId;
  }

  async uploadPart(key: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part> {
    const bytes = readBody(body);
    await this.enter('uploadPart', options);
    return { ...this.storePart(key, uploadId, number, bytes), sha256: createHash('sha256').update(bytes).digest('hex') };
  }

  async uploadPartCopy(key: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part> {
    await this.enter('uploadPartCopy', options);
    const { bytes } = this.source(source);
    if (start >= end || end > bytes.length) throw new StoreError('invalid', `Cannot copy bytes ${start} to ${end} of "${source.key}": it has ${bytes.length}`, { status: 400 });
    return this.storePart(key, uploadId, number, bytes.subarray(start, end));
  }

  async completeUpload(key: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored> {
    await this.enter('completeUpload', options);
    const upload = this.upload(key, uploadId);
    const chosen = parts.map(({ number, etag }, index) => {
      const part = upload.parts.get(number);
      if (!part || part.etag !== etag) throw new StoreError('invalid', `Cannot complete "${key}": part ${number} was not uploaded with etag ${etag}`, { status: 400, code: 'InvalidPart' });
      if (index > 0 && number <= parts[index - 1]!.number) throw new StoreError('invalid', `Cannot complete "${key}": parts are not in order`, { status: 400, code: 'InvalidPartOrder' });
      if (index < parts.length - 1 && part.bytes.length < (this.options.partSizeMin ?? 5 << 20)) throw new StoreError('invalid', `Cannot complete "${key}": part ${number} is too small`, { status: 400, code: 'EntityTooSmall' });
      return part;
    });
    if (chosen.length === 0) throw new StoreError('invalid', `Cannot complete "${key}": no parts`, { status: 400, code: 'MalformedXML' });
    this.check(key, expected, 'completeIfNoneMatch', 'completeIfMatch');
    this.uploads.delete(uploadId);
    const digest = createHash('md5');
    for (const part of chosen) digest.update(Buffer.from(part.etag, 'hex'));
    return this.store(key, Buffer.concat(chosen.map((part) => part.bytes)), upload.attributes, `${digest.digest('hex')}-${chosen.length}`);
  }

  async abortUpload(_key: Key, uploadId: string, options?: CallOptions): Promise<void> {
    await this.enter('abortUpload', options);
    this.uploads.delete(uploadId);
  }

  async listParts(_key: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null> {
    await this.enter('listParts', options);
    const upload = this.uploads.get(uploadId);
    if (!upload) return null;
    return [...upload.parts].sort(([a], [b]) => a - b).map(([number, { etag, bytes }]) => ({ number, etag, sizeBytes: bytes.length }));
  }

  async listUploads(prefix: string, options?: CallOptions): Promise<Upload[]> {
    await this.enter('listUploads', options);
    return [...this.uploads].filter(([, upload]) => upload.key.startsWith(prefix)).map(([uploadId, { key, initiatedMs }]) => ({ key, uploadId, initiatedMs }));
  }

  presign(key: Key, expiresS: number): Promise<string> {
    return Promise.resolve(`memory:///${encodeURIComponent(key)}?expires=${expiresS}`);
  }

  async checkBucket(options?: CallOptions): Promise<{ region?: string; versioning?: boolean; serverDateMs?: number; server?: string }> {
    await this.enter('checkBucket', options);
    return { region: 'us-east-1', versioning: this.options.versioning ?? false, serverDateMs: this.clock.now(), server: 'memory' };
  }

  close(): Promise<void> { return Promise.resolve(); }

  private async enter(call: string, options?: CallOptions): Promise<void> {
    this.calls.set(call, (this.calls.get(call) ?? 0) + 1);
    if (this.options.latencyMs !== undefined) await sleep(this.options.latencyMs, options?.signal);
    else await Promise.resolve();
    if (options?.signal?.aborted) throw new StoreError('aborted', `The ${call} request was aborted`);
  }

  private current(key: Key): Version | undefined {
    const newest = this.versions.get(key)?.at(-1);
    return newest?.deleted ? undefined : newest;
  }

  private sortedKeys(): Key[] {
    return [...this.versions.keys()].filter((key) => this.current(key)).sort(compareBytes);
  }

  private push(key: Key, version: Omit<Version, 'versionId' | 'lastModifiedMs'>): Version {
    const whole = { ...version, versionId: `v${this.nextId++}`, lastModifiedMs: Math.floor(this.clock.now() / 1000) * 1000 }; // S3 has whole seconds
    const older = this.options.versioning ? this.versions.get(key) ?? [] : [];
    this.versions.set(key, [...older, whole]);
    return whole;
  }

  private store(key: Key, bytes: Buffer, attributes: ObjectAttributes, etag = md5(bytes)): Stored {
    if (Buffer.byteLength(key) > 1024) throw new StoreError('invalid', `The key "${key}" is too long`, { status: 400, code: 'KeyTooLongError' });
    const { versionId, lastModifiedMs } = this.push(key, { bytes, etag, attributes: structuredClone(attributes), deleted: false });
    return { etag, lastModifiedMs, ...(this.options.versioning && { versionId }) };
  }

  private check(key: Key, expected: Expected, ifNoneMatch: keyof Capabilities, ifMatch: keyof Capabilities): void {
    if (expected === 'any') return;
    if (this.options.capabilities?.[expected === null ? ifNoneMatch : ifMatch] === false) return;
    if ((this.current(key)?.etag ?? null) !== expected) throw new StoreError('precondition-failed', `"${key}" was changed by someone else`, { status: 412 });
  }

  private source({ key, etag, versionId }: CopySource): Version {
    const found = versionId === undefined ? this.current(key) : this.versions.get(key)?.find((version) => version.versionId === versionId && !version.deleted);
    if (!found) throw new StoreError('not-found', `There is no object "${key}"`, { status: 404 });
    if (this.options.capabilities?.copySourceIfMatch !== false && found.etag !== etag) throw new StoreError('precondition-failed', `"${key}" was changed by someone else`, { status: 412 });
    return found;
  }

  private read(key: Key, query: GetQuery): GetResult & { bytes: Buffer } {
    const found = query.versionId === undefined ? this.current(key) : this.versions.get(key)?.find((version) => version.versionId === query.versionId);
    if (!found || found.deleted) throw new StoreError('not-found', `There is no object "${key}"`, { status: 404 });
    if (query.etag !== undefined && query.etag !== found.etag) throw new StoreError('precondition-failed', `"${key}" was changed by someone else`, { status: 412 });
    const bytes = found.bytes.subarray(query.start, query.end);
    const head = query.withHead && found.attributes.tagging === undefined ? this.headOf(key, found) : undefined;
    return { etag: found.etag, lastModifiedMs: found.lastModifiedMs, lengthBytes: bytes.length, objectSizeBytes: found.bytes.length, bytes: Buffer.from(bytes), ...(head && { head }) };
  }

  private upload(key: Key, uploadId: string): OpenUpload {
    const upload = this.uploads.get(uploadId);
    if (upload?.key !== key) throw new StoreError('no-such-upload', `There is no upload ${uploadId} of "${key}"`, { status: 404 });
    return upload;
  }

  private storePart(key: Key, uploadId: string, number: number, bytes: Buffer): Part {
    const etag = md5(bytes);
    this.upload(key, uploadId).parts.set(number, { bytes: Buffer.from(bytes), etag });
    return { number, etag, sizeBytes: bytes.length };
  }
}

function summary(key: Key, { etag, bytes, lastModifiedMs, attributes }: Version): ObjectSummary {
  return { key, etag, sizeBytes: bytes.length, lastModifiedMs, ...(attributes.storageClass !== undefined && { storageClass: attributes.storageClass }) };
}

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}

/** S3 orders keys by their UTF-8 bytes; JavaScript compares UTF-16 units. */
function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function readBody(body: Body): Buffer {
  if (body.kind === 'bytes') return Buffer.from(body.bytes);
  const bytes = Buffer.alloc(body.end - body.start);
  localIo(body.path, 'r', (fd) => {
    for (let at = 0; at < bytes.length;) {
      const count = readSync(fd, bytes, at, bytes.length - at, body.start + at);
      if (count === 0) throw new StoreError('local-io', `Cannot read "${body.path}" to byte ${body.end}: it ends at ${body.start + at}`);
      at += count;
    }
  });
  return bytes;
}

function localIo(path: string, flags: string, use: (fd: number) => void): void {
  let fd: number | undefined;
  try {
    fd = openSync(path, flags);
    use(fd);
  } catch (error) {
    if (error instanceof StoreError) throw error;
    const errno = (error as NodeJS.ErrnoException).errno;
    throw new StoreError('local-io', `Cannot access "${path}": ${errorCode(error) ?? String(error)}`, errno === undefined ? {} : { errno: -errno }, { cause: error });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
