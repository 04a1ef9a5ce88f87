import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OpenFlag, XattrFlag } from '../fuse/ops.js';
import { FileType } from '../meta/inode.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
beforeEach(async () => { h = await FsHarness.open(); });
afterEach(async () => {
  h.checkInvariants();
  await h.close();
});

describe('attributes of objects that others made', () => {
  test('are completed from their metadata as s3fs and rclone write it', async () => {
    await h.stranger.put('a', 'x', { metadata: { mode: String(0o100640), uid: '12', gid: '34', mtime: '1600000000.000000005', atime: '1600000001', ctime: '1600000002' } });
    expect(await h.stat('a')).toMatchObject({
      mode: 0o100640, uid: 12, gid: 34, mtime: { sec: 1_600_000_000, nsec: 5 }, atime: { sec: 1_600_000_001, nsec: 0 }, ctime: { sec: 1_600_000_002, nsec: 0 },
    });
  });

  test('without metadata are the defaults of the mount, and the time of the upload', async () => {
    await h.stranger.put('a', 'x');
    expect(await h.stat('a')).toMatchObject({ mode: 0o100644, uid: 0, gid: 0, nlink: 1, mtime: { sec: 1_700_000_000, nsec: 0 } });
  });

  test('symlinks, fifos and devices are what their mode says; an empty or too long symlink is a file', async () => {
    await h.stranger.put('link', 'to/there', { metadata: { mode: String(FileType.LINK | 0o777) } });
    await h.stranger.put('fifo', '', { metadata: { mode: String(FileType.FIFO | 0o600) } });
    await h.stranger.put('dev', '', { metadata: { mode: String(FileType.BLOCK | 0o600), 'hearthfs-rdev': '2049' } });
    await h.stranger.put('empty', '', { metadata: { mode: String(FileType.LINK | 0o777) } });
    expect(await h.readlink('link')).toBe('to/there');
    expect((await h.stat('fifo')).mode).toBe(FileType.FIFO | 0o600);
    expect(await h.stat('dev')).toMatchObject({ mode: FileType.BLOCK | 0o600, rdev: 2049 });
    expect((await h.stat('empty')).mode).toBe(FileType.REG | 0o777);
  });

  test('are completed before they are changed, and what is not ours is carried along (J12)', async () => {
    await h.stranger.put('a', 'x', { metadata: { mode: String(0o100640), uid: '12', foreign: 'kept' }, cacheControl: 'no-store', contentType: 'image/x' });
    await h.setattr('a', { gid: 99 });
    await h.sync();
    const { attributes } = h.memory.snapshot().get('a')!;
    expect(attributes).toMatchObject({ cacheControl: 'no-store', contentType: 'image/x' });
    expect(attributes.metadata).toMatchObject({ mode: String(0o100640), uid: '12', gid: '99', foreign: 'kept' });
  });

  test('with --attributes=listing cost no HEAD', async () => {
    const other = await h.freshMount({ config: { attributes: 'listing' } });
    await h.stranger.put('d/a', 'x', { metadata: { mode: String(0o100640) } });
    expect((await other.readdirplus('d')).find(({ name }) => name === 'a')?.entry?.attr?.mode).toBe(0o100644);
    expect(h.calls('head')).toBe(0);
    await other.close();
  });
});

