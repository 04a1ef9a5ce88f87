import { afterEach, expect, test } from 'vitest';
import type { Key } from '../s3/object-store.js';
import type { Mutation, TestMount } from './fixture.js';
import { TestMounts } from './test-mounts.js';

const mounts = new TestMounts();
const mounted = mounts.open;
afterEach(() => mounts.closeAll((mount) => expect(mount.deps.attempts.list('sent')).toEqual([])));

/** Every request that S3 executed, in order. */
function recorded(): { log: string[]; tap: { after(op: Mutation, key: Key): void } } {
  const log: string[] = [];
  return { log, tap: { after: (op, key) => void log.push(`${op} ${key}`) } };
}
const text = (mount: TestMount, key: Key): string | undefined => mount.memory.snapshot().get(key)?.bytes.toString();
const keys = (mount: TestMount): Key[] => [...mount.memory.snapshot().keys()];
const strangerPuts = (mount: TestMount, key: Key, body: string): Promise<unknown> => mount.memory.put(key, { kind: 'bytes', bytes: Buffer.from(body) }, { metadata: {} }, 'any');

test('a new file, its directory and a symlink are in S3 with their attributes, and everything is clean', async () => {
  const mount = await mounted();
  mount.mkdir('d');
  mount.create('d/a.txt', 'hello');
  mount.symlink('d/l', 'a.txt');
  await mount.settle();
  expect(keys(mount)).toEqual(['d/', 'd/a.txt', 'd/l']);
  expect(text(mount, 'd/a.txt')).toBe('hello');
  expect(text(mount, 'd/l')).toBe('a.txt');
  const { attributes } = mount.memory.snapshot().get('d/a.txt')!;
  expect(attributes).toMatchObject({ contentType: 'text/plain', metadata: { mode: String(0o100644), uid: '0' } });
  expect(mount.deps.attempts.list()).toEqual([]);
  expect(mount.contents.isDirty(mount.inode('d/a.txt').content!)).toBe(false);
  expect(mount.inode('d/a.txt').unsealed).toBe(false);
});

test('writing a file ten times before it is due is one PUT', async () => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  mount.create('a', 'x');
  for (let i = 0; i < 10; i++) mount.write('a', i, 'y');
  await mount.writeback.runDue();
  expect(log).toEqual([]); // J11: it waits for silence
  await mount.settle();
  expect(log).toEqual(['put a']);
});

test('J11: tmp + write + rename within the delay sends one PUT and nothing else', async () => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  mount.create('a.tmp', 'new');
  mount.rename('a.tmp', 'a');
  await mount.settle();
  expect(log).toEqual(['put a']);
});

test('J1: replacing a file demands the etag that its key has, not one of the inode', async () => {
  const mount = await mounted();
  mount.create('a', 'one');
  await mount.settle();
  const before = mount.deps.tree.objects.get('a')!.etag;
  mount.unlink('a');
  mount.create('a', 'two');
  let demanded: unknown;
  const put = mount.deps.store.put.bind(mount.deps.store);
  mount.deps.store.put = (key, body, attributes, expected, options) => {
    demanded = expected;
    return put(key, body, attributes, expected, options);
  };
  await mount.settle();
  expect(demanded).toBe(before);
  expect(text(mount, 'a')).toBe('two');
});

test('J1: never two requests for one key at a time, never more than uploadsMax altogether', async () => {
  const flying = new Map<Key, number>();
  let most = 0;
  const wait = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 2));
  const mount = await mounted({
    tap: {
      before: (_op, key) => {
        flying.set(key, (flying.get(key) ?? 0) + 1);
        expect(flying.get(key)).toBe(1);
        most = Math.max(most, flying.size);
      },
      after: async (_op, key) => {
        await wait();
        flying.delete(key);
      },
    },
  });
  for (let i = 0; i < 20; i++) mount.create(`f${i}`, `${i}`);
  mount.clock.advance(1000);
  const work = mount.writeback.runDue();
  for (let i = 0; i < 20; i++) mount.write(`f${i}`, 0, 'again');
  await work;
  await mount.settle();
  expect(most).toBeGreaterThan(1);
  expect(most).toBeLessThanOrEqual(4);
  expect(keys(mount)).toHaveLength(20);
});

