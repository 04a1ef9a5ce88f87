import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { nameFromBytes } from '../base/file-name.js';
import { LongKeyStore } from './long-key-store.js';
import { LongKeys } from './long-keys.js';
import { MemoryObjectStore } from './memory-object-store.js';
import type { Body, ListPage, ListQuery, ObjectAttributes } from './object-store.js';

const d = 'd'.repeat(255);
const deep = `proj/${d}/${d}/${d}/`;
const long = 'l'.repeat(255);
const none: ObjectAttributes = { metadata: {} };
const body = (text: string): Body => ({ kind: 'bytes', bytes: Buffer.from(text) });

let memory: MemoryObjectStore;
let keys: LongKeys;
let store: LongKeyStore;
beforeEach(() => {
  memory = new MemoryObjectStore({ partSizeMin: 1 });
  keys = new LongKeys('');
  store = new LongKeyStore(memory, keys);
});

const held = (): string[] => [...memory.snapshot().keys()];
const text = async (path: string): Promise<string> => Buffer.from((await store.getBytes(path, { start: 0, end: 1 << 20 })).bytes).toString();
const put = (path: string, what = 'x'): Promise<unknown> => store.put(path, body(what), none, null);

async function all(query: ListQuery): Promise<string[]> {
  const found: string[] = [];
  let page: ListPage | undefined;
  for (let pages = 0; pages < 100; pages++) {
    page = await store.list({ ...query, ...(page?.token !== undefined && { token: page.token }) });
    found.push(...page.objects.map(({ key }) => key), ...page.prefixes);
    if (page.token === undefined) return found.sort();
  }
  throw new Error('the listing does not end');
}

