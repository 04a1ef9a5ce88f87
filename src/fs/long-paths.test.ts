/** Trees deeper than S3's keys are long: what programs see, what S3 holds, and what another mount makes of it. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { nameFromBytes } from '../base/file-name.js';
import { isDirectory } from '../meta/inode.js';
import { LongKeys, longAreaName } from '../s3/long-keys.js';
import { StoreError } from '../s3/store-error.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
const others: FsHarness[] = [];
beforeEach(async () => { h = await FsHarness.open(); });
afterEach(async () => {
  for (const mount of [h, ...others.splice(0)]) {
    mount.checkInvariants();
    await mount.close();
  }
});

async function another(): Promise<FsHarness> {
  const mount = await h.freshMount();
  others.push(mount);
  return mount;
}

const d = 'd'.repeat(250);
/** 14 names down: 3,500 bytes. */
const parts = Array.from({ length: 14 }, (_, i) => `${d}${i}`);
const down = (depth: number, top = 'top'): string => [top, ...parts.slice(0, depth)].join('/');

/** Every path of the mount with what is there. */
async function tree(mount: FsHarness, path = ''): Promise<string[]> {
  const found: string[] = [];
  for (const { name, mode } of await mount.readdirplus(path)) {
    if (name === '.' || name === '..') continue;
    const below = path === '' ? name : `${path}/${name}`;
    found.push(isDirectory({ mode }) ? `${below}/` : (mode & 0o170000) === 0o120000 ? `${below} -> ${await mount.readlink(below)}` : `${below} = ${await mount.readFile(below)}`);
    if (isDirectory({ mode })) found.push(...(await tree(mount, below)));
  }
  return found.sort();
}

async function plant(mount: FsHarness): Promise<void> {
  await mount.mkdir('top');
  for (let depth = 1; depth <= parts.length; depth++) {
    await mount.mkdir(down(depth));
    await mount.writeFile(`${down(depth)}/file`, `at ${depth}`);
  }
  await mount.writeFile(`${down(parts.length)}/${'f'.repeat(255)}`, 'the longest');
  await mount.symlink(`${down(13)}/link`, '../file');
  await mount.link(`${down(2)}/file`, `${down(12)}/hard`);
  await mount.mkdir(`${down(10)}/empty`);
}

function checkKeys(mount: FsHarness): void {
  for (const key of mount.stranger.keys()) expect(Buffer.byteLength(`test/${key}`)).toBeLessThanOrEqual(1024);
}

test('a tree 3,500 bytes deep is uploaded, found by a fresh mount as it was, and removed without leaving an object', async () => {
  await plant(h);
  const before = await tree(h);
  expect(before).toHaveLength(1 + 14 * 2 + 4);
  await h.sync();
  checkKeys(h);
  const fresh = await another();
  expect(await tree(fresh)).toEqual(before);
  expect((await fresh.stat(`${down(12)}/hard`)).ino).toBe((await fresh.stat(`${down(2)}/file`)).ino);
  expect((await fresh.readdir('')).concat(await fresh.readdir('top'))).toEqual(['top', parts[0]]); // no area among the names
  for (const line of [...before].reverse()) {
    const path = line.replace(/ (=|->) .*$/, '').replace(/\/$/, '');
    await (line.endsWith('/') ? fresh.rmdir(path) : fresh.unlink(path));
  }
  await fresh.sync();
  expect(fresh.stranger.keys()).toEqual([]);
});

test('a directory near the root gets a longer and a shorter name: all below follows, and a fresh mount agrees each time', async () => {
  await plant(h);
  await h.sync();
  const before = await tree(h);
  let top = 'top';
  for (const name of ['t', 't'.repeat(255), 'é'.repeat(127), 'top']) {
    await h.rename(top, name);
    top = name;
    const expected = before.map((line) => line.replace(/^top/, name)).sort();
    expect(await tree(h)).toEqual(expected);
    await h.sync();
    checkKeys(h);
    const fresh = await another();
    expect(await tree(fresh)).toEqual(expected);
    expect((await fresh.stat(`${down(12, top)}/hard`)).ino).toBe((await fresh.stat(`${down(2, top)}/file`)).ino);
    const keys = new LongKeys('test/');
    for (const key of h.stranger.keys()) if (key.endsWith('.path')) expect(keys.note(h.stranger.text(key)!.slice('test/'.length, -1))).toBe(key); // no note of a former place is left
  }
});

