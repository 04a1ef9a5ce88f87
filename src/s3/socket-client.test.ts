/** The client against servers that are told what to send, byte by byte. */
import { lookup } from 'node:dns';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { Exchange, HttpRequest } from './exchange.js';
import { SocketClient } from './socket-client.js';
import { StoreError } from './store-error.js';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

/** Calls `answer` for every request without a body that arrives, with its number on its connection (1, 2, ...). */
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

function client(connectionsMax = 4): SocketClient {
  const made = new SocketClient({ connectionsMax, connectMs: 5000, lookup });
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
  while (held.length < 1) await new Promise((resolve) => setImmediate(resolve));
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

/** Requests with bodies: the head as it came, and all of the body; answered by `answer`, or with 200. */
async function take(answer: (head: string, body: Buffer) => string = () => ok('')): Promise<{ port: number; connections: Socket[]; requests: { head: string; body: Buffer }[] }> {
  const requests: { head: string; body: Buffer }[] = [];
  const connections: Socket[] = [];
  const server = createServer((socket) => {
    connections.push(socket);
    socket.on('error', () => undefined);
    let bytes = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      for (let end = bytes.indexOf('\r\n\r\n'); end >= 0; end = bytes.indexOf('\r\n\r\n')) {
        const head = bytes.toString('latin1', 0, end);
        const length = Number(/content-length: (\d+)/.exec(head)?.[1] ?? 0);
        if (bytes.length < end + 4 + length) return;
        const body = bytes.subarray(end + 4, end + 4 + length);
        bytes = bytes.subarray(end + 4 + length);
        requests.push({ head, body });
        socket.write(answer(head, body));
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
  return { port: (server.address() as AddressInfo).port, connections, requests };
}

function put(port: number, body: Uint8Array | undefined, more: Partial<HttpRequest> = {}): HttpRequest {
  return get(port, { method: 'PUT', idempotent: false, ...(body && { body }), ...more });
}

test('bodies of every size arrive as they were, with their length, on one connection', async () => {
  const { port, connections, requests } = await take();
  const http = client();
  const bodies = [0, 1, (32 << 10) - 1, 32 << 10, (32 << 10) + 1, 3 << 20].map((size) => Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 31 + size) & 0xff)));
  for (const body of bodies) {
    const exchange = await http.send(put(port, body));
    await exchange.drain();
    expect(exchange.bytesOut).toBe(body.length);
  }
  expect(requests.map(({ body }) => body.length)).toEqual(bodies.map(({ length }) => length));
  requests.forEach(({ body }, i) => expect(body.equals(bodies[i]!)).toBe(true));
  expect(connections.length).toBe(1);
});

test('PUT and POST without a body say so, DELETE says nothing', async () => {
  const { port, requests } = await take();
  const http = client();
  for (const method of ['PUT', 'POST', 'DELETE']) await (await http.send(put(port, undefined, { method }))).drain();
  expect(requests.map(({ head }) => /content-length: \d+/.exec(head)?.[0])).toEqual(['content-length: 0', 'content-length: 0', undefined]);
});

test('a refusal that comes before all of a body was sent is the answer, and its connection is not used again', async () => {
  let isFirst = true;
  const { port, connections } = await serve((socket) => {
    if (!isFirst) return void socket.write(ok('b'));
    isFirst = false;
    socket.pause(); // the rest of the body stays with the sender
    socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
  });
  const http = client();
  const exchange = await http.send(put(port, Buffer.alloc(64 << 20)));
  expect(exchange.status).toBe(403);
  expect(await exchange.text()).toBe('no');
  expect(await (await http.send(get(port))).text()).toBe('b');
  expect(connections.length).toBe(2);
});

test('a kept connection that was closed costs what may be asked again nothing; anything else fails, and is not sent twice (J5)', async () => {
  let requests = 0;
  const { port, connections } = await serve((socket, number) => {
    requests++;
    if (number === 1) socket.write(ok('a'));
    else socket.destroy(); // took the request and closed
  });
  const http = client(1);
  await (await http.send(get(port))).drain();
  expect(await (await http.send(get(port))).text()).toBe('a');
  expect(connections.length).toBe(2);
  expect(await failure(http.send(put(port, undefined)))).toMatchObject({ kind: 'unavailable', details: { code: 'ECONNRESET' } });
  expect(requests).toBe(4);
});

test('an upload that is cut, or aborted, in the middle of its body fails, and the next one is whole', async () => {
  const held: Socket[] = [];
  const { port } = await serve((socket) => {
    held.push(socket);
    socket.pause();
  });
  const http = client();
  const cutOff = failure(http.send(put(port, Buffer.alloc(64 << 20))));
  while (held.length < 1) await new Promise((resolve) => setImmediate(resolve));
  held[0]!.destroy();
  expect((await cutOff).kind).toBe('unavailable');
  const controller = new AbortController();
  const given = failure(http.send(put(port, Buffer.alloc(64 << 20), { signal: controller.signal })));
  while (held.length < 2) await new Promise((resolve) => setImmediate(resolve));
  controller.abort();
  expect((await given).kind).toBe('aborted');
  const whole = await take();
  await (await http.send(put(whole.port, Buffer.from('abc')))).drain();
  expect(whole.requests[0]!.body.toString()).toBe('abc');
});

test('a body that does not move is given up after the idle limit', async () => {
  const { port } = await serve((socket) => void socket.pause());
  expect((await failure(client().send(put(port, Buffer.alloc(64 << 20), { idleMs: 60 })))).details.code).toBe('ETIMEDOUT');
});

test('the limit of connections counts uploads, too', async () => {
  const held: Socket[] = [];
  const { port, connections } = await serve((socket) => held.push(socket));
  const http = client(2);
  const three = [1, 2, 3].map((i) => http.send(i === 2 ? get(port) : put(port, undefined)));
  while (held.length < 2) await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(connections.length).toBe(2);
  while (held.length > 0) held.shift()!.write(ok('x'));
  await (await three[0]!).drain();
  while (held.length < 1) await new Promise((resolve) => setImmediate(resolve));
  held[0]!.write(ok('y'));
  for (const call of three.slice(1)) await (await call).drain();
  expect(connections.length).toBe(2);
});

/** Takes a little of every body now and then, until `slowMs` after the first one came, and all of the rest at once; answers when it has all of one. */
async function crawl(slowMs: number, bodyBytes: number): Promise<{ port: number; answered: () => number }> {
  let answered = 0;
  let endMs = 0;
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    endMs ||= performance.now() + slowMs;
    let bytes = -1;
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      if (performance.now() < endMs) socket.pause();
      if (bytes < 0) bytes = -(chunk.indexOf('\r\n\r\n') + 4);
      bytes += chunk.length;
      if (bytes < bodyBytes) return;
      answered++;
      socket.end(ok('', 'Connection: close\r\n'));
    });
  });
  const timer = setInterval(() => { for (const socket of sockets) socket.resume(); }, 150);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push({
    close: () => new Promise((resolve) => {
      clearInterval(timer);
      for (const socket of sockets) socket.destroy();
      server.close(resolve);
    }),
  });
  return { port: (server.address() as AddressInfo).port, answered: () => answered };
}

test('bodies that share a slow line finish, each past its deadline, be most of them in our buffers or all in the kernel\'s', async () => {
  for (const bodyBytes of [512 << 10, 12 << 20]) {
    const { port, answered } = await crawl(1500, bodyBytes);
    const http = client(6);
    const all = Array.from({ length: 6 }, async () => (await http.send(put(port, Buffer.alloc(bodyBytes), { deadlineMs: 500, idleMs: 20_000 }))).drain());
    await Promise.all(all);
    expect(answered()).toBe(6);
  }
});

test('a success that comes before all of a body was sent is none: a HEAD will tell (J5)', async () => {
  let isFirst = true;
  const { port, connections } = await serve((socket) => {
    if (!isFirst) return void socket.write(ok('b'));
    isFirst = false;
    socket.pause();
    socket.write(ok('done', 'ETag: "e"\r\n'));
  });
  const http = client();
  const early = http.send(put(port, Buffer.alloc(64 << 20))).then((exchange) => exchange.drain());
  expect(await failure(early)).toMatchObject({ kind: 'unavailable', message: `127.0.0.1:${port} answered 200 before all of the body was sent` });
  expect(await (await http.send(get(port))).text()).toBe('b');
  expect(connections.length).toBe(2);
});