describe('setattr', () => {
  test('changes exactly what it is told, and ctime', async () => {
    await h.writeFile('a', 'x');
    const before = await h.stat('a');
    h.clock.advance(5000);
    expect(await h.setattr('a', { uid: 5 })).toMatchObject({ uid: 5, gid: before.gid, mode: before.mode, mtime: before.mtime, atime: before.atime, ctime: { sec: before.ctime.sec + 5 } });
    expect(await h.setattr('a', { mode: 0o600 })).toMatchObject({ mode: 0o100600, uid: 5, mtime: before.mtime });
    expect(await h.setattr('a', { atime: { sec: -7, nsec: 999_999_999 } })).toMatchObject({ atime: { sec: -7, nsec: 999_999_999 }, mtime: before.mtime });
    expect(await h.setattr('a', { mtime: { sec: 2 ** 33, nsec: 1 } })).toMatchObject({ atime: { sec: -7, nsec: 999_999_999 }, mtime: { sec: 2 ** 33, nsec: 1 } });
    expect(await h.setattr('a', { mtime: 'now' })).toMatchObject({ mtime: h.clock.time() });
  });

  test('times with nanoseconds, negative ones included, come back on another mount, of files and of directories', async () => {
    await h.writeFile('a', 'x');
    await h.mkdir('d');
    const [atime, mtime] = [{ sec: 1_000_000_000, nsec: 1 }, { sec: -100, nsec: 123_456_789 }];
    await h.utimens('a', atime, mtime);
    await h.utimens('d', atime, mtime);
    await h.sync();
    const other = await h.freshMount();
    expect(await other.stat('a')).toMatchObject({ atime, mtime });
    expect(await other.stat('d')).toMatchObject({ atime, mtime });
    await other.close();
  });

  test('survives a crash (accepted) and remount', async () => {
    await h.writeFile('a', 'x');
    await h.sync();
    await h.setattr('a', { mode: 0o600, uid: 5, mtime: { sec: 7, nsec: 8 } });
    await h.crash();
    expect(await h.stat('a')).toMatchObject({ mode: 0o100600, uid: 5, mtime: { sec: 7, nsec: 8 } });
    await h.remount();
    expect(await h.stat('a')).toMatchObject({ mode: 0o100600, uid: 5, mtime: { sec: 7, nsec: 8 } });
  });

  test('K2: valid=0, a truncation by others and a chown clear setuid, and setgid where the group may execute; chmod does not', async () => {
    await h.writeFile('a', 'x');
    const cleared = async (mode: number, change: Parameters<FsHarness['setattr']>[1]): Promise<number> => {
      await h.chmod('a', mode);
      return (await h.setattr('a', change)).mode & 0o7777;
    };
    expect(await cleared(0o6755, { killSuidGid: true })).toBe(0o755);
    expect(await cleared(0o6745, { killSuidGid: true })).toBe(0o2745); // mandatory locking, not setgid
    expect(await cleared(0o6755, { uid: 3 })).toBe(0o755);
    expect(await cleared(0o6755, { gid: 3 })).toBe(0o755);
    expect(await cleared(0o6755, { sizeBytes: 0, killSuidGid: true })).toBe(0o755);
    expect(await cleared(0o6755, { sizeBytes: 0 })).toBe(0o6755);
    expect(await cleared(0o0755, { mode: 0o6711 })).toBe(0o6711);
    await h.mkdir('d', 0o2755);
    expect((await h.setattr('d', { gid: 3 })).mode & 0o7777).toBe(0o2755); // of a directory it means something else
  });

  test('setgid of a file its group may not execute goes, too, unless the caller is of the group', async () => {
    await h.close();
    h = await FsHarness.open({ groups: { 70: [8, 50], 71: [8] } });
    await h.writeFile('a', 'x');
    await h.setattr('a', { gid: 50 });
    const cleared = async (caller: Parameters<FsHarness['setattr']>[2], change: Parameters<FsHarness['setattr']>[1] = { killSuidGid: true }): Promise<number> => {
      await h.setattr('a', { mode: 0o6766, gid: 50 });
      return (await h.setattr('a', change, caller)).mode & 0o7777;
    };
    const uid = 7;
    expect(await cleared({ uid, gid: 7, pid: 71 })).toBe(0o766);
    expect(await cleared({ uid, gid: 7, pid: 70 })).toBe(0o2766);
    expect(await cleared({ uid, gid: 50, pid: 71 })).toBe(0o2766);
    expect(await cleared({ uid, gid: 7, supplementaryGid: 50 })).toBe(0o2766);
    expect(await cleared({ uid, gid: 7, pid: 71 }, { gid: 8 })).toBe(0o766); // the group it had counts
    expect(await cleared({ uid: 0, pid: 71 }, { gid: 8 })).toBe(0o2766);
    expect(await cleared({ uid, gid: 7, pid: 71 }, { sizeBytes: 0, killSuidGid: true })).toBe(0o766);
  });

  test('K2: file capabilities go with the first write and with chown', async () => {
    await h.writeFile('a', 'x');
    await h.setxattr('a', 'security.capability', 'cap');
    await h.setattr('a', { uid: 3 });
    expect(await h.listxattr('a')).toEqual([]);
    await h.setxattr('a', 'security.capability', 'cap');
    await h.sync();
    await h.writeAt('a', 0, 'y');
    expect(await h.listxattr('a')).toEqual([]);
  });

  test('of an implied directory gives it a marker of its own; of the root stays here', async () => {
    await h.stranger.put('d/x', 'x');
    await h.chmod('d', 0o700);
    await h.chmod('', 0o711);
    await h.sync();
    expect(h.stranger.keys()).toEqual(['d/', 'd/x']);
    expect((await h.getattr('')).mode & 0o7777).toBe(0o711);
  });

  test('through a handle of an unlinked file works', async () => {
    const handle = await h.create('a');
    await h.unlink('a');
    await h.fs.setattr(h.context(), handle.ino, { mode: 0o600, sizeBytes: 10, killSuidGid: false });
    expect(await h.fstat(handle)).toMatchObject({ mode: 0o100600, sizeBytes: 10, nlink: 0 });
    await h.closeFile(handle);
  });
});

