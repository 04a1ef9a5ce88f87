import { afterEach, expect, test } from 'vitest';
import type { Key } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import type { Mutation, TestMount } from './fixture.js';
import { TestMounts } from './test-mounts.js';

const mounts = new TestMounts();
afterEach(() => mounts.closeAll());
const contents = (mount: TestMount): Record<Key, string> => Object.fromEntries([...mount.memory.snapshot()].map(([key, { bytes }]) => [key, short(bytes.toString())]));
/** Runs of B, counted: readable when it differs. */
function short(text: string): string {
  return text.replace(/B+/g, (run) => `B*${run.length};`);
}

/** Everything that happens to this mount, with one request of each kind in it. */
async function script(mount: TestMount): Promise<void> {
  mount.mkdir('d');
  mount.create('d/a', 'alpha');
  mount.create('d/big', 'B'.repeat(70_000));
  mount.create('gone', 'gone');
  await mount.settle();
  change(mount);
  await mount.settle();
}
function change(mount: TestMount): void {
  mount.rename('d/a', 'd/b');
  mount.write('d/big', 10, 'changed');
  mount.chmod('d', 0o700);
  mount.unlink('gone');
}
const result = { 'd/': '', 'd/b': 'alpha', 'd/big': short('B'.repeat(10) + 'changed' + 'B'.repeat(70_000 - 17)) };

test.each(['before', 'after'] as const)('J2, J5: kill -9 %s any request reaches S3, and the next start finishes the work without a conflict', async (phase) => {
  for (let at = 1; ; at++) {
    let count = 0;
    let state: string | undefined;
    const hit = (): void => {
      if (++count !== at) return;
      state = first.die();
      if (phase === 'before') throw new StoreError('unavailable', 'it never left');
    };
    const first: TestMount = await mounts.open({ tap: { [phase]: hit } });
    await script(first);
    if (state === undefined) {
      expect(at).toBeGreaterThan(12);
      return;
    }
    await first.close();
    const next = mounts.keep(await first.reopen(state));
    await next.settle();
    if (next.exists('d/a')) { // it died in its first half
      change(next);
      await next.settle();
    }
    expect(contents(next)).toEqual(result);
    expect(next.deps.conflicts.list()).toEqual([]);
    expect(next.deps.attempts.list().filter(({ outcome }) => outcome !== 'tombstone')).toEqual([]);
    await next.close();
  }
}, 120_000);

test('S4: an upload in parts goes on after a crash with the parts that are there', async () => {
  let parts = 0;
  let state: string | undefined;
  const first: TestMount = await mounts.open({
    config: { partsInFlightMax: 1 },
    tap: { after: (op) => {
      if (op !== 'uploadPart' || ++parts !== 3) return;
      state = first.die();
    } },
  });
  first.create('big', 'B'.repeat(100_000)); // 7 parts
  await first.settle();
  await first.close();
  const sent: Mutation[] = [];
  const next = mounts.keep(await first.reopen(state!, { tap: { after: (op) => void sent.push(op) } }));
  next.writeback.start();
  await next.writeback.drain({ deadlineMs: 5000 });
  expect(sent.filter((op) => op === 'uploadPart')).toHaveLength(4); // the third was there, acknowledged or not
  expect(sent).not.toContain('createUpload');
  expect(contents(next)).toEqual({ big: 'B*100000;' });
  expect(next.memory.openUploads).toBe(0);
});

