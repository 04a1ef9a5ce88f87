import { expect, test } from 'vitest';
import { Hedge, type HedgeEvent, type HedgeOptions } from './hedge.js';

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Requests answered by hand, and timers that run when told. */
class Setup {
  nowMs = 0;
  readonly timers: { run: () => void; ms: number; cancelled: boolean }[] = [];
  readonly requests: { answer(value: string): void; fail(error: Error): void; cancelled: boolean; sent: boolean }[] = [];
  readonly events: HedgeEvent[] = [];
  readonly hedge: Hedge;

  constructor(options: Partial<HedgeOptions> = {}) {
    this.hedge = new Hedge({
      monotonic: () => this.nowMs, share: 0.1, burst: 2,
      setTimer: (run, ms) => {
        const timer = { run, ms, cancelled: false };
        this.timers.push(timer);
        return { cancel: () => { timer.cancelled = true; } };
      },
      ...options,
    });
  }

  run(kind = 'GET'): Promise<string> {
    return this.hedge.run(kind, () => {
      const request = { answer: (_: string): void => undefined, fail: (_: Error): void => undefined, cancelled: false, sent: true };
      const answer = new Promise<string>((resolve, reject) => Object.assign(request, { answer: resolve, fail: reject }));
      this.requests.push(request);
      return { answer, isSent: () => request.sent, cancel: () => { request.cancelled = true; } };
    }, (event) => this.events.push(event));
  }

  /** `count` requests that take `ms` each. */
  async learn(count: number, ms: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const result = this.run();
      this.nowMs += ms;
      this.requests.at(-1)!.answer('ok');
      await result;
    }
    this.requests.length = 0;
    this.timers.length = 0;
  }
}

test('a request without an answer after three times what is usual is asked again; the first answer wins and the other request is given up', async () => {
  const setup = new Setup();
  await setup.learn(40, 100);
  expect(setup.hedge.delayMs('GET')).toBe(300);
  const result = setup.run();
  expect(setup.timers[0]!.ms).toBe(300);
  setup.nowMs += 300;
  setup.timers[0]!.run();
  expect(setup.requests).toHaveLength(2);
  setup.requests[1]!.answer('second');
  expect(await result).toBe('second');
  expect(setup.requests[0]!.cancelled).toBe(true);
  expect(setup.events).toEqual(['hedged', 'hedge-won']);
});

test('the first may still win', async () => {
  const setup = new Setup();
  const result = setup.run();
  setup.timers[0]!.run();
  setup.requests[0]!.answer('first');
  expect(await result).toBe('first');
  expect(setup.requests[1]!.cancelled).toBe(true);
  expect(setup.events).toEqual(['hedged']);
});

test('an answer in time leaves no timer, fast servers are not asked again for a hiccup, and kinds have their own clocks', async () => {
  const setup = new Setup();
  await setup.learn(40, 1);
  expect(setup.hedge.delayMs('GET')).toBe(200);
  expect(setup.hedge.delayMs('LIST')).toBe(1000);
  const result = setup.run();
  setup.requests[0]!.answer('x');
  await result;
  expect(setup.timers[0]!.cancelled).toBe(true);
});

test('the budget bounds it: a burst, then a share of all requests', async () => {
  const setup = new Setup();
  const results = Array.from({ length: 100 }, () => setup.run());
  for (const timer of setup.timers) timer.run();
  const hedged = setup.requests.length - 100;
  expect(hedged).toBeGreaterThan(0);
  expect(hedged).toBeLessThanOrEqual(2);
  for (const request of setup.requests) request.answer('x');
  await Promise.all(results);
  await setup.learn(10, 1);
  const again = setup.run();
  setup.timers[0]!.run();
  expect(setup.requests).toHaveLength(2);
  setup.requests[0]!.answer('x');
  await again;
});

test('a failure waits for the second one if there is one, and is the answer if both fail', async () => {
  const setup = new Setup();
  const saved = setup.run();
  setup.timers[0]!.run();
  setup.requests[0]!.fail(new Error('cut'));
  await settle();
  setup.requests[1]!.answer('second');
  expect(await saved).toBe('second');

  const lost = setup.run();
  setup.timers[1]!.run();
  setup.requests[2]!.fail(new Error('first'));
  setup.requests[3]!.fail(new Error('second'));
  await expect(lost).rejects.toThrow('second');

  const alone = setup.run();
  setup.requests[4]!.fail(new Error('alone'));
  await expect(alone).rejects.toThrow('alone');
  expect(setup.timers[2]!.cancelled).toBe(true);
});

test('a request that still waits for a connection is not asked again: the second one would wait behind it', () => {
  const setup = new Setup();
  void setup.run();
  setup.requests[0]!.sent = false;
  setup.timers[0]!.run();
  expect(setup.requests).toHaveLength(1);
});