test('J2, J3: when a request reaches S3 its attempt and its cause are durable', async () => {
  let checked = 0;
  const mount: TestMount = await mounted({
    tap: {
      before: (_op, key) => {
        expect(mount.deps.attempts.get(key)).toMatchObject({ outcome: 'sent' });
        expect(mount.db.durableSeq).toBe(mount.db.commitSeq);
        checked++;
      },
    },
    config: { uploadsMax: 1 },
  });
  mount.create('a', 'x');
  await mount.settle();
  mount.rename('a', 'b');
  await mount.settle();
  expect(checked).toBe(3); // put a, copy b, delete a
});

test('J4: a rename copies inside S3, and the old key goes only after the copy is acknowledged', async () => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  mount.create('a', 'x');
  await mount.settle();
  mount.rename('a', 'z');
  mount.create('unrelated', 'y');
  mount.faulty.script('copy', { fault: 'fail' }, 3);
  await mount.settle();
  expect(log).toEqual(['put a', 'put unrelated', 'copy z', 'delete a']);
  expect(keys(mount)).toEqual(['unrelated', 'z']);
});

test('J4: what lies under an old name is overwritten only after its new name has it', async () => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  mount.create('log', 'old');
  await mount.settle();
  await mount.evict();
  mount.rename('log', 'log.1');
  mount.create('log', 'new');
  mount.faulty.script('copy', { fault: 'fail' }, 2);
  await mount.settle();
  expect(log).toEqual(['put log', 'copy log.1', 'put log']);
  expect(text(mount, 'log.1')).toBe('old');
  expect(text(mount, 'log')).toBe('new');
});

test('J4: the directory marker is there before the last child is deleted, and goes after the children', async () => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  await strangerPuts(mount, 'd/only', 'x');
  await mount.deps.store.head('d/only').then((head) => mount.deps.db.tx(() => {
    const dir = mount.deps.discovery.addDirectory(1, 'd', null, 0);
    mount.deps.discovery.addObject(dir.ino, 'only', head!, 0);
  }));
  log.length = 0;
  mount.unlink('d/only');
  mount.faulty.script('put', { fault: 'fail' }, 2);
  await mount.settle();
  expect(log).toEqual(['put d/', 'delete d/only']);
  mount.create('d/a', 'x');
  mount.create('d/b', 'x');
  await mount.settle();
  log.length = 0;
  mount.unlink('d/a');
  mount.unlink('d/b');
  mount.unlink('d');
  mount.faulty.script('delete', { fault: 'fail' }, 2, (key) => key !== 'd/');
  await mount.settle();
  expect(log.at(-1)).toBe('delete d/');
  expect(keys(mount)).toEqual([]);
});

test.each(['put', 'copy', 'delete', 'completeUpload'] as const)('J5: a %s whose answer is lost is recognised by HEAD and not taken for a conflict', async (op) => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  const big = op === 'completeUpload' ? 'x'.repeat(100_000) : 'x';
  mount.faulty.script(op, { fault: 'lost' });
  mount.create('a', big);
  await mount.settle();
  mount.rename('a', 'b');
  await mount.settle();
  expect(log.filter((entry) => entry.startsWith(op))).toHaveLength(1);
  expect(keys(mount)).toEqual(['b']);
  expect(text(mount, 'b')).toBe(big);
  expect(mount.deps.conflicts.count()).toBe(0);
  expect(mount.names()).toEqual(['b']);
});

test('J5: a retried PUT that meets its own first try with a 412 has won', async () => {
  const mount = await mounted();
  mount.create('a', 'x');
  // Executed, answer lost, and the HEAD after it fails too: the next visit asks again before it sends anything.
  mount.faulty.script('put', { fault: 'lost' }).script('head', { fault: 'fail' }, 3);
  await mount.settle();
  expect(mount.deps.conflicts.count()).toBe(0);
  expect(mount.memory.calls.get('put')).toBe(1);
});