test('atime moves as relatime has it, and never causes an upload (J11)', async () => {
  await h.writeFile('a', 'x');
  await h.sync();
  const puts = h.calls('put');
  h.clock.advance(10_000);
  await h.readFile('a');
  const first = (await h.stat('a')).atime;
  expect(first).toEqual(h.clock.time());
  h.clock.advance(10_000);
  await h.readFile('a');
  expect((await h.stat('a')).atime).toEqual(first);
  h.clock.advance(86_400_000);
  await h.readFile('a');
  expect((await h.stat('a')).atime).toEqual(h.clock.time());
  await h.sync();
  expect(h.calls('put')).toBe(puts);
});

test('st_blocks of a sparse local file says what it takes, of one that is in S3 its size', async () => {
  await h.writeFile('a', '');
  await h.truncate('a', 1_000_000);
  expect((await h.getattr('a')).blocks).toBeLessThan(100);
  await h.stranger.put('b', Buffer.alloc(10_000));
  h.clock.advance(61_000);
  expect((await h.stat('b')).blocks).toBe(20);
});

describe('extended attributes', () => {
  test('are set, listed, replaced and removed with the errors of setxattr(2)', async () => {
    await h.writeFile('a', 'x');
    await h.setxattr('a', 'user.one', 'v1', XattrFlag.CREATE);
    expect(await errnoOf(() => h.setxattr('a', 'user.one', 'v', XattrFlag.CREATE))).toBe('EEXIST');
    expect(await errnoOf(() => h.setxattr('a', 'user.two', 'v', XattrFlag.REPLACE))).toBe('ENODATA');
    await h.setxattr('a', 'user.one', 'v2', XattrFlag.REPLACE);
    await h.setxattr('a', 'user.bin', Buffer.from([0, 255, 1]));
    expect(await h.getxattr('a', 'user.one')).toBe('v2');
    expect((await h.listxattr('a')).sort()).toEqual(['user.bin', 'user.one']);
    await h.removexattr('a', 'user.one');
    expect(await errnoOf(() => h.removexattr('a', 'user.one'))).toBe('ENODATA');
    expect(await errnoOf(() => h.getxattr('a', 'user.one'))).toBe('ENODATA');
    await h.sync();
    const other = await h.freshMount();
    expect(await other.listxattr('a')).toEqual(['user.bin']);
    await other.close();
  });

  test('K3: an unknown name is ENODATA, whatever it is, never ENOSYS', async () => {
    await h.writeFile('a', 'x');
    await h.setxattr('a', 'user.x', 'y');
    for (const name of ['security.capability', 'system.posix_acl_access', 'constructor', '__proto__', 'user.toString']) expect(await errnoOf(() => h.getxattr('a', name))).toBe('ENODATA');
    expect(await errnoOf(() => h.removexattr('a', 'user.constructor'))).toBe('ENODATA');
  });

  test('of other namespaces are EOPNOTSUPP; names over 255 bytes ERANGE; values over 64 KiB E2BIG', async () => {
    await h.writeFile('a', 'x');
    expect(await errnoOf(() => h.setxattr('a', 'system.nfs4_acl', 'v'))).toBe('EOPNOTSUPP');
    expect(await errnoOf(() => h.setxattr('a', 'nothing', 'v'))).toBe('EOPNOTSUPP');
    expect(await errnoOf(() => h.setxattr('a', `user.${'n'.repeat(251)}`, 'v'))).toBe('ERANGE');
    expect(await errnoOf(() => h.setxattr('a', 'user.x', Buffer.alloc(65_537)))).toBe('E2BIG');
  });

  test('that do not fit S3\'s 2 KB are ENOSPC; the largest that fits can be uploaded whatever else changes', async () => {
    await h.writeFile('a', 'x');
    expect(await errnoOf(() => h.setxattr('a', 'user.x', Buffer.alloc(2000)))).toBe('ENOSPC');
    let low = 100;
    for (let high = 2000; high - low > 1; ) {
      const middle = (low + high) >> 1;
      if ((await errnoOf(() => h.setxattr('a', 'user.x', Buffer.alloc(middle, 1)))) === 'ok') low = middle;
      else high = middle;
    }
    expect(low).toBeGreaterThan(900);
    await h.setxattr('a', 'user.x', Buffer.alloc(low, 1));
    await h.setattr('a', { uid: 4_000_000_000, gid: 4_000_000_000, atime: { sec: 9_999_999_999, nsec: 123_456_789 }, mtime: { sec: 9_999_999_999, nsec: 123_456_789 } });
    await h.link('a', 'b');
    await h.sync(); // parks nothing
    expect(h.journal.parkedCount()).toBe(0);
  });

  test('of directories are kept by their marker', async () => {
    await h.stranger.put('d/x', 'x');
    await h.setxattr('d', 'user.x', 'y');
    await h.sync();
    const other = await h.freshMount();
    expect(await other.getxattr('d', 'user.x')).toBe('y');
    await other.close();
  });
});

