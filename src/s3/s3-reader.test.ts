/** Ranged GETs against servers that answer something else than was asked for: the right bytes, or an error; never others. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { silentLog } from '../base/log.js';
import type { ObjectStore } from './object-store.js';
import { openS3Store } from './s3-store.js';
import { StoreError, type StoreErrorKind } from './store-error.js';

const object = '0123456789';
const untouched = '..........';
/** What the server says to each GET, status line included. */
let answer: string | ((head: string, socket: Socket) => void);
let server: Server;
let store: ObjectStore;
let dir: string;
let landed: [number, number][];

beforeEach(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'k');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 's');
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data) => (typeof answer === 'string' ? socket.write(answer) : answer(data.toString('latin1'), socket)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  store = await openS3Store({
    bucket: 'b', prefix: '', endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, region: 'us-east-1', pathStyle: true, connectionsMax: 2, requestTimeoutMs: 5000, deadlineMs: 5000, log: silentLog,
  });
  dir = mkdtempSync(join(tmpdir(), 'hearthfs-reader-'));
  landed = [];
});
afterEach(async () => {
  await store.close();
  await new Promise((resolve) => server.close(resolve));
  rmSync(dir, { recursive: true });
  vi.unstubAllEnvs();
});

function says(status: string, headers: Record<string, string>, body: string): string {
  const all = { 'Content-Length': String(body.length), ETag: '"e"', ...headers };
  return `HTTP/1.1 ${status}\r\n${Object.entries(all).filter(([, value]) => value !== '').map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`;
}

/** Bytes 3 to 5 of the object, in both ways. @returns what is in the file, or the kinds of the errors. */
async function read(): Promise<string | StoreErrorKind[]> {
  const path = join(dir, 'file');
  writeFileSync(path, untouched);
  const query = { start: 3, end: 6, etag: 'e' };
  const results = await Promise.allSettled([
    store.getToFile('a', query, path, { onRange: (start, end) => landed.push([start, end]) }), store.getBytes('a', query).then(({ bytes }) => Buffer.from(bytes).toString()),
  ]);
  const file = readFileSync(path, 'latin1');
  if (results.every((result) => result.status === 'rejected')) {
    expect(file).toBe(untouched);
    expect(landed).toEqual([]);
    return results.map((result) => {
      const reason: unknown = result.status === 'rejected' ? result.reason : undefined;
      expect(reason).toBeInstanceOf(StoreError);
      return (reason as StoreError).kind;
    });
  }
  expect(results).toMatchObject([{ status: 'fulfilled', value: { lengthBytes: 3, objectSizeBytes: 10, etag: 'e' } }, { value: file.slice(3, 6) }]);
  return file;
}

test('the range that was asked for', async () => {
  answer = says('206 Partial Content', { 'Content-Range': 'bytes 3-5/10' }, '345');
  expect(await read()).toBe('...345....');
});

test('200 and the whole object: the range is cut out of it', async () => {
  answer = says('200 OK', {}, object);
  expect(await read()).toBe('...345....');
});

test.each([
  ['another start', { 'Content-Range': 'bytes 0-2/10' }, '012'],
  ['a later end', { 'Content-Range': 'bytes 3-6/10' }, '3456'],
  ['no Content-Range', {}, '345'],
  ['a Content-Range that says nothing', { 'Content-Range': 'bytes */10' }, '345'],
  ['the right Content-Range over the whole object', { 'Content-Range': 'bytes 3-5/10' }, object],
  ['the right Content-Range over fewer bytes', { 'Content-Range': 'bytes 3-5/10' }, '34'],
  ['several ranges', { 'Content-Type': 'multipart/byteranges; boundary=x' }, '--x\r\nContent-Range: bytes 3-5/10\r\n\r\n345\r\n--x--'],
  ['a body without a length', { 'Content-Range': 'bytes 3-5/10', 'Content-Length': '', Connection: 'close' }, '345'],
])('206 with %s is an error, and not a byte of it is believed', async (_what, headers, body) => {
  answer = says('206 Partial Content', headers, body);
  expect(await read()).toEqual(['invalid', 'invalid']);
});

test('fewer bytes than the object has is an answer to ask for again', async () => {
  answer = says('206 Partial Content', { 'Content-Range': 'bytes 3-4/10' }, '34');
  expect(await read()).toEqual(['unavailable', 'unavailable']);
});

test('another version is refused, be it as 206 or as 200, even where the server ignored the condition', async () => {
  answer = says('206 Partial Content', { 'Content-Range': 'bytes 3-5/10', ETag: '"other"' }, 'xyz');
  expect(await read()).toEqual(['precondition-failed', 'precondition-failed']);
  answer = says('200 OK', { ETag: '"other"' }, 'abcdefghij');
  expect(await read()).toEqual(['precondition-failed', 'precondition-failed']);
});

test('a success that S3 has no use for is an error', async () => {
  answer = says('203 Non-Authoritative Information', {}, object);
  expect(await read()).toEqual(['invalid', 'invalid']);
});

test('the rest of a huge object that came instead of a range is not read', async () => {
  const hugeBytes = 1e12;
  let closed!: () => void;
  const isClosed = new Promise<void>((resolve) => (closed = resolve));
  answer = (_head, socket) => {
    socket.on('close', closed);
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${hugeBytes}\r\nETag: "e"\r\n\r\n${object}`);
    const more = (): void => {
      while (!socket.destroyed && socket.write(Buffer.alloc(1 << 16)));
    };
    socket.on('drain', more);
    more();
  };
  const { bytes, objectSizeBytes } = await store.getBytes('a', { start: 3, end: 6, etag: 'e' });
  expect([Buffer.from(bytes).toString(), objectSizeBytes]).toEqual(['345', hugeBytes]);
  await isClosed;
});