test('J6: a PUT that arrives long after it was given up is found and deleted again', async () => {
  const mount = await mounted();
  mount.create('a', 'x');
  mount.faulty.script('put', { fault: 'fail' });
  mount.clock.advance(1000);
  await mount.writeback.runDue();
  const [attempt] = mount.deps.attempts.list();
  mount.unlink('a');
  await mount.settle();
  expect(mount.deps.attempts.get('a')).toMatchObject({ outcome: 'tombstone', nonce: attempt!.nonce });
  await mount.memory.put('a', { kind: 'bytes', bytes: Buffer.from('x') }, { metadata: { 'hearthfs-nonce': attempt!.nonce } }, null);
  for (let minute = 0; minute < 16; minute++) {
    mount.clock.advance(60_000);
    await mount.writeback.runDue();
    await mount.settle();
  }
  expect(keys(mount)).toEqual([]);
  expect(mount.deps.attempts.list()).toEqual([]);
});

test('J6: a late PUT does not pass for somebody else: what it brought is replaced by what is wanted', async () => {
  const mount = await mounted();
  mount.create('a', 'old');
  mount.faulty.script('put', { fault: 'fail' });
  mount.clock.advance(1000);
  await mount.writeback.runDue();
  const [attempt] = mount.deps.attempts.list();
  mount.write('a', 0, 'new');
  // The HEAD finds nothing; then the first request arrives; then ours, with If-None-Match, is refused.
  const original = mount.deps.store.put.bind(mount.deps.store);
  let isFirst = true;
  mount.deps.store.put = async (...args) => {
    if (isFirst) await mount.memory.put('a', { kind: 'bytes', bytes: Buffer.from('old') }, { metadata: { 'hearthfs-nonce': attempt!.nonce } }, null);
    isFirst = false;
    return original(...args);
  };
  await mount.settle();
  expect(text(mount, 'a')).toBe('new');
  expect(mount.deps.conflicts.count()).toBe(0);
  expect(mount.names()).toEqual(['a']);
});

test('J8: a renamed directory takes all it holds along, inside S3, and nothing stays behind', async () => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  mount.mkdir('d');
  mount.mkdir('d/sub');
  for (let i = 0; i < 30; i++) mount.create(`d/f${i}`, `${i}`);
  mount.create('d/sub/x', 'deep');
  mount.create('d0', 'neighbour');
  await mount.settle();
  await mount.evict();
  log.length = 0;
  mount.rename('d', 'e');
  mount.create('d', 'a file now');
  await mount.settle();
  expect(keys(mount)).toEqual(['d', 'd0', 'e/', ...Array.from({ length: 30 }, (_, i) => `e/f${i}`).sort(), 'e/sub/', 'e/sub/x']);
  expect(text(mount, 'e/sub/x')).toBe('deep');
  expect(log.filter((entry) => entry.startsWith('put')).sort()).toEqual(['put d', 'put e/', 'put e/sub/']);
  expect(mount.deps.journal.walks()).toEqual([]);
});

test('J8: a directory renamed again while it is being walked ends up under its last name only', async () => {
  const mount = await mounted();
  mount.mkdir('d');
  for (let i = 0; i < 10; i++) mount.create(`d/f${i}`, `${i}`);
  await mount.settle();
  mount.rename('d', 'e');
  mount.clock.advance(1000);
  const work = mount.writeback.runDue();
  await new Promise((resolve) => setImmediate(resolve));
  mount.rename('e', 'g');
  await work;
  await mount.settle();
  expect(keys(mount)).toEqual(['g/', ...Array.from({ length: 10 }, (_, i) => `g/f${i}`)]);
});

