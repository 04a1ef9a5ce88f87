/**
 * The S3 side: one server process for all systems, and a plain client without a file system, which loads it with data, is measured itself (how fast
 * could anybody be?) and looks at what arrived.
 */
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { silentLog } from '../../src/base/log.js';
import type { ObjectStore, Part } from '../../src/s3/object-store.js';
import { openS3Store } from '../../src/s3/s3-store.js';
import { startS3Process, type S3Process } from '../../test/s3-server/child.js';
import type { SmallFile } from './dataset.js';

export const bucket = 'bench';
const inFlight = 16;
const partBytes = 8 << 20;
export const filledPerDirectory = 1000;
/** More than a symlink's object can hold: that it is a file shows in a listing. */
const filledBytes = 8192;
const mtime = '1700000000';
const directoryType = 'application/x-directory';

export class S3Side {
  private constructor(readonly server: S3Process, private readonly store: ObjectStore) {}

  static async start(): Promise<S3Side> {
    const server = await startS3Process({ buckets: [bucket], region: 'us-east-1' });
    process.env['AWS_ACCESS_KEY_ID'] = server.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = server.secretAccessKey;
    process.env['AWS_REGION'] = 'us-east-1';
    const store = await openS3Store({
      bucket, prefix: '', endpoint: server.endpoint, region: 'us-east-1', pathStyle: true, connectionsMax: 32, requestTimeoutMs: 60_000, deadlineMs: 120_000, log: silentLog,
    });
    return new S3Side(server, store);
  }

  async close(): Promise<void> {
    await this.store.close();
    await this.server.stop();
  }

  setLatency(ms: number): Promise<void> {
    return this.server.setFaults(ms === 0 ? [] : [{ fault: { type: 'latency', ms } }]);
  }

  /** s3fs wants the prefix it mounts, and every directory, to be an object. */
  async putDirectory(key: string): Promise<void> {
    await this.store.put(key, { kind: 'bytes', bytes: Buffer.alloc(0) }, { contentType: directoryType, metadata: metadata(0o040755) }, 'any');
  }

  async putBytes(key: string, bytes: Buffer): Promise<void> {
    await this.store.put(key, { kind: 'bytes', bytes }, { metadata: metadata(0o100644) }, 'any');
  }

  async putTree(prefix: string, dir: string, files: readonly SmallFile[]): Promise<void> {
    await this.putDirectory(prefix);
    for (const name of new Set(files.map((file) => path.dirname(file.name)))) if (name !== '.') await this.putDirectory(`${prefix}${name}/`);
    await this.uploadTree(prefix, dir, files);
  }

  /** As fast as a plain program can: 16 PUTs in flight. */
  uploadTree(prefix: string, dir: string, files: readonly SmallFile[]): Promise<void> {
    return inParallel(files, async (file) => this.putBytes(prefix + file.name, readFileSync(path.join(dir, file.name))));
  }

  /** Empty files, for listings. */
  async putMany(prefix: string, count: number): Promise<void> {
    await this.putDirectory(prefix);
    await inParallel(Array.from({ length: count }, (_, i) => i), (i) => this.putBytes(`${prefix}f${String(i).padStart(7, '0')}`, Buffer.from('x')));
  }

  /** As fast as a plain program can: parts of 8 MiB, 16 in flight. */
  async upload(key: string, file: string): Promise<void> {
    const size = statSync(file).size;
    const uploadId = await this.store.createUpload(key, { metadata: metadata(0o100644) });
    const starts = Array.from({ length: Math.ceil(size / partBytes) }, (_, i) => i * partBytes);
    const parts: Part[] = [];
    await inParallel(starts, async (start) => {
      const body = { kind: 'file' as const, path: file, start, end: Math.min(size, start + partBytes) };
      parts.push(await this.store.uploadPart(key, uploadId, start / partBytes + 1, body));
    });
    await this.store.completeUpload(key, uploadId, parts.sort((a, b) => a.number - b.number), 'any');
  }

  /** As fast as a plain program can: 16 ranged GETs in flight; the bytes are dropped. @returns bytes */
  async download(key: string): Promise<number> {
    const size = (await this.store.head(key))!.sizeBytes;
    let bytes = 0;
    await inParallel(Array.from({ length: Math.ceil(size / partBytes) }, (_, i) => i * partBytes), async (start) => {
      const { lengthBytes } = await this.store.getBytes(key, { start, end: Math.min(size, start + partBytes) });
      bytes += lengthBytes;
    });
    return bytes;
  }

  async get(key: string, start: number, end: number): Promise<Buffer> {
    return Buffer.from((await this.store.getBytes(key, { start, end })).bytes);
  }

  async list(prefix: string): Promise<{ key: string; sizeBytes: number }[]> {
    const found: { key: string; sizeBytes: number }[] = [];
    for (let token: string | undefined; ; ) {
      const page = await this.store.list({ prefix, ...(token !== undefined && { token }) });
      for (const object of page.objects) found.push({ key: object.key.slice(prefix.length), sizeBytes: object.sizeBytes });
      token = page.token;
      if (token === undefined) return found.filter(({ key }) => !key.startsWith('.hearthfs-'));
    }
  }

  /** Equal files of zeros, a thousand in a directory. */
  fill(prefix: string, count: number): Promise<void> {
    return this.server.fill({ bucket, prefix, count, perDirectory: filledPerDirectory, sizeBytes: filledBytes, metadata: metadata(0o100644) });
  }

  remove(prefix: string): Promise<void> {
    return this.server.remove(bucket, prefix);
  }

  /** Bytes the server has sent so far. */
  async bytesOut(): Promise<number> {
    return (await this.server.stats()).bytesOut;
  }
}

function metadata(mode: number): Record<string, string> {
  return { mode: String(mode), uid: '0', gid: '0', mtime };
}

export async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: inFlight }, async () => {
    while (next < items.length) await work(items[next++]!);
  }));
}

