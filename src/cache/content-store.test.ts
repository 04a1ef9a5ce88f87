import fs from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { Errno } from '../base/errno.js';
import { FaultyDisk } from '../base/faulty-disk.js';
import { CacheFullError } from './cache-error.js';
import type { ContentFile } from './content-file.js';
import { filled, TestStores, type TestStore } from './test-store.js';

const stores = new TestStores();
afterEach(() => stores.cleanUp());

const MiB = 1 << 20;

describe('creating and removing', () => {
  test('a file is found again by its id, as the same object', async () => {
    const opened = await stores.open();
    const file = filled(opened, 10);
    expect(opened.store.find(file.id)).toBe(file);
    expect(opened.store.find(file.id + 1)).toBeUndefined();
    const again = await stores.reopen(opened);
    const found = again.store.find(file.id)!;
    expect(found.sizeBytes).toBe(10);
    expect(found.isComplete).toBe(true);
  });

  test('a creation that rolls back leaves no file and no row; its id is not used again (J3)', async () => {
    const opened = await stores.open();
    let path = '';
    let id = 0;
    expect(() => opened.db.tx(() => {
      ({ path, id } = opened.store.create(100, 'all'));
      expect(fs.existsSync(path)).toBe(true);
      throw new Error('no');
    })).toThrow('no');
    expect(fs.existsSync(path)).toBe(false);
    expect(opened.store.find(id)).toBeUndefined();
    expect(opened.store.stats().files).toBe(0);
    expect(opened.db.tx(() => opened.store.create(0, 'none')).id).toBeGreaterThan(id);
  });

  test('J3: a removed file is unlinked after its transaction is durable, not before', async () => {
    const opened = await stores.open();
    const file = filled(opened, 10);
    await opened.db.durable();
    opened.db.tx(() => opened.store.remove(file.id));
    expect(opened.store.find(file.id)).toBeUndefined();
    expect(fs.existsSync(file.path)).toBe(true);
    await opened.store.maintain();
    await opened.store.evict({ bytes: 1 }); // waits for the unlinks
    expect(fs.existsSync(file.path)).toBe(false);
  });

  test('a removal that rolls back changes nothing', async () => {
    const opened = await stores.open();
    const file = filled(opened, 10);
    expect(() => opened.db.tx(() => {
      opened.store.remove(file.id);
      expect(opened.store.find(file.id)).toBeUndefined();
      throw new Error('no');
    })).toThrow('no');
    await opened.db.durable();
    expect(opened.store.find(file.id)).toBe(file);
    expect(fs.existsSync(file.path)).toBe(true);
  });

  test('a removed file that is still open stays readable until it is let go', async () => {
    const opened = await stores.open();
    const file = filled(opened, 10, false, 7);
    const release = opened.store.acquire(file);
    opened.db.tx(() => opened.store.remove(file.id));
    await opened.store.maintain();
    await opened.store.evict({ bytes: 1 });
    expect(fs.existsSync(file.path)).toBe(false);
    const into = Buffer.alloc(10);
    expect(file.read(into, 0)).toBe(10);
    expect(into).toEqual(Buffer.alloc(10, 7));
    release();
    expect(opened.store.stats().openFds).toBe(0);
  });

  test('setDirty follows the transaction, also back', async () => {
    const opened = await stores.open();
    const file = filled(opened, 4096);
    expect(() => opened.db.tx(() => { opened.store.setDirty(file.id, true); throw new Error('no'); })).toThrow('no');
    expect(opened.store.isDirty(file.id)).toBe(false);
    opened.db.tx(() => opened.store.setDirty(file.id, true));
    expect((await stores.afterCrash(opened)).store.isDirty(file.id)).toBe(true);
  });
});

