import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ListPage, ListQuery, ObjectStore } from '../s3/object-store.js';
import { rootIno } from '../meta/inode.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
beforeEach(async () => { h = await FsHarness.open({ config: { attributes: 'listing' } }); });
afterEach(async () => {
  h.checkInvariants();
  await h.close();
});

interface Asked { readonly query: ListQuery; readonly page: ListPage }

/** Answers listings of `d/` from sorted names, with small pages; `around` may hold an answer back or change it. */
function serve(names: readonly string[], pageSize: number, around: (query: ListQuery, page: ListPage) => Promise<ListPage> | ListPage = (_query, page) => page): Asked[] {
  const sorted = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const asked: Asked[] = [];
  const store = h.memory as ObjectStore;
  const original = store.list.bind(store);
  store.list = async (query, options) => {
    if (query.prefix !== 'd/') return original(query, options);
    const after = Buffer.from(query.token ?? query.startAfter ?? '');
    const rest = sorted.filter((name) => Buffer.compare(Buffer.from(`d/${name}`), after) > 0);
    const some = rest.slice(0, Math.min(query.maxKeys ?? pageSize, pageSize));
    const page: ListPage = {
      objects: some.filter((name) => !name.endsWith('/')).map((name) => ({ key: `d/${name}`, etag: 'e', sizeBytes: 1, lastModifiedMs: h.clock.now() - 10_000 })),
      prefixes: some.filter((name) => name.endsWith('/')).map((name) => `d/${name}`),
      ...(rest.length > some.length && { token: `d/${some.at(-1)}` }),
    };
    asked.push({ query, page });
    return around(query, page);
  };
  return asked;
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, index) => `file-${String(index).padStart(6, '0')}.dat`);

/** All names in readdir order. */
async function shown(): Promise<string[]> {
  return (await h.readdirplus('d', { plus: false, chunk: 50 })).map(({ name }) => name).filter((name) => name !== '.' && name !== '..');
}

beforeEach(async () => { await h.stranger.put('d/x', 'x'); }); // so that `d` is found; the listing of it is served by the test

test('a huge directory is listed by several ranges at once, and every name is shown exactly once', async () => {
  const names = numbered(3000);
  let open = 0;
  let most = 0;
  const asked = serve(names, 100, async (_query, page) => {
    most = Math.max(most, ++open);
    await new Promise(setImmediate);
    open--;
    return page;
  });
  const all = await shown();
  expect(all).toHaveLength(3000);
  expect([...all].sort()).toEqual(names);
  expect(most).toBeGreaterThan(4);
  // Cuts and probes cost requests, but not many
  expect(asked.filter(({ query }) => query.maxKeys !== 1).length).toBeLessThan(60);
  expect(h.daemon.metrics.get('fs.listing_ranges')).toBeGreaterThan(2);
});

test('a directory of two pages costs two requests', async () => {
  const asked = serve(numbered(150), 100);
  expect(await shown()).toHaveLength(150);
  expect(asked).toHaveLength(2);
});

test('whatever the names are, ranges miss none and double none', async () => {
  const name = fc.string({ unit: fc.constantFrom(...'0123456789abcxyzABZ-_. é\uff5e', '\u{1f600}'), minLength: 1, maxLength: 12 })
    .filter((text) => text !== '.' && text !== '..');
  await fc.assert(fc.asyncProperty(fc.uniqueArray(name, { minLength: 30, maxLength: 200 }), fc.uniqueArray(fc.nat(200), { maxLength: 20 }), async (files, asDirectory) => {
    const fresh = await h.freshMount();
    const old = h;
    h = fresh;
    const original = h.memory.list;
    try {
      const taken = files.map((each, index) => (asDirectory.includes(index) ? `${each}/` : each));
      serve(taken, 7);
      expect([...(await shown())].sort()).toEqual([...files].sort());
      fresh.checkInvariants();
    } finally {
      h.memory.list = original;
      h = old;
      await fresh.close();
    }
  }), { numRuns: 12 });
});

test('a server that does not list in byte order is listed page by page', async () => {
  const asked = serve(numbered(500), 50, (_query, page) => ({ ...page, objects: [...page.objects].reverse() }));
  expect(await shown()).toHaveLength(500);
  expect(asked.every(({ query }) => query.startAfter === undefined)).toBe(true);
  expect(h.daemon.metrics.get('fs.unordered_listings')).toBe(1);
});

test('a server that ignores start-after is noticed, and listed page by page', async () => {
  const names = numbered(500);
  serve(names, 50, (query, page) => (query.startAfter === undefined || query.maxKeys === 1 ? page : { objects: [{ key: `d/${names[0]}`, etag: 'e', sizeBytes: 1, lastModifiedMs: 1 }], prefixes: [] }));
  expect([...(await shown())].sort()).toEqual(names);
});

test('names are shown while the listing still runs, and all of them at the end', async () => {
  let release!: () => void;
  const held = new Promise<void>((resolve) => (release = resolve));
  serve(numbered(300), 50, async (query, page) => {
    if (query.token !== undefined || query.startAfter !== undefined) await held;
    return page;
  });
  await h.at('d', async (ino) => {
    const { fh } = await h.fs.opendir(h.context(), ino);
    const some: { name: string; cookie: number }[] = [];
    const sink = { plus: false, roomFor: 1000, add: (name: string, _ino: number, _mode: number, cookie: number) => some.push({ name, cookie }) > 0 };
    await h.fs.readdir(h.context(), ino, fh, 0, sink);
    expect(some).toHaveLength(52);
    expect(h.inodeOf('d').complete).toBe(false);
    const rest = h.fs.readdir(h.context(), ino, fh, some.at(-1)!.cookie, sink);
    release();
    await rest;
    for (let before = 0; before < some.length; ) {
      before = some.length;
      await h.fs.readdir(h.context(), ino, fh, some.at(-1)!.cookie, sink);
    }
    expect(new Set(some.map(({ name }) => name)).size).toBe(302);
    expect(some).toHaveLength(302);
    expect(h.inodeOf('d').complete).toBe(true);
  });
});

test('a listing that fails while names are being shown ends in EIO, never in a short directory', async () => {
  let isFirst = true;
  serve(numbered(300), 50, (query, page) => {
    if (query.token !== undefined && isFirst) h.faulty.setDown(true);
    return page;
  });
  expect(await errnoOf(() => shown())).toBe('EIO');
  isFirst = false;
  h.faulty.setDown(false);
  expect(await shown()).toHaveLength(300);
});

test('J7: what is made and removed here while the ranges run is neither undone nor missed', async () => {
  const names = numbered(600);
  let release!: () => void;
  const held = new Promise<void>((resolve) => (release = resolve));
  let asked!: () => void;
  const running = new Promise<void>((resolve) => (asked = resolve));
  serve(names, 50, async (query, page) => {
    if (query.startAfter !== undefined && query.maxKeys !== 1) {
      asked();
      await held;
    }
    return page;
  });
  const all = shown();
  await running;
  const directory = h.inodeOf('d').ino;
  const making = h.fs.create(h.context(), directory, 'file-000500.new', 0o102, 0o644, 0);
  await h.fs.unlink(h.context(), directory, names[3]!);
  release();
  const made = await making;
  await all;
  const now = await shown();
  expect(now).toContain('file-000500.new');
  expect(now).not.toContain(names[3]);
  expect(now).toHaveLength(600);
  h.fs.release(h.context(), made.attr!.ino, made.fh);
  expect(h.inodeOf('d').complete).toBe(true);
  expect(h.inodeOf('').ino).toBe(rootIno);
});
