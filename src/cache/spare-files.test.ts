import fs from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { Errno } from '../base/errno.js';
import { FaultyDisk } from '../base/faulty-disk.js';
import { ContentDir, rootShard } from './content-dir.js';
import { ContentIds, idsPerShard } from './content-ids.js';
import type { ContentFile } from './content-file.js';
import { SpareFiles } from './spare-files.js';
import { TestStores, type TestStore } from './test-store.js';

const stores = new TestStores();
afterEach(() => stores.cleanUp());

const create = (opened: TestStore): ContentFile => opened.db.tx(() => opened.store.create(0, 'none'));
const namesIn = (opened: TestStore): number => fs.readdirSync(opened.dir + '/content', { recursive: true }).filter((name) => String(name).includes('/')).length;

test('numbers become ids one to one, some in a row share a directory, and ids of earlier runs are known', () => {
  fc.assert(fc.property(fc.nat(2 ** 40), (start) => {
    let number = start;
    const ids = new ContentIds((multiple) => {
      number = Math.ceil(number / multiple) * multiple;
      return () => number++;
    });
    const made = Array.from({ length: 3 * idsPerShard }, () => ids.next());
    expect(new Set(made).size).toBe(made.length);
    expect(new Set(made.map((id) => id % 256)).size).toBeLessThanOrEqual(4);
    expect(made.some((id) => ids.isOfEarlierRun(id))).toBe(false);
    expect(made.every((id) => id >= start)).toBe(true); // whatever ids were made of the numbers before
    const later = new ContentIds((multiple) => {
      number = Math.ceil(number / multiple) * multiple;
      return () => number++;
    });
    expect(made.every((id) => later.isOfEarlierRun(id))).toBe(true);
  }), { numRuns: 50 });
  let number = 0;
  const ids = new ContentIds(() => () => number++);
  expect(new Set(Array.from({ length: 20_000 }, () => ids.next())).size).toBe(20_000);
});

test('a file made soon after another needs no sync of a directory to survive a power cut', async () => {
  const disk = new FaultyDisk();
  const opened = await stores.open({ disk });
  const first = create(opened);
  await opened.store.maintain();
  await opened.store.sync([first.id]);
  const syncs = disk.calls.get('content.dirsync');
  const file = create(opened);
  file.write(Buffer.from('kept'), 0);
  await opened.store.sync([file.id]);
  await opened.db.durable();
  expect(disk.calls.get('content.dirsync')).toBe(syncs);
  disk.powerCut();
  const again = await stores.afterCrash(opened);
  const bytes = Buffer.alloc(10);
  expect(again.store.find(file.id)!.read(bytes, 0)).toBe(4);
  expect(bytes.toString('utf8', 0, 4)).toBe('kept');
});

test('D4: a directory that cannot be synced stops everything, as for any file', async () => {
  const disk = new FaultyDisk();
  const opened = await stores.open({ disk });
  disk.fail('content.dirsync', { errno: Errno.EIO });
  create(opened);
  await opened.store.maintain();
  expect(opened.fatal).toHaveLength(1);
});

test('the name of a directory made for spares that came to nothing is still to be synced', async () => {
  const disk = new FaultyDisk();
  const dir = stores.dir();
  const named: number[] = [];
  let number = 0;
  const spares = new SpareFiles(disk, new ContentDir(dir), new ContentIds(() => () => number++), { named: (shard) => named.push(shard), syncDirectories: () => Promise.resolve() }, new ManualClock(), 64);
  disk.fail('content.spare', { errno: Errno.ENOSPC, times: 8 });
  expect(spares.take()).toBeUndefined();
  await spares.upkeep();
  expect(fs.readdirSync(join(dir, 'content'))).toEqual(['00']);
  expect(named).toEqual([rootShard]);
});

test('its times are those of its making, not of the spare it was', async () => {
  const opened = await stores.open();
  create(opened);
  await opened.store.maintain();
  opened.clock.advance(20_000);
  const stat = create(opened).stat()!;
  expect(stat.mtimeNs).toBe(BigInt(opened.clock.now()) * 1_000_000n);
  expect(stat.atimeNs).toBe(stat.mtimeNs);
});

