import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { silentLog } from '../base/log.js';
import type { ContentFile } from '../cache/content-file.js';
import { TestStores, type TestStore } from '../cache/test-store.js';
import type { ObjectStore } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import { FakeStore } from './fake-store.js';
import { ObjectReader, type ObjectReaderConfig, type ReadSource } from './object-reader.js';
import { SourceLostError } from './source-lost-error.js';

const KiB = 1024;
const MiB = 1024 * KiB;

const stores = new TestStores();
const readers: ObjectReader[] = [];
afterEach(async () => {
  for (const reader of readers.splice(0)) await reader.close();
  await stores.cleanUp();
});

interface Setup { opened: TestStore; s3: FakeStore; reader: ObjectReader; file: ContentFile; source: ReadSource; remote: Buffer; config: { -readonly [K in keyof ObjectReaderConfig]: ObjectReaderConfig[K] } }

async function setup(sizeBytes: number, config: Partial<ObjectReaderConfig> = {}, limitBytes = 1 << 30): Promise<Setup> {
  const opened = await stores.open({ limitBytes, noProgressMs: 10_000 });
  const s3 = new FakeStore();
  const remote = Buffer.alloc(sizeBytes);
  for (let i = 0; i < sizeBytes; i += 512) remote.writeUInt32LE(i + 1, i);
  s3.objects.set('a', { etag: 'e1', bytes: remote });
  const full = { partBytes: 8 * MiB, smallFileBytes: 0, downloadsMax: 8, windowBytesMax: 64 * MiB, readMode: 'stream' as 'stream' | 'store', ...config };
  const reader = new ObjectReader({ store: s3 as unknown as ObjectStore, contents: opened.store, clock: opened.clock, log: silentLog, metrics: opened.metrics, config: full });
  readers.push(reader);
  const file = opened.db.tx(() => opened.store.create(sizeBytes, 'all'));
  return { opened, s3, reader, file, source: { file, locate: () => ({ key: 'a', etag: 'e1' }) }, remote, config: full };
}

function expectBytes({ file, remote }: Setup, start: number, end: number): void {
  const into = Buffer.alloc(end - start);
  expect(file.read(into, start)).toBe(end - start);
  expect(into.equals(remote.subarray(start, end))).toBe(true);
}

/** Lets promises and immediates run until nothing more happens by itself. */
async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await turn();
}

async function outcome(promise: Promise<unknown>): Promise<string> {
  return promise.then(() => 'ok', (error: unknown) => (error instanceof StoreError ? error.kind : (error as Error).name));
}

