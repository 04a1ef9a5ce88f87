import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { FaultyStore, type FaultyOptions } from './faulty-store.js';
import { Health } from './health.js';
import { MemoryObjectStore } from './memory-object-store.js';
import type { CallOptions } from './object-store.js';
import { RetryStore } from './retry-store.js';
import { StoreError } from './store-error.js';

const attributes = { metadata: {} };
const bytes = (text: string): { kind: 'bytes'; bytes: Buffer } => ({ kind: 'bytes', bytes: Buffer.from(text) });

function setUp(options: FaultyOptions = {}): { store: RetryStore; faulty: FaultyStore; memory: MemoryObjectStore; clock: ManualClock; slept: number[]; health: Health } {
  const clock = new ManualClock();
  const memory = new MemoryObjectStore({ clock });
  const faulty = new FaultyStore(memory, options);
  const slept: number[] = [];
  const health = new Health(clock);
  const store = new RetryStore(faulty, {
    deadlineMs: 30_000, clock, health, random: () => 0.5,
    sleep: (ms) => {
      slept.push(ms);
      clock.advance(ms);
      return Promise.resolve();
    },
  });
  return { store, faulty, memory, clock, slept, health };
}
const kindOf = (call: Promise<unknown>): Promise<string> => call.then(() => 'success', (error: unknown) => (error as StoreError).kind);