describe('durability (D1)', () => {
  test('what sync() and then durable() covered survives a power cut: data, name and row', async () => {
    const disk = new FaultyDisk();
    const opened = await stores.open({ disk });
    const kept = filled(opened, 100, true, 5);
    expect(opened.store.unsynced()).toEqual([kept.id]);
    await opened.store.sync(opened.store.unsynced());
    await opened.db.durable();
    expect(opened.store.unsynced()).toEqual([]);
    kept.write(Buffer.alloc(10, 6), 0);
    const lost = filled(opened, 100, true);
    disk.powerCut();
    const after = await stores.afterCrash(opened);
    const into = Buffer.alloc(100);
    expect(after.store.find(kept.id)!.read(into, 0)).toBe(100);
    expect(into).toEqual(Buffer.alloc(100, 5));
    expect(after.store.find(lost.id)).toBeUndefined();
    expect((await after.store.recover()).lost).toEqual([]);
  });

  test('the directory of a new file is synced before its sync resolves', async () => {
    const disk = new FaultyDisk();
    const opened = await stores.open({ disk, sparesMax: 0 });
    const file = filled(opened, 1);
    await file.sync();
    const syncs = disk.calls.get('content.dirsync')!;
    expect(syncs).toBe(2); // the shard and, the shard being new, the directory above
    file.write(Buffer.alloc(1), 0);
    await file.sync();
    expect(disk.calls.get('content.dirsync')).toBe(syncs);
  });

  test('a write during a sync leaves the file unsynced', async () => {
    const opened = await stores.open();
    const file = filled(opened, 1);
    const sync = file.sync();
    await Promise.resolve();
    file.write(Buffer.alloc(1), 0);
    await sync;
    expect(opened.store.unsynced()).toEqual([file.id]);
  });

  test('hundreds of files are synced with one call, with the same promise', async () => {
    const disk = new FaultyDisk();
    const opened = await stores.open({ disk });
    const files = Array.from({ length: 200 }, (_, i) => filled(opened, 10, true, i % 250));
    await opened.store.sync(opened.store.unsynced());
    await opened.db.durable();
    expect(disk.calls.get('content.syncfs')).toBe(1);
    expect(disk.calls.get('content.sync')).toBeUndefined();
    disk.powerCut();
    const after = await stores.afterCrash(opened);
    const into = Buffer.alloc(10);
    for (const [i, { id }] of files.entries()) {
      after.store.find(id)!.read(into, 0);
      expect(into[9]).toBe(i % 250);
    }
  });

  test('D4: a failed sync rejects, stops the database and is not tried again', async () => {
    const disk = new FaultyDisk();
    const opened = await stores.open({ disk });
    const file = filled(opened, 1);
    disk.fail('content.sync', { errno: Errno.EIO });
    await expect(opened.store.sync([file.id])).rejects.toThrow('durable');
    expect(opened.fatal).toHaveLength(1);
    await expect(opened.db.durable()).rejects.toThrow();
    expect(() => opened.db.tx(() => undefined)).toThrow('stopped');
  });

  test('after a crash the dirty files count as unsynced again', async () => {
    const opened = await stores.open();
    const file = filled(opened, 10, true);
    const clean = filled(opened, 10);
    await opened.store.sync([file.id, clean.id]);
    const after = await stores.afterCrash(opened);
    await after.store.recover();
    expect(after.store.unsynced()).toEqual([file.id]);
    await after.store.sync(after.store.unsynced());
    expect(after.store.unsynced()).toEqual([]);
  });
});