describe('reading', () => {
  test('ensure() fetches what is missing, once, and nothing when it is here', async () => {
    const s = await setup(4 * MiB);
    await s.reader.ensure(s.source, MiB, MiB + 1000);
    expectBytes(s, MiB, MiB + 1000);
    expect(s.s3.gets.map((get) => get.range)).toEqual([[MiB, MiB + 128 * KiB]]); // what was asked plus little
    await s.reader.ensure(s.source, MiB, MiB + 1000);
    expect(s.s3.requests).toBe(1);
  });

  test('a long read that lies anywhere fetches at most an eighth more than it is', async () => {
    const s = await setup(16 * MiB);
    const [start, end] = [5 * MiB + 12 * KiB, 5 * MiB + 272 * KiB];
    await s.reader.ensure(s.source, start, end);
    expectBytes(s, start, end);
    expect(s.s3.gets.map((get) => get.range)).toEqual([[5 * MiB, 5 * MiB + 272 * KiB]]);
  });

  test('a small file is fetched whole by the first read', async () => {
    const s = await setup(300 * KiB, { smallFileBytes: MiB });
    await s.reader.ensure(s.source, 0, 10);
    await settle();
    expect(s.file.isComplete).toBe(true);
    expect(s.s3.requests).toBe(1);
  });

  test('concurrent readers of one range share one request', async () => {
    const s = await setup(4 * MiB);
    await Promise.all(Array.from({ length: 10 }, (_, i) => s.reader.ensure(s.source, i * 100, i * 100 + 100)));
    expect(s.s3.requests).toBe(1);
  });

  test('stream mode: a reader goes on when its own bytes have landed, the rest comes behind', async () => {
    const s = await setup(MiB, { smallFileBytes: MiB });
    s.s3.automatic = false;
    const first = s.reader.ensure(s.source, 0, 4096);
    await settle();
    s.s3.gets[0]!.land(4096);
    await first;
    expect(s.file.isComplete).toBe(false);
    expect(s.s3.gets[0]!.isOver).toBe(false);
    s.s3.gets[0]!.finish();
    await settle();
    expect(s.file.isComplete).toBe(true);
    expect(s.s3.requests).toBe(1);
  });

  test('store mode: a reader waits for the whole part', async () => {
    const s = await setup(MiB, { smallFileBytes: MiB, readMode: 'store' });
    s.s3.automatic = false;
    let done = false;
    const first = s.reader.ensure(s.source, 0, 4096).then(() => (done = true));
    await settle();
    s.s3.gets[0]!.land(512 * KiB);
    await settle();
    expect(done).toBe(false);
    s.s3.gets[0]!.finish();
    await first;
  });

  test('fetchWhole() uses many requests at once, not more than allowed', async () => {
    const s = await setup(2 * MiB, { partBytes: 128 * KiB, downloadsMax: 4 });
    s.s3.automatic = false;
    const whole = s.reader.fetchWhole(s.source);
    let most = 0;
    while (!s.file.isComplete) {
      await settle();
      most = Math.max(most, s.s3.open.length);
      expect(s.s3.open.length).toBeLessThanOrEqual(4);
      s.s3.open[0]?.finish();
    }
    await whole;
    expect(most).toBe(3); // bulk work leaves a slot for readers
    expect(s.s3.requests).toBe(16);
    expectBytes(s, 0, 2 * MiB);
  });

  test('a range written here meanwhile is neither requested nor overwritten', async () => {
    const s = await setup(512 * KiB, { smallFileBytes: MiB });
    s.file.write(Buffer.alloc(4096, 9), 100 * KiB);
    await s.reader.ensure(s.source, 0, 512 * KiB);
    const into = Buffer.alloc(4096);
    s.file.read(into, 100 * KiB);
    expect(into).toEqual(Buffer.alloc(4096, 9));
    expect(s.s3.gets.map((get) => get.range)).toEqual([[0, 100 * KiB], [104 * KiB, 512 * KiB]]);
  });

  test('inFlight() covers what a request may still write, and resolves when it is over', async () => {
    const s = await setup(4 * MiB);
    s.s3.automatic = false;
    const read = s.reader.ensure(s.source, MiB, MiB + 1);
    await settle();
    expect(s.reader.inFlight(s.file.id, 0, MiB)).toBeUndefined();
    const busy = s.reader.inFlight(s.file.id, MiB + 1000, MiB + 2000)!;
    s.s3.gets[0]!.finish();
    await busy;
    expect(s.reader.inFlight(s.file.id, MiB, 2 * MiB)).toBeUndefined();
    await read;
  });
});

