import fs from 'node:fs';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { Errno } from '../base/errno.js';
import { FaultyDisk } from '../base/faulty-disk.js';
import type { ContentFile } from './content-file.js';
import { TestStores, type TestStore } from './test-store.js';

const stores = new TestStores();
afterEach(() => stores.cleanUp());

const bytes = (length: number, value: number): Buffer => Buffer.alloc(length, value);
const missingOf = (file: ContentFile): [number, number][] => [...file.missing].map((range) => [range.start, range.end]);

function contentOf(file: ContentFile): Buffer {
  const into = Buffer.alloc(file.sizeBytes);
  expect(file.read(into, 0)).toBe(into.length);
  return into;
}

/** What a transfer worker does: bytes appear in the file, then the range is announced. */
function land(file: ContentFile, source: Buffer, start: number, end: number): void {
  const fd = fs.openSync(file.path, 'r+');
  fs.writeSync(fd, source, start, end - start, start);
  fs.closeSync(fd);
  file.markPresent(start, end);
}

function create(opened: TestStore, sizeBytes: number, missing: 'all' | 'none'): ContentFile {
  return opened.db.tx(() => opened.store.create(sizeBytes, missing));
}

describe('presence', () => {
  test('a write is stored as present before it returns, also where a fetch that was not stored yet had landed', async () => {
    const opened = await stores.open();
    const file = create(opened, 100, 'all');
    land(file, bytes(100, 7), 0, 50); // in memory only
    file.write(bytes(10, 9), 20);
    file.write(bytes(10, 9), 60);
    const again = (await stores.afterCrash(opened)).store.find(file.id)!;
    // The fetch may be repeated; it must not run over [20,30) and [60,70).
    expect(missingOf(again)).toEqual([[0, 20], [30, 60], [70, 100]]);
    expect(contentOf(again).subarray(20, 30)).toEqual(bytes(10, 9));
  });

  test('fetched ranges are stored once their data was synced, and survive a power cut from then on', async () => {
    const disk = new FaultyDisk();
    const opened = await stores.open({ disk });
    const file = create(opened, 100, 'all');
    land(file, bytes(100, 7), 0, 50);
    await file.sync();
    land(file, bytes(100, 7), 50, 80);
    await opened.db.durable();
    disk.powerCut();
    const again = (await stores.afterCrash(opened)).store.find(file.id)!;
    expect(missingOf(again)).toEqual([[50, 100]]);
  });

  test('a range that landed while a sync was running is not stored by it', async () => {
    const opened = await stores.open();
    const file = create(opened, 100, 'all');
    land(file, bytes(100, 7), 0, 50);
    const sync = file.sync();
    await Promise.resolve(); // the sync holds its snapshot now
    land(file, bytes(100, 7), 50, 100);
    await sync;
    expect(missingOf((await stores.afterCrash(opened)).store.find(file.id)!)).toEqual([[50, 100]]);
  });

  test('a truncation and its regrowth leave a hole that is present, also after a crash', async () => {
    const opened = await stores.open();
    const file = create(opened, 300, 'all');
    file.truncate(100);
    file.truncate(300);
    expect(missingOf(file)).toEqual([[0, 100]]);
    expect(missingOf((await stores.afterCrash(opened)).store.find(file.id)!)).toEqual([[0, 100]]);
  });

  test('a crash between a truncation and its commit is found by the size', async () => {
    const opened = await stores.open();
    const file = create(opened, 300, 'all');
    fs.truncateSync(file.path, 120);
    const crashed = await stores.afterCrash(opened);
    expect(missingOf(crashed.store.find(file.id)!)).toEqual([[0, 120]]);
  });

  test('a write inside a transaction that rolls back is stored by the next write', async () => {
    const opened = await stores.open();
    const file = create(opened, 100, 'all');
    expect(() => opened.db.tx(() => { file.write(bytes(10, 1), 0); throw new Error('no'); })).toThrow('no');
    file.write(bytes(10, 2), 0);
    expect(missingOf((await stores.afterCrash(opened)).store.find(file.id)!)).toEqual([[10, 100]]);
  });

  test('punched and zeroed ranges are present zeros; collapse and insert are refused while bytes are missing', async () => {
    stores.onDisk = true; // tmpfs cannot collapse
    const opened = await stores.open();
    const file = create(opened, 16384, 'all');
    file.fallocate(3, 0, 4096);
    file.fallocate(16, 8192, 4096);
    expect(missingOf(file)).toEqual([[4096, 8192], [12288, 16384]]);
    expect(() => file.fallocate(8, 0, 4096)).toThrow();
    land(file, bytes(16384, 7), 4096, 8192);
    land(file, bytes(16384, 7), 12288, 16384);
    file.fallocate(8, 0, 4096);
    expect(contentOf(file)).toEqual(Buffer.concat([bytes(4096, 7), bytes(4096, 0), bytes(4096, 7)]));
  });

  test('seek: missing bytes count as data', async () => {
    const opened = await stores.open();
    const file = create(opened, 1 << 20, 'none');
    expect(file.seek(0, 4)).toBe(0);
    expect(() => file.seek(0, 3)).toThrow(expect.objectContaining({ errno: Errno.ENXIO }));
    file.markMissing({ start: 65536, end: 131072 });
    expect(file.seek(0, 3)).toBe(65536);
    expect(file.seek(70000, 3)).toBe(70000);
    expect(file.seek(65536, 4)).toBe(131072);
    expect(file.seek(10, 4)).toBe(10);
    file.write(bytes(65536, 1), 131072);
    expect(file.seek(65536, 4)).toBe(196608);
    expect(() => file.seek(1 << 20, 3)).toThrow(expect.objectContaining({ errno: Errno.ENXIO }));
  });

  test('after any sequence of writes, fetches, truncations, syncs and crashes every byte is the last one written or still missing', async () => {
    const size = 64;
    const operation = fc.record({ kind: fc.constantFrom('write', 'land', 'truncate', 'punch', 'sync', 'crash', 'reopen'), at: fc.nat(size), length: fc.integer({ min: 1, max: size }) });
    await fc.assert(fc.asyncProperty(fc.array(operation, { maxLength: 14 }), async (operations) => {
      const remote = Buffer.from(Array.from({ length: size * 2 }, (_, i) => 100 + (i % 100)));
      let opened = await stores.open();
      let file = create(opened, size, 'all');
      // The model: per byte, a value that must be readable, or undefined: what S3 has.
      let model: (number | undefined)[] = new Array<undefined>(size).fill(undefined);
      let value = 0;
      for (const { kind, at, length } of operations) {
        value = (value + 1) % 100;
        if (kind === 'write') {
          file.write(bytes(length, value), at);
          for (let i = model.length; i < at; i++) model[i] = 0;
          for (let i = at; i < at + length; i++) model[i] = value;
        } else if (kind === 'land') {
          for (const range of file.missing.intersection(at, at + length)) land(file, remote, range.start, range.end);
        } else if (kind === 'truncate') {
          file.truncate(at);
          const before = model.length;
          model = Array.from({ length: at }, (_, i) => (i < before ? model[i] : 0));
        } else if (kind === 'punch' && model.length > 0) {
          file.fallocate(3, at, length);
          for (let i = at; i < Math.min(model.length, at + length); i++) model[i] = 0;
        } else if (kind === 'sync') {
          await file.sync();
        } else if (kind === 'crash' || kind === 'reopen') {
          opened = await (kind === 'crash' ? stores.afterCrash(opened) : stores.reopen(opened));
          file = opened.store.find(file.id)!;
        }
        expect(file.sizeBytes).toBe(model.length);
        const content = contentOf(file);
        model.forEach((expected, i) => {
          const isMissing = file.missing.covers(i, i + 1);
          if (expected !== undefined) expect([i, isMissing, content[i]]).toEqual([i, false, expected]);
          else if (!isMissing) expect(content[i]).toBe(remote[i]);
        });
        expect(file.missing.intersects(model.length, Infinity)).toBe(false);
      }
      await stores.cleanUp();
    }), { numRuns: 15 });
  });
});

