import { afterEach, beforeEach, expect, test } from 'vitest';
import { FallocateMode, OpenFlag, type RequestContext } from '../fuse/ops.js';
import { FileType, rootIno } from '../meta/inode.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
beforeEach(async () => { h = await FsHarness.open(); });
afterEach(async () => {
  h.checkInvariants();
  await h.close();
});

const replayRows = (): number => h.daemon.db.prepare<[], { n: number }>('SELECT count(*) AS n FROM replay').get()!.n;

/** Executed by a daemon that dies before the kernel has the answer; the next one gets the request again (K11). */
async function twice<T>(run: (ctx: RequestContext) => T | Promise<T>): Promise<{ first: Awaited<T>; second: Awaited<T> }> {
  const ctx = h.context();
  const first = await run(ctx);
  await h.crash();
  return { first, second: await run(h.resent(ctx)) };
}

test('K11: a resent mkdir, mknod, symlink and create answer the inode they made', async () => {
  for (const make of [
    (ctx: RequestContext) => h.fs.mkdir(ctx, rootIno, 'd', 0o755),
    (ctx: RequestContext) => h.fs.mknod(ctx, rootIno, 'p', FileType.FIFO | 0o600, 0),
    (ctx: RequestContext) => h.fs.symlink(ctx, rootIno, 'l', Buffer.from('t')),
    (ctx: RequestContext) => h.fs.create(ctx, rootIno, 'f', OpenFlag.RDWR | OpenFlag.EXCL, 0o600),
    (ctx: RequestContext) => h.fs.tmpfile(ctx, rootIno, OpenFlag.RDWR, 0o600),
  ]) {
    const { first, second } = await twice(make);
    expect(second.attr!.ino).toBe(first.attr!.ino);
  }
  expect(await h.readdir('')).toEqual(['d', 'f', 'l', 'p']);
});

test('K11: a resent create gives a handle that works, with the size the file has by now', async () => {
  const { first, second } = await twice((ctx) => h.fs.create(ctx, rootIno, 'f', OpenFlag.RDWR, 0o600));
  const { ino } = first.attr!;
  expect(second.fh).not.toBe(first.fh);
  await h.fs.write(h.context(), ino, second.fh, 0, Buffer.from('x'), 0, false);
  await h.fs.write(h.context(), ino, first.fh, 1, Buffer.from('y'), 0, false);
  expect(await h.readFile('f')).toBe('xy');
  h.fs.release(h.context(), ino, second.fh);
});

test('K11: a resent unlink, rmdir, link and rename succeed and do nothing more', async () => {
  await h.writeFile('a', 'x');
  await twice((ctx) => h.fs.link(ctx, h.inodeOf('a').ino, rootIno, 'b'));
  expect((await h.stat('a')).nlink).toBe(2);
  await twice((ctx) => h.fs.rename(ctx, rootIno, 'a', rootIno, 'c', 0));
  await twice((ctx) => h.fs.unlink(ctx, rootIno, 'b'));
  expect(await h.readdir('')).toEqual(['c']);
  await h.mkdir('d');
  const { ino } = h.inodeOf('d');
  await twice((ctx) => h.fs.rmdir(ctx, rootIno, 'd'));
  h.fs.forget(ino);
  await h.writeFile('x', '1');
  await h.writeFile('y', '2');
  await twice((ctx) => h.fs.rename(ctx, rootIno, 'x', rootIno, 'y', 2));
  expect([await h.readFile('x'), await h.readFile('y')]).toEqual(['2', '1']); // swapped once
});

test('K11: a resent unlink does not take away a file that was made under the name since', async () => {
  await h.writeFile('a', 'old');
  const ctx = h.context();
  await h.fs.unlink(ctx, rootIno, 'a');
  await h.crash();
  await h.writeFile('a', 'new'); // order among resent requests is not guaranteed
  await h.fs.unlink(h.resent(ctx), rootIno, 'a');
  expect(await h.readFile('a')).toBe('new');
});

