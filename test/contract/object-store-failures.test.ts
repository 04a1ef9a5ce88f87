/** What the real client does when the server or the network misbehaves. The server injects the faults; nothing is mocked. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { systemClock, type Clock } from '../../src/base/clock.js';
import { silentLog } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import type { AwsConfig, ExpiringCredentials } from '../../src/s3/aws-config.js';
import type { ObjectStore } from '../../src/s3/object-store.js';
import { openS3Store, type S3StoreOptions } from '../../src/s3/s3-store.js';
import { StoreError } from '../../src/s3/store-error.js';
import { startS3Server, type S3Server } from '../s3-server/server.js';
import { selfSigned, tlsFront } from '../support/tls-front.js';

const good = { accessKeyId: 'good-key', secretAccessKey: 'good-secret' };
const plain = { metadata: {} };
const bytes = (content: string | Uint8Array): { kind: 'bytes'; bytes: Uint8Array } => ({ kind: 'bytes', bytes: typeof content === 'string' ? Buffer.from(content) : content });

let s3: S3Server;
let directory: string;
const stores: ObjectStore[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'hearthfs-failures-'));
  s3 = await startS3Server({ ...good, region: 'eu-north-1', buckets: ['b'] });
});
afterEach(async () => {
  s3.faults.clear();
  s3.faults.releaseHung();
  await Promise.all(stores.splice(0).map((store) => store.close()));
});
afterAll(async () => {
  await s3.close();
  rmSync(directory, { recursive: true });
});

/** As `loadAwsConfig` would answer for the server; credentials as the test says. */
function config(load: (fresh: boolean) => ExpiringCredentials = () => good, region = 'eu-north-1'): AwsConfig {
  const { hostname, port, host } = new URL(s3.endpoint);
  return {
    region, customEndpoint: true, loadCredentials: (fresh) => Promise.resolve(load(fresh)),
    endpointFor: (of) => Promise.resolve({ secure: false, hostname, port: Number(port), host, basePath: '/b', scope: { region: of, service: 's3' } }),
  };
}

async function open(more: Partial<S3StoreOptions> = {}): Promise<ObjectStore> {
  const store = await openS3Store({ bucket: 'b', prefix: '', pathStyle: true, connectionsMax: 8, requestTimeoutMs: 5000, deadlineMs: 10_000, log: silentLog, aws: config(), ...more });
  stores.push(store);
  return store;
}

async function failure(call: Promise<unknown>): Promise<StoreError> {
  const error = await call.then(() => undefined, (caught: unknown) => caught);
  expect(error).toBeInstanceOf(StoreError);
  return error as StoreError;
}