test('directories that nothing but the keys below them showed are still found when those keys become long', async () => {
  const shown = ['a', d, d, `${d}${'x'.repeat(5)}`];
  await h.stranger.put(`${shown.join('/')}/e/f/file`, 'theirs');
  expect(await h.readFile(`${shown.join('/')}/e/f/file`)).toBe('theirs');
  await h.rename('a', 'a'.repeat(255));
  await h.sync();
  const fresh = await another();
  const path = ['a'.repeat(255), ...shown.slice(1)].join('/');
  expect(await fresh.readFile(`${path}/e/f/file`)).toBe('theirs');
  expect(await tree(fresh)).toEqual(await tree(h));
  await fresh.rename('a'.repeat(255), 'a');
  await fresh.sync();
  expect(await (await another()).readFile(`${shown.join('/')}/e/f/file`)).toBe('theirs');
  expect(fresh.stranger.keys().some((key) => key.includes(longAreaName))).toBe(false);
});

test('nothing in a long area is uploaded before the marker that leads there', async () => {
  await plant(h);
  const arrived: string[] = [];
  const { memory } = h;
  const put = memory.put.bind(memory);
  const copy = memory.copy.bind(memory);
  const noted = async <T>(key: string, stored: Promise<T>): Promise<T> => {
    await stored;
    arrived.push(key);
    return stored;
  };
  const refused = new Set<string>(); // each marker is late: its first request does not get through
  memory.put = (key, ...rest) => {
    if (!key.endsWith('/') || refused.has(key)) return noted(key, put(key, ...rest));
    refused.add(key);
    return Promise.reject(new StoreError('unavailable', 'nobody there'));
  };
  memory.copy = (source, key, ...rest) => noted(key, copy(source, key, ...rest));
  await h.sync();
  const keys = new LongKeys('test/');
  const paths = (await tree(h)).map((line) => line.replace(/ (=|->) .*$/, ''));
  let checked = 0;
  for (const path of paths) {
    const owner = keys.owner(path);
    if (owner === undefined) continue;
    const at = arrived.indexOf(keys.physical(path)!);
    expect(at).toBeGreaterThanOrEqual(0);
    for (const needed of [keys.physical(owner)!, keys.note(owner)]) expect(arrived.slice(0, at)).toContain(needed);
    checked++;
  }
  expect(checked).toBeGreaterThan(10);
});

test('another client sees files come, change and go at the ends of long paths', async () => {
  await plant(h);
  await h.sync();
  const other = await another();
  const directory = down(9);
  expect(await other.readFile(`${directory}/file`)).toBe('at 9');
  await h.writeFile(`${directory}/file`, 'changed');
  await h.writeFile(`${directory}/${'n'.repeat(255)}`, 'new');
  await h.unlink(`${down(8)}/file`);
  await h.sync();
  other.clock.advance(61_000);
  expect(await other.readFile(`${directory}/file`)).toBe('changed');
  expect(await other.readFile(`${directory}/${'n'.repeat(255)}`)).toBe('new');
  expect(await other.exists(`${down(8)}/file`)).toBe(false);
  expect(await errnoOf(() => other.rmdir(directory))).toBe('ENOTEMPTY');
  // both change the same file: both versions are kept, side by side
  await h.writeFile(`${directory}/file`, 'ours');
  await other.writeFile(`${directory}/file`, 'theirs');
  await h.sync();
  await other.sync();
  expect(await other.readFile(`${directory}/file`)).toBe('ours');
  const kept = (await other.readdir(directory)).find((name) => name.startsWith('file.conflict-'));
  expect(await other.readFile(`${directory}/${kept!}`)).toBe('theirs');
  h.clock.advance(61_000);
  expect(await h.readFile(`${directory}/${kept!}`)).toBe('theirs');
});

test('a directory that is removed here while another client puts a long name into it is there again, as it would be with a short one', async () => {
  await h.mkdir('top');
  for (let depth = 1; depth <= 4; depth++) await h.mkdir(down(depth));
  await h.sync();
  const other = await another();
  expect(await other.readdir(down(4))).toEqual([]);
  await h.writeFile(`${down(4)}/${'n'.repeat(255)}`, 'new');
  await h.sync();
  await other.rmdir(down(4)); // as far as it knows it is empty
  await other.sync();
  for (const mount of [h, other]) {
    mount.clock.advance(61_000);
    expect(await mount.readFile(`${down(4)}/${'n'.repeat(255)}`)).toBe('new');
  }
});

