/**
 * What every `ObjectStore` promises, as tests. Runs against any body of the interface; conditions that a server is known to
 * ignore (O2) are tested the other way round, so that the capability probe is checked too.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { probeCapabilities, type Capabilities, type EtagQuoting } from '../../src/s3/capabilities.js';
import type { Body, ObjectAttributes, ObjectStore, ObjectSummary } from '../../src/s3/object-store.js';
import { StoreError, type StoreErrorKind } from '../../src/s3/store-error.js';

export interface Subject {
  readonly store: ObjectStore & Partial<EtagQuoting>;
  /** A store on a bucket that does not exist, if the subject can have one. */
  readonly missingBucket?: ObjectStore;
  close(): Promise<void>;
}

const plain: ObjectAttributes = { metadata: {}, contentType: 'text/plain' };
const bytes = (text: string | Uint8Array): Body => ({ kind: 'bytes', bytes: typeof text === 'string' ? Buffer.from(text) : text });
const whole = { start: 0, end: 1 << 20 };

async function failure(call: Promise<unknown>): Promise<StoreErrorKind> {
  try {
    await call;
  } catch (error) {
    if (error instanceof StoreError) return error.kind;
    throw error;
  }
  throw new Error('expected a StoreError, got success');
}

export function objectStoreContract(name: string, open: () => Promise<Subject>): void {
  describe(`ObjectStore contract: ${name}`, () => {
    let subject: Subject;
    let store: Subject['store'];
    let can: Capabilities;
    let directory: string;
    let serial = 0;
    const key = (suffix = 'k'): string => `t${serial++}-${suffix}`;
    const text = async (at: string): Promise<string> => Buffer.from((await store.getBytes(at, whole)).bytes).toString();

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'hearthfs-contract-'));
      subject = await open();
      store = subject.store;
      can = await probeCapabilities(store);
    });
    afterAll(async () => {
      await subject?.close();
      rmSync(directory, { recursive: true, force: true });
    });

    test('the probe finds a writable bucket and leaves nothing behind', async () => {
      expect(can.readOnly).toBe(false);
      expect(can.putIfNoneMatch).toBe(true);
      expect((await store.list({ prefix: '.hearthfs-probe-' })).objects).toEqual([]);
      expect(await store.listUploads('.hearthfs-probe-')).toEqual([]);
    });

    test('put, head and get agree', async () => {
      const at = key();
      const attributes: ObjectAttributes = {
        metadata: { mode: '33188', foreign: 'grün ü', 'with-dash': 'a  b' }, contentType: 'image/x', cacheControl: 'max-age=5', contentDisposition: 'inline', contentLanguage: 'de', contentEncoding: 'gzip',
      };
      const stored = await store.put(at, bytes('hello'), attributes, null);
      const head = await store.head(at);
      expect(head).toMatchObject({ key: at, etag: stored.etag, sizeBytes: 5, attributes });
      expect(stored.etag).not.toContain('"');
      expect(Math.abs(head!.lastModifiedMs - head!.serverDateMs!)).toBeLessThan(60_000);
      expect(await store.getBytes(at, { start: 0, end: 5, etag: stored.etag })).toMatchObject({ etag: stored.etag, lengthBytes: 5, objectSizeBytes: 5, lastModifiedMs: head!.lastModifiedMs });
      expect(await text(at)).toBe('hello');
      const path = join(directory, 'with-head');
      writeFileSync(path, '');
      const got = await store.getToFile(at, { start: 1, end: 3, etag: stored.etag, withHead: true }, path);
      expect({ ...got.head, serverDateMs: 0 }).toEqual({ ...head, serverDateMs: 0 }); // only the moment may differ
      expect((await store.getToFile(at, { start: 1, end: 3, etag: stored.etag }, path)).head).toBeUndefined();
    });

    test('an empty object is an object', async () => {
      const at = key();
      const { etag } = await store.put(at, bytes(''), plain, null);
      expect(await store.head(at)).toMatchObject({ etag, sizeBytes: 0 });
      expect(await store.getBytes(at, { ...whole, etag })).toMatchObject({ lengthBytes: 0, objectSizeBytes: 0, etag });
    });

    test('head of what is not there is null, get is not-found', async () => {
      expect(await store.head(key())).toBeNull();
      expect(await failure(store.getBytes(key(), whole))).toBe('not-found');
    });

    test('a missing bucket is never "no such object"', async ({ skip }) => {
      const { missingBucket } = subject;
      if (!missingBucket) return skip();
      expect(await failure(missingBucket.head('a'))).toBe('no-such-bucket');
      expect(await failure(missingBucket.list({ prefix: '' }))).toBe('no-such-bucket');
      expect(await failure(missingBucket.getBytes('a', whole))).toBe('no-such-bucket');
      expect(await failure(missingBucket.put('a', bytes('x'), plain, null))).toBe('no-such-bucket');
      expect(await failure(missingBucket.checkBucket())).toBe('no-such-bucket');
    });

    test.each(['a//b', 'a/./b', 'a/../b', 'sp ace+plus%25', "q'uo\"te&<x>", 'ünï/çødé/🔥', '(!*)', 'dir/', ' lead', 'trail ', 'a\\b', 'c:d;e=f?g#h', '\u{10ff80}'])('key %j is itself everywhere', async (suffix) => {
      const at = key(suffix);
      const { etag } = await store.put(at, bytes(suffix), plain, null);
      expect(await store.head(at)).toMatchObject({ key: at, etag });
      expect(await text(at)).toBe(suffix);
      expect((await store.list({ prefix: at })).objects.map((object) => object.key)).toEqual([at]);
      const copyAt = key(suffix);
      await store.copy({ key: at, etag }, copyAt, plain, null);
      expect(await text(copyAt)).toBe(suffix);
      await store.delete(at, etag);
      expect(await store.head(at)).toBeNull();
    });

    describe('ranges', () => {
      const content = randomBytes(300_000);
      let at: string;
      let etag: string;
      beforeAll(async () => {
        at = key('ranges');
        ({ etag } = await store.put(at, bytes(content), plain, null));
      });

      test.each([[0, 1], [0, 300_000], [299_999, 300_000], [1, 299_999], [131_072, 262_144]])('bytes %i to %i arrive in memory and in a file', async (start, end) => {
        const expected = content.subarray(start, end);
        const inMemory = await store.getBytes(at, { start, end, etag });
        expect(Buffer.from(inMemory.bytes).equals(expected)).toBe(true);
        const path = join(directory, 'range');
        writeFileSync(path, Buffer.alloc(300_000, 0xaa));
        const ranges: [number, number][] = [];
        const result = await store.getToFile(at, { start, end, etag }, path, { onRange: (from, to) => ranges.push([from, to]) });
        expect(result).toMatchObject({ lengthBytes: end - start, objectSizeBytes: 300_000, etag });
        const expectedFile = Buffer.alloc(300_000, 0xaa);
        expected.copy(expectedFile, start);
        expect(readFileSync(path).equals(expectedFile)).toBe(true);
        // ascending, adjacent, complete
        expect(ranges[0]?.[0]).toBe(start);
        expect(ranges.at(-1)?.[1]).toBe(end);
        for (let i = 1; i < ranges.length; i++) expect(ranges[i]![0]).toBe(ranges[i - 1]![1]);
      });

      test('past the end there is less, or nothing, and never an error', async () => {
        expect(await store.getBytes(at, { start: 299_000, end: 400_000, etag })).toMatchObject({ lengthBytes: 1000, objectSizeBytes: 300_000 });
        expect(await store.getBytes(at, { start: 300_000, end: 300_001, etag })).toMatchObject({ lengthBytes: 0, objectSizeBytes: 300_000, etag });
      });

      test('of another version are useless', async () => {
        expect(await failure(store.getBytes(at, { start: 0, end: 5, etag: '00000000000000000000000000000000' }))).toBe('precondition-failed');
      });

      test('into a file that is not there are local-io', async () => {
        expect(await failure(store.getToFile(at, { start: 0, end: 5 }, join(directory, 'no', 'such')))).toBe('local-io');
      });
    });

    describe('conditions', () => {
      test('put with null creates and never replaces', async () => {
        const at = key();
        await store.put(at, bytes('1'), plain, null);
        expect(await failure(store.put(at, bytes('2'), plain, null))).toMatch(/^(precondition-failed|conflict)$/);
        expect(await text(at)).toBe('1');
      });

      test('of 8 simultaneous creators one wins', async () => {
        const at = key();
        const outcomes = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => store.put(at, bytes(`writer ${i}`), plain, null)));
        const winners = outcomes.flatMap(({ status }, i) => (status === 'fulfilled' ? [i] : []));
        expect(winners).toHaveLength(1);
        expect(await text(at)).toBe(`writer ${winners[0]}`);
      });

      test('put with an etag replaces exactly that version', async () => {
        const at = key();
        const { etag } = await store.put(at, bytes('1'), plain, null);
        const second = await store.put(at, bytes('2'), plain, etag);
        if (can.putIfMatch) expect(await failure(store.put(at, bytes('3'), plain, etag))).toBe('precondition-failed');
        expect(await text(at)).toBe('2');
        await store.put(at, bytes('4'), plain, second.etag);
        expect(await text(at)).toBe('4');
      });

      test('put with an etag where nothing is fails', async ({ skip }) => {
        if (!can.putIfMatch) return skip();
        expect(await failure(store.put(key(), bytes('1'), plain, '00000000000000000000000000000000'))).toBe('precondition-failed');
      });

      test('delete with an etag deletes exactly that version, and a missing object is success', async () => {
        const at = key();
        const first = await store.put(at, bytes('1'), plain, null);
        const second = await store.put(at, bytes('2'), plain, 'any');
        if (can.deleteIfMatch) expect(await failure(store.delete(at, first.etag))).toBe('precondition-failed');
        await store.delete(at, second.etag);
        expect(await store.head(at)).toBeNull();
        await store.delete(at, 'any');
      });

      test('copy demands its source, honours its destination, and replaces attributes', async () => {
        const from = key('from');
        const to = key('to');
        const { etag } = await store.put(from, bytes('content'), { metadata: { old: '1' }, contentType: 'a/b' }, null);
        const copied = await store.copy({ key: from, etag }, to, { metadata: { new: '2' }, contentType: 'c/d' }, null);
        const head = await store.head(to);
        expect(head).toMatchObject({ etag: copied.etag, attributes: { metadata: { new: '2' }, contentType: 'c/d' } });
        expect(head!.attributes.metadata).not.toHaveProperty('old');
        expect(await text(to)).toBe('content');
        if (can.copySourceIfMatch) expect(await failure(store.copy({ key: from, etag: '00000000000000000000000000000000' }, key(), plain, null))).toBe('precondition-failed');
        if (can.copyIfNoneMatch) expect(await failure(store.copy({ key: from, etag }, to, plain, null))).toBe('precondition-failed');
        if (can.copyIfMatch) expect(await failure(store.copy({ key: from, etag }, to, plain, '00000000000000000000000000000000'))).toBe('precondition-failed');
        expect(await failure(store.copy({ key: key(), etag }, key(), plain, null))).toBe('not-found');
      });

      test('copy onto itself changes attributes only', async () => {
        const at = key();
        const { etag } = await store.put(at, bytes('same'), plain, null);
        const stored = await store.copy({ key: at, etag }, at, { metadata: { mode: '1' } }, etag);
        expect(await store.head(at)).toMatchObject({ etag: stored.etag, attributes: { metadata: { mode: '1' } } });
        expect(await text(at)).toBe('same');
      });
    });

    describe('bodies from files', () => {
      test('a range of a file is what is stored', async () => {
        const path = join(directory, 'body');
        writeFileSync(path, 'abcdefgh');
        const at = key();
        await store.put(at, { kind: 'file', path, start: 2, end: 6 }, plain, null);
        expect(await text(at)).toBe('cdef');
      });

      test('a file that is too short or absent is local-io, and nothing is stored', async () => {
        const path = join(directory, 'short');
        writeFileSync(path, 'abc');
        const at = key();
        expect(await failure(store.put(at, { kind: 'file', path, start: 0, end: 4 }, plain, null))).toBe('local-io');
        expect(await failure(store.put(at, { kind: 'file', path: `${path}-none`, start: 0, end: 4 }, plain, null))).toBe('local-io');
        expect(await store.head(at)).toBeNull();
      });

      test('more than 16 MiB is streamed and arrives whole, and a file that ends early stores nothing (S4)', async () => {
        const path = join(directory, 'big');
        const content = randomBytes((17 << 20) + 12_345);
        writeFileSync(path, content);
        const at = key();
        await store.put(at, { kind: 'file', path, start: 0, end: content.length }, plain, null);
        expect(await store.head(at)).toMatchObject({ sizeBytes: content.length });
        const back = join(directory, 'back');
        writeFileSync(back, '');
        await store.getToFile(at, { start: 0, end: content.length }, back);
        expect(md5(readFileSync(back))).toBe(md5(content));
        const shortAt = key();
        expect(await failure(store.put(shortAt, { kind: 'file', path, start: 0, end: content.length + 1 }, plain, null))).toBe('local-io');
        expect(await store.head(shortAt)).toBeNull();
      });
    });

    describe('listings', () => {
      const names = ['a', 'a-', 'a/1', 'a/2', 'a/b/3', 'a0', 'b/', 'b/c', 'd e', 'ü'];
      let root: string;
      beforeAll(async () => {
        root = `${key('list')}/`;
        await Promise.all(names.map((name) => store.put(root + name, bytes(name), plain, null)));
      });
      const all = async (query: Parameters<ObjectStore['list']>[0]): Promise<{ objects: ObjectSummary[]; prefixes: string[]; pages: number }> => {
        const objects: ObjectSummary[] = [];
        const prefixes: string[] = [];
        let token: string | undefined;
        let pages = 0;
        do {
          const page = await store.list({ ...query, ...(token !== undefined && { token }) });
          objects.push(...page.objects);
          prefixes.push(...page.prefixes);
          token = page.token;
          pages++;
        } while (token !== undefined && pages < 50);
        return { objects, prefixes, pages };
      };
      const relative = (keys: string[]): string[] => keys.map((name) => name.slice(root.length)).sort();

      test('have every key once with size, etag and time', async () => {
        const { objects } = await all({ prefix: root });
        expect(relative(objects.map((object) => object.key))).toEqual([...names].sort());
        const head = await store.head(`${root}a`);
        expect(objects.find((object) => object.key === `${root}a`)).toMatchObject({ etag: head!.etag, sizeBytes: 1 });
        expect(Math.abs(objects[0]!.lastModifiedMs - head!.lastModifiedMs)).toBeLessThan(60_000);
      });

      test('fold at the delimiter', async () => {
        const { objects, prefixes } = await all({ prefix: root, delimiter: '/' });
        expect(relative(objects.map((object) => object.key))).toEqual(['a', 'a-', 'a0', 'd e', 'ü']);
        expect(relative(prefixes)).toEqual(['a/', 'b/']);
        const inner = await all({ prefix: `${root}b/`, delimiter: '/' });
        expect(relative(inner.objects.map((object) => object.key))).toEqual(['b/', 'b/c']);
      });

      test('come in pages of any size without loss or doubles', async () => {
        for (const maxKeys of [1, 3, 5]) {
          const flat = await all({ prefix: root, maxKeys });
          expect(relative(flat.objects.map((object) => object.key))).toEqual([...names].sort());
          const folded = await all({ prefix: root, delimiter: '/', maxKeys });
          expect(relative([...folded.objects.map((object) => object.key), ...folded.prefixes])).toEqual(['a', 'a-', 'a/', 'a0', 'b/', 'd e', 'ü']);
          expect(folded.pages).toBeGreaterThan(1);
        }
      });

      test('start after a key', async () => {
        const { objects } = await all({ prefix: root, startAfter: `${root}b/` });
        expect(relative(objects.map((object) => object.key))).toEqual(['b/c', 'd e', 'ü']);
      });

      test('of nothing are empty', async () => {
        expect(await store.list({ prefix: `${root}none/` })).toEqual({ objects: [], prefixes: [] });
      });
    });

    describe('multipart', () => {
      const partBytes = 5 << 20;
      const first = randomBytes(partBytes);

      test('parts become one object, with the attributes given at the start', async () => {
        const at = key('multi');
        const uploadId = await store.createUpload(at, { metadata: { mode: '33188' }, contentType: 'x/y' });
        expect((await store.listUploads(at)).map(({ key: of, uploadId: id }) => [of, id])).toEqual([[at, uploadId]]);
        const parts = [await store.uploadPart(at, uploadId, 1, bytes(first)), await store.uploadPart(at, uploadId, 2, bytes('tail'))];
        expect(parts[0]!.sha256).toBe(createHash('sha256').update(first).digest('hex'));
        expect(await store.listParts(at, uploadId)).toEqual(parts.map(({ number, etag, sizeBytes }) => ({ number, etag, sizeBytes })));
        expect(await store.head(at)).toBeNull();
        const { etag } = await store.completeUpload(at, uploadId, parts, null);
        expect(etag).not.toBe('');
        expect(await store.head(at)).toMatchObject({ etag, sizeBytes: partBytes + 4, attributes: { metadata: { mode: '33188' }, contentType: 'x/y' } });
        expect(Buffer.from((await store.getBytes(at, { start: partBytes - 2, end: partBytes + 4 })).bytes)).toEqual(Buffer.concat([first.subarray(-2), Buffer.from('tail')]));
        expect(await store.listParts(at, uploadId)).toBeNull();
        expect(await store.listUploads(at)).toEqual([]);
      });

      test('parts are copied from ranges of other objects', async () => {
        const source = key('source');
        const { etag } = await store.put(source, bytes(Buffer.concat([first, Buffer.from('xyz')])), plain, null);
        const at = key('copied');
        const uploadId = await store.createUpload(at, plain);
        const parts = [
          await store.uploadPartCopy(at, uploadId, 1, { key: source, etag }, 0, partBytes), await store.uploadPartCopy(at, uploadId, 2, { key: source, etag }, partBytes, partBytes + 3),
        ];
        await store.completeUpload(at, uploadId, parts, null);
        expect(await store.head(at)).toMatchObject({ sizeBytes: partBytes + 3 });
        expect(Buffer.from((await store.getBytes(at, { start: partBytes, end: partBytes + 3 })).bytes).toString()).toBe('xyz');
      });

      test('complete honours conditions', async ({ skip }) => {
        if (!can.completeIfNoneMatch || !can.completeIfMatch) return skip();
        const at = key();
        const { etag } = await store.put(at, bytes('there'), plain, null);
        const uploadId = await store.createUpload(at, plain);
        const parts = [await store.uploadPart(at, uploadId, 1, bytes('new'))];
        expect(await failure(store.completeUpload(at, uploadId, parts, null))).toBe('precondition-failed');
        expect(await failure(store.completeUpload(at, uploadId, parts, '00000000000000000000000000000000'))).toBe('precondition-failed');
        expect(await text(at)).toBe('there');
        await store.completeUpload(at, uploadId, parts, etag);
        expect(await text(at)).toBe('new');
      });

      test('abort is final and may be repeated', async () => {
        const at = key();
        const uploadId = await store.createUpload(at, plain);
        const part = await store.uploadPart(at, uploadId, 1, bytes('x'));
        await store.abortUpload(at, uploadId);
        await store.abortUpload(at, uploadId);
        expect(await store.listParts(at, uploadId)).toBeNull();
        expect(await failure(store.completeUpload(at, uploadId, [part], null))).toBe('no-such-upload');
      });
    });

    describe('signals', () => {
      test('an aborted call ends with aborted', async () => {
        const at = key();
        await store.put(at, bytes('x'), plain, null);
        expect(await failure(store.head(at, { signal: AbortSignal.abort() }))).toBe('aborted');
        const controller = new AbortController();
        const call = store.getBytes(at, whole, { signal: controller.signal });
        controller.abort();
        expect(await failure(call)).toBe('aborted');
      });
    });

    test('many calls at once all get their own answer', async () => {
      const keys = Array.from({ length: 60 }, () => key());
      await Promise.all(keys.map((at) => store.put(at, bytes(at), plain, null)));
      expect(await Promise.all(keys.map((at) => text(at)))).toEqual(keys);
    });

    test('a presigned URL names the key', async () => {
      const at = key('pre signed');
      const url = await store.presign(at, 60);
      expect(decodeURIComponent(new URL(url).pathname)).toContain(at);
      if (!url.startsWith('http')) return;
      await store.put(at, bytes('for anyone'), plain, null);
      expect(await (await fetch(url)).text()).toBe('for anyone');
    });
  });
}

function md5(content: Buffer): string {
  return createHash('md5').update(content).digest('hex');
}
