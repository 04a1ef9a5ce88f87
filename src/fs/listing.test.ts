import { afterEach, beforeEach, expect, test } from 'vitest';
import { FileType, rootIno } from '../meta/inode.js';
import type { ListPage, ObjectStore } from '../s3/object-store.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
beforeEach(async () => { h = await FsHarness.open(); });
afterEach(async () => {
  h.checkInvariants();
  await h.close();
});

const later = (): void => h.clock.advance(61_000);

/** Lets the next answer of S3 to this request be computed now and arrive when the returned function is called. */
function holdNext(op: 'list' | 'head', matches: (key: string) => boolean = () => true): { asked: Promise<void>; arrive: () => void } {
  const store = h.memory as ObjectStore;
  const original = store[op].bind(store) as (...args: unknown[]) => Promise<unknown>;
  let arrive!: () => void;
  let noteAsked!: () => void;
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  const asked = new Promise<void>((resolve) => (noteAsked = resolve));
  (store as unknown as Record<string, unknown>)[op] = async (query: string | { prefix: string }, ...rest: unknown[]) => {
    const answer = await original(query, ...rest);
    if (!matches(typeof query === 'string' ? query : query.prefix)) return answer;
    (store as unknown as Record<string, unknown>)[op] = original;
    noteAsked();
    await arrived;
    return answer;
  };
  return { asked, arrive };
}

test('J7: a file made while a listing runs is not missed by it', async () => {
  const listing = holdNext('list');
  const names = h.readdir('');
  await listing.asked;
  // The listing left before the name was made: it knows nothing of it
  const made = h.fs.create(h.context(), rootIno, 'new', 0o102, 0o644);
  listing.arrive();
  await made;
  await names;
  expect(await h.readdir('')).toEqual(['new']);
});

test('J7: an upload acknowledged while a listing runs is not undone by it', async () => {
  await h.readdir('');
  await h.writeFile('a', 'x');
  later();
  const listing = holdNext('list');
  const names = h.readdir('');
  await listing.asked;
  await h.sync(); // S3 has it now, and no journal row protects it any more
  listing.arrive();
  expect(await names).toEqual(['a']);
  expect(await h.readFile('a')).toBe('x');
});

test('J7: a directory whose only key was uploaded while a listing ran is not removed with all below it', async () => {
  await h.stranger.put('old/sub/x', 'x'); // no markers anywhere
  await h.readdir('old');
  await h.readdir('old/sub');
  await h.rename('old', 'new');
  await h.daemon.writeback.runDue(); // the walk; nothing is due yet
  later();
  const listing = holdNext('list', (prefix) => prefix === 'new/');
  const names = h.readdir('new');
  await listing.asked;
  await h.sync();
  listing.arrive();
  expect(await names).toEqual(['sub']);
  expect(await h.readFile('new/sub/x')).toBe('x');
});

test('J7: a deleted file does not come back from a listing that was asked before the delete was acknowledged', async () => {
  await h.stranger.put('a', 'x');
  await h.stranger.put('b', 'y');
  await h.readdir('');
  await h.unlink('a');
  later();
  const second = holdNext('list');
  const again = h.readdir('');
  await second.asked;
  await h.sync();
  second.arrive();
  expect(await again).toEqual(['b']);
});

test('J7: a HEAD that left before our upload does not bring the old version back', async () => {
  await h.stranger.put('a', 'theirs');
  const head = holdNext('head');
  const stat = h.stat('a').catch(() => undefined);
  await head.asked;
  const { ino } = h.inodeOf('a');
  const ctx = h.context();
  // An open descriptor of an earlier life writes, and it is uploaded, while the answer is under way
  await h.fs.write(ctx, ino, 0, 0, Buffer.from('ours!!'), 1, false);
  await h.fs.durability.all();
  await h.sync();
  head.arrive();
  await stat;
  expect(h.stranger.text('a')).toBe('ours!!');
  expect(await h.readFile('a')).toBe('ours!!');
});

