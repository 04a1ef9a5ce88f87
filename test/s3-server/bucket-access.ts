/** Test and demo equipment, not product: the objects as tests see them, past HTTP and faults. */
import { createHash } from 'node:crypto';
import { readSegments, releaseAll, type Segment } from './blob-store.js';
import type { Core } from './exchange.js';
import type { ObjectVersion, Upload } from './model.js';
import type { Bucket } from './state.js';
import { modifiedNow, newVersionId, removal } from './versions.js';

export interface TestObject {
  readonly bytes: Buffer;
  /** Without quotes. */
  readonly etag: string;
  readonly size: number;
  readonly modifiedMs: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly storageClass: string;
  readonly versionId: string;
  /** Of a multipart upload; 0 otherwise. */
  readonly partCount: number;
}

export interface PutOptions { readonly metadata?: Record<string, string>; readonly contentType?: string; readonly storageClass?: string }

/** Many objects that differ in nothing but their keys, which are `directory/file` below `prefix`, numbered from 0. */
export interface Fill {
  readonly bucket: string;
  readonly prefix: string;
  readonly count: number;
  readonly perDirectory: number;
  readonly sizeBytes: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

export class BucketAccess {
  constructor(private readonly access: Core) {}

  /** Nothing happens if there is one. */
  createBucket(name: string): void {
    if (!this.access.state.buckets.has(name)) this.access.state.commit({ t: 'bucket', name, createdMs: this.access.now(), lock: false });
  }

  /** Keys with a current version, in byte order. */
  listKeys(bucket: string, prefix = ''): string[] {
    return [...this.bucket(bucket).sorted].filter((entry) => !entry.versions[0]!.deleteMarker && entry.key.startsWith(prefix)).map((entry) => entry.key);
  }

  headObject(bucket: string, key: string): Omit<TestObject, 'bytes'> | undefined {
    const version = this.access.state.current(this.bucket(bucket), key);
    return version && describe(version);
  }

  async getObject(bucket: string, key: string): Promise<TestObject | undefined> {
    const version = this.access.state.current(this.bucket(bucket), key);
    if (!version) return undefined;
    const pieces: Buffer[] = [];
    for await (const bytes of readSegments(this.access.blobs, version.segments)) pieces.push(bytes);
    return { ...describe(version), bytes: Buffer.concat(pieces) };
  }

  /** As another client would, without conditions. Answers the etag, unquoted. */
  async putObject(bucket: string, key: string, body: Uint8Array | string, options: PutOptions = {}): Promise<string> {
    const bytes = Buffer.from(body);
    const { blobs, state } = this.access;
    let segments: Segment[] = [];
    if (bytes.length > 0) {
      const writer = blobs.create(bytes.length);
      await writer.write(bytes);
      segments = [{ blob: await writer.finish(), start: 0, length: bytes.length }];
    }
    const etag = createHash('md5').update(bytes).digest('hex');
    const version: ObjectVersion = {
      key, id: newVersionId(this.bucket(bucket)), etag, size: bytes.length, modifiedMs: modifiedNow(this.access), segments, metadata: options.metadata ?? {},
      headers: { 'content-type': options.contentType ?? 'binary/octet-stream', 'x-amz-server-side-encryption': 'AES256' }, storageClass: options.storageClass ?? 'STANDARD',
    };
    state.commit({ t: 'version', bucket, version });
    releaseAll(blobs, segments);
    return etag;
  }

  /** A million in seconds: they share their bytes and all of their attributes. */
  async fill(what: Fill): Promise<void> {
    const { bucket, prefix, count, perDirectory, sizeBytes, metadata = {} } = what;
    const first = filledKey(what, 0);
    if (count < 1) return;
    await this.putObject(bucket, first, Buffer.alloc(sizeBytes), { metadata });
    const { state } = this.access;
    const model = state.current(this.bucket(bucket), first)!;
    for (let i = 1; i < count; i++) state.commit({ t: 'version', bucket, version: { ...model, key: filledKey({ prefix, perDirectory }, i), id: newVersionId(this.bucket(bucket)) } });
  }

  deleteObject(bucket: string, key: string): void {
    const removed = removal(this.access, this.bucket(bucket), key, undefined, true);
    if (removed.facts.length > 0) this.access.state.commit(...removed.facts);
  }

  /** Every object whose key begins so. */
  deleteAll(bucket: string, prefix: string): void {
    for (const key of this.listKeys(bucket, prefix)) this.deleteObject(bucket, key);
  }

  /** Multipart uploads that are neither completed nor aborted. */
  openUploads(bucket: string): Upload[] {
    return [...this.access.state.uploads.values()].map((open) => open.upload).filter((upload) => upload.bucket === bucket);
  }

  private bucket(name: string): Bucket {
    const bucket = this.access.state.buckets.get(name);
    if (!bucket) throw new Error(`No bucket ${name}`);
    return bucket;
  }
}

export function filledKey({ prefix, perDirectory }: Pick<Fill, 'prefix' | 'perDirectory'>, index: number): string {
  return `${prefix}d${String(Math.floor(index / perDirectory)).padStart(5, '0')}/f${String(index).padStart(7, '0')}`;
}

function describe(version: ObjectVersion): Omit<TestObject, 'bytes'> {
  return {
    etag: version.etag, size: version.size, modifiedMs: version.modifiedMs, metadata: version.metadata, headers: version.headers,
    storageClass: version.storageClass, versionId: version.id, partCount: version.parts?.length ?? 0,
  };
}
