import { afterEach, describe, expect, test } from 'vitest';
import { rootIno } from '../meta/inode.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

const open: FsHarness[] = [];
async function mounted(options: Parameters<typeof FsHarness.open>[0] = {}): Promise<FsHarness> {
  const harness = await FsHarness.open(options);
  open.push(harness);
  return harness;
}
afterEach(async () => {
  for (const harness of open.splice(0)) {
    harness.checkInvariants();
    await harness.close();
  }
});

const ttlMs = 60_000;
const lookup = (h: FsHarness, name: string, parent: number = rootIno) => h.fs.lookup(h.context(), parent, name);

describe('a name', () => {
  test('of a listed directory is answered at once and without S3 while the listing is younger than the TTL', async () => {
    const h = await mounted();
    await h.stranger.put('a', 'x');
    await h.readdir('');
    await h.stat('a');
    const before = h.calls('list') + h.calls('head');
    const entry = lookup(h, 'a');
    expect(entry).not.toBeInstanceOf(Promise);
    expect((await entry).attr?.sizeBytes).toBe(1);
    expect((await lookup(h, 'nothing')).attr).toBeNull();
    expect(h.calls('list') + h.calls('head')).toBe(before);
  });

  test('may be believed by the kernel only for what is left of the TTL, so that two caches do not add up', async () => {
    const h = await mounted();
    await h.stranger.put('a', 'x');
    await h.readdir('');
    h.clock.advance(40_000);
    expect(await lookup(h, 'a')).toMatchObject({ entryValidMs: 20_000, attrValidMs: 20_000 });
    expect(await lookup(h, 'nothing')).toMatchObject({ attr: null, entryValidMs: 20_000 });
  });

  test('that is older than the TTL is asked for again: changed, vanished and new objects show', async () => {
    const h = await mounted();
    await h.stranger.put('changed', 'x');
    await h.stranger.put('vanished', 'x');
    expect(await h.readFile('changed')).toBe('x');
    await h.stat('vanished');
    await h.stranger.put('changed', 'longer');
    await h.stranger.delete('vanished');
    await h.stranger.put('new', 'n');
    expect(await h.exists('vanished')).toBe(true);
    expect(await h.exists('new')).toBe(false);
    h.clock.advance(ttlMs);
    expect(await h.readFile('changed')).toBe('longer');
    expect(await h.exists('vanished')).toBe(false);
    expect(await h.readFile('new')).toBe('n');
  });

  test('is never asked for again on an exclusive mount', async () => {
    const h = await mounted({ config: { ttlMs: null } });
    await h.stranger.put('a', 'x');
    expect(await h.readFile('a')).toBe('x');
    await h.stranger.delete('a');
    const before = h.calls('list') + h.calls('head');
    h.clock.advance(365 * 86_400_000);
    expect(await h.exists('a')).toBe(true);
    expect(h.calls('list') + h.calls('head')).toBe(before);
  });

  test('of our own needs no confirmation by S3 until it is uploaded', async () => {
    const h = await mounted();
    await h.writeFile('a', 'x');
    h.clock.advance(10 * ttlMs);
    h.setOffline(true);
    expect(await h.readFile('a')).toBe('x');
    expect(await lookup(h, 'a')).toMatchObject({ entryValidMs: ttlMs });
  });

  test('of more than 255 bytes is ENAMETOOLONG; 255 bytes are not too many', async () => {
    const h = await mounted();
    expect(await errnoOf(() => lookup(h, 'a'.repeat(256)))).toBe('ENAMETOOLONG');
    expect(await errnoOf(() => lookup(h, 'ä'.repeat(128)))).toBe('ENAMETOOLONG');
    expect(await errnoOf(() => h.mkdir('ä'.repeat(127)))).toBe('ok');
    expect(await errnoOf(() => h.mkdir('ä'.repeat(128)))).toBe('ENAMETOOLONG');
  });

  test('below a file is ENOTDIR, in a directory number that never was ESTALE', async () => {
    const h = await mounted();
    await h.writeFile('file', 'x');
    expect(await errnoOf(() => lookup(h, 'a', h.inodeOf('file').ino))).toBe('ENOTDIR');
    expect(await errnoOf(() => lookup(h, 'a', 999_999))).toBe('ESTALE');
  });
});