test('a conflict beside a name that just fits lies in the long area of a directory that had no marker: it has one now', async () => {
  const directory = ['a', d, d, d, 'b'.repeat(200)].join('/');
  const name = 'n'.repeat(1024 - 'test/'.length - directory.length - 2);
  await h.stranger.put(`${directory}/${name}`, 'first');
  expect(await h.readFile(`${directory}/${name}`)).toBe('first');
  await h.writeFile(`${directory}/${name}`, 'ours');
  await h.stranger.put(`${directory}/${name}`, 'theirs, longer');
  await h.sync();
  await h.stranger.delete(`${directory}/${name}`);
  const fresh = await another();
  const [kept] = await fresh.readdir(directory);
  expect(kept).toMatch(/\.conflict-host-/);
  expect(await fresh.readFile(`${directory}/${kept!}`)).toBe('ours');
});

test('names of bytes that are not UTF-8 have room everywhere', async () => {
  const wild = nameFromBytes(Buffer.alloc(255, 0xff));
  const path = ['some', 'directory', wild, wild, wild].join('/');
  for (let depth = 1; depth <= 5; depth++) await h.mkdir(path.split('/').slice(0, depth).join('/'));
  await h.writeFile(`${path}/${wild}`, 'wild');
  await h.writeFile('some/neighbour', 'tame');
  await h.sync();
  checkKeys(h);
  const fresh = await another();
  expect(await tree(fresh)).toEqual(await tree(h));
  expect(await fresh.readFile(`${path}/${wild}`)).toBe('wild');
  expect(await fresh.readdir('some/directory')).toEqual([wild]);
});

test('a key that is no path because no name has such text is hidden and counted', async () => {
  await h.stranger.put('dir/\u{10ff80}YQ', 'x');
  await h.stranger.put('dir/ok', 'x');
  expect(await h.readdir('dir')).toEqual(['ok']);
  expect(h.fs.hidden.count).toBe(1);
});

test('the name of the area is ours: it cannot be made, and is not there', async () => {
  await plant(h);
  await h.sync();
  expect(h.stranger.keys().some((key) => key.startsWith(`top/${longAreaName}/`))).toBe(true);
  for (const mount of [h, await another()]) {
    expect(await mount.exists(`top/${longAreaName}`)).toBe(false);
    expect(await errnoOf(() => mount.mkdir(`top/${longAreaName}`))).toBe('EPERM');
    expect(await errnoOf(() => mount.rename('top', longAreaName))).toBe('EPERM');
  }
});

test('a path of more than 16 KiB is refused, one that a rename made so long stays usable', async () => {
  await h.mkdir('a');
  let path = 'a';
  while (path.length < 16_250) await h.mkdir((path += `/${'d'.repeat(Math.min(250, 16_250 - path.length - 1))}`));
  expect(await errnoOf(() => h.mkdir(`${path}/${'x'.repeat(200)}`))).toBe('ENAMETOOLONG');
  expect(await errnoOf(() => h.writeFile(`${path}/${'x'.repeat(200)}`, 'x'))).toBe('ENAMETOOLONG');
  expect(await errnoOf(() => h.symlink(`${path}/${'x'.repeat(200)}`, 't'))).toBe('ENAMETOOLONG');
  await h.writeFile(`${path}/file`, 'deep');
  expect(await errnoOf(() => h.link(`${path}/file`, `${path}/${'x'.repeat(200)}`))).toBe('ENAMETOOLONG');
  expect(await errnoOf(() => h.rename(`${path}/file`, `${path}/${'x'.repeat(200)}`))).toBe('ENAMETOOLONG');
  await h.rename('a', 'a'.repeat(255));
  path = 'a'.repeat(255) + path.slice(1);
  expect(await h.readFile(`${path}/file`)).toBe('deep');
  await h.sync();
  const fresh = await another();
  expect(await fresh.readFile(`${path}/file`)).toBe('deep');
  await fresh.unlink(`${path}/file`);
  await fresh.rmdir(path);
});