test('a part that is not answered in time takes none of its siblings with it, and is sent again, with fewer at a time', async () => {
  const mount = await mounts.open({ config: { partsInFlightMax: 4 } });
  const { store, attempts } = mount.deps;
  const uploadPart = store.uploadPart.bind(store);
  const tries = new Map<number, number>();
  let inFlight = 0;
  let mostAfterwards = 0;
  let aborted = 0;
  let held: (() => void)[] | undefined = [];
  const release = (): void => {
    held?.forEach((go) => go());
    held = undefined;
  };
  store.uploadPart = async (key, uploadId, number, body, options) => {
    options?.signal?.addEventListener('abort', () => aborted++);
    tries.set(number, (tries.get(number) ?? 0) + 1);
    inFlight++;
    try {
      if (number === 2 && tries.get(2) === 1) {
        setImmediate(release); // its siblings are answered after it has failed
        throw new StoreError('unavailable', 'late', { code: 'ETIMEDOUT' });
      }
      if (held) await new Promise<void>((go) => held!.push(go));
      else mostAfterwards = Math.max(mostAfterwards, inFlight);
      return await uploadPart(key, uploadId, number, body, options);
    } finally {
      inFlight--;
    }
  };
  mount.create('big', 'B'.repeat(100_000)); // 7 parts
  await mount.settle(3);
  expect(contents(mount)).toEqual({ big: 'B*100000;' });
  expect([...tries].sort(([a], [b]) => a - b)).toEqual([[1, 1], [2, 2], [3, 1], [4, 1], [5, 1], [6, 1], [7, 1]]);
  expect(aborted).toBe(0);
  expect(mostAfterwards).toBeLessThan(4);
  expect(attempts.list()).toEqual([]);
  expect(mount.memory.calls.get('createUpload')).toBe(1);
  expect(mount.memory.calls.get('completeUpload')).toBe(1);
  expect(mount.deps.metrics.get('writeback.retries')).toBe(0);
});

test('S4: an upload in parts whose file changed meanwhile is never completed, and leaves no stray', async () => {
  let parts = 0;
  const mount: TestMount = await mounts.open({
    config: { partsInFlightMax: 1 },
    tap: { after: (op) => {
      if (op === 'uploadPart' && ++parts === 3) mount.write('big', 0, 'changed');
      if (op === 'completeUpload') expect(mount.memory.snapshot().get('big')!.bytes.subarray(0, 7).toString()).toBe('changed');
    } },
  });
  mount.create('big', 'B'.repeat(100_000));
  await mount.settle();
  expect(contents(mount)).toEqual({ big: 'changedB*99993;' });
  expect(mount.memory.calls.get('completeUpload')).toBe(1);
  expect(mount.memory.openUploads).toBe(0);
});

test('promise 3: a small file is read in the stretch that seals it: whoever writes afterwards writes the next generation, and both arrive whole', async () => {
  const seen: string[] = [];
  let isFirst = true;
  const mount: TestMount = await mounts.open({ tap: { after: (op, key) => void (op === 'put' && seen.push(mount.memory.snapshot().get(key)!.bytes.toString())) } });
  mount.create('a', 'one');
  const { contents: local } = mount.deps;
  const sync = local.sync.bind(local);
  local.sync = (ids) => { // between the read and the request
    if (isFirst) mount.write('a', 0, 'two');
    isFirst = false;
    return sync(ids);
  };
  await mount.settle();
  expect(seen).toEqual(['one', 'two']);
  expect(mount.deps.metrics.get('writeback.torn_reads')).toBe(0);
});

test('D1: the bytes of a small file are on stable storage, and the record of the attempt after them, before the request leaves', async () => {
  let isDurable: boolean[] = [];
  const order: string[] = [];
  const mount: TestMount = await mounts.open({ tap: { before: (op, key) => {
    if (op !== 'put') return;
    order.push('put');
    isDurable.push(!mount.contents.isUnsynced(mount.inode(key).content!), !mount.inode(key).sealedUnsynced, mount.deps.attempts.get(key)?.outcome === 'sent');
  } } });
  mount.create('a', 'one');
  const { db, contents: local } = mount.deps;
  const sync = local.sync.bind(local);
  local.sync = async (ids) => {
    await sync(ids);
    order.push('content');
  };
  const durable = db.durable.bind(db);
  db.durable = async () => {
    await durable();
    order.push('record');
  };
  await mount.settle();
  expect(isDurable).toEqual([true, true, true]);
  expect(order.slice(0, order.indexOf('put') + 1)).toEqual(['content', 'record', 'put']);
  isDurable = [];
  mount.write('a', 0, 'two');
  await mount.settle();
  expect(isDurable).toEqual([true, true, true]);
});

