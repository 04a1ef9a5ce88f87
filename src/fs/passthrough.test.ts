import { closeSync, openSync, readFileSync, readlinkSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { Errno } from '../base/errno.js';
import { FaultyDisk } from '../base/faulty-disk.js';
import { FsHarness } from '../../test/support/fs-harness.js';
import { OpenFlag } from '../fuse/ops.js';

let harness: FsHarness;
afterEach(() => harness.close());

/** The kernel's table of backing files. */
class BackingIds {
  readonly open = new Set<number>();
  private next = 1;

  readonly device = {
    open: (): number => {
      this.open.add(this.next);
      return this.next++;
    },
    close: (id: number): void => void this.open.delete(id),
  };
}

it('a FORGET that comes after the file was opened again leaves its backing file registered (K5)', async () => {
  harness = await FsHarness.open();
  const kernel = new BackingIds();
  harness.fs.passthrough.enable(kernel.device);
  const handle = await harness.create('file');
  expect(kernel.open.size).toBe(1);
  harness.fs.forget(handle.ino); // of a lookup before the OPEN: the kernel queues FORGETs apart from requests
  expect(kernel.open.size).toBe(1);
  await harness.closeFile(handle);
  expect(kernel.open.size).toBe(0);
});

it('a new file is registered by the descriptor that was opened ahead, and is quiescent at its last close (S2)', async () => {
  harness = await FsHarness.open();
  const kernel = new BackingIds();
  const paths: string[] = [];
  harness.fs.passthrough.enable({
    ...kernel.device, openFile: (path) => Promise.resolve(openSync(path, 'r')),
    open: (path: string, fd?: number) => {
      paths.push(fd === undefined ? path : readlinkSync(`/proc/self/fd/${fd}`));
      return kernel.device.open();
    },
  });
  await harness.closeFile(await harness.create('first'));
  await harness.daemon.contents.maintain();
  const handle = await harness.create('second');
  expect(paths).toEqual([await contentPath('first'), await contentPath('second')]);
  expect(harness.daemon.contents.fds.forKernel(harness.daemon.contents.find(harness.tree.inodes.get(handle.ino)!.content!)!)).toBeDefined();
  writeFileSync(await contentPath('second'), 'by the kernel');
  await harness.closeFile(handle);
  expect(kernel.open.size).toBe(0);
  expect((await harness.getattr('second')).sizeBytes).toBe(13);
});

/** What the kernel reads and writes in place of `path`. */
async function contentPath(path: string): Promise<string> {
  const { ino } = await harness.getattr(path);
  return harness.daemon.contents.find(harness.tree.inodes.get(ino)!.content!)!.path;
}

it('a read that only the kernel saw moves the atime of the file, also after its last close', async () => {
  harness = await FsHarness.open();
  harness.fs.passthrough.enable(new BackingIds().device);
  await harness.writeFile('file', 'text');
  const handle = await harness.open('file');
  const path = await contentPath('file');
  utimesSync(path, 2_000_000_000, statSync(path).mtimeMs / 1000); // the kernel's read(2)
  expect((await harness.getattr('file')).atime).toEqual({ sec: 2_000_000_000, nsec: 0 });
  utimesSync(path, 2_000_000_005, statSync(path).mtimeMs / 1000);
  await harness.closeFile(handle);
  expect((await harness.getattr('file')).atime.sec).toBe(2_000_000_005);
});

it('an upload reads the file, but is no access to it', async () => {
  harness = await FsHarness.open();
  harness.fs.passthrough.enable(new BackingIds().device);
  await harness.writeFile('file', 'text');
  const handle = await harness.open('file');
  const { atime } = await harness.getattr('file');
  await harness.sync();
  expect((await harness.getattr('file')).atime).toEqual(atime);
  readFileSync(await contentPath('file')); // a read that is noticed does move it here
  expect((await harness.getattr('file')).atime).not.toEqual(atime);
  await harness.closeFile(handle);
});

it('after a crash all files go to passthrough again but those that may still be open through the daemon (K6)', async () => {
  harness = await FsHarness.open();
  const kernel = new BackingIds();
  harness.fs.passthrough.enable(kernel.device);
  for (const name of ['closed', 'open', 'read']) await harness.writeFile(name, name);
  await harness.sync();
  await harness.evict();
  await harness.closeFile(await harness.open('closed')); // not here yet: through the daemon
  const open = await harness.open('open');
  await harness.readFile('closed');
  await harness.readFile('open');
  await harness.daemon.contents.maintain(); // what is here is on record
  expect(kernel.open.size).toBe(0);
  await harness.crash();
  harness.fs.passthrough.enable(kernel.device);
  const again = await harness.open('open');
  expect(kernel.open.size).toBe(0);
  const closed = await harness.open('closed');
  expect(kernel.open.size).toBe(1);
  await harness.closeFile(closed);
  await harness.closeFile(again);
  await harness.closeFile(open); // the last one: then the kernel forgets the inode
  await harness.closeFile(await harness.open('open'));
  expect(harness.daemon.db.prepare('SELECT * FROM backing').all()).toEqual([]);
  const free = await harness.open('open');
  expect(kernel.open.size).toBe(1);
  await harness.closeFile(free);
});

/** Opened before it was here, which it is by now. */
async function fileOpenThroughUs(): Promise<{ disk: FaultyDisk; kernel: BackingIds; handle: Awaited<ReturnType<FsHarness['open']>> }> {
  const disk = new FaultyDisk();
  harness = await FsHarness.open({ disk });
  const kernel = new BackingIds();
  harness.fs.passthrough.enable(kernel.device);
  await harness.writeFile('file', 'text');
  await harness.sync();
  await harness.evict();
  const handle = await harness.open('file');
  await harness.daemon.db.checkpoint(); // its row is in the table, not only in a group
  await harness.pread(handle, 0, 4);
  await harness.daemon.contents.maintain();
  return { disk, kernel, handle };
}

it('a file that was open through the daemon stays on record, and known, where the disk is too full to note its close', async () => {
  const { disk, kernel, handle } = await fileOpenThroughUs();
  disk.fail('db.redo', { errno: Errno.ENOSPC });
  await expect(harness.closeFile(handle)).rejects.toThrow();
  await harness.closeFile(await harness.open('file'));
  expect(harness.daemon.db.prepare('SELECT * FROM backing').all()).toEqual([]);
  const free = await harness.open('file');
  expect(kernel.open.size).toBe(1);
  await harness.closeFile(free);
});

it('a file that may be open through an earlier daemon stays on record, and known, where the disk is too full to note that the kernel forgot it', async () => {
  const { disk, kernel, handle } = await fileOpenThroughUs();
  await harness.crash();
  harness.fs.passthrough.enable(kernel.device);
  disk.fail('db.redo', { errno: Errno.ENOSPC });
  expect(() => harness.fs.forget(handle.ino)).toThrow();
  await harness.closeFile(await harness.open('file'));
  expect(kernel.open.size).toBe(0);
  expect(harness.daemon.db.prepare('SELECT * FROM backing').all()).toHaveLength(1);
  harness.fs.forget(handle.ino);
  expect(harness.daemon.db.prepare('SELECT * FROM backing').all()).toEqual([]);
});

it('a disk too full to note that the last mapping of a file is gone stops nothing: it is noted once there is room', async () => {
  const disk = new FaultyDisk();
  harness = await FsHarness.open({ disk });
  const kernel = new BackingIds();
  harness.fs.passthrough.enable(kernel.device);
  const handle = await harness.create('file');
  const mapping = openSync(await contentPath('file'), 'r+'); // as long as it is open no lease is granted
  await harness.closeFile(handle);
  expect(kernel.open.size).toBe(1);
  closeSync(mapping);
  const linger = (): void => (harness.fs.passthrough as unknown as { linger(): void }).linger();
  disk.fail('db.redo', { errno: Errno.ENOSPC });
  linger();
  expect(kernel.open.size).toBe(1);
  linger();
  expect(kernel.open.size).toBe(0);
  expect(harness.daemon.db.prepare('SELECT * FROM backing').all()).toEqual([]);
});

it('the kernel is told of new times that a mapping gave a file, when the file is closed and once a second while it is open', async () => {
  harness = await FsHarness.open();
  harness.fs.passthrough.enable(new BackingIds().device);
  await harness.writeFile('file', 'text');
  const handle = await harness.open('file', OpenFlag.RDWR);
  const notice = `attributes ${handle.ino}`;
  const path = await contentPath('file');
  const writeAt = (sec: number): void => utimesSync(path, sec, sec);
  writeAt(2_000_000_000);
  await harness.fs.durability.all(); // the journal interval
  expect(harness.daemon.notices).toEqual([notice]);
  await harness.fs.durability.all();
  expect(harness.daemon.notices).toEqual([notice]);
  writeAt(2_000_000_001);
  expect((await harness.getattr('file')).mtime.sec).toBe(2_000_000_001); // it asked by itself
  writeAt(2_000_000_002);
  await harness.closeFile(handle);
  expect(harness.daemon.notices).toEqual([notice, notice]);
});

it('a file that cannot have been mapped for writing costs no notice: after write(2) the kernel asks by itself', async () => {
  harness = await FsHarness.open();
  harness.fs.passthrough.enable(new BackingIds().device);
  const handle = await harness.create('file', OpenFlag.WRONLY);
  const path = await contentPath('file');
  utimesSync(path, 2_000_000_000, 2_000_000_000);
  await harness.closeFile(handle);
  expect(harness.daemon.notices).toEqual([]);
  expect((await harness.getattr('file')).mtime.sec).toBe(2_000_000_000);
});

it('S6: the kernel may write a file that counted as unchanged once that is on record, durably; one that is new at once', async () => {
  const disk = new FaultyDisk();
  harness = await FsHarness.open({ disk });
  harness.fs.passthrough.enable(new BackingIds().device);
  await harness.writeFile('file', 'text');
  await harness.sync();
  await harness.daemon.db.durable();
  const release = disk.hold('redo.sync');
  let isOpen = false;
  const opened = harness.open('file', OpenFlag.WRONLY).then((handle) => {
    isOpen = true;
    return handle;
  });
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(isOpen).toBe(false);
  await harness.closeFile(await harness.create('new'));
  release();
  await harness.closeFile(await opened);
});
