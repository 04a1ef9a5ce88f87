/**
 * The S3 server that tests run against: the embedded one as a child process, or, with S3_ENDPOINT (and AWS_ACCESS_KEY_ID,
 * AWS_SECRET_ACCESS_KEY, AWS_REGION), a real one. And a second client that knows nothing of hearthfs.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import {
  AbortMultipartUploadCommand, CreateBucketCommand, DeleteBucketCommand, DeleteObjectCommand, GetObjectCommand, HeadObjectCommand, ListMultipartUploadsCommand,
  ListObjectsV2Command, PutObjectCommand, S3Client, type HeadObjectCommandOutput, type PutObjectCommandInput, type _Object,
} from '@aws-sdk/client-s3';
import { compiledEntry } from '../../src/base/entry-url.js';
import { dyingWithUs, until } from './child.js';
import { scale } from './scale.js';

export interface Credentials { readonly accessKeyId: string; readonly secretAccessKey: string }

export class TestS3 {
  private readonly buckets: string[] = [];

  private constructor(
    readonly endpoint: string, readonly credentials: Credentials, readonly region: string, readonly client: S3Client, readonly isEmbedded: boolean,
    private readonly child: ChildProcess | undefined, private readonly storage: string | undefined,
  ) {}

  static async start(): Promise<TestS3> {
    const given = process.env['S3_ENDPOINT'];
    const region = process.env['AWS_REGION'] ?? 'us-east-1';
    const started = given ? undefined : await startEmbedded();
    const endpoint = given ?? started!.endpoint;
    const credentials = given
      ? { accessKeyId: process.env['AWS_ACCESS_KEY_ID'] ?? '', secretAccessKey: process.env['AWS_SECRET_ACCESS_KEY'] ?? '' }
      : started!.credentials;
    const client = new S3Client({
      endpoint, region, credentials, forcePathStyle: true, requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED',
    });
    return new TestS3(endpoint, credentials, region, client, !given, started?.child, started?.storage);
  }

  /** Environment of programs that are to reach it. */
  get environment(): Record<string, string> {
    return { AWS_ACCESS_KEY_ID: this.credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: this.credentials.secretAccessKey, AWS_REGION: this.region };
  }

  async newBucket(): Promise<TestBucket> {
    const name = `hearthfs-test-${randomBytes(6).toString('hex')}`;
    await this.client.send(new CreateBucketCommand({ Bucket: name }));
    this.buckets.push(name);
    return new TestBucket(this, name, '');
  }

  async close(): Promise<void> {
    try {
      if (!this.isEmbedded) for (const name of this.buckets) await this.removeBucket(name);
    } finally {
      this.client.destroy();
      if (this.child && this.child.exitCode === null) {
        const gone = new Promise((resolve) => this.child!.once('exit', resolve));
        this.child.kill('SIGKILL');
        await gone;
      }
      if (this.storage !== undefined) await rm(this.storage, { recursive: true, force: true });
    }
  }

  private async removeBucket(name: string): Promise<void> {
    const bucket = new TestBucket(this, name, '');
    const uploads = await this.client.send(new ListMultipartUploadsCommand({ Bucket: name }));
    for (const upload of uploads.Uploads ?? []) await this.client.send(new AbortMultipartUploadCommand({ Bucket: name, Key: upload.Key, UploadId: upload.UploadId }));
    await inParallel(16, [...(await bucket.list()).keys()], (key) => bucket.delete(key));
    await this.client.send(new DeleteBucketCommand({ Bucket: name }));
  }
}

/** A bucket, or a prefix of one: keys are relative to the prefix. */
export class TestBucket {
  private static count = 0;

  constructor(readonly s3: TestS3, readonly name: string, readonly prefix: string) {}

  get url(): string {
    return `s3://${this.name}/${this.prefix}`;
  }

  /** A prefix nobody else uses. */
  newPrefix(): TestBucket {
    return new TestBucket(this.s3, this.name, `${this.prefix}p${++TestBucket.count}/`);
  }

  async list(below = ''): Promise<Map<string, _Object>> {
    const found = new Map<string, _Object>();
    for (let token: string | undefined; ; ) {
      const page = await this.s3.client.send(new ListObjectsV2Command({ Bucket: this.name, Prefix: this.prefix + below, ...(token ? { ContinuationToken: token } : {}) }));
      for (const item of page.Contents ?? []) found.set(item.Key!.slice(this.prefix.length), item);
      if (!page.IsTruncated) return found;
      token = page.NextContinuationToken;
    }
  }

  /** Sorted; scratch objects that probes of the mount left for a moment are not part of the data. */
  async keys(below = ''): Promise<string[]> {
    return [...(await this.list(below)).keys()].filter((key) => !key.startsWith('.hearthfs-')).sort();
  }

  async get(key: string): Promise<Buffer> {
    return (await this.object(key)).bytes;
  }

  async object(key: string): Promise<{ readonly bytes: Buffer; readonly metadata: Readonly<Record<string, string>> }> {
    const answer = await this.s3.client.send(new GetObjectCommand({ Bucket: this.name, Key: this.prefix + key }));
    return { bytes: Buffer.from(await answer.Body!.transformToByteArray()), metadata: answer.Metadata ?? {} };
  }

  /** Without holding the object in memory. */
  async sha256(key: string): Promise<string> {
    const answer = await this.s3.client.send(new GetObjectCommand({ Bucket: this.name, Key: this.prefix + key }));
    const hash = createHash('sha256');
    for await (const piece of answer.Body as AsyncIterable<Buffer>) hash.update(piece);
    return hash.digest('hex');
  }

  head(key: string): Promise<HeadObjectCommandOutput> {
    return this.s3.client.send(new HeadObjectCommand({ Bucket: this.name, Key: this.prefix + key }));
  }

  async put(key: string, body: string | Uint8Array, more: Partial<PutObjectCommandInput> = {}): Promise<void> {
    await this.s3.client.send(new PutObjectCommand({ Bucket: this.name, Key: this.prefix + key, Body: body, ...more }));
  }

  async delete(key: string): Promise<void> {
    await this.s3.client.send(new DeleteObjectCommand({ Bucket: this.name, Key: this.prefix + key }));
  }
}

export async function inParallel<T>(limit: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  await Promise.all(Array.from({ length: limit }, async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  }));
}

async function startEmbedded(): Promise<{ endpoint: string; credentials: Credentials; child: ChildProcess; storage: string | undefined }> {
  // memory is fast; 6 GiB of it are too much
  const storage = scale >= 1 ? await mkdtemp(path.join(os.tmpdir(), 'hearthfs-s3-')) : undefined;
  const credentials = { accessKeyId: 'embedded-key', secretAccessKey: 'embedded-secret' };
  const entry = compiledEntry(import.meta.url, '../s3-server/main.js');
  const child = spawn(...dyingWithUs('KILL', [process.execPath, entry.pathname, '--access-key', credentials.accessKeyId, '--secret-key', credentials.secretAccessKey, '--region', process.env['AWS_REGION'] ?? 'us-east-1', ...(storage === undefined ? [] : ['--dir', storage])]), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  const endpoint = await until('the embedded S3 listens', () => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}; is it built (npm run build)?`);
    return /listening (http:\S+)/.exec(said)?.[1];
  });
  return { endpoint, credentials, child, storage };
}
