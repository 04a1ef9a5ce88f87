/** What is streamed, through node:http. */
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { HttpRequest } from './exchange.js';
import { HttpClient } from './http-client.js';
import { StoreError } from './store-error.js';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

async function serve(connected: (socket: Socket) => void): Promise<number> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    connected(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push({
    close: () => new Promise((resolve) => {
      for (const socket of sockets) socket.destroy();
      server.close(resolve);
    }),
  });
  return (server.address() as AddressInfo).port;
}

function client(): HttpClient {
  const made = new HttpClient({ connectionsMax: 8, connectMs: 5000, monotonic: () => performance.now() });
  open.push(made);
  return made;
}

const piece = Buffer.alloc(1 << 20);

function put(port: number, pieces: number, more: Partial<HttpRequest> = {}): HttpRequest {
  const stream = async (write: (chunk: Uint8Array) => Promise<void>): Promise<void> => {
    for (let i = 0; i < pieces; i++) await write(piece);
  };
  return {
    origin: { secure: false, hostname: '127.0.0.1', port }, method: 'PUT', path: '/x', headers: { host: 'h' }, idempotent: false, idleMs: 20_000, deadlineMs: 20_000,
    body: { lengthBytes: pieces * piece.length, stream }, ...more,
  };
}

async function failure(call: Promise<unknown>): Promise<StoreError> {
  const error = await call.then(() => undefined, (caught: unknown) => caught);
  expect(error).toBeInstanceOf(StoreError);
  return error as StoreError;
}

test('a streamed body that moves may take longer than the deadline', async () => {
  const pieces = 16;
  let isSlow = true;
  const port = await serve((socket) => {
    let bytes = 0;
    const timer = setInterval(() => socket.resume(), 150);
    socket.on('close', () => clearInterval(timer));
    setTimeout(() => (isSlow = false), 2500);
    socket.on('data', (chunk) => {
      if (isSlow) socket.pause();
      bytes += chunk.length;
      if (bytes > pieces * piece.length) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'); // the head is longer than nothing
    });
  });
  const exchange = await client().send(put(port, pieces, { deadlineMs: 1000 }));
  await exchange.drain();
  expect(isSlow).toBe(false);
  expect(exchange.bytesOut).toBe(pieces * piece.length);
});

test('a streamed body that does not move is given up after the idle limit', async () => {
  const port = await serve((socket) => void socket.pause());
  expect((await failure(client().send(put(port, 64, { idleMs: 60 })))).details.code).toBe('ETIMEDOUT');
});

test('of the answers that come before all of a streamed body was sent, a refusal counts and a success does not (J5)', async () => {
  let answer = '';
  const port = await serve((socket) => {
    socket.once('data', () => {
      socket.pause();
      socket.write(answer);
    });
  });
  answer = 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno';
  const refused = await client().send(put(port, 64));
  expect([refused.status, await refused.text()]).toEqual([403, 'no']);
  answer = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';
  expect((await failure(client().send(put(port, 64)).then((exchange) => exchange.drain()))).kind).toBe('unavailable');
});