describe('failures', () => {
  test('all who wait get the error; the next one tries again', async () => {
    const s = await setup(MiB);
    s.s3.automatic = false;
    const readers = [s.reader.ensure(s.source, 0, 10), s.reader.ensure(s.source, 20, 30)];
    await settle();
    s.s3.gets[0]!.fail(new StoreError('unavailable', 'down'));
    expect(await Promise.all(readers.map(outcome))).toEqual(['unavailable', 'unavailable']);
    s.s3.automatic = true;
    await s.reader.ensure(s.source, 0, 10);
    expectBytes(s, 0, 10);
  });

  test('bytes that landed before a failure stay', async () => {
    const s = await setup(MiB);
    s.s3.automatic = false;
    const read = s.reader.ensure(s.source, 0, 128 * KiB);
    await settle();
    s.s3.gets[0]!.land(64 * KiB);
    s.s3.gets[0]!.fail(new StoreError('unavailable', 'down'));
    expect(await outcome(read)).toBe('unavailable');
    expectBytes(s, 0, 64 * KiB);
    s.s3.automatic = true;
    await s.reader.ensure(s.source, 0, 128 * KiB);
    expect(s.s3.gets.at(-1)!.range).toEqual([64 * KiB, 128 * KiB]);
  });

  test('O3: a 404 or 412 after our own rename or copy is followed to where the bytes are now', async () => {
    const s = await setup(MiB);
    let where = { key: 'gone', etag: 'e1' };
    const asked: string[] = [];
    const source: ReadSource = { file: s.file, locate: () => {
      asked.push(where.key);
      const now = where;
      where = { key: 'a', etag: asked.length === 1 ? 'old' : 'e1' }; // 404, then 412, then there
      return now;
    } };
    await s.reader.ensure(source, 0, 10);
    expectBytes(s, 0, 10);
    expect(asked).toEqual(['gone', 'a', 'a']);
  });

  test('O3: an object that an upload of our own is replacing is asked for again once that is over', async () => {
    const s = await setup(MiB);
    const replaced = Buffer.from(s.remote);
    s.s3.objects.set('a', { etag: 'e2', bytes: replaced });
    let etag = 'e1';
    let over!: () => void;
    const upload = new Promise<void>((resolve) => (over = resolve));
    let asked = 0;
    const source: ReadSource = { file: s.file, locate: () => ({ key: 'a', etag }), settled: () => (asked++ === 0 ? upload : undefined) };
    const read = s.reader.ensure(source, 0, 1000);
    await settle();
    expect(asked).toBe(1);
    etag = 'e2';
    over();
    await read;
    expectBytes(s, 0, 1000);
  });

  test('bytes that two keys are on record with are taken from the other one if the first is gone', async () => {
    const s = await setup(MiB);
    const keys = ['deleted', 'a'];
    const source: ReadSource = { file: s.file, locate: (gone) => {
      const key = keys.find((each) => !gone?.has(each));
      return key === undefined ? null : { key, etag: 'e1' };
    } };
    await s.reader.ensure(source, 0, 10);
    expectBytes(s, 0, 10);
    keys.splice(0, 2, 'deleted', 'deleted too');
    await expect(s.reader.ensure(source, 1000, MiB)).rejects.toThrow(SourceLostError);
  });

  test('O3: an object that was replaced or is gone, and nobody moved it, is lost', async () => {
    const s = await setup(MiB);
    s.s3.objects.set('a', { etag: 'e2', bytes: Buffer.alloc(MiB) });
    await expect(s.reader.ensure(s.source, 0, 10)).rejects.toThrow(SourceLostError);
    s.s3.objects.delete('a');
    await expect(s.reader.ensure(s.source, 0, 10)).rejects.toThrow(SourceLostError);
    await expect(s.reader.ensure({ file: s.file, locate: () => null }, 0, 10)).rejects.toThrow(SourceLostError);
    expect(s.file.missing.covers(0, MiB)).toBe(true);
  });

  test('an object shorter than the file is lost, not read as zeros', async () => {
    const s = await setup(MiB);
    s.s3.objects.set('a', { etag: 'e1', bytes: Buffer.alloc(1000) });
    await expect(s.reader.ensure(s.source, 0, 4096)).rejects.toThrow(SourceLostError);
  });
});

