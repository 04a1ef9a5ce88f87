import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Key, ObjectStore } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
/** Requests by kind, in the order they left; HEADs without those of directory markers. */
let heads: Key[];
let lists: string[];
let gets: Key[];

async function start(options: Parameters<typeof FsHarness.open>[0] = {}): Promise<void> {
  h = await FsHarness.open(options);
  [heads, lists, gets] = [[], [], []];
  const store = h.memory as ObjectStore;
  const [head, list, getToFile] = [store.head.bind(store), store.list.bind(store), store.getToFile.bind(store)];
  store.head = (key, ...rest) => (key.endsWith('/') || heads.push(key), head(key, ...rest));
  store.list = (query, ...rest) => (lists.push(query.prefix), list(query, ...rest));
  store.getToFile = (key, ...rest) => (gets.push(key), getToFile(key, ...rest));
}

const metric = (name: string): number => h.daemon.metrics.get(name);
/** Lets everything that was begun end. */
async function settle(): Promise<void> {
  for (let quiet = 0, before = -1; quiet < 20; ) {
    await new Promise(setImmediate);
    const now = heads.length + lists.length + gets.length + metric('prefetch.fetched_bytes') + metric('db.commits');
    quiet = now === before && metric('prefetch.flights') === 0 ? quiet + 1 : 0;
    before = now;
  }
}

const name = (index: number): string => `f${String(index).padStart(3, '0')}`;
async function fill(directory: string, count: number, text = 'text'): Promise<void> {
  for (let i = 0; i < count; i++) await h.stranger.put(`${directory}/${name(i)}`, text, { metadata: { mode: '33188' } });
}

beforeEach(() => start());
afterEach(async () => {
  await settle();
  h.checkInvariants();
  await h.close();
});

test('files read in listing order are fetched before they are opened, each once', async () => {
  await fill('d', 40);
  await h.readdir('d');
  for (let i = 0; i < 40; i++) {
    expect(await h.readFile(`d/${name(i)}`)).toBe('text');
    await settle();
    if (i === 1) expect(gets.length).toBe(6); // two that were asked for, and the first window
  }
  expect([...gets].sort()).toEqual(Array.from({ length: 40 }, (_, index) => `d/${name(index)}`));
  expect(metric('prefetch.files_begun')).toBe(38);
  expect(metric('prefetch.files_used')).toBe(38);
  expect(metric('prefetch.files_wasted')).toBe(0);
});

test('two walkers of one directory are both served', async () => {
  await fill('d', 100);
  await h.readdir('d');
  for (let i = 0; i < 20; i++) {
    await h.readFile(`d/${name(i)}`);
    await h.readFile(`d/${name(70 + i)}`);
    await settle();
  }
  expect(metric('prefetch.files_used')).toBe(36);
  expect(new Set(gets).size).toBe(gets.length);
});

test('files read in no order are fetched one by one', async () => {
  await fill('d', 200);
  await h.readdir('d');
  for (const i of [150, 3, 90, 40, 190, 120]) {
    await h.readFile(`d/${name(i)}`);
    await settle();
  }
  expect(gets).toHaveLength(6);
});

test('the window is bounded by bytes, and big files are left to their readers', async () => {
  await h.close();
  await start({ config: { smallFileBytes: 2000 } });
  await fill('d', 10, 'x'.repeat(1000));
  await h.stranger.put(`d/${name(5)}`, 'y'.repeat(3000));
  await h.readdir('d');
  for (const i of [0, 1, 2]) await h.readFile(`d/${name(i)}`);
  await settle();
  expect(gets).not.toContain(`d/${name(5)}`);
  expect(gets).toContain(`d/${name(4)}`);
});

test('a file that others change while it was fetched ahead is never served old', async () => {
  await fill('d', 10, 'old');
  await h.readdir('d');
  await h.readFile(`d/${name(0)}`);
  await h.readFile(`d/${name(1)}`);
  await settle();
  expect(gets).toContain(`d/${name(3)}`);
  h.clock.advance(61_000);
  await h.stranger.put(`d/${name(3)}`, 'newer', { metadata: { mode: '33188' } });
  expect(await h.readFile(`d/${name(3)}`)).toBe('newer');
});

