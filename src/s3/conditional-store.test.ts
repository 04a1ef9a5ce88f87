import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { fullCapabilities, probeCapabilities, type Capabilities } from './capabilities.js';
import { ConditionalStore } from './conditional-store.js';
import { FaultyStore } from './faulty-store.js';
import { MemoryObjectStore } from './memory-object-store.js';
import type { ObjectStore, Stored } from './object-store.js';
import { StoreError } from './store-error.js';

const attributes = { metadata: {} };
const body = (text: string): { kind: 'bytes'; bytes: Buffer } => ({ kind: 'bytes', bytes: Buffer.from(text) });
const kindOf = (call: Promise<unknown>): Promise<string> => call.then(() => 'success', (error: unknown) => (error as { kind: string }).kind);
const flags = ['putIfNoneMatch', 'putIfMatch', 'deleteIfMatch', 'copySourceIfMatch', 'copyIfNoneMatch', 'copyIfMatch', 'completeIfNoneMatch', 'completeIfMatch'] as const;
const none: Partial<Capabilities> = Object.fromEntries(flags.map((flag) => [flag, false]));

test('the probe finds everything on a server like AWS, and leaves nothing', async () => {
  const store = new MemoryObjectStore();
  expect(await probeCapabilities(store)).toEqual({ ...fullCapabilities, versioning: false });
  expect(store.snapshot().size).toBe(0);
  expect(store.openUploads).toBe(0);
});

test.each(flags)('the probe notices that %s is ignored, and only that', async (flag) => {
  const store = new MemoryObjectStore({ capabilities: { [flag]: false } });
  expect(await probeCapabilities(store)).toEqual({ ...fullCapabilities, [flag]: false, versioning: false });
  expect(store.snapshot().size).toBe(0);
  expect(store.openUploads).toBe(0);
});

test('the probe calls a bucket we may not write read-only', async () => {
  const store = new FaultyStore(new MemoryObjectStore()).script('put', { fault: 'fail', kind: 'access-denied' }, Infinity);
  expect(await probeCapabilities(store)).toMatchObject({ readOnly: true, putIfMatch: false });
});

test('a probe that fails half-way leaves nothing', async () => {
  const memory = new MemoryObjectStore();
  expect(await kindOf(probeCapabilities(new FaultyStore(memory).script('completeUpload', { fault: 'fail' })))).toBe('unavailable');
  expect(memory.snapshot().size).toBe(0);
  expect(memory.openUploads).toBe(0);
});

test('the probe asks side by side what does not build on another answer: eight round trips', async () => {
  const memory = new MemoryObjectStore();
  const waiting: (() => void)[] = [];
  const slow = new Proxy(memory, {
    get: (target, name: keyof ObjectStore) => async (...args: unknown[]) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return (target[name] as (...all: unknown[]) => Promise<unknown>).apply(target, args);
    },
  });
  let done = false;
  const probing = probeCapabilities(slow).finally(() => (done = true));
  let rounds = 0;
  for (; !done; rounds++) {
    waiting.splice(0).forEach((answer) => answer());
    await new Promise(setImmediate);
  }
  expect(await probing).toMatchObject(fullCapabilities);
  expect(rounds).toBe(8);
});

/** The memory store with something around each call. */
function wrapped(memory: MemoryObjectStore, around: (name: keyof ObjectStore, args: unknown[], run: () => Promise<unknown>) => Promise<unknown>): ObjectStore {
  return new Proxy(memory, {
    get: (target, name: keyof ObjectStore) => (...args: unknown[]) => around(name, args, () => (target[name] as (...all: unknown[]) => Promise<unknown>).apply(target, args)),
  });
}

test('the probe notices that conditions of copies are ignored where each write has an etag of its own, as with a key for each', async () => {
  const ignored = { copyIfNoneMatch: false, copyIfMatch: false };
  const memory = new MemoryObjectStore({ capabilities: ignored });
  const rewritten = (key: string): Promise<Stored> => memory.put(key, { kind: 'bytes', bytes: randomBytes(16) }, attributes, 'any');
  let before: Promise<unknown> = Promise.resolve();
  const store = wrapped(memory, (name, args, run) => {
    // one after the other, in the order they came: what one changes the next one meets
    const call = before.then(run).then((result) => (name === 'put' ? rewritten(args[0] as string) : name === 'copy' ? rewritten(args[1] as string) : result));
    before = call.catch(() => undefined);
    return call;
  });
  expect(await probeCapabilities(store)).toEqual({ ...fullCapabilities, ...ignored, versioning: false });
});

test.each([...flags.map((flag) => [flag, { [flag]: false }] as const), ['nothing', {}] as const, ['everything', none] as const])(
  'the probe has no two writes of one key under way, which some servers answer with a conflict: a server that ignores %s', async (_, ignored) => {
    const busy = new Set<unknown>();
    const together: unknown[] = [];
    const store = wrapped(new MemoryObjectStore({ capabilities: ignored }), async (name, args, run) => {
      if (name !== 'put' && name !== 'copy' && name !== 'completeUpload' && name !== 'delete') return run();
      const key = name === 'copy' ? args[1] : args[0];
      if (busy.has(key)) {
        together.push([name, key]);
        throw new StoreError('conflict', 'OperationAborted', { status: 409, code: 'OperationAborted' });
      }
      busy.add(key);
      await new Promise(setImmediate);
      try {
        return await run();
      } finally {
        busy.delete(key);
      }
    });
    expect(await probeCapabilities(store)).toEqual({ ...fullCapabilities, ...ignored, versioning: false });
    expect(together).toEqual([]);
  });

test('emulated conditions refuse what the server would have taken (O2)', async () => {
  const memory = new MemoryObjectStore({ capabilities: none });
  const store = new ConditionalStore(memory, await probeCapabilities(memory));
  expect(store.protection).toBe('detected, not prevented');
  const { etag } = await store.put('a', body('1'), attributes, null);
  const stranger = await memory.put('a', body('stranger'), attributes, 'any');
  for (const call of [
    store.put('a', body('2'), attributes, null), store.put('a', body('2'), attributes, etag), store.delete('a', etag), store.copy({ key: 'a', etag }, 'b', attributes, null),
    store.copy({ key: 'a', etag: stranger.etag }, 'a', attributes, null), store.copy({ key: 'a', etag: stranger.etag }, 'a', attributes, etag),
    store.completeUpload('a', await store.createUpload('a', attributes), [], null), store.completeUpload('a', await store.createUpload('a', attributes), [], etag),
    store.uploadPartCopy('a', await store.createUpload('a', attributes), 1, { key: 'a', etag }, 0, 1),
  ]) expect(await kindOf(call)).toBe('precondition-failed');
  expect(memory.snapshot().get('a')!.bytes.toString()).toBe('stranger');
  await store.put('a', body('3'), attributes, stranger.etag);
  await store.delete('a', (await memory.head('a'))!.etag);
  await store.delete('a', stranger.etag); // gone is success
  expect(memory.snapshot().size).toBe(0);
});

test('conditions the server honours cost no extra request', async () => {
  const memory = new MemoryObjectStore();
  const store = new ConditionalStore(memory, fullCapabilities);
  expect(store.protection).toBe('prevented');
  const { etag } = await store.put('a', body('1'), attributes, null);
  await store.copy({ key: 'a', etag }, 'b', attributes, null);
  await store.delete('a', etag);
  expect(memory.calls.get('head')).toBeUndefined();
});