describe('leaving', () => {
  test("one caller's abort leaves the request to the others", async () => {
    const s = await setup(MiB);
    s.s3.automatic = false;
    const abort = new AbortController();
    const first = s.reader.ensure(s.source, 0, 10, { signal: abort.signal });
    const second = s.reader.ensure(s.source, 0, 10);
    await settle();
    abort.abort();
    expect(await outcome(first)).toBe('aborted');
    expect(s.s3.gets[0]!.isOver).toBe(false);
    s.s3.gets[0]!.finish();
    await second;
  });

  test('when nobody waits any more the request is aborted, and who comes right then gets a new one', async () => {
    const s = await setup(MiB);
    s.s3.automatic = false;
    const abort = new AbortController();
    const first = s.reader.ensure(s.source, 0, 10, { signal: abort.signal });
    await settle();
    abort.abort();
    const second = s.reader.ensure(s.source, 0, 10);
    expect(await outcome(first)).toBe('aborted');
    await settle();
    expect(s.s3.gets[0]!.isOver).toBe(true);
    s.s3.gets[1]!.finish();
    await second;
    expectBytes(s, 0, 10);
  });

  test('a request of which most has landed is finished though its reader left', async () => {
    const s = await setup(MiB);
    s.s3.automatic = false;
    const abort = new AbortController();
    const first = s.reader.ensure(s.source, 0, 128 * KiB, { signal: abort.signal });
    await settle();
    s.s3.gets[0]!.land(100 * KiB);
    abort.abort();
    expect(await outcome(first)).toBe('aborted');
    expect(s.s3.gets[0]!.isOver).toBe(false);
    s.s3.gets[0]!.finish();
    await settle();
    expect(s.file.missing.intersects(0, 128 * KiB)).toBe(false);
  });

  test('cancel() resolves when nothing writes any more; what its caller does next comes before any new request', async () => {
    const s = await setup(4 * MiB);
    s.s3.automatic = false;
    const read = s.reader.ensure(s.source, 2 * MiB, 2 * MiB + 10);
    const queued = s.reader.ensure(s.source, 3 * MiB, 3 * MiB + 10);
    await settle();
    await s.reader.cancel(s.file.id);
    expect(s.s3.open).toEqual([]);
    const late = s.reader.ensure(s.source, 2 * MiB, 2 * MiB + 10);
    s.file.truncate(MiB);
    // All ranges are beyond the end now: present by being nowhere.
    expect(await Promise.all([read, queued, late].map(outcome))).toEqual(['ok', 'ok', 'ok']);
    expect(s.s3.requests).toBe(2);
    expect(s.file.sizeBytes).toBe(MiB);
  });

  test('while cancel() waits for a request that is slow to end, nothing new begins', async () => {
    const s = await setup(4 * MiB, { downloadsMax: 2 });
    s.s3.automatic = false;
    s.s3.abortsAtOnce = false;
    const reads = [0, 1, 2].map((i) => s.reader.ensure(s.source, i * MiB, i * MiB + 10));
    await settle();
    expect(s.s3.open.length).toBe(2);
    let over = false;
    const cancelled = s.reader.cancel(s.file.id).then(() => {
      over = true;
      s.file.truncate(0);
    });
    s.s3.gets[0]!.fail(new StoreError('aborted', 'aborted'));
    s.reader.prefetch(s.source, 3 * MiB, 4 * MiB);
    await settle();
    expect(over).toBe(false);
    s.s3.gets[1]!.land(4096); // it still writes
    s.s3.gets[1]!.fail(new StoreError('aborted', 'aborted'));
    await cancelled;
    expect(await Promise.all(reads.map(outcome))).toEqual(['ok', 'ok', 'ok']);
    expect(s.s3.requests).toBe(2);
    expect(s.file.sizeBytes).toBe(0);
  });

  test('close() ends everything with aborted', async () => {
    const s = await setup(4 * MiB);
    s.s3.automatic = false;
    const read = s.reader.ensure(s.source, 0, 10);
    await settle();
    await s.reader.close();
    expect(await outcome(read)).toBe('aborted');
    expect(await outcome(s.reader.ensure(s.source, 0, 10))).toBe('aborted');
  });
});

