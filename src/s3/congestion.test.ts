import { expect, test } from 'vitest';
import { Congestion } from './congestion.js';
import { StoreError } from './store-error.js';

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Requests that end when told. */
class Requests {
  readonly running: { succeed(): void; throttle(): void }[] = [];
  readonly results: Promise<unknown>[] = [];
  constructor(private readonly patienceMs = 60_000, readonly congestion = new Congestion()) {}

  start(count: number, signal?: AbortSignal): void {
    for (let i = 0; i < count; i++) {
      this.results.push(this.congestion.run(() => new Promise<void>((resolve, reject) => {
        const end = (how: () => void) => (): void => {
          this.running.splice(this.running.indexOf(request), 1);
          how();
        };
        const request = { succeed: end(resolve), throttle: end(() => reject(new StoreError('throttled', 'SlowDown'))) };
        this.running.push(request);
      }), this.patienceMs, signal).catch((error: unknown) => (error as StoreError).kind));
    }
  }

  async succeedAll(): Promise<void> {
    for (const request of [...this.running]) request.succeed();
    await settle();
  }
}

test('nobody waits as long as S3 does not complain', () => {
  const requests = new Requests();
  requests.start(500);
  expect(requests.running).toHaveLength(500);
});

test('SlowDown halves what is in flight, once for all requests that were sent before it', async () => {
  const requests = new Requests();
  requests.start(16);
  for (const request of requests.running.slice(0, 6)) request.throttle();
  await settle();
  expect(requests.congestion.limitNow).toBe(8);
  requests.start(10);
  await settle();
  expect(requests.running).toHaveLength(10); // those still out are over the limit: no new one yet
  for (const request of requests.running.slice(0, 4)) request.succeed();
  await settle();
  expect(requests.running).toHaveLength(8);
});

test('a request sent after the cut that meets SlowDown again cuts again, down to one at a time', async () => {
  const requests = new Requests();
  requests.start(4);
  for (let i = 0; i < 12; i++) {
    requests.start(1);
    requests.running[0]!.throttle();
    await settle();
  }
  expect(requests.congestion.limitNow).toBe(1);
  expect(requests.running).toHaveLength(1);
});

test('each round without complaint lets one more in, until it is as before', async () => {
  const requests = new Requests();
  requests.start(16);
  requests.running[0]!.throttle();
  await settle();
  requests.start(300);
  await requests.succeedAll();
  const seen: number[] = [];
  while (requests.congestion.limitNow !== Infinity && requests.running.length > 0) {
    seen.push(requests.running.length);
    await requests.succeedAll();
  }
  expect(requests.congestion.limitNow).toBe(Infinity);
  expect(seen[0]).toBeGreaterThanOrEqual(8);
  expect(seen.every((count, i) => i === 0 || (count >= seen[i - 1]! && count <= seen[i - 1]! + 2))).toBe(true);
  expect(seen.length).toBeGreaterThan(5);
});

test('who is aborted while it waits leaves, and the others go on', async () => {
  const requests = new Requests();
  requests.start(2);
  requests.running[0]!.throttle();
  await settle();
  const controller = new AbortController();
  requests.start(1, controller.signal);
  requests.start(1);
  controller.abort();
  expect(await requests.results[2]).toBe('aborted');
  await requests.succeedAll();
  expect(requests.running).toHaveLength(1);
  expect(requests.congestion.waiting).toBe(0);
});

test('waiting is bounded: then it is the caller who hears of SlowDown', async () => {
  const requests = new Requests(1);
  requests.start(2);
  requests.running[0]!.throttle();
  await settle();
  requests.start(1);
  expect(await requests.results[2]).toBe('throttled');
  await requests.succeedAll();
  expect(requests.congestion.waiting).toBe(0);
});

test('of what has a limit of its own, a timeout halves what is in flight, and the limit is the most there ever is', async () => {
  const isTimeout = (error: unknown): boolean => error instanceof StoreError && error.details.code === 'ETIMEDOUT';
  const congestion = new Congestion(8, isTimeout);
  const passes = await Promise.all(Array.from({ length: 8 }, () => congestion.enter()));
  let entered = 0;
  const later = Array.from({ length: 20 }, () => congestion.enter().then((pass) => (entered++, pass)));
  await settle();
  expect(entered).toBe(0);
  passes[0]!.failed(new StoreError('throttled', 'SlowDown'));
  expect(congestion.limitNow).toBe(8);
  for (const pass of passes.slice(1, 3)) pass.failed(new StoreError('unavailable', 'late', { code: 'ETIMEDOUT' })); // of the same crowd: one cut
  expect(congestion.limitNow).toBe(4);
  for (const pass of passes) pass.leave();
  await settle();
  expect(entered).toBe(4);
  for (const call of later) {
    const pass = await call;
    pass.succeeded();
    pass.leave();
  }
  for (let i = 0; i < 100; i++) {
    const pass = await congestion.enter();
    pass.succeeded();
    pass.leave();
  }
  expect(congestion.limitNow).toBe(8);
});