test('K11: a resent O_TRUNC does not cut off what was written since', async () => {
  await h.writeFile('a', 'old');
  const { ino } = h.inodeOf('a');
  const ctx = h.context();
  const { fh } = await h.fs.open(ctx, ino, OpenFlag.RDWR | OpenFlag.TRUNC, false);
  await h.fs.write(h.context(), ino, fh, 0, Buffer.from('new'), 0, false);
  await h.crash();
  await h.fs.open(h.resent(ctx), ino, OpenFlag.RDWR | OpenFlag.TRUNC, false);
  expect(await h.readFile('a')).toBe('new');
});

test('K11: resent setattr, xattrs, fallocate and copy answer what they answered', async () => {
  await h.writeFile('a', 'hello');
  await h.writeFile('b', '');
  const ino = (path: string): number => h.inodeOf(path).ino;
  const attr = await twice((ctx) => h.fs.setattr(ctx, ino('a'), { sizeBytes: 3, killSuidGid: false }));
  expect(attr.second.attr.sizeBytes).toBe(3);
  await twice((ctx) => h.fs.setxattr(ctx, ino('a'), 'user.x', Buffer.from('1'), 1));
  await twice((ctx) => h.fs.removexattr(ctx, ino('a'), 'user.x'));
  await twice((ctx) => h.fs.fallocate(ctx, ino('a'), 0, 0, 2, FallocateMode.PUNCH_HOLE | FallocateMode.KEEP_SIZE));
  const copied = await twice((ctx) => h.fs.copyFileRange(ctx, ino('a'), 0, 0, ino('b'), 0, 0, 10));
  expect([copied.first, copied.second]).toEqual([3, 3]);
  expect(await h.readFile('b')).toBe('\0\0l');
});

test('K11: a request that was not executed before the crash is executed when it is resent', async () => {
  const ctx = h.context();
  await h.crash();
  await h.fs.mkdir(h.resent(ctx), rootIno, 'd', 0o755);
  expect(await h.readdir('')).toEqual(['d']);
});

test('K11: a resent request that failed fails again; RELEASE of an unknown handle succeeds', async () => {
  await h.writeFile('a', 'x');
  const ctx = h.context();
  expect(await errnoOf(() => h.fs.mkdir(ctx, rootIno, 'a', 0o755))).toBe('EEXIST');
  await h.crash();
  expect(await errnoOf(() => h.fs.mkdir(h.resent(ctx), rootIno, 'a', 0o755))).toBe('EEXIST');
  expect(await errnoOf(() => h.fs.release(h.context(), h.inodeOf('a').ino, 987_654))).toBe('ok');
});

test('answers are kept until the reply left and go in a later transaction; a new connection has none', async () => {
  const first = h.context();
  await h.fs.mkdir(first, rootIno, 'a', 0o755);
  expect(replayRows()).toBe(1);
  h.fs.delivered(first);
  expect(replayRows()).toBe(1);
  await h.fs.mkdir(h.context(), rootIno, 'b', 0o755);
  expect(replayRows()).toBe(1);
  await h.crash();
  expect(replayRows()).toBe(1);
  await h.remount();
  expect(replayRows()).toBe(0);
});

test('K12: answers nobody got go as well, and so do those of requests that failed: they are not sent again', async () => {
  await h.writeFile('a', 'x');
  const [gone, failed] = [h.context(), h.context()];
  await h.fs.rename(gone, rootIno, 'a', rootIno, 'b', 0);
  h.fs.undelivered(gone, {});
  await h.using('b', OpenFlag.RDWR, async (handle) => {
    await h.fs.copyFileRange(failed, handle.ino, handle.fh, 0, handle.ino, handle.fh, 10, 5);
  });
  h.fs.undelivered(failed, {}); // as the session says it after an error
  await h.mkdir('last');
  expect(replayRows()).toBe(1);
});