test('promise 3: a writer that comes into every read never gets a torn object to S3, and is uploaded all the same', async () => {
  const seen: string[] = [];
  let n = 0;
  const mount: TestMount = await mounts.open({ tap: { after: (op, key) => void (op === 'put' && seen.push(mount.memory.snapshot().get(key)!.bytes.toString())) } });
  const generation = (): string => String(n++ % 10).repeat(3000);
  mount.create('log', generation());
  const { contents: local } = mount.deps;
  const sync = local.sync.bind(local);
  local.isUnsynced = () => true;
  local.sync = (ids) => { // between the seal and the read
    mount.write('log', 0, generation());
    return sync(ids);
  };
  for (let i = 0; i < 30 && seen.length === 0; i++) {
    mount.clock.advance(31_000);
    await mount.writeback.runDue();
  }
  expect(seen.length).toBeGreaterThan(0);
  for (const body of seen) expect(body).toMatch(/^(\d)\1{2999}$/);
  expect(mount.deps.metrics.get('writeback.torn_reads')).toBeGreaterThanOrEqual(3);
});

test('after a crash the size of a file that was being written is that of its content file', async () => {
  const first = await mounts.open();
  const { ino } = first.create('a', 'short');
  first.deps.db.tx(() => first.deps.tree.inodes.settle(first.inode('a')));
  first.write('a', 5, ' and then some'); // size only in memory
  const next = mounts.keep(await first.crash());
  expect(next.deps.tree.inodes.get(ino)!.sizeBytes).toBe(19);
  await next.settle();
  expect(contents(next)).toEqual({ a: 'short and then some' });
});

test('S6: after a power cut a file that was being written does not replace what S3 has by itself', async () => {
  const first = await mounts.open();
  first.create('a', 'uploaded');
  await first.settle();
  first.write('a', 0, 'half');
  first.create('b', 'never uploaded');
  first.db.setFact('boot_id', 'another boot');
  const next = mounts.keep(await first.crash());
  await next.settle();
  expect(contents(next)).toEqual({ a: 'uploaded', b: 'never uploaded' });
  expect(next.writeback.pending(10)).toMatchObject([{ key: 'a', parkedReason: 'recovered-unsynced' }]);
  next.write('a', 0, 'written again'); // somebody takes care of it
  next.deps.db.tx(() => next.deps.journal.mark('a', 0));
  await next.settle();
  expect(contents(next)['a']).toBe('written again');
});

test('J8: a walk that a crash cut short is walked again', async () => {
  const first = await mounts.open();
  first.mkdir('d');
  for (let i = 0; i < 5; i++) first.create(`d/f${i}`, `${i}`);
  await first.settle();
  first.rename('d', 'e');
  const next = mounts.keep(await first.crash());
  await next.settle();
  expect(Object.keys(contents(next))).toEqual(['e/', 'e/f0', 'e/f1', 'e/f2', 'e/f3', 'e/f4']);
});

test('an upload begun whose id was not written down before the crash is found and aborted', async () => {
  const first: TestMount = await mounts.open();
  const original = first.deps.store.createUpload.bind(first.deps.store);
  let state: string | undefined;
  first.deps.store.createUpload = async (...args) => {
    const id = await original(...args);
    state ??= first.die();
    return id;
  };
  first.create('big', 'B'.repeat(100_000));
  await first.settle();
  await first.close();
  expect(first.memory.openUploads).toBe(1);
  const next = mounts.keep(await first.reopen(state!));
  next.writeback.start();
  await next.writeback.drain({ deadlineMs: 5000 });
  expect(contents(next)).toEqual({ big: 'B*100000;' });
  expect(next.memory.openUploads).toBe(0);
});