test('nothing is fetched ahead while S3 is away', async () => {
  await fill('d', 10);
  await h.readdir('d');
  await h.readFile(`d/${name(0)}`);
  h.setOffline(true);
  expect(await errnoOf(h.readFile(`d/${name(1)}`))).toBe('EIO');
  await settle();
  expect(metric('prefetch.files_begun')).toBe(0);
  h.setOffline(false);
});

test('a symlink among the files is not taken for one', async () => {
  for (let i = 0; i < 6; i++) await h.stranger.put(`d/${name(i)}`, 'target', { metadata: { mode: i === 3 ? String(0o120777) : '33188' } });
  await h.readdirplus('d', { plus: false });
  await h.readFile(`d/${name(0)}`);
  await h.readFile(`d/${name(1)}`);
  await settle();
  expect(gets).not.toContain(`d/${name(3)}`);
  expect(gets).toContain(`d/${name(4)}`);
  expect(await h.readlink(`d/${name(3)}`)).toBe('target');
});

test('attributes are asked for ahead of stats in listing order, each once', async () => {
  await fill('d', 300);
  await h.readdirplus('d', { plus: false });
  expect(heads.length).toBe(0);
  for (let i = 0; i < 300; i++) {
    await h.stat(`d/${name(i)}`);
    if (i % 10 === 0) await settle();
  }
  expect(new Set(heads).size).toBe(300);
  expect(heads.length).toBe(300);
  expect(metric('prefetch.attributes_used')).toBeGreaterThan(250);
});

test('a single stat in a big directory asks for one object', async () => {
  await fill('d', 300);
  await h.readdirplus('d', { plus: false });
  for (const i of [200, 10, 100]) await h.stat(`d/${name(i)}`);
  await settle();
  expect(heads).toHaveLength(3);
});

test('READDIRPLUS joins what was begun ahead, and goes on only while the kernel asks for attributes', async () => {
  await fill('d', 400);
  const all = await h.readdirplus('d', { chunk: 50 });
  expect(all.filter((each) => each.entry !== undefined)).toHaveLength(400);
  expect(new Set(heads).size).toBe(heads.length);
  expect(heads).toHaveLength(400);
  expect(metric('prefetch.attributes_begun')).toBeGreaterThan(100);
});

async function tree(directories: number, files: number): Promise<void> {
  for (let d = 0; d < directories; d++) await fill(`top/d${String(d).padStart(3, '0')}`, files);
}
const sub = (index: number): string => `top/d${String(index).padStart(3, '0')}`;

test('a single ls lists one directory', async () => {
  await tree(20, 2);
  await h.readdir('top');
  await settle();
  expect(lists.filter((prefix) => prefix.startsWith('top/d'))).toEqual([]);
});

test('a walk lists sub-directories and their attributes ahead, each once', async () => {
  await tree(40, 3);
  await h.readdir('top');
  await h.readdir(sub(0));
  await settle();
  expect(lists.filter((prefix) => prefix.startsWith('top/d'))).toHaveLength(5); // itself and the first window
  for (let d = 1; d < 40; d++) {
    expect(await h.readdir(sub(d))).toEqual([name(0), name(1), name(2)]);
    await settle();
  }
  const below = lists.filter((prefix) => prefix.startsWith('top/d'));
  expect(below).toHaveLength(40);
  expect(new Set(below).size).toBe(40);
  expect(metric('prefetch.directories_listed')).toBe(39);
  expect(heads).toHaveLength(120);
  expect(new Set(heads).size).toBe(120);
});

test('once a walk is known, what lies below the siblings is listed too', async () => {
  for (let d = 0; d < 30; d++) for (let s = 0; s < 3; s++) await fill(`top/d${String(d).padStart(3, '0')}/s${s}`, 1);
  await h.readdir('top');
  for (let d = 0; d < 12; d++) await h.readdir(sub(d));
  await settle();
  expect(lists).toContain('top/d020/s1/');
});