describe('network', () => {
  test('a body that is cut is unavailable, and only bytes that arrived are reported', async () => {
    const store = await open();
    const content = Buffer.alloc(3 << 20, 'abc');
    const { etag } = await store.put('cut', bytes(content), plain, null);
    s3.faults.add({ kinds: ['GET'], count: 2, fault: { type: 'cut-body', afterBytes: 1_500_000 } });
    expect((await failure(store.getBytes('cut', { start: 0, end: content.length, etag }))).kind).toBe('unavailable');
    const path = join(directory, 'cut');
    writeFileSync(path, '');
    let landed = 0;
    expect((await failure(store.getToFile('cut', { start: 0, end: content.length, etag }, path, { onRange: (_, end) => { landed = end; } }))).kind).toBe('unavailable');
    expect(landed).toBeGreaterThan(1_000_000);
    expect(landed).toBeLessThan(content.length);
    expect(readFileSync(path).subarray(0, landed).equals(content.subarray(0, landed))).toBe(true);
  });

  test('a listing that is cut is unavailable, never a shorter listing', async () => {
    const store = await open();
    await store.put('list/a', bytes('x'), plain, 'any');
    s3.faults.add({ kinds: ['LIST'], count: 1, fault: { type: 'cut-body', afterBytes: 200 } });
    expect((await failure(store.list({ prefix: 'list/' }))).kind).toBe('unavailable');
  });

  test('silence ends by the idle limit, by the deadline of the call, and by its signal', async () => {
    const store = await open({ requestTimeoutMs: 150 });
    s3.faults.add({ fault: { type: 'hang' } });
    expect(await failure(store.head('a'))).toMatchObject({ kind: 'unavailable', details: { code: 'ETIMEDOUT' } });
    const patient = await open({ requestTimeoutMs: 60_000 });
    expect((await failure(patient.head('a', { deadlineMs: 100 }))).message).toMatch(/not finished within \d+ ms/);
    const controller = new AbortController();
    const call = failure(patient.put('a', bytes('x'), plain, null, { signal: controller.signal }));
    controller.abort();
    expect((await call).kind).toBe('aborted');
  });

  test('a mutation whose answer is lost is unavailable and is not sent again (J5)', async () => {
    const store = await open();
    await store.head('warm');
    const before = s3.requestLog.count('PUT');
    s3.faults.add({ kinds: ['PUT'], count: 1, fault: { type: 'cut-after' } });
    const error = await failure(store.put('lost', bytes('x'), plain, null));
    expect(error).toMatchObject({ kind: 'unavailable', ambiguous: true });
    expect(s3.requestLog.count('PUT')).toBe(before + 1);
    expect(await store.head('lost')).not.toBeNull();
  });

  test('refused connections are unavailable with a sentence', async () => {
    const closed = createServer();
    await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    const aws = config();
    const store = await open({ aws: { ...aws, endpointFor: async (region) => ({ ...(await aws.endpointFor(region)), port }) } });
    expect(await failure(store.head('a'))).toMatchObject({ kind: 'unavailable', message: `HEAD "a" in bucket "b" failed: 127.0.0.1:${port} refuses connections` });
  });

  test('a kept socket that the server had closed costs an idempotent request nothing', async () => {
    // closes the connection as soon as a second request arrives on it
    let requests = 0;
    const server: Server = createServer((socket) => {
      let first = true;
      socket.on('error', () => undefined);
      socket.on('data', () => {
        requests++;
        if (!first) return void socket.destroy();
        first = false;
        return void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "e"\r\n\r\n');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const aws = config();
    const store = await open({ aws: { ...aws, endpointFor: async (region) => ({ ...(await aws.endpointFor(region)), port: (server.address() as AddressInfo).port }) } });
    expect(await store.head('a')).toMatchObject({ etag: 'e' });
    expect(await store.head('a')).toMatchObject({ etag: 'e' });
    expect(requests).toBe(3);
    expect((await failure(store.put('a', bytes('x'), plain, 'any'))).kind).toBe('unavailable'); // a mutation is not sent again
    expect(requests).toBe(4);
    await store.put('a', bytes('x'), plain, 'any'); // on a new connection
    expect(requests).toBe(5);
    await store.close();
    await new Promise((resolve) => server.close(resolve));
  });
});

describe('https', () => {
  test('a private authority is trusted through AWS_CA_BUNDLE and only then, and bodies carry a checksum the server verifies', async ({ skip }) => {
    const files = selfSigned(directory, 'localhost');
    if (!files) return skip('openssl is not installed');
    const { cert } = files;
    const tls = await tlsFront(files, s3.port);
    const { port } = tls.address() as AddressInfo;
    const aws = config();
    const over = { ...aws, endpointFor: async (region: string) => ({ ...(await aws.endpointFor(region)), secure: true, hostname: 'localhost', port, host: `localhost:${port}` }) };
    const error = await failure((await open({ aws: over })).head('a'));
    expect(error.kind).toBe('unavailable');
    expect(error.message).toContain('AWS_CA_BUNDLE');
    const store = await open({ aws: over, caBundle: cert });
    await store.put('tls', bytes('hello'), plain, 'any');
    const id = await store.createUpload('tls', plain);
    await store.completeUpload('tls', id, [await store.uploadPart('tls', id, 1, bytes('part'))], 'any');
    expect(Buffer.from((await store.getBytes('tls', { start: 0, end: 10 })).bytes).toString()).toBe('part');
    await Promise.all(stores.splice(0).map((one) => one.close()));
    await new Promise((resolve) => tls.close(resolve));
  });
});

describe('answers', () => {
  test('a 200 that carries an error is an error (J5)', async () => {
    const store = await open();
    const { etag } = await store.put('src', bytes('x'), plain, 'any');
    s3.faults.add({ kinds: ['COPY', 'COMPLETE'], fault: { type: 'error-in-200' } });
    expect(await failure(store.copy({ key: 'src', etag }, 'dst', plain, null))).toMatchObject({ kind: 'unavailable', details: { status: 200 } });
    const id = await store.createUpload('dst', plain);
    const part = await store.uploadPart('dst', id, 1, bytes('x'));
    expect((await failure(store.completeUpload('dst', id, [part], null))).kind).toBe('unavailable');
  });

  test('SlowDown is throttled and carries Retry-After', async () => {
    const store = await open();
    s3.faults.add({ count: 1, fault: { type: 'status', status: 503, code: 'SlowDown', retryAfterS: 3 } });
    expect(await failure(store.list({ prefix: '' }))).toMatchObject({ kind: 'throttled', details: { retryAfterMs: 3000 } });
  });

  test('tags of a tagged object are known after HEAD and carried by a rewrite (J12)', async () => {
    const store = await open();
    const { etag } = await store.put('tagged', bytes('x'), { metadata: {}, tagging: 'team=a%20b&x=' }, 'any');
    const head = await store.head('tagged');
    expect(head).toMatchObject({ tagCount: 2, attributes: { tagging: 'team=a%20b&x=' } });
    await store.put('tagged', bytes('y'), head!.attributes, etag);
    expect((await store.head('tagged'))!.attributes.tagging).toBe('team=a%20b&x=');
  });

  test('requests are counted by kind, with bytes, latency and errors', async () => {
    const metrics = new Metrics();
    const store = await open({ metrics });
    await store.put('counted', bytes('12345'), plain, 'any');
    await store.getBytes('counted', { start: 0, end: 5 });
    await failure(store.getBytes('counted-not', { start: 0, end: 5 }));
    expect(metrics.get('s3.requests.PUT')).toBe(1);
    expect(metrics.get('s3.requests.GET')).toBe(2);
    expect(metrics.get('s3.bytes_out')).toBe(5);
    expect(metrics.get('s3.errors.not-found')).toBe(1);
    expect(metrics.histogram('s3.latency_us.GET')?.count).toBe(2);
  });
});

describe('what is repaired on the way, once', () => {
  test('another region: signed again for the one the server names', async () => {
    const store = await open({ aws: config(undefined, 'us-east-1') });
    expect(await store.checkBucket()).toMatchObject({ region: 'eu-north-1' });
    await store.put('region', bytes('x'), plain, 'any');
  });

  test('another region or a wrong clock: each of the requests that meet it at the same time is signed again', async () => {
    const slow: Clock = { ...systemClock, now: () => Date.now() - 3_600_000, monotonic: () => systemClock.monotonic(), time: () => systemClock.time() };
    for (const store of [await open({ aws: config(undefined, 'us-east-1') }), await open({ clock: slow })]) {
      const pages = await Promise.all(Array.from({ length: 8 }, () => store.list({ prefix: 'not-there/' })));
      expect(pages.flatMap((page) => page.objects)).toEqual([]);
    }
  });

  test('rotated credentials: reloaded, and the refused request sent again, a mutation too', async () => {
    const loads: boolean[] = [];
    const store = await open({
      aws: config((fresh) => {
        loads.push(fresh);
        return fresh ? good : { accessKeyId: 'old-key', secretAccessKey: 'old', sessionToken: 'expired' };
      }),
    });
    await store.put('rotated', bytes('x'), plain, 'any');
    expect(await store.head('rotated')).not.toBeNull();
    expect(loads).toEqual([false, true]);
  });

  test('credentials that stay wrong are bad-credentials', async () => {
    const store = await open({ aws: config(() => ({ ...good, secretAccessKey: 'wrong' })) });
    expect(await failure(store.put('x', bytes('x'), plain, 'any'))).toMatchObject({ kind: 'bad-credentials', details: { code: 'SignatureDoesNotMatch' } });
  });

  test("a wrong clock: signed with the server's time", async () => {
    const slow: Clock = { ...systemClock, now: () => Date.now() - 3_600_000, monotonic: () => systemClock.monotonic(), time: () => systemClock.time() };
    const store = await open({ clock: slow });
    await store.put('late', bytes('x'), plain, 'any');
    expect(await store.head('late')).not.toBeNull();
  });
});
