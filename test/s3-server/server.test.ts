import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as S3 from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { awsCapabilities, cephCapabilities } from './capabilities.js';
import { startS3Server, type S3Server, type S3ServerOptions } from './server.js';

const Bucket = 'bucket';
const wrong = '"00000000000000000000000000000000"';
const directories: string[] = [];
const servers: S3Server[] = [];

function directory(): string {
  const made = fs.mkdtempSync(join(tmpdir(), 's3-server-'));
  directories.push(made);
  return made;
}
async function start(options: S3ServerOptions = {}): Promise<S3Server> {
  const server = await startS3Server({ buckets: [Bucket], partBytesMin: 1, ...options });
  servers.push(server);
  return server;
}
function clientOf(server: { endpoint: string; accessKeyId: string; secretAccessKey: string }, options: Partial<S3.S3ClientConfig> = {}): S3.S3Client {
  const { endpoint, accessKeyId, secretAccessKey } = server;
  return new S3.S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, maxAttempts: 1, credentials: { accessKeyId, secretAccessKey }, ...options });
}
async function statusOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
    return 'ok';
  } catch (error) {
    const { name, $metadata } = error as S3.S3ServiceException;
    return $metadata?.httpStatusCode === undefined ? 'no response' : `${$metadata.httpStatusCode} ${name}`;
  }
}

afterAll(async () => {
  for (const server of servers) await server.close();
  for (const one of directories) fs.rmSync(one, { recursive: true });
});