test('J8: a listing of the parent does not bring back a directory that was renamed away and is not walked yet', async () => {
  await h.stranger.put('d/x', 'x');
  await h.readdir('d');
  await h.rename('d', 'e');
  later();
  expect(await h.readdir('')).toEqual(['e']);
  await h.daemon.writeback.runDue();
  later();
  expect(await h.readdir('')).toEqual(['e']);
  await h.sync();
  expect(h.stranger.keys()).toEqual(['e/', 'e/x']);
  later();
  expect(await h.readdir('')).toEqual(['e']);
});

test('what others put under the old name of a renamed directory belongs to a new directory of that name', async () => {
  await h.stranger.put('d/x', 'x');
  await h.readdir('d');
  await h.rename('d', 'e');
  await h.sync();
  await h.stranger.put('d/y', 'y');
  later();
  expect(await h.readdir('')).toEqual(['d', 'e']);
  expect(await h.readdir('d')).toEqual(['y']);
  expect(await h.readdir('e')).toEqual(['x']);
});

test('a version by another client replaces content and attributes, and the kernel is told', async () => {
  await h.stranger.put('a', 'one');
  expect(await h.readFile('a')).toBe('one');
  const { ino } = await h.stat('a');
  await h.stranger.put('a', 'two!', { metadata: { mode: String(0o100600) } });
  later();
  expect(await h.readFile('a')).toBe('two!');
  expect(await h.stat('a')).toMatchObject({ ino, mode: 0o100600 });
  expect(h.daemon.notices).toEqual([`content ${ino}`, `name ${rootIno}/a`]);
});

test('a file that is open keeps its version; the name means the new one', async () => {
  await h.stranger.put('a', 'one');
  await h.using('a', 0, async (handle) => {
    expect((await h.pread(handle, 0, 10)).toString()).toBe('one');
    await h.stranger.put('a', 'other');
    later();
    expect(await h.readFile('a')).toBe('other');
    expect((await h.stat('a')).ino).not.toBe(handle.ino);
    expect((await h.pread(handle, 0, 10)).toString()).toBe('one');
    expect((await h.fstat(handle)).nlink).toBe(0);
  });
});

test('a file that is open and not cached cannot be read once its object is replaced: ESTALE, not other bytes', async () => {
  await h.stranger.put('a', Buffer.alloc(600_000, 1));
  await h.using('a', 0, async (handle) => {
    await h.stranger.put('a', Buffer.alloc(600_000, 2));
    expect(await errnoOf(() => h.pread(handle, 0, 100))).toBe('ESTALE');
    later();
    expect((await h.readBytes('a'))[0]).toBe(2);
    expect(await errnoOf(() => h.pread(handle, 300_000, 100))).toBe('ESTALE');
  });
});

test('O1: a change of metadata alone keeps the etag, and shows all the same', async () => {
  await h.stranger.put('a', 'x', { metadata: { mode: String(0o100600) } });
  expect((await h.stat('a')).mode).toBe(0o100600);
  h.clock.advance(10_000);
  await h.stranger.put('a', 'x', { metadata: { mode: String(0o100640) } });
  later();
  await h.readdir('');
  expect((await h.stat('a')).mode).toBe(0o100640);
});

test('O1: even if it came within the same second as the HEAD before it', async () => {
  await h.stranger.put('a', 'x', { metadata: { mode: String(0o100600) } });
  expect((await h.stat('a')).mode).toBe(0o100600);
  await h.stranger.put('a', 'x', { metadata: { mode: String(0o100640) } });
  later();
  await h.readdir('');
  expect((await h.stat('a')).mode).toBe(0o100640);
});

test('our own uploads cause no more HEADs than one, whenever they are listed', async () => {
  await h.writeFile('a', 'x');
  await h.sync();
  const heads = h.calls('head');
  for (let i = 0; i < 3; i++) {
    later();
    await h.readdirplus('');
  }
  expect(h.calls('head') - heads).toBeLessThanOrEqual(1);
});