describe('a store by paths of any length', () => {
  test('every call finds the object of a long path, and calls it by its path', async () => {
    const path = `${deep}${long}`;
    const { etag } = await store.put(path, body('one'), none, null);
    expect(await store.head(path)).toMatchObject({ key: path, etag });
    expect(await text(path)).toBe('one');
    const file = join(mkdtempSync(join(tmpdir(), 'hearthfs-long-')), 'one');
    writeFileSync(file, '');
    expect((await store.getToFile(path, { start: 0, end: 3, withHead: true }, file)).head).toMatchObject({ key: path, etag });
    rmSync(dirname(file), { recursive: true });
    await expect(store.put(path, body('two'), none, null)).rejects.toMatchObject({ kind: 'precondition-failed' });
    await store.copy({ key: path, etag }, 'short', none, null);
    await store.copy({ key: 'short', etag }, `${path}2/below`, none, null);
    expect(await text(`${path}2/below`)).toBe('one');
    const uploadId = await store.createUpload(`${path}/big`, none);
    const part = await store.uploadPart(`${path}/big`, uploadId, 1, body('three'));
    expect(await store.listUploads(`${path}/big`)).toMatchObject([{ key: `${path}/big`, uploadId }]);
    expect(await store.listParts(`${path}/big`, uploadId)).toMatchObject([{ number: 1, etag: part.etag }]);
    await store.completeUpload(`${path}/big`, uploadId, [part], null);
    expect(await text(`${path}/big`)).toBe('three');
    await store.delete(path, etag);
    expect(await store.head(path)).toBeNull();
  });

  test('a path that fits is its own key, and nothing else is asked or written for it', async () => {
    await put('a/b');
    await put(`proj/${d}/file`);
    expect(await all({ prefix: `proj/${d}/`, delimiter: '/' })).toEqual([`proj/${d}/file`]);
    await store.delete(`proj/${d}/`, 'any');
    expect(held()).toEqual(['a/b', `proj/${d}/file`]);
    expect([...memory.calls]).toEqual([['put', 2], ['list', 1], ['delete', 1]]);
  });

  test('a deep directory is listed in both its places, its marker included, and what lies below each', async () => {
    for (const path of [deep, `${deep}short`, `${deep}sub/`, `${deep}${long}`, `${deep}${long}2/`, `${deep}${long}2/below`, `${deep}${long}2/sub/`]) await put(path);
    expect(await all({ prefix: deep, delimiter: '/' })).toEqual([deep, `${deep}short`, `${deep}sub/`, `${deep}${long}`, `${deep}${long}2/`].sort());
    expect(await all({ prefix: `${deep}${long}2/`, delimiter: '/' })).toEqual([`${deep}${long}2/`, `${deep}${long}2/below`, `${deep}${long}2/sub/`]);
    expect(await all({ prefix: 'proj/', delimiter: '/' })).toEqual([`proj/${d}/`]); // no area among the names
    const page = await store.list({ prefix: deep, delimiter: '/' });
    expect(page.isOutOfOrder).toBeUndefined();
    expect(page.objects.map(({ key }) => key)).toEqual([deep, `${deep}${long}`, `${deep}short`]);
  });

  test('many names in both places come page by page, each once', async () => {
    const paths = Array.from({ length: 9 }, (_, i) => [`${deep}n${i}`, `${deep}${i}${'x'.repeat(250)}`, `${deep}${i}${'y'.repeat(250)}/`]).flat();
    for (const path of paths) await put(path);
    for (const maxKeys of [1, 2, 4, 7, 1000]) expect(await all({ prefix: deep, delimiter: '/', maxKeys })).toEqual([...paths].sort());
    const after = `${deep}5`;
    expect(await all({ prefix: deep, delimiter: '/', maxKeys: 2, startAfter: after })).toEqual(paths.filter((path) => path > after).sort());
    expect((await store.list({ prefix: deep, delimiter: '/', maxKeys: 4 })).isOutOfOrder).toBe(true);
  });

  test('a name in bytes that are not UTF-8 stays beside its neighbours, in order if one page holds them', async () => {
    const wild = nameFromBytes(Buffer.alloc(255, 0xfe));
    const directories = [0xfd, 0xff].map((byte) => `dir/${nameFromBytes(Buffer.alloc(255, byte))}/`);
    for (const path of ['dir/a', `dir/${wild}`, 'dir/c', `${directories[0]!}below`, `${directories[1]!}x`]) await put(path);
    for (const key of held()) expect(Buffer.byteLength(key)).toBeLessThanOrEqual(1024);
    const page = await store.list({ prefix: 'dir/', delimiter: '/' });
    expect(page.objects.map(({ key }) => key)).toEqual(['dir/a', 'dir/c', `dir/${wild}`]);
    expect(page.isOutOfOrder).toBeUndefined();
    expect(page.prefixes).toEqual(directories);
    expect(await all({ prefix: 'dir/', delimiter: '/', maxKeys: 1 })).toHaveLength(5);
    expect(await all({ prefix: directories[0]!, delimiter: '/' })).toEqual([`${directories[0]!}below`]);
    expect(memory.calls.get('list')).toBe(7); // no second place was asked
  });

  test('whether anything is in a directory is answered from both places', async () => {
    await put(`${deep}${long}`);
    expect((await store.list({ prefix: deep, maxKeys: 1 })).objects).toMatchObject([{ key: `${deep}${long}` }]);
    await put(`${deep}${long}2/`);
    expect((await store.list({ prefix: `${deep}${long}2/`, maxKeys: 1 })).objects).toMatchObject([{ key: `${deep}${long}2/` }]);
    expect((await store.list({ prefix: `${deep}${long}3/`, maxKeys: 1 })).objects).toEqual([]);
    // what a stranger left in an area shows the directory it is under, as any key would
    expect((await store.list({ prefix: 'proj/', maxKeys: 1 })).objects).toHaveLength(1);
  });

  test('the note beside an area names its directory, comes with the first name in it and goes before the marker', async () => {
    await put(deep, '');
    expect(held()).toEqual([deep]);
    await Promise.all([put(`${deep}${long}`), put(`${deep}${long}2`), put(`${deep}${long}3/`)]);
    expect(memory.snapshot().get(keys.note(deep))).toMatchObject({ bytes: Buffer.from(`${deep}\n`), attributes: { contentType: 'text/plain; charset=utf-8' } });
    expect(memory.calls.get('put')).toBe(5);
    await put(`${deep}${long}4`);
    expect(memory.calls.get('put')).toBe(6);
    const other = new LongKeyStore(memory, keys); // another mount finds it there
    await other.put(`${deep}${long}5`, body('x'), none, null);
    for (const path of [`${deep}${long}`, `${deep}${long}2`, `${deep}${long}3/`, `${deep}${long}4`, `${deep}${long}5`]) await store.delete(path, 'any');
    expect(held()).toEqual([keys.note(deep), deep]);
    await store.delete(deep, 'any');
    expect(held()).toEqual([]);
    await put(`${deep}${long}`);
    expect(held()).toContain(keys.note(deep));
  });

  test('a marker whose area holds names of others stays, and goes when they did', async () => {
    await put(deep, '');
    await put(`${deep}${long}`);
    await store.delete(deep, 'any');
    expect(held()).toEqual([keys.physical(`${deep}${long}`), keys.note(deep), deep].sort());
    await store.delete(`${deep}${long}`, 'any');
    await store.delete(deep, 'any');
    expect(held()).toEqual([]);
  });

  test('our own names are not there, and nothing can be put under them', async () => {
    await put(`${deep}${long}`);
    for (const path of ['proj/.hearthfs-long', 'proj/.hearthfs-long/', keys.physical(`${deep}${long}`)!]) {
      expect(await store.head(path)).toBeNull();
      expect(await all({ prefix: `${path.replace(/\/$/, '')}/`, delimiter: '/' })).toEqual([]);
      await expect(store.put(path, body('x'), none, null)).rejects.toMatchObject({ kind: 'invalid' });
      await expect(store.getBytes(path, { start: 0, end: 1 })).rejects.toMatchObject({ kind: 'not-found' });
      await store.delete(path, 'any');
    }
    expect(held()).toHaveLength(2);
  });

  test('what strangers put into an area, or under the mark of a short name, is not shown as a name', async () => {
    await put(`${deep}${long}`);
    await memory.put(`${keys.area(deep)}short`, body('x'), none, null);
    await memory.put('dir/\u{10ff80}YQ', body('x'), none, null);
    expect(await all({ prefix: deep, delimiter: '/' })).toEqual([`${deep}${long}`]);
    expect(await all({ prefix: 'dir/', delimiter: '/' })).toEqual(['dir/\u{10ff80}YQ']); // as it stands, to be hidden and counted: it is no name
  });
});
