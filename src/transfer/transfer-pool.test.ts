/** The pool's own duties; that it is an `ObjectStore` is the contract suite's business. Workers run the build output. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { createLog, silentLog } from '../base/log.js';
import { Metrics } from '../base/metrics.js';
import { StoreError } from '../s3/store-error.js';
import { packPage, unpackPage } from './messages.js';
import { openTransferPool, type TransferPool, type TransferPoolOptions } from './transfer-pool.js';

/** Holds every request until `answer` is called for it. */
class Held {
  readonly waiting: { head: string; socket: Socket }[] = [];
  private readonly sockets = new Set<Socket>();
  private wake: (() => void) | undefined;
  readonly server: Server = createServer((socket) => {
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      this.waiting.push({ head: data.toString('latin1'), socket });
      this.wake?.();
    });
  });

  async until(count: number): Promise<void> {
    while (this.waiting.length < count) await new Promise<void>((resolve) => { this.wake = resolve; });
  }
  answer(status = '200 OK'): void {
    for (const { socket } of this.waiting.splice(0)) socket.write(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\nETag: "e"\r\n\r\n`);
  }
  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

let held: Held;
let pool: TransferPool;
const metrics = new Metrics();

async function open(workers: number, more: Partial<TransferPoolOptions> = {}): Promise<TransferPool> {
  return openTransferPool({
    bucket: 'b', prefix: '', endpoint: `http://127.0.0.1:${(held.server.address() as AddressInfo).port}`, region: 'us-east-1', pathStyle: true, connectionsMax: 8, requestTimeoutMs: 20_000, deadlineMs: 20_000,
    log: silentLog, metrics, ...more,
  }, workers);
}

beforeEach(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'k');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 's');
  held = new Held();
  await new Promise<void>((resolve) => held.server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  await pool.close();
  await held.close();
  vi.unstubAllEnvs();
});

const kindOf = (call: Promise<unknown>): Promise<string> => call.then(() => 'success', (error: unknown) => (error instanceof StoreError ? error.kind : String(error)));

test('an abort crosses to the worker and ends the request there', async () => {
  pool = await open(1);
  const controller = new AbortController();
  const call = kindOf(pool.head('a', { signal: controller.signal }));
  await held.until(1);
  const closed = new Promise((resolve) => held.waiting[0]!.socket.on('close', resolve));
  controller.abort();
  expect(await call).toBe('aborted');
  await closed;
  expect(pool.inFlight).toBe(0);
});

test('a worker that dies fails its mutations with unavailable, its other calls go elsewhere, and it is replaced', async () => {
  pool = await open(1);
  const [threadId] = pool.threadIds;
  const mutation = kindOf(pool.delete('a', 'any'));
  const read = pool.head('a');
  await held.until(2);
  held.waiting.length = 0;
  await pool.killWorker(threadId!);
  expect(await mutation).toBe('unavailable');
  await held.until(1); // the read again, from the new worker, and not the mutation
  expect(held.waiting.map(({ head }) => head.slice(0, 4))).toEqual(['HEAD']);
  held.answer();
  expect(await read).toMatchObject({ etag: 'e' });
  expect(pool.threadIds).toHaveLength(1);
  expect(pool.threadIds[0]).not.toBe(threadId);
});

test('closing lets calls in flight finish and takes no new ones', async () => {
  pool = await open(2);
  const call = pool.delete('a', 'any');
  await held.until(1);
  const closing = pool.close();
  expect(await kindOf(pool.delete('b', 'any'))).toBe('aborted');
  held.answer('204 No Content');
  await call;
  await closing;
});

test('borrowed bytes stay the caller\'s, and requests are counted in the main thread', async () => {
  pool = await open(1);
  const bytes = Buffer.from('hello');
  const before = metrics.get('s3.requests.PUT');
  const call = pool.put('a', { kind: 'bytes', bytes }, { metadata: {} }, 'any');
  expect(bytes.toString()).toBe('hello');
  await held.until(1);
  expect(metrics.get('s3.in_flight')).toBe(1);
  held.answer();
  expect(await call).toMatchObject({ etag: 'e' });
  expect(metrics.get('s3.requests.PUT')).toBe(before + 1);
  expect(metrics.get('s3.in_flight')).toBe(0);
});

test('a worker that cannot start fails the opening with its sentence', async () => {
  pool = await open(1);
  await expect(open(2, { caBundle: '/no/such/bundle.pem' })).rejects.toThrow('Cannot read the certificate file "/no/such/bundle.pem"');
});

/** Threads that this process starts meanwhile. */
function countThreads(): { started: number } {
  const count = { started: 0 };
  const onWorker = (): void => { count.started++; };
  process.on('worker', onWorker);
  onTestFinished(() => void process.off('worker', onWorker));
  return count;
}

test('a pool whose first worker cannot start does not start the others', async () => {
  pool = await open(1);
  const threads = countThreads();
  await expect(open(4, { caBundle: '/no/such/bundle.pem' })).rejects.toThrow('Cannot read the certificate file');
  expect(threads.started).toBe(1);
});

test('a pool in the background starts the others once a worker serves that came for one that could not', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'hearthfs-pool-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const caBundle = join(directory, 'bundle.pem');
  let firstEnded!: () => void;
  const ended = new Promise<void>((resolve) => (firstEnded = resolve));
  const threads = countThreads();
  pool = await open(3, { caBundle, startInBackground: true, log: createLog('error', (line) => { if (line.includes('a transfer worker ended')) firstEnded(); }) });
  await ended;
  expect(threads.started).toBe(1);
  writeFileSync(caBundle, '');
  await vi.waitFor(() => expect(pool.threadIds).toHaveLength(3), { timeout: 10_000 });
});

test('a listing page survives packing', async () => {
  pool = await open(1);
  const page = { objects: [{ key: 'a', etag: 'e', sizeBytes: 2 ** 45, lastModifiedMs: 5 }, { key: 'b', etag: 'f', sizeBytes: 0, lastModifiedMs: 6, storageClass: 'GLACIER' }], prefixes: ['p/'], token: 't' };
  expect(unpackPage(structuredClone(packPage(page)))).toEqual(page);
  expect(unpackPage(packPage({ objects: [], prefixes: [] }))).toEqual({ objects: [], prefixes: [] });
});