test('the faster files are made the more are kept, and none when nobody has made one for a while', async () => {
  const opened = await stores.open({ sparesMax: 32 });
  expect(namesIn(opened)).toBe(0);
  create(opened);
  await opened.store.maintain();
  expect(namesIn(opened)).toBe(1 + 8);
  for (let made = 1, round = 0; round < 3; round++) {
    for (let i = 0; i < 50; i++, made++) create(opened);
    await opened.store.maintain();
    expect(namesIn(opened)).toBeLessThanOrEqual(made + 1 + 32);
  }
  expect(namesIn(opened)).toBeGreaterThan(151 + 8);
  opened.clock.advance(60_000);
  await opened.store.maintain();
  expect(namesIn(opened)).toBe(151);
});

test('an orderly end leaves no spares, and after a crash the next start removes them', async () => {
  const opened = await stores.open();
  const file = create(opened);
  await opened.store.maintain();
  expect(namesIn(opened)).toBe(9);
  const crashed = await stores.afterCrash(opened);
  expect(await crashed.store.recover()).toMatchObject({ orphans: 8, lost: [], vanished: 0 });
  expect(fs.readdirSync(dirname(crashed.store.find(file.id)!.path))).toEqual([String(file.id)]);
  await opened.store.close();
  expect(namesIn(opened)).toBe(1);
});

test('a transaction that is rolled back takes its spare with it', async () => {
  const opened = await stores.open();
  create(opened);
  await opened.store.maintain();
  let path = '';
  expect(() => opened.db.tx(() => {
    path = opened.store.create(0, 'none').path;
    throw new Error('no');
  })).toThrow('no');
  expect(fs.existsSync(path)).toBe(false);
  expect(create(opened).path).not.toBe(path);
});

test('where spares cannot be made, files are: after a full disk they are tried again later', async () => {
  const disk = new FaultyDisk();
  const opened = await stores.open({ disk });
  disk.fail('content.spare', { errno: Errno.ENOSPC, after: 3, times: 1 });
  create(opened);
  await opened.store.maintain();
  expect(namesIn(opened)).toBe(1);
  create(opened);
  await opened.store.maintain();
  expect(namesIn(opened)).toBe(2);
  opened.clock.advance(20_000);
  create(opened);
  await opened.store.maintain();
  expect(namesIn(opened)).toBeGreaterThan(3);
});

/** How this process has the file open, by descriptor: O_RDONLY 0, O_WRONLY 1, O_RDWR 2. */
function modesOf(path: string): Map<number, number> {
  const modes = new Map<number, number>();
  for (const fd of fs.readdirSync('/proc/self/fd')) {
    try {
      if (fs.readlinkSync(`/proc/self/fd/${fd}`) === path) modes.set(Number(fd), parseInt(/flags:\s+(\d+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!, 8) & 3);
    } catch {
      // the descriptor that read the directory
    }
  }
  return modes;
}

test('where the kernel reads files by itself a new one has its descriptor for that ready, and none for writing (S2)', async () => {
  const opened = await stores.open();
  opened.store.openForKernel((path) => Promise.resolve(fs.openSync(path, 'r')));
  const first = create(opened);
  expect(opened.store.fds.forKernel(first)).toBeUndefined(); // no spare was there
  await opened.store.maintain();
  const file = create(opened);
  const fd = opened.store.fds.forKernel(file)!;
  expect(modesOf(file.path).get(fd)).toBe(0);
  expect([...modesOf(file.path).values()]).not.toContain(2);
  expect(file.isQuiescent()).toBe(true);
  file.write(Buffer.from('ours'), 0);
  expect(opened.store.fds.forKernel(file)).toBeUndefined();
  expect(fs.readFileSync(file.path, 'utf8')).toBe('ours');
  const fetched = opened.db.tx(() => opened.store.create(10, 'all'));
  expect(opened.store.fds.forKernel(fetched)).toBeUndefined();
  expect(fetched.sizeBytes).toBe(10);
  await opened.store.close();
  for (const { path } of [first, file, fetched]) expect(modesOf(path).size).toBe(0);
});

test('a descriptor for the kernel that cannot be opened costs nobody a file', async () => {
  const opened = await stores.open();
  opened.store.openForKernel(() => Promise.reject(new Error('no')));
  create(opened);
  await opened.store.maintain();
  expect(namesIn(opened)).toBe(1 + 8);
  const file = create(opened);
  expect(opened.store.fds.forKernel(file)).toBeUndefined();
  file.write(Buffer.from('text'), 0);
  expect(fs.readFileSync(file.path, 'utf8')).toBe('text');
});
