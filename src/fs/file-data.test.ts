import { rmSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { Errno } from '../base/errno.js';
import { DbError } from '../db/db-error.js';
import { FaultyDisk } from '../base/faulty-disk.js';
import { FallocateMode, OpenFlag, Seek } from '../fuse/ops.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

const opened: FsHarness[] = [];
async function mounted(options: Parameters<typeof FsHarness.open>[0] = {}): Promise<FsHarness> {
  const harness = await FsHarness.open(options);
  opened.push(harness);
  return harness;
}
afterEach(async () => {
  for (const harness of opened.splice(0)) {
    harness.checkInvariants();
    await harness.close();
  }
});

/** 600 KB whose bytes tell their place; fetched in parts. */
const big = Buffer.from(Array.from({ length: 600_000 }, (_, index) => (index * 7 + (index >> 8)) & 0xff));
async function withBig(options: Parameters<typeof FsHarness.open>[0] = {}): Promise<FsHarness> {
  const h = await mounted(options);
  await h.stranger.put('big', big);
  return h;
}
const missing = (h: FsHarness): number => h.fs.contents.existing(h.inodeOf('big'))!.missing.sizeBytes;
function changed(from: Buffer, offset: number, data: Buffer): Buffer {
  const copy = Buffer.alloc(Math.max(from.length, offset + data.length));
  from.copy(copy);
  data.copy(copy, offset);
  return copy;
}

describe('reading', () => {
  test('is short only at the end of the file, and empty behind it', async () => {
    const h = await mounted();
    await h.writeFile('a', 'hello');
    await h.using('a', OpenFlag.RDONLY, async (handle) => {
      expect((await h.pread(handle, 1, 100)).toString()).toBe('ello');
      expect(await h.pread(handle, 5, 10)).toHaveLength(0);
      expect(await h.pread(handle, 500, 10)).toHaveLength(0);
    });
  });

  test('a part of a big object fetches a part of it', async () => {
    const h = await withBig();
    await h.using('big', OpenFlag.RDONLY, async (handle) => {
      expect((await h.pread(handle, 300_000, 100)).equals(big.subarray(300_000, 300_100))).toBe(true);
      expect(missing(h)).toBeGreaterThan(300_000);
      expect((await h.pread(handle, 0, 600_000)).equals(big)).toBe(true);
      expect(missing(h)).toBe(0);
    });
  });

  test('of a directory is EISDIR, of what is gone ESTALE', async () => {
    const h = await mounted();
    await h.mkdir('d');
    const { ino } = await h.stat('d');
    expect(await errnoOf(() => h.fs.read(h.context(), ino, 1, 0, Buffer.alloc(1)))).toBe('EISDIR');
    expect(await errnoOf(() => h.fs.write(h.context(), ino, 1, 0, Buffer.alloc(1), 0, false))).toBe('EISDIR');
    expect(await errnoOf(() => h.fs.read(h.context(), 4711, 1, 0, Buffer.alloc(1)))).toBe('ESTALE');
  });

  test('an object that vanished behind an open file is ESTALE, never ENOENT (promise 5)', async () => {
    const h = await withBig();
    await h.using('big', OpenFlag.RDONLY, async (handle) => {
      await h.stranger.delete('big');
      expect(await errnoOf(() => h.pread(handle, 0, 10))).toBe('ESTALE');
    });
  });

  test('K10: the kernel keeps its pages from one open to the next, until the content is another', async () => {
    const h = await mounted();
    await h.stranger.put('a', 'one');
    const keep = async (): Promise<boolean | undefined> => {
      const { ino } = await h.stat('a');
      const reply = await h.fs.open(h.context(), ino, OpenFlag.RDONLY, false);
      h.fs.release(h.context(), ino, reply.fh);
      return reply.keepCache;
    };
    expect(await keep()).toBe(false);
    expect(await keep()).toBe(true);
    await h.writeAt('a', 0, 'O'); // through this kernel, whose pages know it
    expect(await keep()).toBe(true);
    await h.sync();
    expect(await keep()).toBe(true);
    await h.stranger.put('a', 'two');
    h.clock.advance(61_000);
    expect(await keep()).toBe(false);
    expect(await keep()).toBe(true);
  });
});

describe('writing', () => {
  test('into a partly cached object keeps the rest of it, here and after the upload', async () => {
    const h = await withBig();
    const data = Buffer.alloc(50_000, 0xab);
    await h.writeAt('big', 200_000, data);
    expect(h.calls('get')).toBe(0);
    const wanted = changed(big, 200_000, data);
    await h.using('big', OpenFlag.RDONLY, async (handle) => expect((await h.pread(handle, 190_000, 70_000)).equals(wanted.subarray(190_000, 260_000))).toBe(true));
    await h.sync();
    expect(h.memory.snapshot().get('big')!.bytes.equals(wanted)).toBe(true);
    await h.evict();
    expect((await h.readBytes('big')).equals(wanted)).toBe(true);
  });

  test('of bytes that are just being fetched waits for them and wins', async () => {
    const h = await withBig();
    await h.using('big', OpenFlag.RDWR, async (handle) => {
      const read = h.pread(handle, 0, 100_000);
      await Promise.resolve();
      const write = h.pwrite(handle, 10, 'mine');
      await Promise.all([read, write]);
      expect((await h.pread(handle, 8, 8)).equals(changed(big, 10, Buffer.from('mine')).subarray(8, 16))).toBe(true);
    });
    expect((await h.readBytes('big')).equals(changed(big, 10, Buffer.from('mine')))).toBe(true);
  });

  test('survives a crash, with size and content, whatever was uploaded or evicted before', async () => {
    const h = await withBig();
    await h.writeAt('big', 599_990, Buffer.alloc(100, 1));
    const handle = await h.create('new');
    await h.pwrite(handle, 100, 'x');
    await h.crash();
    expect((await h.getattr('big')).sizeBytes).toBe(600_090);
    expect((await h.getattr('new')).sizeBytes).toBe(101);
    expect((await h.readBytes('big')).equals(changed(big, 599_990, Buffer.alloc(100, 1)))).toBe(true);
    await h.pwrite(handle, 101, 'y'); // the old handle still serves (K12)
    await h.closeFile(handle);
    await h.sync();
    expect(h.stranger.text('new')).toBe(`${'\0'.repeat(100)}xy`);
  });

  test('past 5 TiB is EFBIG', async () => {
    const h = await mounted();
    await h.writeFile('a', '');
    expect(await errnoOf(() => h.writeAt('a', 5 * 2 ** 40, 'x'))).toBe('EFBIG');
    expect(await errnoOf(() => h.truncate('a', 5 * 2 ** 40 + 1))).toBe('EFBIG');
  });

  test('drops setuid and setgid when the kernel says so (K2), and a second write costs no transaction', async () => {
    const h = await mounted();
    await h.writeFile('a', 'x');
    await h.chmod('a', 0o6755);
    const handle = await h.open('a', OpenFlag.RDWR);
    await h.fs.write(h.context(), handle.ino, handle.fh, 0, Buffer.from('y'), 0, true);
    expect((await h.stat('a')).mode).toBe(0o100755);
    const commits = h.daemon.db.commitSeq;
    await h.pwrite(handle, 0, 'z');
    expect(h.daemon.db.commitSeq).toBe(commits);
    await h.closeFile(handle);
  });

  test('on a full disk fails with ENOSPC; inode and content file stay equally long, and the file can be uploaded', async () => {
    const disk = new FaultyDisk();
    const h = await mounted({ disk });
    await h.writeFile('a', 'ab');
    await h.using('a', OpenFlag.RDWR, async (handle) => {
      disk.fail('content.write', { errno: Errno.ENOSPC });
      expect(await errnoOf(() => h.pwrite(handle, 2, 'cdef'))).toBe('ENOSPC');
      disk.heal();
    });
    h.checkInvariants();
    await h.sync();
  });

  test('half of which reached the disk counts as written that far', async () => {
    const disk = new FaultyDisk();
    const h = await mounted({ disk });
    await h.writeFile('a', 'ab');
    await h.using('a', OpenFlag.RDWR, async (handle) => {
      disk.fail('content.write', { shortBytes: 3 });
      const before = disk.calls.get('content.write')!;
      disk.hook = (label) => {
        if (label === 'content.write' && disk.calls.get(label) === before + 2) disk.fail('content.write', { errno: Errno.ENOSPC });
      };
      expect(await errnoOf(() => h.pwrite(handle, 2, 'cdefgh'))).toBe('ENOSPC');
      disk.hook = undefined;
      expect((await h.fstat(handle)).sizeBytes).toBe(5);
      expect((await h.pread(handle, 0, 10)).toString()).toBe('abcde');
    });
    await h.sync();
    expect(h.stranger.text('a')).toBe('abcde');
  });

  test('more than the cache may hold is ENOSPC once nothing can make room', async () => {
    const h = await mounted({ limitBytes: 300_000 });
    const handle = await h.create('a');
    expect(await errnoOf(() => h.pwrite(handle, 0, Buffer.alloc(200_000, 1)))).toBe('ok');
    let isWaiting = true;
    const write = errnoOf(() => h.pwrite(handle, 200_000, Buffer.alloc(200_000, 1))).finally(() => (isWaiting = false));
    while (isWaiting) { // throttled first, for as long as somebody might make room
      await new Promise((resolve) => setImmediate(resolve));
      h.clock.advance(50);
    }
    expect(await write).toBe('ENOSPC');
    expect((await h.fstat(handle)).sizeBytes).toBe(200_000);
    await h.closeFile(handle);
  });
});

describe('the length', () => {
  test('of a partly cached file shrinks and grows again: what fell away reads as zeros', async () => {
    const h = await withBig();
    await h.using('big', OpenFlag.RDONLY, (handle) => h.pread(handle, 300_000, 10));
    await h.truncate('big', 400_000);
    await h.truncate('big', 500_000);
    const wanted = Buffer.alloc(500_000);
    big.copy(wanted, 0, 0, 400_000);
    expect((await h.readBytes('big')).equals(wanted)).toBe(true);
    await h.sync();
    expect(h.memory.snapshot().get('big')!.bytes.equals(wanted)).toBe(true);
  });

  test('shrinks while the rest is being fetched: what lands later makes nothing longer', async () => {
    const h = await withBig();
    await h.using('big', OpenFlag.RDWR, async (handle) => {
      const read = h.pread(handle, 0, 600_000);
      await Promise.resolve();
      await h.truncate('big', 1000);
      await read.catch(() => undefined);
      expect((await h.fstat(handle)).sizeBytes).toBe(1000);
      expect((await h.pread(handle, 0, 2000)).equals(big.subarray(0, 1000))).toBe(true);
    });
    h.checkInvariants();
  });

  test('0 at open forgets what S3 has without fetching it; O_TRUNC of an empty file moves its mtime, in S3 too', async () => {
    const h = await withBig();
    await h.using('big', OpenFlag.WRONLY | OpenFlag.TRUNC, (handle) => h.pwrite(handle, 0, 'short'));
    await h.sync();
    expect([h.stranger.text('big'), h.calls('get')]).toEqual(['short', 0]);
    await h.writeFile('empty', '');
    await h.sync();
    h.clock.advance(5000);
    await h.using('empty', OpenFlag.WRONLY | OpenFlag.TRUNC, () => Promise.resolve());
    const { mtime } = await h.stat('empty');
    await h.sync();
    const other = await h.freshMount();
    expect((await other.stat('empty')).mtime).toEqual(mtime);
    await other.close();
  });

  test('of a directory is EISDIR, of a symlink EINVAL', async () => {
    const h = await mounted();
    await h.mkdir('d');
    await h.symlink('l', 'd');
    expect(await errnoOf(() => h.truncate('d', 0))).toBe('EISDIR');
    expect(await errnoOf(() => h.truncate('l', 0))).toBe('EINVAL');
  });
});

describe('fallocate', () => {
  const fallocate = (h: FsHarness, mode: number, offset: number, length: number): Promise<string> => h.using('big', OpenFlag.RDWR, (handle) => errnoOf(() => h.fs.fallocate(h.context(), handle.ino, handle.fh, offset, length, mode)));
  // Modes as every kernel's ext4 has them need a real disk
  for (const [name, mode, offset, length, wanted] of [
    ['extends', 0, 590_000, 20_000, changed(big, 609_999, Buffer.alloc(1))],
    ['with KEEP_SIZE keeps the size', FallocateMode.KEEP_SIZE, 590_000, 20_000, big],
    ['punches', FallocateMode.PUNCH_HOLE | FallocateMode.KEEP_SIZE, 100_000, 50_000, changed(big, 100_000, Buffer.alloc(50_000))],
    ['zeroes', FallocateMode.ZERO_RANGE, 590_000, 20_000, changed(big, 590_000, Buffer.alloc(20_000))],
    ['collapses', FallocateMode.COLLAPSE_RANGE, 4096, 8192, Buffer.concat([big.subarray(0, 4096), big.subarray(12_288)])],
    ['inserts', FallocateMode.INSERT_RANGE, 4096, 8192, Buffer.concat([big.subarray(0, 4096), Buffer.alloc(8192), big.subarray(4096)])],
  ] as const) {
    test(`${name}, on what is only in S3`, async () => {
      const h = await withBig({ onDisk: true });
      const outcome = await fallocate(h, mode, offset, length);
      if (outcome === 'EOPNOTSUPP') return; // not every file system has all modes
      expect(outcome).toBe('ok');
      expect((await h.readBytes('big')).equals(wanted)).toBe(true);
      await h.sync();
      expect(h.memory.snapshot().get('big')!.bytes.equals(wanted)).toBe(true);
    });
  }

  test('refuses modes it does not know, and sizes no object has', async () => {
    const h = await withBig();
    expect(await fallocate(h, FallocateMode.UNSHARE_RANGE, 0, 10)).toBe('EOPNOTSUPP');
    expect(await fallocate(h, 0, 5 * 2 ** 40, 10)).toBe('EFBIG');
  });
});

test('SEEK_DATA and SEEK_HOLE: what is in S3 is data, holes of local files are holes, behind the end is ENXIO', async () => {
  const h = await withBig();
  const seek = async (path: string, offset: number, whence: number): Promise<number> => h.at(path, (ino) => h.fs.lseek(h.context(), ino, 0, offset, whence));
  expect(await seek('big', 5, Seek.DATA)).toBe(5);
  expect(await seek('big', 5, Seek.HOLE)).toBe(600_000);
  await h.writeFile('sparse', '');
  await h.truncate('sparse', 1_000_000);
  await h.writeAt('sparse', 500_000, Buffer.alloc(1000, 1));
  expect(await seek('sparse', 0, Seek.HOLE)).toBe(0);
  expect(await seek('sparse', 0, Seek.DATA)).toBeGreaterThan(400_000);
  expect(await errnoOf(() => seek('sparse', 1_000_000, Seek.DATA))).toBe('ENXIO');
  expect(await errnoOf(() => seek('sparse', 900_000, Seek.DATA))).toBe('ENXIO');
  expect(await errnoOf(() => seek('sparse', 0, 99))).toBe('EINVAL');
  expect(await errnoOf(() => seek('', 0, Seek.DATA))).toBe('EINVAL');
});

test('copy_file_range copies what there is, from S3 and from here, and says how much', async () => {
  const h = await withBig();
  await h.writeFile('out', 'start');
  const copy = (offset: number, outOffset: number, length: number): Promise<number> => h.at('big', (ino) => h.at('out', (out) => h.fs.copyFileRange(h.context(), ino, 0, offset, out, 0, outOffset, length)));
  expect(await copy(599_000, 5, 5000)).toBe(1000);
  expect(await copy(700_000, 5, 5000)).toBe(0);
  expect((await h.readBytes('out')).equals(Buffer.concat([Buffer.from('start'), big.subarray(599_000)]))).toBe(true);
  h.setOffline(true);
  expect(await errnoOf(() => copy(0, 0, 10))).toBe('EIO');
});

describe('fsync', () => {
  test('D1: syncs content, the names of content files and the log, of a new file all at once', async () => {
    const disk = new FaultyDisk();
    const h = await mounted({ disk });
    const handle = await h.create('a');
    await h.pwrite(handle, 0, 'x');
    const started = new Set<string>();
    disk.hook = (label) => void (/sync/.test(label) && started.add(label));
    const releases = ['content.sync', 'content.dirsync', 'redo.sync'].map((label) => disk.hold(label));
    let isDone = false;
    const synced = h.fsync(handle).then(() => (isDone = true));
    for (const release of releases) {
      await new Promise((resolve) => setImmediate(resolve));
      expect(isDone).toBe(false);
      expect([...started].sort()).toEqual(['content.dirsync', 'content.sync', 'redo.sync']);
      release();
    }
    await synced;
    disk.hook = undefined;
    await h.closeFile(handle);
  });

  test('D1: what of a file is present is on record only after its content is synced', async () => {
    const disk = new FaultyDisk();
    const h = await mounted({ disk });
    await h.stranger.put('a', 'from S3');
    const handle = await h.open('a', OpenFlag.RDWR);
    await h.pread(handle, 0, 7);
    await h.pwrite(handle, 0, 'FROM');
    const order: string[] = [];
    disk.hook = (label) => void (/sync/.test(label) && order.push(label));
    await h.fsync(handle);
    disk.hook = undefined;
    expect(order.indexOf('content.sync')).toBeGreaterThanOrEqual(0);
    expect(order.lastIndexOf('redo.sync')).toBeGreaterThan(order.lastIndexOf('content.sync'));
    await h.closeFile(handle);
  });

  test('that fails never becomes a success: everything stops (D4)', async () => {
    const disk = new FaultyDisk();
    const h = await FsHarness.open({ disk });
    const handle = await h.create('a');
    await h.pwrite(handle, 0, 'x');
    disk.fail('content.sync', { errno: Errno.EIO });
    await expect(h.fsync(handle)).rejects.toThrow();
    disk.heal();
    await expect(h.fsync(handle)).rejects.toThrow();
    expect(h.daemon.errors.some((line) => line.startsWith('fatal'))).toBe(true);
    h.daemon.kill();
    await h.daemon.bury().catch(() => undefined);
    rmSync(h.home, { recursive: true });
  });

  test('with --fsync remote resolves once S3 has the file', async () => {
    const h = await mounted({ config: { fsync: 'remote' } });
    const handle = await h.create('a');
    await h.pwrite(handle, 0, 'x');
    const synced = h.fsync(handle).then(() => 'synced');
    for (let i = 0; i < 20 && h.stranger.text('a') === undefined; i++) {
      await h.daemon.writeback.runDue();
      await new Promise((resolve) => setImmediate(resolve));
      h.clock.advance(31_000);
    }
    expect(await synced).toBe('synced');
    expect(h.stranger.text('a')).toBe('x');
    await h.closeFile(handle);
  });
});

test('bytes that were fetched, but not yet on record as present, are fetched again after a crash, although the file was written meanwhile', async () => {
  const h = await mounted();
  await h.writeFile('a', 'x');
  await h.sync();
  await h.evict();
  const handle = await h.open('a', OpenFlag.RDWR);
  await h.pread(handle, 0, 1); // here now, in memory only
  await h.pwrite(handle, 1, 'yz');
  await h.crash();
  expect(await h.readFile('a')).toBe('xyz');
});

test('S3: whoever changes bytes that are being copied waits for the copy, and a read does not', async () => {
  const h = await mounted();
  const handle = await h.create('a');
  await h.pwrite(handle, 0, 'before');
  const letGo = h.fs.holdWrites(handle.ino);
  const done: string[] = [];
  const writes = [h.pwrite(handle, 0, 'after!').then(() => done.push('write')), h.truncate('a', 3).then(() => done.push('truncate'))];
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(done).toEqual([]);
  expect((await h.pread(handle, 0, 10)).toString()).toBe('before');
  letGo();
  await Promise.all(writes);
  expect((await h.pread(handle, 0, 10)).toString()).toMatch(/^aft(er!)?$/); // whichever came last
  await h.closeFile(handle);
});

describe('atime', () => {
  /** Seconds by which it moved at a first, a second and, a day and a bit later, a third read. */
  async function moved(atime: 'relatime' | 'noatime' | 'strictatime'): Promise<number[]> {
    const h = await mounted({ config: { atime } });
    await h.writeFile('a', 'text');
    const start = (await h.getattr('a')).atime.sec;
    const at: number[] = [];
    for (const seconds of [10, 20, 90_000]) {
      h.clock.advance(seconds * 1000);
      expect((await h.readFile('a')).toString()).toBe('text');
      at.push((await h.getattr('a')).atime.sec - start);
    }
    return at;
  }

  test('moves with relatime if it says something new, with strictatime at each read, with noatime never', async () => {
    expect(await moved('relatime')).toEqual([10, 10, 90_030]);
    expect(await moved('strictatime')).toEqual([10, 30, 90_030]);
    expect(await moved('noatime')).toEqual([0, 0, 0]);
  });
});

test('a write that cannot be put on record first fails with the reason, and nothing is left unheard', async () => {
  const h = await mounted();
  await h.writeFile('file', 'text');
  await h.sync();
  const handle = await h.open('file', OpenFlag.WRONLY);
  const { db } = h.daemon;
  const durable = db.durable.bind(db);
  db.durable = () => Promise.reject(new DbError('full', 'no room')); // an unhandled rejection fails the test run
  expect(await errnoOf(() => h.pwrite(handle, 0, 'T'))).toBe('ENOSPC');
  db.durable = durable;
  await h.pwrite(handle, 0, 'T');
  await h.closeFile(handle);
  expect(await h.readFile('file')).toBe('Text');
});
