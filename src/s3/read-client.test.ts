/** The client against servers that are told what to send, byte by byte. */
import { lookup } from 'node:dns';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { Exchange, HttpRequest } from './exchange.js';
import { ReadClient } from './read-client.js';
import { StoreError } from './store-error.js';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

/** Calls `answer` for every request that arrives, with its number on its connection (1, 2, ...). */
async function serve(answer: (socket: Socket, number: number, head: string) => void): Promise<{ port: number; connections: Socket[] }> {
  const connections: Socket[] = [];
  const server: Server = createServer((socket) => {
    connections.push(socket);
    let number = 0;
    let text = '';
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const head = text.slice(0, end);
        text = text.slice(end + 4);
        answer(socket, ++number, head);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push({
    close: () => new Promise((resolve) => {
      for (const socket of connections) socket.destroy();
      server.close(resolve);
    }),
  });
  return { port: (server.address() as AddressInfo).port, connections };
}

function client(connectionsMax = 4): ReadClient {
  const made = new ReadClient({ connectionsMax, connectMs: 5000, lookup });
  open.push(made);
  return made;
}

function get(port: number, more: Partial<HttpRequest> = {}): HttpRequest {
  return { origin: { secure: false, hostname: '127.0.0.1', port }, method: 'GET', path: '/x', headers: { host: 'h' }, idempotent: true, idleMs: 5000, deadlineMs: 5000, ...more };
}

async function failure(call: Promise<unknown>): Promise<StoreError> {
  const error = await call.then(() => undefined, (caught: unknown) => caught);
  expect(error).toBeInstanceOf(StoreError);
  return error as StoreError;
}

const ok = (body: string, headers = ''): string => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${headers}\r\n${body}`;

test('requests one after another share a connection; at the same time each has its own, up to the limit', async () => {
  const held: Socket[] = [];
  let hold = false;
  const { port, connections } = await serve((socket) => (hold ? held.push(socket) : socket.write(ok('a'))));
  const http = client(2);
  for (let i = 0; i < 3; i++) expect(await (await http.send(get(port))).text()).toBe('a');
  expect(connections.length).toBe(1);
  hold = true;
  const three = [1, 2, 3].map(() => http.send(get(port)));
  while (held.length < 2) await new Promise((resolve) => setImmediate(resolve));
  expect(connections.length).toBe(2);
  hold = false;
  for (const socket of held) socket.write(ok('b'));
  const texts: string[] = [];
  for (const exchange of three) texts.push(await (await exchange).text());
  expect(texts).toEqual(['b', 'b', 'a']);
  expect(connections.length).toBe(2);
});

test('waiting for a connection is bounded by the deadline, and who gave up is not sent', async () => {
  const held: Socket[] = [];
  const { port } = await serve((socket) => held.push(socket));
  const http = client(1);
  const first = http.send(get(port));
  expect((await failure(http.send(get(port, { deadlineMs: 30 })))).details.code).toBe('ETIMEDOUT');
  expect(held.length).toBe(1);
  held[0]!.write(ok('late but there'));
  expect(await (await first).text()).toBe('late but there');
});

test('an answer longer than it said, one that is no HTTP, and one cut short are errors, and their connections are not used again', async () => {
  const answers = [`${ok('a')}garbage`, 'nonsense\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', ok('good')];
  const { port, connections } = await serve((socket) => {
    const text = answers.shift()!;
    if (text.endsWith('abc')) socket.end(text);
    else socket.write(text);
  });
  const http = client(1);
  const read = async (): Promise<string> => (await http.send(get(port))).text();
  expect((await failure(read())).details.code).toBe('EPROTO');
  expect((await failure(read())).details.code).toBe('EPROTO');
  expect(await failure(read())).toMatchObject({ kind: 'unavailable', message: 'The connection was cut after 3 of 10 bytes' });
  expect(await read()).toBe('good');
  expect(connections.length).toBe(4);
});

test('a connection is left where the server says so', async () => {
  const { port, connections } = await serve((socket) => socket.write(ok('a', 'Connection: close\r\n')));
  const http = client();
  for (let i = 0; i < 2; i++) await (await http.send(get(port))).drain();
  expect(connections.length).toBe(2);
});

test('Keep-Alive of a second or less means no reuse: it may be closed while the next request is on its way', async () => {
  const { port, connections } = await serve((socket) => socket.write(ok('a', 'Keep-Alive: timeout=1\r\n')));
  const http = client();
  for (let i = 0; i < 2; i++) await (await http.send(get(port))).drain();
  expect(connections.length).toBe(2);
});

test('what arrives before anybody asks for the body waits, and the server is slowed instead of our memory filled', async () => {
  const body = Buffer.alloc(32 << 20, 'x');
  const { port, connections } = await serve((socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`);
    socket.write(body);
  });
  const exchange = await client().send(get(port));
  for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(exchange.bytesIn).toBeLessThan(2 << 20);
  expect(connections[0]!.writableLength).toBeGreaterThan(0);
  let bytes = 0;
  await exchange.pipe((chunk) => { bytes += chunk.length; });
  expect(bytes).toBe(body.length);
});

test('a taker that throws ends the exchange with its error', async () => {
  const { port } = await serve((socket) => socket.write(ok('abc')));
  const exchange = await client().send(get(port));
  const error = new StoreError('local-io', 'no room');
  await expect(exchange.pipe(() => { throw error; })).rejects.toBe(error);
});

test('silence in the middle of a body ends by the idle limit, an abort at once', async () => {
  const { port } = await serve((socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'));
  const http = client();
  expect((await failure(http.send(get(port, { idleMs: 40 })).then((exchange) => exchange.text()))).details.code).toBe('ETIMEDOUT');
  const controller = new AbortController();
  const exchange: Exchange = await http.send(get(port, { signal: controller.signal }));
  const text = failure(exchange.text());
  controller.abort();
  expect((await text).kind).toBe('aborted');
});

test('a header or path with a line break is never sent', async () => {
  const { port, connections } = await serve((socket) => socket.write(ok('a')));
  const http = client();
  expect((await failure(http.send(get(port, { headers: { host: 'h', 'if-match': '"e"\r\nx-evil: 1' } })))).kind).toBe('invalid');
  expect((await failure(http.send(get(port, { path: '/a b' })))).kind).toBe('invalid');
  expect(connections.length).toBe(0);
});

test('the answer to HEAD announces a body and has none', async () => {
  const { port } = await serve((socket, number) => socket.write(number === 1 ? 'HTTP/1.1 200 OK\r\nContent-Length: 500\r\nETag: "e"\r\n\r\n' : ok('body')));
  const http = client();
  const head = await http.send(get(port, { method: 'HEAD' }));
  await head.drain();
  expect(head.headers['etag']).toBe('"e"');
  expect(await (await http.send(get(port))).text()).toBe('body');
});