describe('prefetch', () => {
  test('is bounded by the window, cut into pieces, and only counts its errors', async () => {
    const s = await setup(16 * MiB, { windowBytesMax: 4 * MiB, downloadsMax: 4 });
    s.s3.automatic = false;
    s.reader.prefetch(s.source, 0, 16 * MiB);
    await settle();
    expect(s.s3.open.map((get) => get.range)).toEqual([[0, 4 * MiB]]);
    s.s3.open[0]!.fail(new StoreError('unavailable', 'down'));
    await settle();
    expect(s.opened.metrics.get('prefetch.failures')).toBe(1);
    s.reader.prefetch(s.source, 0, 4 * MiB);
    await settle();
    expect(s.s3.open.map((get) => get.range)).toEqual([[0, MiB], [MiB, 2 * MiB], [2 * MiB, 3 * MiB]]); // one slot stays free
  });

  test('a read goes first, and a queued prefetch that somebody now waits for becomes urgent', async () => {
    const s = await setup(16 * MiB, { downloadsMax: 2, windowBytesMax: 64 * MiB });
    s.s3.automatic = false;
    s.reader.prefetch(s.source, 0, 4 * MiB);
    await settle();
    expect(s.s3.open.map((get) => get.range)).toEqual([[0, MiB]]);
    const joined = s.reader.ensure(s.source, 3 * MiB, 3 * MiB + 10);
    await settle();
    expect(s.s3.open.map((get) => get.range)).toEqual([[0, MiB], [3 * MiB, 4 * MiB]]);
    s.s3.open[1]!.finish();
    await joined;
  });

  test('a reader of prefetched bytes causes no request', async () => {
    const s = await setup(4 * MiB);
    s.reader.prefetch(s.source, 0, 4 * MiB);
    await settle();
    const before = s.s3.requests;
    await s.reader.ensure(s.source, 0, 4 * MiB);
    expect(s.s3.requests).toBe(before);
  });
});

describe('one reader\'s window', () => {
  test('a prefetch says how far it got, and readers of many files share what all may have', async () => {
    const s = await setup(16 * MiB, { windowBytesMax: 4 * MiB, partBytes: MiB });
    s.s3.automatic = false;
    expect(s.reader.windowBytes).toBe(4 * MiB);
    expect(s.reader.prefetch(s.source, 0, 3 * MiB).coveredTo).toBe(3 * MiB);
    expect(s.reader.prefetch(s.source, 0, 8 * MiB).coveredTo).toBe(4 * MiB);
    const other = s.opened.db.tx(() => s.opened.store.create(16 * MiB, 'all'));
    expect(s.reader.prefetch({ file: other, locate: () => ({ key: 'a', etag: 'e1' }) }, MiB, 2 * MiB).coveredTo).toBe(MiB); // nothing left
    await s.reader.cancel(s.file.id);
    await settle();
    expect(s.reader.prefetch({ file: other, locate: () => ({ key: 'a', etag: 'e1' }) }, 0, 2 * MiB).coveredTo).toBe(2 * MiB);
    expect(s.reader.prefetch(s.source, 0, MiB).coveredTo).toBe(MiB);
    expect(s.reader.windowBytes).toBe(2 * MiB);
  });
});

describe('room', () => {
  test('the file being fetched is not evicted to make room for itself, others are', async () => {
    const s = await setup(2 * MiB, { partBytes: MiB }, 3 * MiB);
    const old = s.opened.db.tx(() => s.opened.store.create(0, 'none'));
    old.write(Buffer.alloc(2 * MiB), 0);
    await s.reader.fetchWhole(s.source);
    expect(s.opened.store.find(s.file.id)).toBe(s.file);
    expect(s.opened.store.find(old.id)).toBeUndefined();
  });

  test('a file bigger than the cache can be read through; what was read long ago makes room', async () => {
    const s = await setup(12 * MiB, { partBytes: MiB, downloadsMax: 2 }, 5 * MiB);
    for (let at = 0; at < 12 * MiB; at += 128 * KiB) {
      await s.reader.ensure(s.source, at, at + 128 * KiB);
      expectBytes(s, at, at + 128 * KiB);
    }
    expect(s.file.allocatedBytes()).toBeLessThanOrEqual(5 * MiB);
    await s.reader.ensure(s.source, 0, 128 * KiB);
    expectBytes(s, 0, 128 * KiB);
    const again = (await stores.afterCrash(s.opened)).store.find(s.file.id)!;
    const into = Buffer.alloc(128 * KiB);
    for (let at = 0; at < 12 * MiB; at += 128 * KiB) {
      if (again.missing.intersects(at, at + 128 * KiB)) continue;
      again.read(into, at);
      expect(into.equals(s.remote.subarray(at, at + 128 * KiB))).toBe(true);
    }
  });
});