test('a vanished directory takes everything below it along', async () => {
  for (const key of ['d/a', 'd/e/b', 'd/e/f/c']) await h.stranger.put(key, key);
  expect(await h.readFile('d/e/f/c')).toBe('d/e/f/c');
  for (const key of ['d/a', 'd/e/b', 'd/e/f/c']) await h.stranger.delete(key);
  later();
  expect(await h.readdir('')).toEqual([]);
  expect(await h.exists('d/e/f/c')).toBe(false);
});

test('a directory that vanished remotely stays as long as something of ours is below it', async () => {
  await h.stranger.put('d/e/a', 'x');
  await h.readdir('d/e');
  await h.writeFile('d/e/ours', 'y');
  await h.stranger.delete('d/e/a');
  later();
  expect(await h.readdir('')).toEqual(['d']);
  later();
  expect(await h.readdir('d/e')).toEqual(['ours']);
  await h.sync();
  expect(h.stranger.text('d/e/ours')).toBe('y');
});

test('a file becomes a directory, and back', async () => {
  await h.stranger.put('a', 'file');
  const file = await h.stat('a');
  await h.stranger.delete('a');
  await h.stranger.put('a/x', 'inside');
  later();
  expect(await h.readFile('a/x')).toBe('inside');
  const directory = await h.stat('a');
  expect(directory.ino).not.toBe(file.ino); // K14: a number never changes its type
  await h.stranger.delete('a/x');
  await h.stranger.put('a', 'file again');
  later();
  expect(await h.readFile('a')).toBe('file again');
  expect((await h.stat('a')).ino).not.toBe(directory.ino);
});

test('a file becomes a symlink under a new number, and back (K14)', async () => {
  await h.stranger.put('a', 'file');
  const file = await h.stat('a');
  h.clock.advance(10_000);
  await h.stranger.put('a', 'target', { metadata: { mode: String(FileType.LINK | 0o777) } });
  later();
  expect(await h.readlink('a')).toBe('target');
  const link = await h.stat('a');
  expect(link.ino).not.toBe(file.ino);
  h.clock.advance(10_000);
  await h.stranger.put('a', 'file again');
  later();
  expect(await h.readFile('a')).toBe('file again');
  expect((await h.stat('a')).ino).not.toBe(link.ino);
});

test('a file becomes a symlink with the same bytes: only its metadata says so', async () => {
  await h.stranger.put('a', 'target');
  const file = await h.stat('a');
  h.clock.advance(10_000);
  await h.stranger.put('a', 'target', { metadata: { mode: String(FileType.LINK | 0o777) } });
  later();
  await h.readdir('');
  expect(await h.readlink('a')).toBe('target');
  expect((await h.stat('a')).ino).not.toBe(file.ino);
  expect(await errnoOf(() => h.fs.open(h.context(), file.ino, 0, false))).not.toBe('EIO');
});

test('one version of hard links changes behind the mount: that name alone means the new one (J10)', async () => {
  await h.writeFile('a', 'x');
  await h.link('a', 'b');
  await h.sync();
  await h.stranger.put('b', 'theirs');
  later();
  expect(await h.readFile('b')).toBe('theirs');
  expect(await h.readFile('a')).toBe('x');
  expect((await h.stat('a')).nlink).toBe(1);
});

test('one version of hard links changes behind the mount and is found by a HEAD: the same', async () => {
  await h.writeFile('a', 'x');
  await h.link('a', 'b');
  await h.sync();
  await h.stranger.put('b', 'theirs');
  // Another name made the inode incomplete: its HEAD goes to `a`, then to `b`
  h.daemon.db.tx(() => {
    const inode = h.inodeOf('a');
    inode.attrsComplete = false;
    h.tree.inodes.save(inode);
  });
  await h.stranger.put('a', 'theirs too');
  expect((await h.stat('a')).sizeBytes).toBe('theirs too'.length);
  expect(await h.readFile('b')).toBe('theirs');
  expect((await h.stat('a')).ino).not.toBe((await h.stat('b')).ino);
});