describe.each([['memory', (): string => 'memory'], ['a directory', directory]])('the server with storage in %s', (_name, storage) => {
  let server: S3Server;
  let client: S3.S3Client;
  const put = (Key: string, Body: string, more: Partial<S3.PutObjectCommandInput> = {}): Promise<S3.PutObjectCommandOutput> => client.send(new S3.PutObjectCommand({ Bucket, Key, Body, ...more }));
  const get = async (Key: string, more: Partial<S3.GetObjectCommandInput> = {}): Promise<string> => (await client.send(new S3.GetObjectCommand({ Bucket, Key, ...more }))).Body!.transformToString();
  beforeAll(async () => {
    server = await start({ storage: storage() });
    client = clientOf(server);
  });
  afterEach(() => {
    server.faults.clear();
    Object.assign(server.capabilities, awsCapabilities());
  });

  test('conditions on PUT answer as AWS does (O2)', async () => {
    const { ETag } = await put('c', 'one', { IfNoneMatch: '*' });
    expect(await statusOf(put('c', 'two', { IfNoneMatch: '*' }))).toBe('412 PreconditionFailed');
    expect(await statusOf(put('c', 'two', { IfMatch: wrong }))).toBe('412 PreconditionFailed');
    expect(await statusOf(put('c-missing', 'two', { IfMatch: ETag }))).toBe('404 NoSuchKey');
    expect(await get('c')).toBe('one');
    await put('c', 'two', { IfMatch: ETag });
    expect(await get('c')).toBe('two');
  });

  test('of sixteen writers that expect the same state one wins', async () => {
    const results = await Promise.all(Array.from({ length: 16 }, (_, i) => statusOf(put('race', `w${i}`, { IfNoneMatch: '*' }))));
    expect(results.filter((one) => one === 'ok')).toHaveLength(1);
    expect(new Set(results)).toEqual(new Set(['ok', '412 PreconditionFailed']));
  });

  test('conditions on DELETE, Copy and Complete answer as AWS does (O2)', async () => {
    const { ETag } = await put('d', 'one');
    const del = (Key: string, IfMatch: string): Promise<unknown> => statusOf(client.send(new S3.DeleteObjectCommand({ Bucket, Key, IfMatch })));
    expect(await del('d', wrong)).toBe('412 PreconditionFailed');
    expect(await del('d-missing', wrong)).toBe('404 NoSuchKey');
    const copy = (more: Partial<S3.CopyObjectCommandInput>): Promise<unknown> => statusOf(client.send(new S3.CopyObjectCommand({ Bucket, Key: 'd2', CopySource: `${Bucket}/d`, ...more })));
    expect(await copy({ CopySourceIfMatch: wrong })).toBe('412 PreconditionFailed');
    expect(await copy({ CopySourceIfMatch: ETag!, IfMatch: ETag })).toBe('404 NoSuchKey');
    expect(await copy({ CopySourceIfMatch: ETag!, IfNoneMatch: '*' })).toBe('ok');
    expect(await copy({ IfNoneMatch: '*' })).toBe('412 PreconditionFailed');
    expect(await copy({ IfMatch: wrong })).toBe('412 PreconditionFailed');
    const { UploadId } = await client.send(new S3.CreateMultipartUploadCommand({ Bucket, Key: 'd' }));
    const part = await client.send(new S3.UploadPartCommand({ Bucket, Key: 'd', UploadId, PartNumber: 1, Body: 'new' }));
    const complete = (more: Partial<S3.CompleteMultipartUploadCommandInput>): Promise<unknown> => statusOf(client.send(new S3.CompleteMultipartUploadCommand({ Bucket, Key: 'd', UploadId, MultipartUpload: { Parts: [{ ETag: part.ETag, PartNumber: 1 }] }, ...more })));
    expect(await complete({ IfNoneMatch: '*' })).toBe('412 PreconditionFailed');
    expect(await complete({ IfMatch: ETag })).toBe('ok');
    expect(await complete({ IfMatch: ETag })).toBe('404 NoSuchUpload');
    expect(await get('d')).toBe('new');
    expect(await del('d', ETag!)).toBe('412 PreconditionFailed');
  });

  test('listings are in byte order and pages neither lose nor repeat', async () => {
    const keys = ['l/\uffe5', 'l/😀', 'l/a-', 'l/a.', 'l/a/1', 'l/a/2', 'l/a0', 'l/Z', 'l/ä'];
    for (const key of keys) await put(key, 'x');
    const pages = async (more: Partial<S3.ListObjectsV2CommandInput>): Promise<string[]> => {
      const out: string[] = [];
      let ContinuationToken: string | undefined;
      do {
        const page: S3.ListObjectsV2CommandOutput = await client.send(new S3.ListObjectsV2Command({ Bucket, Prefix: 'l/', MaxKeys: 2, ContinuationToken, ...more }));
        out.push(...[...(page.Contents ?? []).map((one) => one.Key!), ...(page.CommonPrefixes ?? []).map((one) => one.Prefix!)].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
        ContinuationToken = page.NextContinuationToken;
      } while (ContinuationToken !== undefined);
      return out;
    };
    expect(await pages({})).toEqual(['l/Z', 'l/a-', 'l/a.', 'l/a/1', 'l/a/2', 'l/a0', 'l/ä', 'l/\uffe5', 'l/😀']);
    expect(await pages({ Delimiter: '/' })).toEqual(['l/Z', 'l/a-', 'l/a.', 'l/a/', 'l/a0', 'l/ä', 'l/\uffe5', 'l/😀']);
    expect(await pages({ StartAfter: 'l/a/1' })).toEqual(['l/a/2', 'l/a0', 'l/ä', 'l/\uffe5', 'l/😀']);
    expect(server.listKeys(Bucket, 'l/')).toEqual(await pages({}));
  });

  test('a lost response: the object is stored and the client hears nothing (J5)', async () => {
    server.faults.add({ kinds: ['PUT'], keyPattern: '^lost$', count: 1, fault: { type: 'cut-after' } });
    expect(await statusOf(put('lost', 'stored', { Metadata: { nonce: 'n1' } }))).toBe('no response');
    const head = await client.send(new S3.HeadObjectCommand({ Bucket, Key: 'lost' }));
    expect(head.Metadata).toEqual({ nonce: 'n1' });
    expect(server.requestLog.recent().filter((one) => one.key === 'lost').map((one) => [one.kind, one.status])).toEqual([['PUT', 0], ['HEAD', 200]]);
  });

  test('a late PUT lands after its client has given up (J6)', async () => {
    server.faults.add({ keyPattern: '^late$', count: 1, fault: { type: 'late', ms: 150 } });
    const controller = new AbortController();
    const sent = statusOf(client.send(new S3.PutObjectCommand({ Bucket, Key: 'late', Body: 'x' }), { abortSignal: controller.signal }));
    setTimeout(() => controller.abort(), 60);
    expect(await sent).toBe('no response');
    expect(server.headObject(Bucket, 'late')).toBeUndefined();
    await expect.poll(() => server.headObject(Bucket, 'late')?.size, { interval: 10 }).toBe(1);
  });

  test('requests cut before processing or answered by an injected status change nothing', async () => {
    server.faults.add({ kinds: ['PUT'], count: 1, fault: { type: 'cut-before' } });
    server.faults.add({ kinds: ['PUT'], count: 1, fault: { type: 'status', status: 503, code: 'SlowDown' } });
    expect(await statusOf(put('never', 'x'))).toBe('no response');
    expect(await statusOf(put('never', 'x'))).toBe('503 SlowDown');
    expect(server.headObject(Bucket, 'never')).toBeUndefined();
    expect(await statusOf(put('never', 'x'))).toBe('ok');
  });

  test('a body cut in the middle, and one with a flipped bit', async () => {
    await put('body', 'x'.repeat(100_000));
    server.faults.add({ kinds: ['GET'], count: 1, fault: { type: 'cut-body' } });
    server.faults.add({ kinds: ['GET'], count: 1, fault: { type: 'corrupt' } });
    await expect(get('body')).rejects.toThrow();
    // The default checksum, which the client put with the object, betrays the flipped bit.
    await expect(get('body')).rejects.toThrow(/[Cc]hecksum/);
    expect(await get('body')).toBe('x'.repeat(100_000));
  });

  test('a 200 of Copy can carry an error (J5)', async () => {
    await put('src', 'x');
    server.faults.add({ kinds: ['COPY'], count: 1, fault: { type: 'error-in-200' } });
    const copy = new S3.CopyObjectCommand({ Bucket, Key: 'dst', CopySource: `${Bucket}/src` });
    await expect(client.send(copy)).rejects.toThrow('Injected fault');
    expect(server.headObject(Bucket, 'dst')).toBeUndefined();
  });

  test('a request that hangs is answered by nothing until it is cut', async () => {
    server.faults.add({ keyPattern: '^hung$', count: 1, fault: { type: 'hang' } });
    const result = statusOf(get('hung'));
    await expect.poll(() => server.faults.hungCount, { interval: 5 }).toBe(1);
    server.faults.releaseHung();
    expect(await result).toBe('no response');
  });

  test('while down connections are refused, and afterwards everything is there', async () => {
    await put('outage', 'kept');
    await server.faults.down();
    expect(await statusOf(get('outage'))).toBe('no response');
    await server.faults.up();
    expect(await get('outage')).toBe('kept');
  });

  test('it can be Ceph: conditions of Copy and DELETE are ignored and quoted If-Match fails', async () => {
    Object.assign(server.capabilities, cephCapabilities());
    const { ETag } = await put('ceph', 'one');
    expect(await statusOf(put('ceph', 'two', { IfMatch: ETag }))).toBe('412 PreconditionFailed');
    expect(await statusOf(put('ceph', 'two', { IfMatch: ETag!.replaceAll('"', '') }))).toBe('ok');
    expect(await statusOf(client.send(new S3.DeleteObjectCommand({ Bucket, Key: 'ceph', IfMatch: wrong })))).toBe('ok');
  });

  test('multipart with a full-object CRC: the joined checksum is that of the bytes', async () => {
    const { UploadId } = await client.send(new S3.CreateMultipartUploadCommand({ Bucket, Key: 'mp', ChecksumAlgorithm: 'CRC64NVME' }));
    const bodies = ['hello ', 'big ', 'world'];
    const Parts: S3.CompletedPart[] = [];
    for (const [index, Body] of bodies.entries()) {
      const part = await client.send(new S3.UploadPartCommand({ Bucket, Key: 'mp', UploadId, PartNumber: index + 1, Body }));
      Parts.push({ ETag: part.ETag, PartNumber: index + 1 });
    }
    const done = await client.send(new S3.CompleteMultipartUploadCommand({ Bucket, Key: 'mp', UploadId, MultipartUpload: { Parts } }));
    const single = await put('mp-single', bodies.join(''), { ChecksumAlgorithm: 'CRC64NVME' });
    expect(done.ChecksumCRC64NVME).toBe(single.ChecksumCRC64NVME);
    expect(await get('mp')).toBe('hello big world');
    expect(await get('mp', { PartNumber: 2 })).toBe('big ');
    expect(await get('mp', { Range: 'bytes=4-10' })).toBe('o big w');
    expect(server.openUploads(Bucket).filter((one) => one.key === 'mp')).toEqual([]);
  });

  test('versions: each is kept, a delete is a marker, and deleting the marker brings the object back', async () => {
    const versioned = `versions-${server.port}`;
    server.createBucket(versioned);
    await client.send(new S3.PutBucketVersioningCommand({ Bucket: versioned, VersioningConfiguration: { Status: 'Enabled' } }));
    const first = await put('v', '1', { Bucket: versioned });
    await put('v', '2', { Bucket: versioned });
    const gone = await client.send(new S3.DeleteObjectCommand({ Bucket: versioned, Key: 'v' }));
    expect(await statusOf(get('v', { Bucket: versioned }))).toBe('404 NoSuchKey');
    expect(await get('v', { Bucket: versioned, VersionId: first.VersionId })).toBe('1');
    expect(await statusOf(client.send(new S3.DeleteObjectCommand({ Bucket: versioned, Key: 'v', IfMatch: '*' })))).toBe('412 PreconditionFailed');
    const listed = await client.send(new S3.ListObjectVersionsCommand({ Bucket: versioned }));
    expect([listed.Versions?.length, listed.DeleteMarkers?.length]).toEqual([2, 1]);
    await client.send(new S3.DeleteObjectCommand({ Bucket: versioned, Key: 'v', VersionId: gone.VersionId }));
    expect(await get('v', { Bucket: versioned })).toBe('2');
    const pages: string[] = [];
    let KeyMarker: string | undefined, VersionIdMarker: string | undefined;
    do {
      const page: S3.ListObjectVersionsCommandOutput = await client.send(new S3.ListObjectVersionsCommand({ Bucket: versioned, MaxKeys: 1, KeyMarker, VersionIdMarker }));
      pages.push(...(page.Versions ?? []).map((one) => one.VersionId!));
      [KeyMarker, VersionIdMarker] = [page.NextKeyMarker, page.NextVersionIdMarker];
    } while (KeyMarker !== undefined);
    expect(new Set(pages).size).toBe(2);
    expect(pages[1]).toBe(first.VersionId);
  });

  test('a header that is not signed is refused, and so is 2 KiB + 1 of metadata', async () => {
    const tampering = clientOf(server);
    tampering.middlewareStack.add((next) => (args) => {
      (args.request as { headers: Record<string, string> }).headers['x-amz-meta-late'] = 'x';
      return next(args);
    }, { step: 'finalizeRequest', priority: 'low' });
    expect(await statusOf(tampering.send(new S3.PutObjectCommand({ Bucket, Key: 'unsigned', Body: 'x' })))).toBe('403 AccessDenied');
    expect(await statusOf(put('meta', 'x', { Metadata: { k: 'x'.repeat(2047) } }))).toBe('ok');
    expect(await statusOf(put('meta', 'x', { Metadata: { k: 'x'.repeat(2048) } }))).toBe('400 MetadataTooLarge');
    expect(await statusOf(put('k'.repeat(1025), 'x'))).toBe('400 KeyTooLongError');
  });
});

test('after a restart a directory holds objects, versions, uploads and configurations, and a torn last line is forgotten', async () => {
  const storage = directory();
  let server = await start({ storage });
  let client = clientOf(server);
  const big = Buffer.alloc(3 << 20, 7);
  await client.send(new S3.PutObjectCommand({ Bucket, Key: 'a', Body: big, Metadata: { mode: '33188' }, ContentType: 'text/x' }));
  await client.send(new S3.PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
  await client.send(new S3.PutObjectCommand({ Bucket, Key: 'a', Body: 'second' }));
  await client.send(new S3.CopyObjectCommand({ Bucket, Key: 'copy', CopySource: `${Bucket}/a?versionId=null` }));
  await client.send(new S3.DeleteObjectCommand({ Bucket, Key: 'a', VersionId: 'null' }));
  const { UploadId } = await client.send(new S3.CreateMultipartUploadCommand({ Bucket, Key: 'mp' }));
  const part = await client.send(new S3.UploadPartCommand({ Bucket, Key: 'mp', UploadId, PartNumber: 1, Body: 'part' }));
  const etag = server.headObject(Bucket, 'copy')!.etag;
  await server.close();
  fs.appendFileSync(join(storage, 'journal.jsonl'), '[{"t":"version","bucket":"bucket","vers');
  for (let round = 0; round < 2; round++) {
    server = await start({ storage });
    client = clientOf(server);
    expect(server.listKeys(Bucket)).toEqual(['a', 'copy']);
    const copied = await server.getObject(Bucket, 'copy');
    expect([copied?.etag, copied?.metadata, copied?.bytes.equals(big)]).toEqual([etag, { mode: '33188' }, true]);
    const parts = await client.send(new S3.ListPartsCommand({ Bucket, Key: 'mp', UploadId }));
    expect(parts.Parts?.map((one) => one.ETag)).toEqual([part.ETag]);
    expect((await client.send(new S3.GetBucketVersioningCommand({ Bucket }))).Status).toBe('Enabled');
    await server.close();
  }
});

test('another user may read and not write if their policy says so', async () => {
  const server = await start({ users: [{ accessKeyId: 'reader', secretAccessKey: 'secret', user: 'reader', policy: { Statement: [{ Effect: 'Allow', Action: ['s3:Get*', 's3:List*'], Resource: '*' }] } }] });
  await server.putObject(Bucket, 'k', 'x');
  const reader = clientOf({ ...server, accessKeyId: 'reader', secretAccessKey: 'secret' });
  expect(await statusOf(reader.send(new S3.GetObjectCommand({ Bucket, Key: 'k' })))).toBe('ok');
  expect(await statusOf(reader.send(new S3.PutObjectCommand({ Bucket, Key: 'k', Body: 'y' })))).toBe('403 AccessDenied');
});