test('after one directory was read file by file, the next one begins without waiting to be shown', async () => {
  await tree(6, 8);
  await h.readdir('top');
  for (let d = 0; d < 3; d++) {
    await h.readdir(sub(d));
    for (let i = 0; i < 8; i++) await h.readFile(`${sub(d)}/${name(i)}`);
    await settle();
  }
  await h.readdir(sub(3));
  await settle();
  expect(gets.filter((key) => key.startsWith(sub(3)))).toHaveLength(8);
  expect(new Set(gets).size).toBe(gets.length);
});

test('the bytes of files that cannot be symlinks come with their attributes: one request each', async () => {
  await h.close();
  await start({ config: { smallFileBytes: 8192 } });
  for (let d = 0; d < 4; d++) await fill(sub(d), 20, big);
  await h.stranger.put(`${sub(2)}/tagged`, big, { metadata: { mode: String(0o100640) }, tagging: 'a=b' }); // the answer of a GET does not say which tags
  await h.readdir('top');
  for (let d = 0; d < 4; d++) {
    await h.readdir(sub(d));
    for (let i = 0; i < 20; i++) {
      expect((await h.stat(`${sub(d)}/${name(i)}`)).mode).toBe(0o100644);
      expect(await h.readFile(`${sub(d)}/${name(i)}`)).toBe(big);
    }
    if (d === 2) {
      expect((await h.stat(`${sub(d)}/tagged`)).mode).toBe(0o100640);
      expect(await h.readFile(`${sub(d)}/tagged`)).toBe(big);
      expect(h.inodeOf(`${sub(d)}/tagged`).foreign?.tagging).toBe('a=b');
    }
    await settle();
  }
  expect(new Set(gets).size).toBe(gets.length);
  expect(gets).toHaveLength(81);
  expect(heads.filter((key) => !key.startsWith(sub(0)))).toEqual([`${sub(2)}/tagged`]); // those of the first directory left before its walker was known
});

test('who needs the attributes of a file that is fetched waits for its bytes only once they are on their way', async () => {
  await h.close();
  await start({ config: { smallFileBytes: 8192 } });
  await fill('d', 100, big);
  await h.readdir('d');
  for (let i = 0; i < 20; i++) {
    await h.readFile(`d/${name(i)}`);
    await settle();
  }
  let release!: () => void;
  const released = new Promise<void>((resolve) => (release = resolve));
  const store = h.memory as ObjectStore;
  const getToFile = store.getToFile.bind(store);
  store.getToFile = async (...query) => {
    const answer = getToFile(...query); // it has left
    await released;
    return answer;
  };
  const before = gets.length;
  for (let i = 20; gets.length < before + 6; i++) await h.readFile(`d/${name(i)}`); // as many as may run for nobody
  const begun = Array.from({ length: 100 }, (_, i) => `d/${name(i)}`).filter((path) => h.inodeOf(path).content !== null);
  const [sent, queued] = [gets.slice(before)[0]!, begun.find((path) => !gets.includes(path))!];
  heads = [];
  expect((await h.stat(queued)).mode).toBe(0o100644);
  expect(heads).toEqual([queued]);
  const coming = h.stat(sent);
  await new Promise(setImmediate);
  release();
  expect((await coming).mode).toBe(0o100644);
  expect(heads).toEqual([queued]);
  await settle();
  expect(await h.readFile(queued)).toBe(big);
});

test('a file of more than 256 KiB is not fetched for its attributes', async () => {
  const large = 'x'.repeat((256 << 10) + 1);
  await fill('d', 8, large);
  await h.readdir('d');
  for (let i = 0; i < 8; i++) {
    expect(await h.readFile(`d/${name(i)}`)).toBe(large);
    await settle();
  }
  expect(heads).toHaveLength(8);
  expect(gets).toHaveLength(8);
});

