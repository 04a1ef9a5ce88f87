/** What a listing shows as a small file and is none, and names of one file, whose bytes were asked for before anybody knew. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Key, ObjectStore } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import { FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
let other: FsHarness | undefined;
beforeEach(async () => {
  h = await FsHarness.open();
  other = undefined;
});
afterEach(async () => {
  try {
    h.checkInvariants();
  } finally {
    await h.close();
    await other?.close();
  }
});

const name = (index: number): string => `f${String(index).padStart(3, '0')}`;
const [link, device] = [name(5), name(6)];
const symlink = { metadata: { mode: String(0o120777) } };
const isSpecial = (key: Key): boolean => key.endsWith(link) || key.endsWith(device);
const typeInS3 = (key: Key): number => Number(h.memory.snapshot().get(key)?.attributes.metadata['mode']) & 0o170000;

async function fill(): Promise<void> {
  for (let i = 0; i < 20; i++) await h.stranger.put(`d/${name(i)}`, 'text', { metadata: { mode: '33188' } });
  await h.stranger.put(`d/${link}`, 'target', symlink);
  await h.stranger.put(`d/${device}`, 'x', { metadata: { mode: String(0o020600), rdev: '259' } });
}

async function turns(): Promise<void> {
  for (let i = 0; i < 50; i++) await new Promise(setImmediate);
}

/** GETs of the special ones do what `get` says, until the answer is called. */
function intercept(get: (real: () => Promise<unknown>) => Promise<unknown>): () => void {
  const store = h.memory as ObjectStore;
  const getToFile = store.getToFile.bind(store);
  store.getToFile = ((key: Key, ...rest: unknown[]) => {
    const real = (): Promise<unknown> => (getToFile as (...all: unknown[]) => Promise<unknown>)(key, ...rest);
    return isSpecial(key) ? get(real) : real();
  }) as ObjectStore['getToFile'];
  return () => { store.getToFile = getToFile; };
}

const ways: Record<string, () => Promise<void>> = {
  'with its siblings': async () => { for (const i of [1, 2]) await h.readFile(`d/${name(i)}`); },
  'with its lookup': async () => {
    for (const i of [1, 15]) await h.readFile(`d/${name(i)}`);
    void h.stat(`d/${link}`).catch(() => undefined);
  },
};

async function areAsTheyWere(): Promise<void> {
  expect([typeInS3(`e/${link}`), typeInS3(`e/${device}`)]).toEqual([0o120000, 0o020000]);
  expect(await h.readlink(`e/${link}`)).toBe('target');
  expect([link, device].map((each) => h.inodeOf(`e/${each}`).content)).toEqual([null, null]);
}

async function rename(): Promise<void> {
  await h.rename('d', 'e');
  await h.sync();
}

for (const [how, begin] of Object.entries(ways)) {
  test(`a symlink asked for ${how} is one after its directory was renamed while its bytes were on their way`, async () => {
    await fill();
    let go!: () => void;
    const gate = new Promise<void>((resolve) => (go = resolve));
    intercept((real) => gate.then(real));
    await begin();
    await turns();
    await rename();
    go();
    await turns();
    await areAsTheyWere();
  });

  test(`a symlink asked for ${how} is one after a crash and the rename of its directory`, async () => {
    await fill();
    let go!: () => void;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const restore = intercept(() => gate.then(() => Promise.reject(new StoreError('aborted', 'the daemon is gone'))));
    await begin();
    await turns();
    const crash = h.crash();
    go();
    await crash;
    restore();
    await rename();
    await areAsTheyWere();
  });

  test(`a symlink asked for ${how} in an outage is one after the rename of its directory`, async () => {
    await fill();
    const refuse = (): Promise<never> => Promise.reject(new StoreError('unavailable', 'nobody answers'));
    const restore = intercept(refuse);
    const store = h.memory as ObjectStore;
    const head = store.head.bind(store);
    store.head = (key, ...rest) => (isSpecial(key) ? refuse() : head(key, ...rest));
    await begin();
    await turns();
    store.head = head;
    restore();
    await rename();
    await areAsTheyWere();
  });
}

test('a symlink whose bytes `warm` fetched is one after the rename of its directory', async () => {
  for (const each of ['a', 'b']) await h.stranger.put(`d/${each}`, 'target', symlink);
  await h.readdirplus('d', { plus: false });
  const inode = h.inodeOf('d/b');
  expect(inode.attrsComplete).toBe(false);
  await h.daemon.reader.fetchWhole(h.fs.contents.source(inode, h.fs.contents.file(inode)));
  await rename();
  expect([typeInS3('e/a'), typeInS3('e/b')]).toEqual([0o120000, 0o120000]);
});

test('a symlink that was read as the file a listing showed is one in S3 after the rename of its directory', async () => {
  await h.close();
  h = await FsHarness.open({ config: { attributes: 'listing' } });
  for (const each of ['a', 'b']) await h.stranger.put(`d/${each}`, 'target', symlink);
  expect(await h.readFile('d/b')).toBe('target');
  await rename();
  expect([typeInS3('e/a'), typeInS3('e/b')]).toEqual([0o120000, 0o120000]);
});

test('names of a file with several that another mount rewrote stay one file for whoever opens what it looks up', async () => {
  await h.mkdir('d');
  await h.writeFile('d/a', 'one');
  await h.link('d/a', 'd/b');
  for (const each of ['p', 'r']) await h.writeFile(`d/x${each}`, 'text');
  await h.sync();
  const mount = (other = await h.freshMount());
  await mount.readdir('d');
  expect((await mount.stat('d/a')).ino).toBe((await mount.stat('d/b')).ino);
  h.clock.advance(10_000);
  await h.writeFile('d/a', 'two two');
  await h.sync();
  mount.clock.advance(3_600_000);
  await mount.readdirplus('d', { plus: false }); // both changed
  for (const each of ['d/xp', 'd/xr', 'd/a', 'd/b']) await mount.readFile(each);
  expect(mount.daemon.metrics.get('prefetch.files_with_lookup')).toBeGreaterThan(0);
  const [a, b] = [await mount.stat('d/a'), await mount.stat('d/b')];
  expect(a.ino).toBe(b.ino);
  expect(a.nlink).toBe(2);
});

test('an answer without attributes ends the guess that the next file is opened, too', async () => {
  await fill();
  const asked: Key[] = [];
  for (const i of [1, 15]) await h.readFile(`d/${name(i)}`);
  const store = h.memory as ObjectStore;
  store.getToFile = (key) => (asked.push(key), Promise.reject(new StoreError('access-denied', 'archived')));
  await h.stat(`d/${name(9)}`);
  await h.stat(`d/${name(3)}`);
  expect(asked).toEqual([`d/${name(9)}`]);
});