describe('room (D5)', () => {
  test('reserve answers at once while there is room', async () => {
    const opened = await stores.open({ limitBytes: 10 * MiB });
    expect(opened.store.reserve(5 * MiB)).toBeUndefined();
  });

  test('reserve evicts clean files, and leaves dirty, held and pinned ones', async () => {
    const opened = await stores.open({ limitBytes: 5 * MiB });
    const clean = filled(opened, MiB);
    const dirty = filled(opened, MiB, true);
    const held = filled(opened, MiB);
    const pinned = filled(opened, MiB);
    const release = opened.store.acquire(held);
    opened.store.pin(pinned.id);
    await opened.store.reserve(2 * MiB);
    expect([clean, dirty, held, pinned].map((file) => opened.store.find(file.id) !== undefined)).toEqual([false, true, true, true]);
    expect(fs.existsSync(clean.path)).toBe(false);
    release();
    await opened.store.reserve(3 * MiB);
    expect(opened.store.find(held.id)).toBeUndefined();
    opened.store.unpin(pinned.id);
    await opened.store.reserve(4 * MiB);
    expect(opened.store.find(pinned.id)).toBeUndefined();
    expect(opened.store.find(dirty.id)).toBe(dirty);
  });

  test('while dirty data fills the cache writers wait until some of it is clean', async () => {
    const opened = await stores.open({ limitBytes: 2 * MiB, noProgressMs: 10_000 });
    const dirty = filled(opened, 2 * MiB, true);
    let granted = false;
    const waiting = Promise.resolve(opened.store.reserve(MiB)).then(() => (granted = true));
    await opened.store.evict({ bytes: MiB });
    expect(granted).toBe(false);
    opened.db.tx(() => opened.store.setDirty(dirty.id, false));
    await waiting;
    expect(opened.store.find(dirty.id)).toBeUndefined();
  });

  test('without progress for the bounded time reserve fails, and says why', async () => {
    const opened = await stores.open({ limitBytes: MiB });
    filled(opened, MiB, true);
    const waiting = expect(opened.store.reserve(1)).rejects.toThrow(CacheFullError);
    await new Promise((resolve) => setImmediate(resolve));
    opened.clock.advance(51);
    opened.store.setLimit(MiB); // wakes the waiters
    await waiting;
  });

  test('an aborted waiter leaves the queue', async () => {
    const opened = await stores.open({ limitBytes: MiB, noProgressMs: 10_000 });
    const dirty = filled(opened, MiB, true);
    const abort = new AbortController();
    const first = opened.store.reserve(MiB, abort.signal) as Promise<void>;
    const second = opened.store.reserve(1) as Promise<void>;
    abort.abort();
    await expect(first).rejects.toThrow();
    opened.db.tx(() => opened.store.setDirty(dirty.id, false));
    await second;
  });

  test('a hold counts until it is released', async () => {
    const opened = await stores.open({ limitBytes: 3 * MiB, noProgressMs: 10_000 });
    const release = await opened.store.hold(2 * MiB);
    let granted = false;
    const waiting = Promise.resolve(opened.store.reserve(2 * MiB)).then(() => (granted = true));
    await opened.store.evict({ bytes: 1 });
    expect(granted).toBe(false);
    release();
    await waiting;
  });

  test('the free space to keep is kept', async () => {
    const opened = await stores.open({ minFree: { percent: 100 } });
    expect(opened.store.isAboveHighWater).toBe(true);
    const waiting = expect(opened.store.reserve(1)).rejects.toThrow(CacheFullError);
    await new Promise((resolve) => setImmediate(resolve));
    opened.clock.advance(51);
    opened.store.setLimit(MiB);
    await waiting;
  });

  test('estimates are corrected by what the disk says', async () => {
    const opened = await stores.open();
    const file = filled(opened, MiB);
    expect(opened.store.stats().cacheBytes).toBe(MiB);
    file.fallocate(3, 0, MiB / 2);
    await file.sync();
    expect(opened.store.stats().cacheBytes).toBe(file.allocatedBytes());
    expect(file.allocatedBytes()).toBeLessThan(MiB);
  });

  test('evict takes named files, all files, or about so many bytes, and answers what it freed', async () => {
    const opened = await stores.open();
    const files = Array.from({ length: 10 }, () => filled(opened, MiB / 4));
    filled(opened, MiB / 4, true);
    await opened.store.sync(opened.store.unsynced());
    expect(await opened.store.evict({ ids: [files[3]!.id, 999_999] })).toEqual({ files: 1, bytes: MiB / 4 });
    expect((await opened.store.evict({ bytes: MiB / 2 })).files).toBe(2);
    expect((await opened.store.evict({})).files).toBe(7);
    expect(opened.store.stats()).toMatchObject({ files: 1, evictions: 10, cacheBytes: MiB / 4, dirtyBytes: MiB / 4 });
  });

  test('J3: a power cut during eviction loses no file whose clean mark was not durable', async () => {
    const disk = new FaultyDisk();
    const opened = await stores.open({ disk });
    const file = filled(opened, 100, true);
    await opened.store.sync([file.id]);
    await opened.db.durable();
    opened.db.tx(() => opened.store.setDirty(file.id, false)); // accepted, not durable
    disk.hook = (label) => { if (label === 'redo.sync') disk.powerCut(); };
    await expect(opened.store.evict({})).rejects.toThrow();
    const after = await stores.afterCrash(opened);
    expect(after.store.isDirty(file.id)).toBe(true);
    expect((await after.store.recover()).lost).toEqual([]);
    expect(after.store.find(file.id)!.sizeBytes).toBe(100);
  });

  test('a scan does not push out files that were opened again and again', async () => {
    const opened = await stores.open({ limitBytes: 40 * 4096 });
    const hot = Array.from({ length: 10 }, () => filled(opened, 4096));
    for (let round = 0; round < 3; round++) {
      opened.clock.advance(5000);
      for (const file of hot) opened.store.touch(file);
    }
    for (let i = 0; i < 200; i++) {
      await opened.store.reserve(4096);
      filled(opened, 4096);
    }
    expect(hot.filter((file) => opened.store.find(file.id)).length).toBe(10);
  });

  test('eviction state survives a restart', async () => {
    const opened = await stores.open({ limitBytes: 40 * 4096 });
    const hot = Array.from({ length: 10 }, () => filled(opened, 4096));
    opened.clock.advance(5000);
    for (const file of hot) opened.store.touch(file);
    const again = await stores.reopen(opened, { limitBytes: 40 * 4096 });
    await again.store.recover();
    expect(again.store.stats().cacheBytes).toBe(10 * 4096);
    for (let i = 0; i < 100; i++) {
      await again.store.reserve(4096);
      filled(again, 4096);
    }
    expect(hot.filter((file) => again.store.find(file.id)).length).toBe(10);
  });
});