test('names of one file that were fetched ahead are one file all the same (J10)', async () => {
  const names = Array.from({ length: 9 }, (_, index) => `l/${name(index)}`);
  await h.mkdir('l');
  for (const first of ['a', 'b']) await h.writeFile(`l/${first}`, big); // read first, so that the walker is known
  await h.writeFile(names[0]!, big);
  for (const other of names.slice(1)) await h.link(names[0]!, other);
  await h.sync();
  const other = await h.freshMount({ config: { smallFileBytes: 8192 } });
  try {
    for (const each of ['l/a', 'l/b', ...names]) {
      expect(await other.readFile(each)).toBe(big);
      await new Promise(setImmediate);
    }
    expect(other.daemon.metrics.get('prefetch.files_begun')).toBeGreaterThan(3);
    expect((await other.stat(names[0]!)).nlink).toBe(9);
    expect(new Set(names.map((each) => other.inodeOf(each).ino)).size).toBe(1);
    other.checkInvariants();
  } finally {
    await other.close();
  }
});

const big = 'x'.repeat(5000);
const typeOf = (mode: number): number => mode & 0o170000;

test('whoever reads only names waits for attributes only where the type of a name is not known', async () => {
  for (let d = 0; d < 6; d++) await fill(sub(d), 5, big);
  await h.stranger.put(`${sub(3)}/link`, 'target', { metadata: { mode: String(0o120777) } });
  await h.stranger.put(`${sub(3)}/big`, big, { metadata: { mode: String(0o120777) } }); // too long for a target
  await h.readdirplus('top');
  for (let d = 0; d < 6; d++) {
    const files = (await h.readdirplus(sub(d))).filter((each) => each.name.startsWith('f'));
    expect(files.map((each) => [typeOf(each.mode), each.entry])).toEqual(files.map(() => [0o100000, undefined]));
    await settle();
  }
  expect(heads).toEqual([`${sub(3)}/link`]);
  const { link, big: file } = Object.fromEntries((await h.readdirplus(sub(3))).map((each) => [each.name, each]));
  expect(typeOf(link!.mode)).toBe(0o120000);
  expect(typeOf(file!.mode)).toBe(0o100000);
  expect((await h.stat(`${sub(3)}/big`)).mode & 0o170000).toBe(0o100000);
});

test('whoever looked at the files of one directory gets attributes with the names of the next', async () => {
  for (let d = 0; d < 4; d++) await fill(sub(d), 5, big);
  await h.readdirplus('top');
  const [first] = await h.readdirplus(sub(0)).then((all) => all.filter((each) => each.name === name(0)));
  expect(first!.entry).toBeUndefined();
  await h.stat(`${sub(0)}/${name(0)}`);
  for (let d = 1; d < 4; d++) {
    const files = (await h.readdirplus(sub(d))).filter((each) => each.name.startsWith('f'));
    expect(files.every((each) => each.entry?.attr?.mode === 0o100644)).toBe(true);
    await settle();
  }
  expect(new Set(heads).size).toBe(heads.length);
});

const inNoOrder = [150, 3, 90, 40, 190, 120, 10, 170, 60];

test('whoever opens the files it looked up gets attributes and bytes in one request', async () => {
  await fill('d', 200);
  for (const i of inNoOrder) {
    expect(await h.readFile(`d/${name(i)}`)).toBe('text');
    expect((await h.stat(`d/${name(i)}`)).mode).toBe(0o100644);
    await settle();
  }
  expect(heads).toEqual(inNoOrder.slice(0, 2).map((i) => `d/${name(i)}`));
  expect(gets).toEqual(inNoOrder.map((i) => `d/${name(i)}`));
  expect(metric('prefetch.files_with_lookup')).toBe(inNoOrder.length - 2);
});

test('who opened some and now only looks gets the bytes of one more file and no others', async () => {
  await fill('d', 200);
  await h.readFile(`d/${name(150)}`);
  await h.readFile(`d/${name(3)}`);
  for (const i of [90, 40, 190, 10]) await h.stat(`d/${name(i)}`);
  await settle();
  expect(gets).toEqual([150, 3, 90].map((i) => `d/${name(i)}`));
  expect(heads).toEqual([150, 3, 40, 190, 10].map((i) => `d/${name(i)}`));
});

