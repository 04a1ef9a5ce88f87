/** Small changes to big objects: what is sent, what is copied, and that the object is right whatever happens on the way. */
import { randomBytes } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { StoreError } from '../s3/store-error.js';
import { TestMount, type Tap } from './fixture.js';

const KiB = 1024;
const size = 600_000;
const content = randomBytes(size);
const mounts: TestMount[] = [];
afterEach(async () => {
  for (const mount of mounts.splice(0)) await mount.close();
});

async function mounted(options: Parameters<typeof TestMount.open>[0] = {}): Promise<TestMount> {
  const mount = await TestMount.open(options);
  mounts.push(mount);
  return mount;
}

/** A mount with `a` uploaded; `cold`: and not here any more. */
async function withObject(options: { cold: boolean; tap?: Tap }): Promise<TestMount> {
  const mount = await mounted(options.tap ? { tap: options.tap } : {});
  mount.create('a', content);
  await mount.settle();
  if (options.cold) await mount.evict();
  return mount;
}

function sent(mount: TestMount): { put: number; reused: number } {
  const { metrics } = mount.deps;
  return { put: metrics.get('writeback.put_bytes') - size, reused: metrics.get('writeback.reused_bytes') };
}

/** As passthrough: nobody hears of the write but by the next look at the file. */
function kernelWrites(mount: TestMount, path: string, write: () => void): void {
  const id = mount.inode(path).content!;
  mount.contents.changes.kernelWrites(id, true);
  write();
  mount.contents.changes.kernelWrites(id, false);
}

const object = (mount: TestMount, key: string): Buffer => Buffer.from(mount.memory.snapshot().get(key)!.bytes);
const fetched = (mount: TestMount): number => size - [...(mount.contents.find(mount.inode('a').content!)!.missing)].reduce((sum, { start, end }) => sum + end - start, 0);
function changed(at: number, bytes: string): Buffer {
  const copy = Buffer.concat([content, Buffer.alloc(Math.max(0, at + bytes.length - size))]);
  copy.write(bytes, at);
  return copy;
}

test('an append to a file that is not here downloads nothing and sends the tail', async () => {
  const mount = await withObject({ cold: true });
  mount.write('a', size, 'tail');
  await mount.settle();
  expect(object(mount, 'a').equals(changed(size, 'tail'))).toBe(true);
  expect(mount.memory.calls.get('getToFile') ?? 0).toBe(0);
  expect(sent(mount).put).toBeLessThan(80 * KiB);
  expect(fetched(mount)).toBe(0);
  expect(mount.memory.openUploads).toBe(0);
  expect(mount.deps.attempts.list()).toEqual([]);
});

test('what is still missing here after such an upload is found in the new object', async () => {
  const mount = await withObject({ cold: true });
  mount.write('a', 300_000, 'XY');
  await mount.settle();
  const inode = mount.inode('a');
  expect(object(mount, 'a').equals(changed(300_000, 'XY'))).toBe(true);
  expect(fetched(mount)).toBeLessThan(150 * KiB); // the smallest request around what a part needs
  expect(inode.baseGen).toBeNull();
  expect(mount.contents.isDirty(inode.content!)).toBe(false);
  mount.write('a', 0, 'begin');
  mount.rename('a', 'b');
  await mount.settle();
  const expected = changed(300_000, 'XY');
  expected.write('begin', 0);
  expect(object(mount, 'b').equals(expected)).toBe(true);
});

test('a file that is here is not read to be sent again: only the place that was written', async () => {
  const mount = await withObject({ cold: false });
  mount.write('a', 100, 'one');
  mount.write('a', 500_000, 'two');
  await mount.settle();
  const expected = changed(100, 'one');
  expected.write('two', 500_000);
  expect(object(mount, 'a').equals(expected)).toBe(true);
  expect(sent(mount)).toMatchObject({ put: expect.toSatisfy((n: number) => n < 200 * KiB), reused: expect.toSatisfy((n: number) => n > 400 * KiB) });
});

test('a file cut short and grown again has zeros, not what S3 still holds there', async () => {
  const mount = await withObject({ cold: false });
  mount.truncate('a', 400_000);
  mount.truncate('a', size);
  await mount.settle();
  const expected = Buffer.from(content);
  expected.fill(0, 400_000);
  expect(object(mount, 'a').equals(expected)).toBe(true);
});

test('S: what the kernel wrote is found by digests: one block of many is sent, and again the next time', async () => {
  const mount = await withObject({ cold: false });
  kernelWrites(mount, 'a', () => mount.write('a', 200_000, 'first'));
  await mount.settle();
  expect(object(mount, 'a').equals(changed(200_000, 'first'))).toBe(true);
  expect(sent(mount).put).toBe(16 * KiB);
  kernelWrites(mount, 'a', () => mount.write('a', 590_000, 'second'));
  await mount.settle();
  const expected = changed(200_000, 'first');
  expected.write('second', 590_000);
  expect(object(mount, 'a').equals(expected)).toBe(true);
  expect(sent(mount).put).toBeLessThan(3 * 16 * KiB);
});

test('S: without digests, and where most is new, the whole is sent', async () => {
  const mount = await withObject({ cold: false });
  mount.db.tx(() => mount.db.prepare('DELETE FROM block_digest').run());
  kernelWrites(mount, 'a', () => mount.write('a', 0, 'x'));
  await mount.settle();
  expect(object(mount, 'a').equals(changed(0, 'x'))).toBe(true);
  expect(sent(mount)).toEqual({ put: size, reused: 0 });
  const fresh = randomBytes(size);
  kernelWrites(mount, 'a', () => mount.write('a', 0, fresh));
  await mount.settle();
  expect(object(mount, 'a').equals(fresh)).toBe(true);
  expect(sent(mount)).toEqual({ put: 2 * size, reused: 0 });
});