describe('checksums', () => {
  /** They are computed in a round of upkeep without new files. */
  async function quiet(opened: TestStore): Promise<void> {
    for (let round = 0; round < 2; round++) await opened.store.maintain();
  }
  async function damaged(dirty = false): Promise<{ opened: TestStore; file: ContentFile }> {
    const opened = await stores.open();
    const file = filled(opened, 300_000, false, 3);
    await file.sync();
    await quiet(opened);
    expect(await opened.store.verify(file)).toBe(true);
    const fd = fs.openSync(file.path, 'r+');
    fs.writeSync(fd, Buffer.from([9]), 0, 1, 200_000);
    fs.closeSync(fd);
    if (dirty) opened.db.tx(() => opened.store.setDirty(file.id, true));
    return { opened, file };
  }

  test('a damaged clean file is dropped, to be fetched again', async () => {
    const { opened, file } = await damaged();
    expect(await opened.store.verify(file)).toBe(false);
    expect(opened.store.find(file.id)).toBeUndefined();
  });

  test('a damaged clean file that is open misses all its bytes from then on', async () => {
    const { opened, file } = await damaged();
    opened.store.acquire(file);
    expect(await opened.store.verify(file)).toBe(false);
    expect(file.missing.covers(0, 300_000)).toBe(true);
    expect((await stores.afterCrash(opened)).store.find(file.id)!.missing.covers(0, 300_000)).toBe(true);
  });

  test('a file that became dirty has no checksums to be compared with, and is kept', async () => {
    const { opened, file } = await damaged(true);
    expect(await opened.store.verify(file)).toBe(true);
    expect(opened.store.find(file.id)).toBe(file);
  });

  test('checksums of bytes at hand are those of the file, and are kept of a clean, synced file only', async () => {
    const opened = await stores.open();
    const file = filled(opened, 300_000, true, 3);
    const bytes = fs.readFileSync(file.path);
    const stored = (): Buffer | null => opened.db.prepare<[number], { checksums: Buffer | null }>('SELECT checksums FROM content WHERE id = ?').get(file.id)!.checksums;
    opened.db.tx(() => opened.store.noteChecksums(file.id, bytes));
    expect(stored()).toBeNull();
    await file.sync();
    opened.db.tx(() => {
      opened.store.setDirty(file.id, false);
      opened.store.noteChecksums(file.id, bytes);
    });
    expect(stored()).toHaveLength(3 * 4);
    await opened.store.maintain();
    expect(await opened.store.verify(file)).toBe(true);
    fs.writeFileSync(file.path, 'damage', { flag: 'r+' });
    expect(await opened.store.verify(file)).toBe(false);
  });

  test('a write after the checksums were computed makes them void', async () => {
    const opened = await stores.open();
    const file = filled(opened, 10, true);
    await file.sync();
    opened.db.tx(() => opened.store.setDirty(file.id, false));
    await quiet(opened);
    opened.db.tx(() => opened.store.setDirty(file.id, true));
    file.write(Buffer.from('x'), 0);
    opened.db.tx(() => opened.store.setDirty(file.id, false));
    expect(await opened.store.verify(file)).toBe(true);
  });
});

test('D5: what grew past the limit without a reservation is evicted once it is clean, though nobody asks for room', async () => {
  const opened = await stores.open({ limitBytes: 4 * MiB });
  const files = [1, 2, 3].map((value) => filled(opened, 2 * MiB, true, value));
  for (const file of files) opened.db.tx(() => opened.store.setDirty(file.id, false));
  await opened.store.sync(files.map((file) => file.id));
  await opened.store.maintain();
  await expect.poll(() => opened.store.maintain().then(() => opened.store.stats().cacheBytes)).toBeLessThanOrEqual(4 * MiB);
});

test('presence of a file into which bytes still land is put on record after ten rounds of upkeep, that of one at rest with the next', async () => {
  const opened = await stores.open();
  const busy = opened.db.tx(() => opened.store.create(20 * MiB, 'all'));
  const rest = opened.db.tx(() => opened.store.create(MiB, 'all'));
  await opened.store.maintain();
  rest.markPresent(0, MiB);
  busy.markPresent(0, MiB);
  await opened.store.maintain();
  for (let round = 1; round < 9; round++) {
    busy.markPresent(round * MiB, (round + 1) * MiB);
    await opened.store.maintain();
    expect(rest.hasUnstoredPresence).toBe(false);
    expect(busy.hasUnstoredPresence).toBe(true);
  }
  busy.markPresent(9 * MiB, 10 * MiB);
  await opened.store.maintain();
  expect(busy.hasUnstoredPresence).toBe(false);
});