describe('RetryStore', () => {
  test('retries what is idempotent, waiting longer each time', async () => {
    const { store, faulty, slept } = setUp();
    faulty.script('head', { fault: 'fail' }, 3);
    expect(await store.head('a')).toBeNull();
    expect(slept).toHaveLength(3);
    expect(slept[1]).toBeGreaterThan(slept[0]!);
    expect(slept[2]).toBeGreaterThan(slept[1]!);
  });

  test('never retries a mutation (J5)', async () => {
    const { store, faulty, memory } = setUp();
    for (const [op, call] of [
      ['put', () => store.put('a', bytes('x'), attributes, null)], ['copy', () => store.copy({ key: 'a', etag: 'e' }, 'b', attributes, null)], ['delete', () => store.delete('a', 'any')],
      ['createUpload', () => store.createUpload('a', attributes)], ['uploadPart', () => store.uploadPart('a', 'u', 1, bytes('x'))],
      ['uploadPartCopy', () => store.uploadPartCopy('a', 'u', 1, { key: 'a', etag: 'e' }, 0, 1)], ['completeUpload', () => store.completeUpload('a', 'u', [], null)],
    ] as const) {
      faulty.script(op, { fault: 'fail' });
      expect(await kindOf(call())).toBe('unavailable');
    }
    expect(faulty.injected).toHaveLength(7);
    expect(memory.calls.size).toBe(0);
  });

  test('does not retry refusals', async () => {
    const { store, faulty, slept } = setUp();
    faulty.script('head', { fault: 'fail', kind: 'access-denied' });
    expect(await kindOf(store.head('a'))).toBe('access-denied');
    expect(slept).toEqual([]);
  });

  test('gives up at the deadline of the call', async () => {
    const { store, faulty, clock } = setUp();
    faulty.setDown(true);
    const start = clock.now();
    expect(await kindOf(store.head('a', { deadlineMs: 3000 }))).toBe('unavailable');
    expect(clock.now() - start).toBeLessThanOrEqual(3000);
    expect(clock.now() - start).toBeGreaterThan(1000);
  });

  test('waits as long as Retry-After says, and not beyond the deadline', async () => {
    const { store, faulty, slept } = setUp();
    faulty.script('list', { fault: 'throttle', retryAfterMs: 7000 });
    await store.list({ prefix: '' });
    expect(slept).toEqual([7000]);
    faulty.script('list', { fault: 'throttle', retryAfterMs: 40_000 });
    expect(await kindOf(store.list({ prefix: '' }))).toBe('throttled');
    expect(slept).toEqual([7000]);
  });

  test('a download goes on where it was cut and reports no range twice', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hearthfs-retry-'));
    try {
      const { store, faulty } = setUp();
      const { etag } = await store.put('a', bytes('0123456789abcdef'), attributes, null);
      const path = join(directory, 'f');
      writeFileSync(path, '');
      faulty.script('getToFile', { fault: 'cut' }, 2);
      const ranges: number[][] = [];
      const result = await store.getToFile('a', { start: 2, end: 16, etag }, path, { onRange: (start, end) => ranges.push([start, end]) });
      expect(result.lengthBytes).toBe(14);
      expect(readFileSync(path, 'latin1').slice(2)).toBe('23456789abcdef');
      expect(ranges[0]![0]).toBe(2);
      for (let i = 1; i < ranges.length; i++) expect(ranges[i]![0]).toBe(ranges[i - 1]![1]);
      expect(ranges.at(-1)![1]).toBe(16);
      // without an etag the second half might be of another version
      faulty.script('getToFile', { fault: 'cut' });
      expect(await kindOf(store.getToFile('a', { start: 0, end: 16 }, path))).toBe('unavailable');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('an abort ends the waiting', async () => {
    const { faulty, clock, health } = setUp();
    const controller = new AbortController();
    const store = new RetryStore(faulty, { deadlineMs: 1000, clock, health, sleep: () => { controller.abort(); return Promise.resolve(); } });
    faulty.setDown(true);
    expect(await kindOf(store.head('a', { signal: controller.signal }))).toBe('aborted');
  });

  test('fails fast while offline, one short try per call, and recovers by itself', async () => {
    const { store, faulty, memory, slept, health, clock } = setUp();
    faulty.setDown(true);
    expect(await kindOf(store.head('a'))).toBe('unavailable');
    expect(health.status.state).toBe('offline');
    slept.length = 0;
    expect(await kindOf(store.head('a'))).toBe('unavailable');
    expect(slept).toEqual([]);
    const given: (number | undefined)[] = [];
    const head = memory.head.bind(memory);
    memory.head = (key, options?: CallOptions) => { given.push(options?.deadlineMs); return head(key, options); };
    faulty.setDown(false);
    clock.advance(1000);
    expect(await store.head('a')).toBeNull();
    expect(given).toEqual([2000]);
    expect(health.status).toEqual({ state: 'ok', sinceMs: clock.now() });
  });
});

describe('Health', () => {
  const down = new StoreError('unavailable', 'refused');
  test('a burst of failures at one instant is no outage, lasting ones are', () => {
    const clock = new ManualClock();
    const health = new Health(clock);
    const changes: string[] = [];
    health.onChange((status, was) => changes.push(`${was}>${status.state}`));
    for (let i = 0; i < 32; i++) health.failed(down);
    expect(health.status).toMatchObject({ state: 'degraded', lastError: 'refused' });
    clock.advance(5000);
    health.failed(down);
    expect(health.isOffline).toBe(true);
    health.failed(new StoreError('not-found', 'x')); // an answer
    expect(health.status.state).toBe('ok');
    expect(changes).toEqual(['ok>degraded', 'degraded>offline', 'offline>ok']);
  });

  test('credentials, throttling and a missing bucket degrade; local errors and aborts say nothing', () => {
    for (const kind of ['bad-credentials', 'throttled', 'no-such-bucket'] as const) {
      const health = new Health(new ManualClock());
      health.failed(new StoreError(kind, 'x'));
      expect(health.status.state).toBe('degraded');
      health.failed(new StoreError('aborted', 'x'));
      health.failed(new StoreError('local-io', 'x'));
      expect(health.status.state).toBe('degraded');
    }
  });

  test('one success between failures starts the count anew', () => {
    const clock = new ManualClock();
    const health = new Health(clock);
    health.failed(down);
    health.succeeded();
    clock.advance(60_000);
    health.failed(down);
    health.failed(down);
    health.failed(down);
    expect(health.status.state).toBe('degraded');
  });
});

describe('FaultyStore', () => {
  test('a lost answer is executed and unavailable', async () => {
    const { faulty, memory } = setUp();
    faulty.script('put', { fault: 'lost' });
    expect(await kindOf(faulty.put('a', bytes('x'), attributes, null))).toBe('unavailable');
    expect(memory.snapshot().has('a')).toBe(true);
  });

  test('a hanging call ends with its signal', async () => {
    const { faulty } = setUp();
    const controller = new AbortController();
    faulty.script('head', { fault: 'hang' });
    const call = kindOf(faulty.head('a', { signal: controller.signal }));
    controller.abort();
    expect(await call).toBe('aborted');
  });

  test('the same seed fails the same calls', async () => {
    const run = async (seed: number): Promise<string> => {
      const { faulty } = setUp({ seed, rate: 0.5 });
      let outcome = '';
      for (let i = 0; i < 40; i++) outcome += (await kindOf(faulty.head('a'))) === 'success' ? '.' : 'x';
      return outcome;
    };
    expect(await run(7)).toBe(await run(7));
    expect(await run(7)).not.toBe(await run(8));
    expect(await run(7)).toMatch(/\..*x|x.*\./);
  });
});