test.each([501, 403])('a server that answers UploadPartCopy with %d gets the whole object', async (status) => {
  const mount = await withObject({ cold: true });
  mount.deps.store.uploadPartCopy = () => Promise.reject(new StoreError(status === 501 ? 'invalid' : 'access-denied', 'no', { status }));
  mount.write('a', 10, 'here');
  await mount.settle();
  expect(object(mount, 'a').equals(changed(10, 'here'))).toBe(true);
  expect(sent(mount)).toEqual({ put: size, reused: 0 });
  expect(mount.memory.openUploads).toBe(0);
  expect(mount.deps.journal.count()).toBe(0);
});

test('promise 2: a base that somebody replaced is not mixed with what was changed here', async () => {
  const mount = await withObject({ cold: false });
  mount.write('a', 10, 'mine');
  await mount.memory.put('a', { kind: 'bytes', bytes: Buffer.from('theirs') }, { metadata: {} }, 'any');
  await mount.settle();
  expect(object(mount, 'a').toString()).toBe('theirs');
  const [kept] = [...mount.memory.snapshot().keys()].filter((key) => key.startsWith('a.conflict'));
  expect(object(mount, kept!).equals(changed(10, 'mine'))).toBe(true);
});

test('a base that somebody replaced before a part of it could be fetched is lost: said once, not asked for without end', async () => {
  const mount = await withObject({ cold: true });
  await mount.memory.put('a', { kind: 'bytes', bytes: Buffer.from('theirs') }, { metadata: {} }, 'any');
  mount.write('a', 300_000, 'XY');
  await mount.settle();
  expect(object(mount, 'a').toString()).toBe('theirs');
  expect(mount.deps.conflicts.list().map(({ key }) => key)).toEqual(['a']);
  expect(mount.deps.journal.list(10).map(({ parked }) => parked)).toEqual(['base-lost']);
});

test.each(['uploadPartCopy', 'uploadPart', 'completeUpload', 'createUpload'] as const)('J5: a lost answer to %s leaves one right object and no stray upload', async (op) => {
  const mount = await withObject({ cold: true });
  mount.faulty.script(op, { fault: 'lost' });
  mount.write('a', size, 'tail');
  await mount.settle();
  mount.clock.advance(16 * 60_000);
  await mount.settle();
  expect(object(mount, 'a').equals(changed(size, 'tail'))).toBe(true);
  expect(mount.memory.openUploads).toBe(0);
  expect(mount.inode('a').baseGen).toBeNull();
  expect(mount.deps.conflicts.count()).toBe(0);
});

test.each(['createUpload', 'uploadPartCopy', 'completeUpload'] as const)('J3: after a crash once %s was executed the next process ends with the same object', async (op) => {
  let died: string | undefined;
  const holder: { mount?: TestMount } = {};
  const mount = await withObject({ cold: true, tap: { after: (seen, key) => {
    if (seen === op && key === 'a' && holder.mount && died === undefined) died = holder.mount.die();
  } } });
  holder.mount = mount;
  mount.write('a', size, 'tail');
  await mount.settle();
  const next = await mount.reopen(died!, { tap: {} });
  mounts.push(next);
  next.writeback.start();
  await next.settle();
  expect(object(next, 'a').equals(changed(size, 'tail'))).toBe(true);
  expect(next.inode('a').baseGen).toBeNull();
  expect(next.deps.conflicts.count()).toBe(0);
});

test('S4: a write while parts are sent takes the upload back, and nothing of it is seen', async () => {
  let isWritten = false;
  const holder: { mount?: TestMount } = {};
  const seen: Buffer[] = [];
  const mount = await withObject({ cold: true, tap: { after: (op, key) => {
    if (op === 'completeUpload') seen.push(object(holder.mount ?? mount, key));
    if (op !== 'uploadPartCopy' || isWritten) return;
    isWritten = true;
    holder.mount!.write('a', size + 1, 'B');
  } } });
  holder.mount = mount;
  seen.length = 0;
  mount.write('a', size, 'AA');
  await mount.settle();
  expect(seen).toHaveLength(1);
  expect(object(mount, 'a').equals(changed(size, 'AB'))).toBe(true);
});

test('a write while Complete is under way is the next version, whose missing bytes are in this one', async () => {
  let isWritten = false;
  const holder: { mount?: TestMount } = {};
  const mount = await withObject({ cold: true, tap: { after: (op) => {
    if (op !== 'completeUpload' || isWritten || !holder.mount) return;
    isWritten = true;
    holder.mount.write('a', 0, 'start');
  } } });
  holder.mount = mount;
  mount.write('a', size, 'tail');
  await mount.settle();
  const expected = changed(size, 'tail');
  expected.write('start', 0);
  expect(object(mount, 'a').equals(expected)).toBe(true);
});

test('a renamed and changed file is made from the object under its old name, which goes afterwards', async () => {
  const mount = await withObject({ cold: true });
  mount.rename('a', 'b');
  mount.write('b', size, 'tail');
  await mount.settle();
  expect([...mount.memory.snapshot().keys()]).toEqual(['b']);
  expect(object(mount, 'b').equals(changed(size, 'tail'))).toBe(true);
  expect(mount.memory.calls.get('getToFile') ?? 0).toBe(0);
});