test.each([['local', false, 1, 'put'], ['fetched', true, 1, 'put'], ['stashed', true, 200_000, 'copy'], ['stashed in parts', true, 300_000, 'uploadPartCopy']] as const)('J9: two files swapped whose bytes are %s both arrive', async (_name, evicted, size, how) => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  mount.create('a', 'A'.repeat(size));
  mount.create('b', 'B'.repeat(size));
  await mount.settle();
  if (evicted) await mount.evict();
  mount.exchange('a', 'b');
  log.length = 0;
  await mount.settle();
  expect(text(mount, 'a')).toBe('B'.repeat(size));
  expect(text(mount, 'b')).toBe('A'.repeat(size));
  expect(keys(mount)).toEqual(['a', 'b']);
  expect(log.some((entry) => entry.startsWith(how))).toBe(true);
  if (how === 'uploadPartCopy') expect(log.filter((entry) => entry.startsWith('copy'))).toEqual([]);
  for (const path of ['a', 'b']) {
    const { content } = mount.inode(path);
    if (content !== null && mount.contents.find(content)) expect(mount.contents.isDirty(content)).toBe(false);
  }
});

test('J9: a ring of three names is turned without losing one', async () => {
  const mount = await mounted();
  for (const name of ['a', 'b', 'c']) mount.create(name, name.toUpperCase());
  await mount.settle();
  await mount.evict();
  mount.exchange('a', 'b');
  mount.exchange('b', 'c');
  await mount.settle();
  expect(['a', 'b', 'c'].map((key) => text(mount, key))).toEqual(['B', 'C', 'A']);
  expect(keys(mount)).toEqual(['a', 'b', 'c']);
});

test('J10: every name of a hard link carries link id and generation, and a change reaches all of them', async () => {
  const mount = await mounted();
  mount.create('a', 'x');
  await mount.settle();
  mount.link('a', 'b');
  await mount.settle();
  mount.write('a', 0, 'y');
  await mount.settle();
  const links = ['a', 'b'].map((key) => mount.memory.snapshot().get(key)!.attributes.metadata['hearthfs-link']);
  expect(links[0]).toMatch(/^\d+:[0-9a-f]{16}\.[0-9a-f]{8}$/);
  expect(links[1]!.split('.')[0]).toBe(links[0]!.split('.')[0]);
  expect(links[1], 'the tag is of the key: a copy is no link').not.toBe(links[0]);
  expect([text(mount, 'a'), text(mount, 'b')]).toEqual(['y', 'y']);
});

test('J11: metadata of a large object waits 60 s for company and is one copy', async () => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  mount.create('a', 'x'.repeat(150_000));
  await mount.settle();
  log.length = 0;
  for (let i = 0; i < 5; i++) {
    mount.chmod('a', 0o600 + i);
    mount.clock.advance(10_000);
    await mount.writeback.runDue();
  }
  expect(log).toEqual([]);
  mount.clock.advance(20_000);
  await mount.writeback.runDue();
  expect(log).toEqual(['copy a']);
  expect(mount.memory.snapshot().get('a')!.attributes.metadata['mode']).toBe(String(0o100604));
});

test('J12: a rewrite keeps headers, tags and foreign metadata, but not digests of the old bytes', async () => {
  const mount = await mounted();
  await mount.memory.put('a', { kind: 'bytes', bytes: Buffer.from('old') }, {
    metadata: { colour: 'blue', md5chksum: 'xyz', mode: String(0o100600) }, cacheControl: 'no-store', contentType: 'text/x-special', storageClass: 'STANDARD_IA',
  }, null);
  const head = (await mount.memory.head('a'))!;
  mount.deps.db.tx(() => mount.deps.discovery.addObject(1, 'a', head, 0));
  mount.truncate('a', 0);
  mount.write('a', 0, 'new');
  await mount.settle();
  const { attributes, bytes } = mount.memory.snapshot().get('a')!;
  expect(bytes.toString()).toBe('new');
  expect(attributes).toMatchObject({ cacheControl: 'no-store', contentType: 'text/x-special', storageClass: 'STANDARD_IA' });
  expect(attributes.metadata).toMatchObject({ colour: 'blue', mode: String(0o100600) });
  expect(attributes.metadata).not.toHaveProperty('md5chksum');
});