test('any mix of reads, prefetches, aborts, writes, truncations and failures leaves every present byte right', async () => {
  const size = 2 * MiB;
  const step = 64 * KiB;
  const operation = fc.record({
    kind: fc.constantFrom('read', 'read', 'prefetch', 'abort', 'write', 'truncate', 'fail', 'finish', 'land'), at: fc.nat(size / step - 1), length: fc.integer({ min: 1, max: 8 }),
  });
  await fc.assert(fc.asyncProperty(fc.array(operation, { maxLength: 30 }), async (operations) => {
    const s = await setup(size, { partBytes: 512 * KiB, downloadsMax: 3, windowBytesMax: MiB });
    s.s3.automatic = false;
    let expected = Buffer.from(s.remote);
    const pending: { promise: Promise<string>; abort: AbortController }[] = [];
    let value = 0;
    for (const { kind, at, length } of operations) {
      const start = at * step;
      const end = start + length * step;
      if (kind === 'read') {
        const abort = new AbortController();
        const to = Math.min(end, expected.length);
        const promise = s.reader.ensure(s.source, start, to, { signal: abort.signal }).then(() => {
          if (to <= start || to > s.file.sizeBytes) return 'ok';
          const into = Buffer.alloc(to - start);
          s.file.read(into, start);
          expect(into.equals(expected.subarray(start, to))).toBe(true);
          return 'ok';
        });
        promise.catch(() => undefined);
        pending.push({ promise, abort });
      } else if (kind === 'prefetch') {
        s.reader.prefetch(s.source, start, end);
      } else if (kind === 'abort') {
        pending[at % (pending.length || 1)]?.abort.abort();
      } else if (kind === 'write') {
        const data = Buffer.alloc(end - start, ++value);
        for (let busy = s.reader.inFlight(s.file.id, start, end); busy; busy = s.reader.inFlight(s.file.id, start, end)) {
          for (const get of s.s3.open) get.finish();
          await busy;
        }
        s.file.write(data, start);
        if (end > expected.length) expected = Buffer.concat([expected, Buffer.alloc(end - expected.length)]);
        data.copy(expected, start);
      } else if (kind === 'truncate') {
        await s.reader.cancel(s.file.id);
        s.file.truncate(start);
        expected = Buffer.concat([expected.subarray(0, start), Buffer.alloc(Math.max(0, start - expected.length))]);
      } else if (kind === 'fail') {
        s.s3.open[0]?.fail(new StoreError('unavailable', 'down'));
      } else if (kind === 'finish') {
        s.s3.open[at % (s.s3.open.length || 1)]?.finish();
      } else {
        s.s3.open[0]?.land(step);
      }
      await turn();
    }
    s.s3.automatic = true;
    for (let i = 0; i < 200 && s.s3.open.length > 0; i++) {
      s.s3.open[0]!.finish();
      await settle();
    }
    for (const { promise } of pending) await promise.catch((error: unknown) => { if (!(error instanceof StoreError)) throw error; });
    await s.reader.fetchWhole(s.source);
    const into = Buffer.alloc(s.file.sizeBytes);
    s.file.read(into, 0);
    expect(into.equals(expected)).toBe(true);
    await s.reader.close();
    await stores.cleanUp();
  }), { numRuns: 20 });
});