describe('a directory too big for one page (O4)', () => {
  async function huge(): Promise<FsHarness> {
    const h = await mounted();
    for (let i = 0; i < 1100; i++) await h.stranger.put(`d/${String(i).padStart(5, '0')}`, 'x');
    await h.stranger.put('d/zz/deep', 'y');
    return h;
  }

  test('is asked name by name with a HEAD and a LIST of one key, both for files and for directories', async () => {
    const h = await huge();
    expect(await h.readFile('d/00003')).toBe('x'); // on the first page
    expect(await h.readFile('d/01099')).toBe('x'); // beyond it
    const [lists, heads] = [h.calls('list'), h.calls('head')];
    expect((await h.stat('d/zz')).mode & 0o170000).toBe(0o040000);
    expect(h.calls('list') - lists).toBe(1);
    expect(h.calls('head') - heads).toBe(2); // the object `zz`, and the marker's attributes
    expect(await h.exists('d/nothing')).toBe(false);
    expect(await h.readFile('d/zz/deep')).toBe('y');
  });

  test('is shown whole by readdir, in pieces, without duplicates', async () => {
    const h = await huge();
    const names = (await h.readdirplus('d', { chunk: 37 })).map(({ name }) => name);
    expect(names.slice(0, 2)).toEqual(['.', '..']);
    expect(new Set(names).size).toBe(1103);
    expect(names).toHaveLength(1103);
  });

  test('a directory `d` is found although `d-` and `d.` sort between `d` and `d/`', async () => {
    const h = await mounted();
    for (const key of ['p/d', 'p/d-', 'p/d.', 'p/d/x']) await h.stranger.put(key, key);
    expect(await h.readdir('p')).toEqual(['d', 'd-', 'd.']);
    expect(await h.readFile('p/d/x')).toBe('p/d/x');
    expect(h.fs.hidden.samples(10)).toEqual(['p/d']);
  });
});

describe('while S3 does not answer (promise 5)', () => {
  for (const noticed of [true, false]) {
    const outage = (h: FsHarness): void => {
      if (noticed) h.setOffline(true);
      else h.faulty.setDown(true);
    };
    const when = noticed ? 'a known outage' : 'an outage nobody noticed yet';

    test(`in ${when} what is cached is served although it is stale`, async () => {
      const h = await mounted();
      await h.stranger.put('d/a', 'x');
      expect(await h.readFile('d/a')).toBe('x');
      await h.readdir('d');
      h.clock.advance(10 * ttlMs);
      outage(h);
      expect(await h.readFile('d/a')).toBe('x');
      expect(await h.readdir('d')).toEqual(['a']);
      expect(await h.exists('d/nothing')).toBe(false); // the directory was listed completely
      expect(h.daemon.metrics.get('fs.served_stale')).toBeGreaterThan(0);
    });

    test(`in ${when} what is not cached is EIO, never ENOENT`, async () => {
      const h = await mounted();
      await h.stranger.put('d/a', 'x');
      await h.stranger.put('big', Buffer.alloc(10_000, 'b'));
      await h.readdir('');
      outage(h);
      expect(await errnoOf(() => h.stat('d/a'))).toBe('EIO');
      expect(await errnoOf(() => h.stat('d/nothing'))).toBe('EIO');
      expect(await errnoOf(() => h.readdir('d'))).toBe('EIO');
      expect(await errnoOf(() => h.mkdir('d/new'))).toBe('EIO'); // may exist
      expect(await errnoOf(() => h.rmdir('d'))).toBe('EIO'); // may not be empty
      expect(await errnoOf(() => h.rename('d', 'e'))).toBe('EIO');
      expect(await errnoOf(() => h.readFile('big'))).toBe('EIO');
      h.setOffline(false);
      expect(await h.readFile('d/a')).toBe('x');
    });
  }

  test('an uncached lookup on a fresh mount is EIO, and right once S3 is back', async () => {
    const h = await mounted();
    await h.stranger.put('a', 'x');
    h.setOffline(true);
    expect(await errnoOf(() => h.stat('a'))).toBe('EIO');
    expect(await errnoOf(() => h.writeFile('new', 'x'))).toBe('EIO');
    h.setOffline(false);
    expect(await h.readFile('a')).toBe('x');
  });

  test('a refused HEAD of a listed object fails its stat with EACCES, and readdirplus leaves its attributes out', async () => {
    const h = await mounted();
    await h.stranger.put('a', 'x');
    h.faulty.script('head', { fault: 'fail', kind: 'access-denied' }, 2);
    const listed = await h.readdirplus('');
    expect(listed.map(({ name, mode, entry }) => [name, mode, entry])).toContainEqual(['a', 0, undefined]);
    expect(await errnoOf(() => h.stat('a'))).toBe('EACCES');
    expect((await h.stat('a')).sizeBytes).toBe(1);
  });
});

test('an interrupted lookup is EINTR at once, and whoever else waits for the same listing gets it', async () => {
  const h = await mounted();
  await h.stranger.put('a', 'x');
  const abort = new AbortController();
  const interrupted = errnoOf(() => h.fs.lookup(h.context({ signal: abort.signal }), rootIno, 'a'));
  const patient = h.stat('a');
  abort.abort();
  expect(await interrupted).toBe('EINTR');
  expect((await patient).sizeBytes).toBe(1);
});

test('a listed object that is gone at its HEAD is no name any more', async () => {
  const h = await mounted();
  await h.stranger.put('a', 'x');
  await h.readdirplus('', { plus: false });
  await h.stranger.delete('a');
  expect(await h.exists('a')).toBe(false);
  expect(await h.readdir('')).toEqual([]);
});

test('waiters for one listing share its request', async () => {
  const h = await mounted();
  for (let i = 0; i < 5; i++) await h.stranger.put(`${i}`, 'x');
  await Promise.all([0, 1, 2, 3, 4].map((i) => h.stat(`${i}`)));
  expect(h.calls('list')).toBe(1);
  expect(h.calls('head')).toBe(5);
});
