import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { SendDeadline, unsentBytes, type Expiry } from './send-deadline.js';

/** A request with a body of 1 MiB, 1 s of silence allowed and 4 s for the answer, whose time passes by `pass`. */
class Request {
  readonly uplink = { bodies: 0 };
  unsent: number | undefined = 1 << 20;
  readonly expired: [Expiry, number][] = [];
  private now = 0;
  private timer: { readonly run: () => void; readonly atMs: number } | undefined;
  readonly deadline = new SendDeadline({
    uplink: this.uplink,
    idleMs: 1000, deadlineMs: 4000, bodyBytes: 1 << 20, unsentBytes: () => this.unsent, expired: (why) => this.expired.push([why, this.now]), monotonic: () => this.now,
    setTimer: (run, ms) => {
      const timer = (this.timer = { run, atMs: this.now + ms });
      return { cancel: () => { if (this.timer === timer) this.timer = undefined; } };
    },
  });

  pass(ms: number): void {
    const end = this.now + ms;
    while (this.timer && this.timer.atMs <= end) {
      const { run, atMs } = this.timer;
      this.now = atMs;
      this.timer = undefined;
      run();
    }
    this.now = end;
  }

  get isWatched(): boolean { return this.timer !== undefined; }
}

test('a body that moves may take many times the deadline; the deadline begins when it has left', () => {
  const request = new Request();
  for (; request.unsent! > 0; request.unsent! -= 16 << 10) request.pass(900);
  expect(request.expired).toEqual([]);
  request.deadline.answering();
  request.pass(3800);
  expect(request.expired).toEqual([]);
  request.pass(400);
  expect(request.expired.map(([why]) => why)).toEqual(['late']);
  expect(request.isWatched).toBe(false);
});

test('a body that stands still is given up after the idle limit, wherever it stands', () => {
  const request = new Request();
  request.pass(500);
  request.unsent = 1000;
  request.pass(1500);
  expect(request.expired.map(([why]) => why)).toEqual(['silent']);
  expect(request.expired[0]![1]).toBeGreaterThanOrEqual(1500);
});

test('the answer to a body that has left is waited for as long as for any silence', () => {
  const request = new Request();
  request.unsent = 0;
  request.pass(990);
  expect(request.expired).toEqual([]);
  request.pass(20);
  expect(request.expired).toEqual([['silent', 1000]]);
});

test('where several share a line, each has the time of all of them for its answer', () => {
  const request = new Request();
  request.uplink.bodies = 3;
  request.unsent = 0;
  request.pass(500);
  request.deadline.answering();
  request.uplink.bodies = 1; // the others are done
  request.pass(11_000);
  expect(request.expired).toEqual([]);
  request.pass(1000);
  expect(request.expired).toEqual([['late', 12_000]]);
  request.deadline.close();
  expect(request.uplink.bodies).toBe(0);
});

test('a server that takes a byte now and then does not hold a request forever', () => {
  const request = new Request();
  for (let i = 0; i < 2000 && request.expired.length === 0; i++) {
    request.pass(900);
    request.unsent!--;
  }
  expect(request.expired).toEqual([['late', 4000 + (1 << 20)]]);
});

test('without a connection the deadline counts from the start, and the wait for one is no silence', () => {
  const late = new Request();
  late.unsent = undefined;
  late.pass(5000);
  expect(late.expired).toEqual([['late', 4000]]);
  const served = new Request();
  served.unsent = undefined;
  served.pass(3000);
  served.unsent = 1 << 20;
  served.pass(900);
  expect(served.expired).toEqual([]);
});

test('nothing expires once it is closed', () => {
  const request = new Request();
  request.deadline.close();
  request.pass(10_000);
  expect(request.expired).toEqual([]);
});

test('what the kernel holds because the other end does not read counts as not sent, until it is read', async () => {
  const server = createServer({ pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [other] = await (once(server, 'connection') as Promise<[Socket]>);
  try {
    const piece = Buffer.alloc(256 << 10);
    while (socket.writableLength < 2 * piece.length) { // until the kernel takes no more
      socket.write(piece);
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(unsentBytes(socket)).toBeGreaterThan(3 * socket.writableLength);
    other.resume();
    while (unsentBytes(socket) > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(socket.writableLength).toBe(0);
  } finally {
    socket.destroy();
    other.destroy();
    server.close();
  }
});