test('answers of ten thousand delivered requests do not pile up', async () => {
  await h.writeFile('a', 'x');
  for (let i = 0; i < 1000; i++) await h.chmod('a', 0o600 + (i % 8));
  expect(replayRows()).toBeLessThan(300);
});

test('K12: what the kernel never got is undone: the open of a create, and an orphan\'s last reference', async () => {
  const ctx = h.context();
  const reply = await h.fs.create(ctx, rootIno, 'f', OpenFlag.RDWR, 0o600);
  const { ino } = reply.attr!;
  await h.fs.unlink(h.context(), rootIno, 'f');
  h.fs.undelivered(ctx, { lookupIno: ino, open: { ino, fh: reply.fh, flags: OpenFlag.RDWR, directory: false } });
  expect(h.fs.files.size).toBe(0);
  expect(h.tree.inodes.get(ino)).toBeUndefined();
});

test('K12: what is undone leaves no answer of its own, and is undone also if an earlier daemon executed it', async () => {
  const created = h.context();
  const { attr, fh } = await h.fs.create(created, rootIno, 'f', OpenFlag.RDWR, 0o600);
  const { ino } = attr!;
  h.fs.delivered(created);
  await h.fs.unlink(h.context(), rootIno, 'f');
  const again = h.context(); // by /proc/self/fd
  await h.fs.open(again, ino, OpenFlag.RDONLY, false);
  await h.crash();
  const reply = await h.fs.open(h.resent(again), ino, OpenFlag.RDONLY, false);
  h.fs.undelivered(h.resent(again), { open: { ino, fh: reply.fh, flags: OpenFlag.RDONLY, directory: false } });
  expect(h.tree.inodes.get(ino)).toBeDefined();
  h.fs.release(h.context(), ino, fh);
  h.fs.forget(ino);
  expect(h.tree.inodes.get(ino)).toBeUndefined();
});

test.each([['collapses', FallocateMode.COLLAPSE_RANGE], ['inserts', FallocateMode.INSERT_RANGE]] as const)('K11: a fallocate that %s a range does it once, wherever the daemon dies over it', async (_name, mode) => {
  const data = Buffer.from(Array.from({ length: 20_000 }, (_, index) => index % 251));
  const wanted = mode === FallocateMode.COLLAPSE_RANGE ? Buffer.concat([data.subarray(0, 4096), data.subarray(8192)]) : Buffer.concat([data.subarray(0, 4096), Buffer.alloc(4096), data.subarray(4096)]);
  for (let points = mode === FallocateMode.COLLAPSE_RANGE ? 1 : 3; ; points += 4) {
    const disk = await FsHarness.open({ onDisk: true });
    try {
      await disk.writeFile('f', data);
      await disk.sync();
      await disk.evict();
      disk.crashAfter(points);
      const outcome = await errnoOf(disk.using('f', OpenFlag.RDWR, (handle) => disk.fallocate(handle, mode, 4096, 4096)));
      if (outcome === 'EOPNOTSUPP') return; // not every file system can
      expect(outcome).toBe('ok');
      disk.crashAfter(Infinity);
      expect((await disk.readBytes('f')).equals(wanted), disk.diedAt).toBe(true);
      if (disk.deaths === 0) return;
      await disk.crash(); // and nothing of it comes from S3 later
      expect((await disk.readBytes('f')).equals(wanted), disk.diedAt).toBe(true);
    } finally {
      await disk.close();
    }
  }
}, 120_000);

test('K11: a copy behind the end of its own file copies what was there before, wherever the daemon dies', async () => {
  for (let points = 1; points <= 8; points++) {
    const name = `f${points}`;
    await h.writeFile(name, 'x');
    h.crashAfter(points);
    await h.using(name, OpenFlag.RDWR, async (handle) => expect(await h.copyRange(handle, 0, handle, 10, 5)).toBe(1));
    expect(await h.readFile(name), `died at point ${points}`).toBe(`x${'\0'.repeat(9)}x`);
    await h.alive();
  }
  expect(h.deaths).toBeGreaterThan(1);
});
