import { afterEach, expect, test } from 'vitest';
import type { Key } from '../s3/object-store.js';
import type { TestMount } from './fixture.js';
import { TestMounts } from './test-mounts.js';

const mounts = new TestMounts();
const mounted = mounts.open;
afterEach(() => mounts.closeAll());
const contents = (mount: TestMount): Record<Key, string> => Object.fromEntries([...mount.memory.snapshot()].map(([key, { bytes }]) => [key, bytes.toString()]));
const strangerPuts = (mount: TestMount, key: Key, body: string): Promise<unknown> => mount.memory.put(key, { kind: 'bytes', bytes: Buffer.from(body) }, { metadata: {} }, 'any');
/** 2023-11-14T22:13:20Z is where the test clock starts. */
const kept = /^(.*)\.conflict-alpha-20231114T\d{6}$/;

test('promise 2: a new file that meets a stranger of the same name is kept beside it', async () => {
  const mount = await mounted();
  mount.create('a.txt', 'mine');
  await strangerPuts(mount, 'a.txt', 'theirs');
  const { ino } = mount.inode('a.txt');
  await mount.settle();
  const names = mount.names();
  expect(names).toHaveLength(2);
  expect(names[1]).toMatch(kept);
  expect(contents(mount)).toEqual({ 'a.txt': 'theirs', [names[1]!]: 'mine' });
  expect(mount.inode(names[1]!).ino).toBe(ino); // who has it open goes on with it
  expect(mount.inode('a.txt').sizeBytes).toBe(6);
  expect(mount.deps.conflicts.list()).toMatchObject([{ key: 'a.txt', keptAs: names[1], reason: 'changed-by-others' }]);
  expect(mount.announced).toEqual(expect.arrayContaining(['1/a.txt', `1/${names[1]}`]));
});

test('promise 2: a changed file that somebody else changed first is kept beside the winner', async () => {
  const mount = await mounted();
  mount.create('a', 'base');
  await mount.settle();
  mount.write('a', 0, 'mine');
  await strangerPuts(mount, 'a', 'theirs');
  await mount.settle();
  const copy = mount.names().find((name) => kept.test(name))!;
  expect(contents(mount)).toEqual({ a: 'theirs', [copy]: 'mine' });
});

test('a rename onto a name that somebody else took leaves both, and the bytes follow to the kept name', async () => {
  const mount = await mounted();
  mount.create('a', 'mine');
  await mount.settle();
  await mount.evict();
  mount.rename('a', 'b');
  await strangerPuts(mount, 'b', 'theirs');
  await mount.settle();
  const copy = mount.names().find((name) => kept.test(name))!;
  expect(contents(mount)).toEqual({ b: 'theirs', [copy]: 'mine' });
});

test('a change of metadata gives way to another version of the file, and that is recorded', async () => {
  const mount = await mounted();
  mount.create('a', 'base');
  await mount.settle();
  mount.chmod('a', 0o600);
  await strangerPuts(mount, 'a', 'theirs');
  await mount.settle();
  expect(contents(mount)).toEqual({ a: 'theirs' });
  expect(mount.names()).toEqual(['a']);
  expect(mount.inode('a').sizeBytes).toBe(6);
  expect(mount.deps.conflicts.list()).toMatchObject([{ key: 'a', keptAs: null, reason: 'metadata-changed-by-others' }]);
});

test('J5: a DELETE that meets a newcomer keeps it, and shows it', async () => {
  const mount = await mounted();
  mount.create('a', 'mine');
  await mount.settle();
  mount.unlink('a');
  await strangerPuts(mount, 'a', 'theirs');
  await mount.settle();
  expect(contents(mount)).toEqual({ a: 'theirs' });
  expect(mount.names()).toEqual(['a']);
  expect(mount.inode('a').attrsComplete).toBe(false);
});

test('what was changed here and deleted elsewhere comes back, and that is recorded', async () => {
  const mount = await mounted();
  mount.create('a', 'base');
  await mount.settle();
  mount.write('a', 0, 'mine');
  await mount.memory.delete('a', 'any');
  await mount.settle();
  expect(contents(mount)).toEqual({ a: 'mine' });
  expect(mount.deps.conflicts.list()).toMatchObject([{ key: 'a', keptAs: null, reason: 'deleted-by-others' }]);
});

test('a file whose bytes are nowhere any more goes when only its metadata was changed', async () => {
  const mount = await mounted();
  mount.create('a', 'x'.repeat(5000));
  await mount.settle();
  await mount.evict();
  mount.chmod('a', 0o600);
  await mount.memory.delete('a', 'any');
  await mount.settle();
  expect(mount.names()).toEqual([]);
  expect(mount.announced).toContain('1/a');
});

test('a directory marker that somebody else made is adopted', async () => {
  const mount = await mounted();
  await strangerPuts(mount, 'd/', '');
  mount.mkdir('d');
  await mount.settle();
  expect(mount.deps.conflicts.count()).toBe(0);
  expect(mount.names()).toEqual(['d/']);
  expect(mount.deps.tree.objects.get('d/')).toMatchObject({ ino: mount.inode('d').ino });
});

test('the source of a rename that somebody else replaced is theirs; the file is uploaded from here', async () => {
  const mount = await mounted();
  mount.create('a', 'mine');
  await mount.settle();
  mount.rename('a', 'b');
  await strangerPuts(mount, 'a', 'theirs');
  await mount.settle();
  expect(contents(mount)).toEqual({ a: 'theirs', b: 'mine' });
  expect(mount.names()).toEqual(['a', 'b']);
});

test('a name too long for its suffix is cut, never torn inside a character', async () => {
  const mount = await mounted();
  const name = 'ä'.repeat(127);
  mount.create(name, 'mine');
  await strangerPuts(mount, name, 'theirs');
  await mount.settle();
  const copy = mount.names().find((found) => kept.test(found))!;
  expect(Buffer.byteLength(copy)).toBeLessThanOrEqual(255);
  expect(kept.exec(copy)![1]).toMatch(/^ä+$/);
});

test('waitUploaded() rejects when the file lost a race', async () => {
  const mount = await mounted();
  mount.writeback.start();
  await strangerPuts(mount, 'a', 'theirs');
  const { ino } = mount.create('a', 'mine');
  await expect(mount.writeback.waitUploaded(ino)).rejects.toMatchObject({ reason: 'changed-by-others' });
});

test('an empty file has no bytes to lose: evicted and deleted by others, it comes back with what was changed', async () => {
  const mount = await mounted();
  mount.create('a', '');
  await mount.settle();
  await mount.evict();
  mount.chmod('a', 0o600);
  await mount.memory.delete('a', 'any');
  await mount.settle();
  expect(contents(mount)).toEqual({ a: '' });
  expect(Number(mount.memory.snapshot().get('a')!.attributes.metadata['mode']) & 0o777).toBe(0o600);
});