test('an object `a` beside `a/...` is hidden and counted, on one page and across pages, and the directory keeps its number', async () => {
  for (let i = 0; i < 998; i++) await h.stranger.put(`a-${String(i).padStart(4, '0')}`, '');
  await h.stranger.put('a', 'hidden');
  await h.stranger.put('a/x', 'shown');
  expect((await h.readdir('')).filter((name) => !name.startsWith('a-'))).toEqual(['a']);
  const { ino } = await h.stat('a');
  expect(await h.readFile('a/x')).toBe('shown');
  for (let i = 998; i < 1100; i++) await h.stranger.put(`a-${i}`, ''); // now `a` and `a/` are on two pages
  later();
  expect((await h.readdir('')).length).toBe(1101);
  expect((await h.stat('a')).ino).toBe(ino);
  expect(h.fs.hidden.samples(10)).toEqual(['a']);
  expect(await h.readFile('a/x')).toBe('shown');
});

test('keys that are no paths are hidden, counted, and never in the way', async () => {
  for (const key of ['d//x', 'd/./y', 'd/../z', `d/${'n'.repeat(256)}`, 'd/ok', '.hearthfs-scratch-1']) await h.stranger.put(key, key);
  expect(await h.readdir('')).toEqual(['d']);
  expect(await h.readdir('d')).toEqual(['ok']);
  expect(h.fs.hidden.count).toBe(4);
  await h.stranger.delete('d/./y');
  later();
  await h.readdir('d');
  expect(h.fs.hidden.count).toBe(3);
});

test('a name of ours that would be taken for a copy aside is refused', async () => {
  expect(await errnoOf(() => h.mkdir('.hearthfs-scratch-mine'))).toBe('EPERM');
  await h.mkdir('d');
  expect(await errnoOf(() => h.mkdir('d/.hearthfs-scratch-mine'))).toBe('ok');
});

test('a listing that fails half way leaves the directory incomplete and what it saw usable', async () => {
  for (let i = 0; i < 1500; i++) await h.stranger.put(`d/${String(i).padStart(5, '0')}`, '');
  const list = h.memory.list.bind(h.memory);
  let pages = 0;
  h.memory.list = async (query, options): Promise<ListPage> => {
    if (query.prefix === 'd/' && query.token !== undefined && pages++ === 0) return h.faulty.script('list', { fault: 'fail' }).list(query, options);
    return list(query, options);
  };
  expect(await errnoOf(() => h.readdir('d'))).toBe('EIO');
  expect(h.inodeOf('d').complete).toBe(false);
  expect(await h.readdir('d')).toHaveLength(1500);
});

test('a server that says a name twice on a page shows it once; names known before the listing keep their numbers', async () => {
  for (const name of ['a', 'b', 'c']) await h.stranger.put(`d/${name}`, name);
  const { ino } = await h.stat('d/b');
  later();
  const list = h.memory.list.bind(h.memory);
  h.memory.list = async (query, options): Promise<ListPage> => {
    const page = await list(query, options);
    return query.prefix === 'd/' ? { ...page, objects: page.objects.flatMap((object) => [object, object]) } : page;
  };
  expect(await h.readdir('d')).toEqual(['a', 'b', 'c']);
  expect((await h.stat('d/b')).ino).toBe(ino);
  await h.stranger.put('e/f', 'f');
  h.memory.list = async (query, options): Promise<ListPage> => {
    const page = await list(query, options);
    return query.prefix === 'e/' ? { ...page, objects: page.objects.flatMap((object) => [object, object]) } : page;
  };
  later();
  expect(await h.readdir('e')).toEqual(['f']);
});