test('write-through: close(2) answers once S3 has the file', async () => {
  const other = await h.freshMount({ config: { writeMode: 'through' } });
  other.daemon.writeback.start();
  const handle = await other.create('a', OpenFlag.WRONLY);
  await other.pwrite(handle, 0, 'x');
  other.clock.advance(60_000);
  await other.closeFile(handle);
  expect(other.stranger.text('a')).toBe('x');
  await other.close();
});

test('what others put over a file of ours without our metadata shows the defaults, here as in every other mount', async () => {
  await h.writeFile('a', 'ours');
  await h.setattr('a', { mode: 0o640, uid: 1000, gid: 1000 });
  await h.sync();
  await h.stranger.put('a', 'theirs');
  h.clock.advance(h.daemon.config.ttlMs! + 1000);
  const other = await h.freshMount();
  const shown = async (mount: FsHarness): Promise<number[]> => {
    const { mode, uid, gid } = await mount.stat('a');
    return [mode & 0o7777, uid, gid];
  };
  expect(await shown(h)).toEqual([0o644, 0, 0]);
  expect(await shown(other)).toEqual([0o644, 0, 0]);
  await other.close();
});

test('times that are set while the file is on its way to S3 get there, too, at whatever moment of the upload', async () => {
  for (let moment = 0; moment < 24; moment++) {
    const h = await FsHarness.open({ writeback: { singlePutBytesMax: 100_000, partBytes: 65_536 } });
    await h.writeFile('a', Buffer.alloc(moment % 2 ? 200_000 : 10, 1));
    h.clock.advance(1500);
    await h.beginUploads();
    for (let i = 0; i < moment >> 1; i++) await (i < 6 ? new Promise((resolve) => setImmediate(resolve)) : h.letGo());
    await h.utimens('a', undefined, { sec: 1_000_000_000, nsec: 5 });
    await h.sync();
    expect(h.memory.snapshot().get('a')!.attributes.metadata['mtime'], `at moment ${moment}`).toBe('1000000000.000000005');
    await h.close();
  }
});

test('an empty file that gets its first bytes while its attributes are on their way has them in S3, too', async () => {
  for (let moment = 0; moment < 14; moment++) {
    const h = await FsHarness.open();
    await h.stranger.put('file', '');
    await h.chmod('file', 0o600);
    const handle = await h.open('file', OpenFlag.WRONLY);
    h.clock.advance(61_000);
    const work = h.daemon.writeback.runDue();
    for (let i = 0; i < moment; i++) await Promise.resolve();
    await h.pwrite(handle, 0, 'abc');
    await work;
    await h.closeFile(handle);
    await h.sync();
    expect(h.stranger.text('file'), `at moment ${moment}`).toBe('abc');
    await h.close();
  }
});