test('a few bytes changed in a file that is not here are merged with the rest, which is fetched first', async () => {
  const mount = await mounted();
  mount.create('a', '0123456789');
  await mount.settle();
  await mount.evict();
  mount.write('a', 4, 'XY');
  mount.rename('a', 'b');
  await mount.settle();
  expect(text(mount, 'b')).toBe('0123XY6789');
  expect(keys(mount)).toEqual(['b']);
  expect(mount.inode('b').baseGen).toBeNull();
});

test('a partly changed file whose base is gone from S3 is parked, and its bytes stay', async () => {
  const mount = await mounted();
  mount.create('a', '0123456789');
  await mount.settle();
  await mount.evict();
  mount.write('a', 4, 'XY');
  await mount.memory.delete('a', 'any');
  await mount.settle();
  expect(mount.deps.journal.get('a')).toMatchObject({ parked: 'base-lost' });
  expect(mount.contents.isDirty(mount.inode('a').content!)).toBe(true);
});

test('large files go in parts, and copies above the limit too', async () => {
  const { log, tap } = recorded();
  const mount = await mounted({ tap });
  mount.create('a', 'x'.repeat(300_000));
  await mount.settle();
  mount.rename('a', 'b');
  await mount.settle();
  mount.chmod('b', 0o600);
  await mount.settle();
  expect(text(mount, 'b')).toBe('x'.repeat(300_000));
  expect(mount.memory.snapshot().get('b')!.attributes.metadata['mode']).toBe(String(0o100600));
  expect(log.filter((entry) => entry.startsWith('completeUpload'))).toEqual(['completeUpload a', 'completeUpload b', 'completeUpload b']);
  expect(mount.memory.openUploads).toBe(0);
});

test('an archived object, a locked one and a refusal are parked with the reason, and retried when asked', async () => {
  const mount = await mounted();
  mount.create('a', 'x');
  mount.faulty.script('put', { fault: 'fail', kind: 'access-denied' });
  await mount.settle();
  expect(mount.writeback.pending(10)).toMatchObject([{ key: 'a', path: 'a', what: 'upload', parkedReason: 'access-denied', tries: 1 }]);
  expect(mount.deps.attempts.list()).toEqual([]);
  expect(mount.deps.db.tx(() => mount.deps.journal.unparkAll())).toBe(1);
  await mount.settle();
  expect(text(mount, 'a')).toBe('x');
  mount.faulty.script('delete', { fault: 'fail', kind: 'locked' });
  mount.unlink('a');
  await mount.settle();
  expect(mount.deps.journal.get('a')).toMatchObject({ parked: 'locked' });
});

test('an outage costs few requests, and everything is sent at once when it ends', async () => {
  const mount = await mounted();
  mount.faulty.setDown(true);
  for (let i = 0; i < 50; i++) mount.create(`f${i}`, `${i}`);
  for (let second = 0; second < 600; second++) {
    mount.clock.advance(1000);
    await mount.writeback.runDue();
  }
  expect(mount.faulty.injected.length).toBeLessThan(200);
  expect(mount.deps.journal.count()).toBe(50);
  mount.faulty.setDown(false);
  for (let second = 0; second < 20; second++) {
    mount.clock.advance(1000);
    await mount.writeback.runDue();
  }
  expect(mount.deps.journal.count()).toBe(0);
  expect(keys(mount)).toHaveLength(50);
});

test('S3: a file that is open for writing waits for its writer, but no longer than 30 s', async () => {
  const mount = await mounted();
  const { ino } = mount.create('log', 'a');
  mount.busy.add(ino);
  for (let second = 0; second < 29; second++) {
    mount.clock.advance(1000);
    mount.write('log', second, 'b');
    await mount.writeback.runDue();
  }
  expect(keys(mount)).toEqual([]);
  mount.clock.advance(1500);
  await mount.writeback.runDue();
  expect(text(mount, 'log')).toBe('b'.repeat(29));
});
