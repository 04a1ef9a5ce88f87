import fs from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { silentLog } from '../base/log.js';
import type { ContentFile } from '../cache/content-file.js';
import { TestStores, type TestStore } from '../cache/test-store.js';
import { ScanRoom } from './scan-room.js';

const MiB = 2 ** 20;
const stores = new TestStores();
afterEach(() => stores.cleanUp());

/** A file of 64 MiB in a cache of 32 MiB (so a window of 2 MiB behind each reader), read up to `at`. */
async function setup(): Promise<{ opened: TestStore; file: ContentFile; room: ScanRoom; land: (start: number, end: number) => void }> {
  const opened = await stores.open({ limitBytes: 32 * MiB });
  const file = opened.db.tx(() => opened.store.create(64 * MiB, 'all'));
  return { opened, file, room: new ScanRoom(opened.store, opened.clock, silentLog), land };
  function land(start: number, end: number): void {
    const fd = fs.openSync(file.path, 'r+');
    fs.writeSync(fd, Buffer.alloc(end - start, 1), 0, end - start, start);
    fs.closeSync(fd);
    file.markPresent(start, end);
  }
}
const idle = (): boolean => false;

test('while the cache has room a scan keeps what it read; near its limit it gives up what lies behind it, in steps', async () => {
  const { opened, file, room, land } = await setup();
  const reader = {};
  land(0, 16 * MiB);
  expect(room.advanced(file, reader, 16 * MiB, 16 * MiB, idle)).toBeUndefined();
  land(16 * MiB, 28 * MiB);
  expect(await room.advanced(file, reader, 27 * MiB, 27 * MiB, idle)).toBe(25 * MiB);
  expect(file.missing.covers(0, 25 * MiB)).toBe(true);
  expect(file.missing.intersects(25 * MiB, 28 * MiB)).toBe(false);
  expect(opened.store.stats().cacheBytes).toBeLessThan(26 * MiB);
});

test('random reads, small files and files that are whole are left alone', async () => {
  const { opened, file, room, land } = await setup();
  land(0, 28 * MiB);
  expect(room.advanced(file, {}, 28 * MiB, MiB, idle)).toBeUndefined(); // no run
  const small = opened.db.tx(() => opened.store.create(4 * MiB, 'all'));
  expect(room.advanced(small, {}, 4 * MiB, 4 * MiB, idle)).toBeUndefined();
  const whole = opened.db.tx(() => opened.store.create(64 * MiB, 'none'));
  expect(room.advanced(whole, {}, 60 * MiB, 60 * MiB, idle)).toBeUndefined();
});

test('a second reader of the same file keeps what it has not read yet, until it has not read for long', async () => {
  const { opened, file, room, land } = await setup();
  const [ahead, behind] = [{}, {}];
  land(0, 28 * MiB);
  expect(await room.advanced(file, behind, 6 * MiB, 6 * MiB, idle)).toBe(4 * MiB);
  land(28 * MiB, 32 * MiB);
  await room.advanced(file, ahead, 32 * MiB, 32 * MiB, idle);
  expect(file.missing.intersects(4 * MiB, 32 * MiB)).toBe(false);
  opened.clock.advance(31_000);
  expect(await room.advanced(file, ahead, 32 * MiB, 32 * MiB, idle)).toBe(26 * MiB);
});

test('what somebody fetches or waits for stays', async () => {
  const { file, room, land } = await setup();
  land(0, 28 * MiB);
  await room.advanced(file, {}, 28 * MiB, 28 * MiB, (range) => range.start < 3 * MiB && range.end > 2 * MiB);
  expect(file.missing.intersects(2 * MiB, 3 * MiB)).toBe(false);
  expect(file.missing.covers(3 * MiB, 26 * MiB)).toBe(true);
});