test('of a file of up to 1 MiB the bytes leave beside the question for its attributes', async () => {
  await h.close();
  await start({ config: { smallFileBytes: 8 << 20 } });
  await fill('d', 200);
  const large = 'x'.repeat(300 << 10);
  await h.stranger.put(`d/${name(90)}`, large, { metadata: { mode: String(0o100640) } });
  await h.stranger.put(`d/${name(40)}`, 'y'.repeat((1 << 20) + 1), { metadata: { mode: String(0o100640) } });
  for (const i of [150, 3]) await h.readFile(`d/${name(i)}`);
  for (const i of [90, 40]) expect((await h.stat(`d/${name(i)}`)).mode).toBe(0o100640);
  await settle();
  expect(gets.slice(2)).toEqual([`d/${name(90)}`]);
  expect(heads.slice(2)).toEqual([90, 40].map((i) => `d/${name(i)}`));
  expect(await h.readFile(`d/${name(90)}`)).toBe(large);
  expect(gets).toHaveLength(3);
});

test('a name of a file with several that is fetched beside its lookup is joined to the others (J10)', async () => {
  const large = 'x'.repeat(300 << 10);
  await h.mkdir('l');
  for (const each of ['a', 'c', 'e']) await h.writeFile(`l/${each}`, large);
  await h.link('l/c', 'l/n');
  await h.sync();
  const other = await h.freshMount({ config: { smallFileBytes: 8 << 20 } });
  try {
    for (const each of ['e', 'a', 'n', 'c']) expect(await other.readFile(`l/${each}`)).toBe(large);
    expect(other.daemon.metrics.get('prefetch.files_with_lookup')).toBeGreaterThan(0);
    expect((await other.stat('l/c')).nlink).toBe(2);
    other.checkInvariants();
  } finally {
    await other.close();
  }
});

test('what looks like a file, is fetched with its lookup, and is none stays what it is', async () => {
  await fill('d', 200);
  await h.stranger.put(`d/${name(10)}`, 'target', { metadata: { mode: String(0o120777) } });
  await h.stranger.put(`d/${name(170)}`, 'x', { metadata: { mode: String(0o020600), rdev: '259' } });
  for (const i of inNoOrder.slice(0, 4)) await h.readFile(`d/${name(i)}`);
  expect(await h.readlink(`d/${name(10)}`)).toBe('target');
  for (const i of inNoOrder.slice(4, 6)) await h.readFile(`d/${name(i)}`);
  expect(typeOf((await h.stat(`d/${name(170)}`)).mode)).toBe(0o020000);
  await settle();
  expect([10, 170].map((i) => h.inodeOf(`d/${name(i)}`).content)).toEqual([null, null]);
  expect(gets).toContain(`d/${name(10)}`);
});

test('a lookup that asks for bytes finds what replaced its file, or that it is gone', async () => {
  await fill('d', 200);
  for (const i of inNoOrder.slice(0, 3)) await h.readFile(`d/${name(i)}`);
  await h.stranger.put(`d/${name(60)}`, 'newer', { metadata: { mode: String(0o100600) } }); // the directory was listed before
  expect((await h.stat(`d/${name(60)}`)).mode).toBe(0o100600);
  expect(await h.readFile(`d/${name(60)}`)).toBe('newer');
  await h.stranger.delete(`d/${name(170)}`);
  expect(await errnoOf(h.readFile(`d/${name(170)}`))).toBe('ENOENT');
});

test('a lookup whose bytes did not come asks again for no longer than what is left of its deadline', async () => {
  await fill('d', 200);
  for (const i of inNoOrder.slice(0, 3)) await h.readFile(`d/${name(i)}`);
  const store = h.memory as ObjectStore;
  store.getToFile = () => {
    h.clock.advance(3000);
    return Promise.reject(new StoreError('not-found', 'of this server one cannot be sure'));
  };
  const head = store.head.bind(store);
  const deadlines: (number | undefined)[] = [];
  store.head = (key, options) => (deadlines.push(options?.deadlineMs), head(key, options));
  expect((await h.stat(`d/${name(60)}`)).mode).toBe(0o100644);
  expect(deadlines).toEqual([5000 - 3000]);
});