describe('faults', () => {
  test('short writes and reads are continued', async () => {
    const disk = new FaultyDisk();
    const file = create(await stores.open({ disk }), 0, 'none');
    disk.fail('content.write', { shortBytes: 3 });
    file.write(bytes(10, 5), 0);
    disk.fail('content.read', { shortBytes: 4 });
    expect(contentOf(file)).toEqual(bytes(10, 5));
  });

  test('a full disk in the middle of a write keeps the first part, and only that, as present', async () => {
    const disk = new FaultyDisk();
    const file = create(await stores.open({ disk }), 100, 'all');
    disk.fail('content.write', { shortBytes: 4 });
    disk.hook = (label) => { if (label === 'content.write' && disk.calls.get(label) === 2) throw Object.assign(new Error('full'), { code: 'ENOSPC', errno: -28 }); };
    expect(() => file.write(bytes(10, 5), 0)).toThrow('full');
    expect(missingOf(file)).toEqual([[4, 100]]);
  });

  test('the number of descriptors is bounded, and a closed one is opened again', async () => {
    const opened = await stores.open({ fdsMax: 4 });
    const files = Array.from({ length: 12 }, (_, i) => {
      const file = create(opened, 0, 'none');
      file.write(bytes(5, i), 0);
      return file;
    });
    expect(opened.store.stats().openFds).toBeLessThanOrEqual(4);
    files.forEach((file, i) => expect(contentOf(file)).toEqual(bytes(5, i)));
    await opened.store.sync(files.map((file) => file.id));
    expect(opened.store.stats().openFds).toBeLessThanOrEqual(4);
  });

  test('isQuiescent() leaves no descriptor of our own open for writing (S2)', async () => {
    const file = create(await stores.open(), 0, 'none');
    file.write(bytes(5, 1), 0);
    expect(file.isQuiescent()).toBe(true);
    expect(contentOf(file)).toEqual(bytes(5, 1));
    const writers = fs.readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`) === file.path && /flags:\s+0?\d*[12]$/m.test(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
      } catch {
        return false;
      }
    });
    expect(writers).toEqual([]);
  });
});

test('the disk space a file takes is counted anew after writes, truncations, fetches, and what the kernel wrote by itself', async () => {
  const opened = await stores.open();
  const file = create(opened, 0, 'none');
  const counts = (): boolean => file.allocatedBytes() === fs.statSync(file.path).blocks * 512;
  expect(file.allocatedBytes()).toBe(0);
  file.write(bytes(100_000, 1), 0);
  expect(file.allocatedBytes()).toBeGreaterThanOrEqual(100_000);
  expect(counts()).toBe(true);
  file.truncate(10);
  expect(file.allocatedBytes()).toBeLessThan(100_000);
  expect(counts()).toBe(true);
  file.kernelMayWrite();
  fs.writeFileSync(file.path, bytes(300_000, 2));
  expect(file.allocatedBytes()).toBeGreaterThanOrEqual(300_000);
  const remote = create(opened, 200_000, 'all');
  expect(remote.allocatedBytes()).toBe(0);
  land(remote, bytes(200_000, 3), 0, 200_000);
  expect(remote.allocatedBytes()).toBeGreaterThanOrEqual(200_000);
});

test('a content file that was unlinked behind us is gone, descriptor or not', async () => {
  const opened = await stores.open();
  const file = create(opened, 10, 'none');
  expect(file.stat()?.size).toBe(10n);
  fs.unlinkSync(file.path);
  expect(file.stat()).toBeUndefined();
  opened.store.fds.drop(file);
  expect(file.stat()).toBeUndefined();
});
