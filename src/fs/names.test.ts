import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OpenFlag } from '../fuse/ops.js';
import { FileType, rootIno } from '../meta/inode.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
beforeEach(async () => { h = await FsHarness.open(); });
afterEach(async () => {
  h.checkInvariants();
  await h.close();
});

const rows = (sql: string): number => h.daemon.db.prepare<[], { n: number }>(sql).get()!.n;
const orphans = (): number => rows('SELECT count(*) AS n FROM inode WHERE nlink = 0');

describe('making names', () => {
  test('an existing name is EEXIST for whoever needs a new one, and an open for CREATE without O_EXCL', async () => {
    await h.stranger.put('theirs', 'x');
    await h.writeFile('ours', 'y');
    for (const name of ['theirs', 'ours']) {
      expect(await errnoOf(() => h.mkdir(name))).toBe('EEXIST');
      expect(await errnoOf(() => h.mknod(name, FileType.FIFO | 0o600))).toBe('EEXIST');
      expect(await errnoOf(() => h.symlink(name, 't'))).toBe('EEXIST');
      expect(await errnoOf(() => h.link('ours', name))).toBe('EEXIST');
      expect(await errnoOf(() => h.create(name, OpenFlag.RDWR | OpenFlag.EXCL))).toBe('EEXIST');
    }
    const handle = await h.create('theirs', OpenFlag.RDWR);
    expect((await h.pread(handle, 0, 5)).toString()).toBe('x');
    await h.closeFile(handle);
    const truncated = await h.create('theirs', OpenFlag.RDWR | OpenFlag.TRUNC);
    expect((await h.fstat(truncated)).sizeBytes).toBe(0);
    await h.closeFile(truncated);
  });

  test('CREATE of what turned out to be a directory is EISDIR, of a symlink ESTALE, so that the kernel walks again', async () => {
    await h.mkdir('d');
    await h.symlink('l', 'd');
    expect(await errnoOf(() => h.create('d'))).toBe('EISDIR');
    expect(await errnoOf(() => h.create('l'))).toBe('ESTALE');
  });

  test('two who make the same name at the same time: one makes it, the other opens it or gets EEXIST', async () => {
    await h.stranger.put('d/other', 'x');
    const { ino } = await h.stat('d');
    const made = await Promise.all([0, 1, 2].map(() => errnoOf(() => h.fs.mkdir(h.context(), ino, 'new', 0o755))));
    expect(made.sort()).toEqual(['EEXIST', 'EEXIST', 'ok']);
    const created = await Promise.all([0, 1].map(() => h.fs.create(h.context(), ino, 'file', OpenFlag.RDWR, 0o644)));
    expect(created[0]!.attr!.ino).toBe(created[1]!.attr!.ino);
    expect(h.fs.files.openCount(created[0]!.attr!.ino)).toBe(2);
  });

  test('nothing is made in a directory that was removed', async () => {
    await h.mkdir('d');
    const { ino } = await h.stat('d');
    const ctx = h.context();
    await h.fs.rmdir(ctx, rootIno, 'd'); // its number stays until the kernel forgets it: somebody's working directory
    expect(await errnoOf(() => h.fs.mkdir(h.context(), ino, 'x', 0o755))).toBe('ENOENT');
    expect(await errnoOf(() => h.fs.create(h.context(), ino, 'x', OpenFlag.RDWR, 0o644))).toBe('ENOENT');
    expect(await h.fs.lookup(h.context(), ino, 'x')).toMatchObject({ attr: null });
    h.fs.forget(ino);
  });

  test('special files, devices and symlinks are in S3 and come back on another mount', async () => {
    await h.mknod('fifo', FileType.FIFO | 0o640);
    await h.mknod('dev', FileType.CHAR | 0o600, 0x103);
    await h.mknod('plain', FileType.REG | 0o600);
    await h.symlink('link', 'fifo');
    expect((await h.stat('link')).sizeBytes).toBe(4);
    await h.sync();
    const other = await h.freshMount();
    expect(await other.stat('fifo')).toMatchObject({ mode: FileType.FIFO | 0o640, sizeBytes: 0 });
    expect(await other.stat('dev')).toMatchObject({ mode: FileType.CHAR | 0o600, rdev: 0x103 });
    expect(await other.stat('plain')).toMatchObject({ mode: FileType.REG | 0o600, sizeBytes: 0 });
    expect(await other.stat('link')).toMatchObject({ mode: FileType.LINK | 0o777, sizeBytes: 4 });
    expect(await other.readlink('link')).toBe('fifo');
    expect(await errnoOf(() => other.readlink('plain'))).toBe('EINVAL');
    expect(await errnoOf(() => other.open('fifo'))).toBe('ENXIO');
    await other.close();
  });

  test('a symlink target is 1 to 4095 bytes', async () => {
    expect(await errnoOf(() => h.symlink('l', ''))).toBe('ENOENT');
    expect(await errnoOf(() => h.symlink('l', 't'.repeat(4096)))).toBe('ENAMETOOLONG');
    await h.symlink('l', 't'.repeat(4095));
    await h.sync();
    const other = await h.freshMount();
    expect(await other.readlink('l')).toBe('t'.repeat(4095));
    await other.close();
  });

  test('a new file belongs to its maker; in a setgid directory to the directory\'s group, and directories pass the bit on', async () => {
    await h.mkdir('d', 0o2775);
    await h.setattr('d', { gid: 50 });
    await h.setattr('d', { mode: 0o2775 });
    const caller = { uid: 7, gid: 8 };
    const owner = async (path: string): Promise<number[]> => { const { uid, gid, mode } = await h.stat(path); return [uid, gid, mode & 0o7777]; };
    await h.closeFile(await h.create('mine', OpenFlag.RDWR, 0o644, caller));
    await h.closeFile(await h.create('d/mine', OpenFlag.RDWR, 0o644, caller));
    await h.mkdir('d/sub', 0o755, caller);
    await h.mkdir('d/sub/sub', 0o700, caller);
    expect(await owner('mine')).toEqual([7, 8, 0o644]);
    expect(await owner('d/mine')).toEqual([7, 50, 0o644]);
    expect(await owner('d/sub')).toEqual([7, 50, 0o2755]);
    expect(await owner('d/sub/sub')).toEqual([7, 50, 0o2700]);
    // setgid and executable for a group the maker is not in: the bit goes
    await h.closeFile(await h.create('d/sgid', OpenFlag.RDWR, 0o2755, caller));
    expect(await owner('d/sgid')).toEqual([7, 50, 0o755]);
    await h.closeFile(await h.create('d/member', OpenFlag.RDWR, 0o2755, { ...caller, supplementaryGid: 50 }));
    expect(await owner('d/member')).toEqual([7, 50, 0o2755]);
  });

  test('a new directory has nlink 2, and each subdirectory adds one to its parent', async () => {
    const before = (await h.getattr('')).nlink;
    await h.mkdir('d');
    await h.mkdir('d/a');
    await h.mkdir('d/b');
    expect((await h.stat('d')).nlink).toBe(4);
    expect((await h.getattr('')).nlink).toBe(before + 1);
    await h.rename('d/a', 'a');
    await h.rmdir('d/b');
    expect((await h.stat('d')).nlink).toBe(2);
    expect((await h.getattr('')).nlink).toBe(before + 2);
  });

  test('a name moves the times of its directory, and not those of others', async () => {
    await h.mkdir('d');
    await h.mkdir('e');
    h.clock.advance(5000);
    await h.writeFile('d/a', 'x');
    const [d, e] = [await h.stat('d'), await h.stat('e')];
    expect(d.mtime.sec - e.mtime.sec).toBe(5);
    expect(d.ctime).toEqual(d.mtime);
    h.clock.advance(5000);
    await h.unlink('d/a');
    expect((await h.stat('d')).mtime.sec - d.mtime.sec).toBe(5);
  });
});

describe('hard links', () => {
  test('share everything, count themselves, and lose one name at a time', async () => {
    await h.writeFile('a', 'x');
    await h.mkdir('d');
    await h.link('a', 'd/b');
    expect(await h.stat('d/b')).toEqual(await h.stat('a'));
    expect((await h.stat('a')).nlink).toBe(2);
    await h.writeAt('d/b', 1, 'y');
    await h.chmod('a', 0o600);
    expect(await h.readFile('a')).toBe('xy');
    await h.sync();
    expect([h.stranger.text('a'), h.stranger.text('d/b')]).toEqual(['xy', 'xy']);
    await h.unlink('a');
    expect(await h.stat('d/b')).toMatchObject({ nlink: 1, mode: 0o100600 });
    await h.sync();
    expect(h.stranger.keys()).toEqual(['d/', 'd/b']);
  });

  test('of a directory are EPERM; of what is gone ESTALE', async () => {
    await h.mkdir('d');
    expect(await errnoOf(() => h.link('d', 'e'))).toBe('EPERM');
    expect(await errnoOf(() => h.fs.link(h.context(), 4711, rootIno, 'x'))).toBe('ESTALE');
  });
});

describe('removing names', () => {
  test('unlink of a directory is EISDIR, rmdir of a file ENOTDIR, of a full directory ENOTEMPTY, of nothing ENOENT', async () => {
    await h.stranger.put('t/f', 'x');
    await h.mkdir('d');
    await h.writeFile('d/f', 'x');
    const fs = h.fs;
    expect(await errnoOf(() => fs.unlink(h.context(), rootIno, 'd'))).toBe('EISDIR');
    expect(await errnoOf(() => fs.rmdir(h.context(), h.inodeOf('d').ino, 'f'))).toBe('ENOTDIR');
    expect(await errnoOf(() => fs.rmdir(h.context(), rootIno, 'd'))).toBe('ENOTEMPTY');
    expect(await errnoOf(() => fs.rmdir(h.context(), rootIno, 't'))).toBe('ENOTEMPTY'); // J7: listed first
    expect(await errnoOf(() => fs.rmdir(h.context(), rootIno, 'x'))).toBe('ENOENT');
    expect(await errnoOf(() => fs.unlink(h.context(), rootIno, 'x'))).toBe('ENOENT');
  });

  test('J4: a directory that was only implied gets a marker before its last child is deleted', async () => {
    await h.stranger.put('d/a', 'x');
    await h.unlink('d/a');
    await h.sync();
    expect(h.stranger.keys()).toEqual(['d/']);
    const other = await h.freshMount();
    expect(await other.readdir('')).toEqual(['d']);
    await other.close();
    await h.rmdir('d');
    await h.sync();
    expect(h.stranger.keys()).toEqual([]);
  });

  test('J4: the same for the last child renamed away, the directory\'s attributes included', async () => {
    await h.stranger.put('d/a', 'x');
    await h.chmod('d', 0o700);
    await h.rename('d/a', 'a');
    await h.sync();
    expect(h.stranger.keys()).toEqual(['a', 'd/']);
    const other = await h.freshMount();
    expect((await other.stat('d')).mode).toBe(0o040700);
    await other.close();
  });

  test('a marker with attributes that a folded prefix hides is found before the directory is shown', async () => {
    await h.stranger.put('d/', '', { metadata: { mode: String(0o040711), uid: '12' } });
    await h.stranger.put('d/x', '');
    expect(await h.stat('d')).toMatchObject({ mode: 0o040711, uid: 12 });
    expect((await h.readdirplus('')).find(({ name }) => name === 'd')?.entry?.attr).toMatchObject({ mode: 0o040711, uid: 12 });
  });

  test('an open file outlives its name, and goes with its last handle and FORGET (K14)', async () => {
    await h.writeFile('a', 'x');
    const handle = await h.open('a', OpenFlag.RDWR);
    await h.unlink('a');
    expect(await h.exists('a')).toBe(false);
    expect((await h.fstat(handle)).nlink).toBe(0);
    await h.pwrite(handle, 1, 'y');
    await h.writeFile('a', 'another');
    expect((await h.pread(handle, 0, 10)).toString()).toBe('xy');
    await h.sync();
    expect(h.stranger.text('a')).toBe('another');
    await h.closeFile(handle);
    expect(orphans()).toBe(0);
  });

  test('K12: an open unlinked file survives a crash, is written on by its old handle, and goes at its last RELEASE', async () => {
    const handle = await h.create('a');
    await h.pwrite(handle, 0, 'before');
    await h.unlink('a');
    await h.crash();
    expect((await h.pread(handle, 0, 20)).toString()).toBe('before');
    await h.pwrite(handle, 6, ' after');
    expect((await h.pread(handle, 0, 20)).toString()).toBe('before after');
    expect(orphans()).toBe(1);
    await h.closeFile(handle);
    expect(orphans()).toBe(0);
    expect(h.daemon.contents.stats().dirtyBytes).toBe(0);
  });

  test('orphans whose FORGET was lost in a crash go with the next new connection', async () => {
    const handle = await h.create('a');
    await h.pwrite(handle, 0, 'x');
    await h.unlink('a');
    await h.crash();
    await h.remount();
    expect(orphans()).toBe(0);
    expect(rows('SELECT count(*) AS n FROM content')).toBe(0);
  });

  test('a temporary file without a name can be given one', async () => {
    const handle = await h.tmpfile('');
    await h.pwrite(handle, 0, 'x');
    expect((await h.fstat(handle)).nlink).toBe(0);
    await h.fs.link(h.context(), handle.ino, rootIno, 'named');
    await h.closeFile(handle);
    expect(await h.stat('named')).toMatchObject({ nlink: 1, sizeBytes: 1 });
    await h.sync();
    expect(h.stranger.text('named')).toBe('x');
    const unnamed = await h.tmpfile('');
    await h.pwrite(unnamed, 0, 'y');
    await h.closeFile(unnamed);
    expect(orphans()).toBe(0);
  });

  test('a file made and removed before anything was sent never reaches S3', async () => {
    await h.writeFile('a', 'x');
    await h.unlink('a');
    await h.sync();
    expect(h.calls('put') + h.calls('delete')).toBe(0);
    expect(rows('SELECT count(*) AS n FROM content')).toBe(0);
  });
});

describe('readdir', () => {
  const names = async (from?: number): Promise<string[]> => (await h.readdirplus('d', { ...(from !== undefined && { from }), chunk: 3 })).map(({ name }) => name);

  test('K12: cookies survive deletes and the daemon: a scan that goes on sees each remaining name once', async () => {
    await h.mkdir('d');
    for (let i = 0; i < 10; i++) await h.writeFile(`d/${i}`, '');
    const first = (await h.readdirplus('d')).slice(0, 6);
    expect(first.map(({ name }) => name)).toEqual(['.', '..', '0', '1', '2', '3']);
    for (const name of ['1', '3', '5']) await h.unlink(`d/${name}`);
    expect(await names(first.at(-1)!.cookie)).toEqual(['4', '6', '7', '8', '9']);
    await h.crash();
    expect(await names(first.at(-1)!.cookie)).toEqual(['4', '6', '7', '8', '9']);
    expect(await names()).toEqual(['.', '..', '0', '2', '4', '6', '7', '8', '9']);
  });

  test('a daemon that made no name yet shows all that are there', async () => {
    await h.writeFile('a', '');
    await h.remount();
    expect(await h.readdir('')).toEqual(['a']);
  });

  test('a scan that renames what it sees ends', async () => {
    await h.mkdir('d');
    for (let i = 0; i < 20; i++) await h.writeFile(`d/${i}`, '');
    const { ino } = await h.stat('d');
    const { fh } = await h.fs.opendir(h.context(), ino);
    let seen = 0;
    for (let offset = 0, more = true; more; ) {
      more = false;
      const batch: string[] = [];
      await h.fs.readdir(h.context(), ino, fh, offset, { plus: false, roomFor: 4, add: (name, _ino, _mode, next) => batch.length < 4 && (offset = next, more = true, batch.push(name), true) });
      for (const name of batch) if (!name.startsWith('.')) {
        await h.rename(`d/${name}`, `d/new-${name}`);
        seen++;
      }
      expect(seen).toBeLessThan(40);
    }
    expect(seen).toBe(20);
    h.fs.releasedir(h.context(), ino, fh);
  });

  test('`.` and `..` have the numbers of the directory and of its parent', async () => {
    await h.mkdir('d');
    await h.mkdir('d/e');
    const listed = await h.readdirplus('d/e');
    expect(listed.map(({ name, ino }) => [name, ino])).toEqual([['.', h.inodeOf('d/e').ino], ['..', h.inodeOf('d').ino]]);
    expect((await h.readdirplus('')).slice(0, 2).map(({ ino }) => ino)).toEqual([rootIno, rootIno]);
  });

  test('without attributes asks S3 for none, and calls the type of what only a listing knows unknown', async () => {
    await h.stranger.put('a', 'x');
    await h.stranger.put('d/x', 'x');
    const heads = h.calls('head');
    const listed = await h.readdirplus('', { plus: false });
    expect(h.calls('head')).toBe(heads);
    expect(listed.slice(2).map(({ name, mode, entry }) => [name, mode & FileType.MASK, entry]).sort()).toEqual([['a', 0, undefined], ['d', FileType.DIR, undefined]]);
  });

  test('with attributes completes a whole batch with HEADs side by side, so that the stats after it cost nothing', async () => {
    for (let i = 0; i < 50; i++) await h.stranger.put(`${i}`, 'x', { metadata: { mode: String(i === 7 ? FileType.LINK | 0o777 : 0o100600) } });
    const listed = (await h.readdirplus('')).slice(2);
    expect(listed.filter(({ entry }) => entry?.attr)).toHaveLength(50);
    expect(listed.find(({ name }) => name === '7')?.mode).toBe(FileType.LINK | 0o777);
    const heads = h.calls('head');
    for (let i = 0; i < 50; i++) await h.stat(`${i}`);
    expect(h.calls('head')).toBe(heads);
  });

  test('of a file is ENOTDIR', async () => {
    await h.writeFile('a', '');
    expect(await errnoOf(() => h.readdir('a'))).toBe('ENOTDIR');
  });
});

describe('file handles', () => {
  const byNumber = (ino: number, name = '.'): Promise<number> => h.ask(async (ctx) => (await h.fs.lookup(ctx, ino, name)).attr!.ino);

  test('find what the kernel has forgotten: files, directories, the root, and the parents of directories', async () => {
    await h.mkdir('d');
    await h.mkdir('d/sub');
    await h.writeFile('d/file', 'x');
    const [d, sub, file] = await Promise.all(['d', 'd/sub', 'd/file'].map(async (path) => (await h.getattr(path)).ino)) as [number, number, number];
    await h.rename('d', 'renamed');
    await h.remount();
    for (const ino of [d, sub, file, rootIno]) expect(await byNumber(ino)).toBe(ino);
    expect(await byNumber(sub, '..')).toBe(d);
    expect(await byNumber(d, '..')).toBe(rootIno);
    expect(await byNumber(rootIno, '..')).toBe(rootIno);
    expect(await errnoOf(() => byNumber(file, '..'))).toBe('ENOTDIR');
  });

  test('are stale once the file is gone, here or in S3', async () => {
    await h.stranger.put('theirs', 'x');
    await h.mkdir('d');
    await h.writeFile('d/file', 'x');
    const [d, file, theirs] = await Promise.all(['d', 'd/file', 'theirs'].map(async (path) => (await h.getattr(path)).ino)) as [number, number, number];
    await h.unlink('d/file');
    await h.rmdir('d');
    await h.stranger.delete('theirs');
    h.clock.advance(61_000);
    for (const ino of [d, file, theirs, 4711]) expect(await errnoOf(() => byNumber(ino))).toBe('ESTALE');
    expect(await errnoOf(() => byNumber(d, '..'))).toBe('ESTALE');
  });

  test('of an open file without a name are stale: while it is open the kernel does not ask', async () => {
    await h.writeFile('file', 'x');
    const handle = await h.open('file');
    await h.unlink('file');
    expect(await errnoOf(() => byNumber(handle.ino))).toBe('ESTALE');
    expect(await errnoOf(() => byNumber(handle.ino, '..'))).toBe('ENOTDIR');
    await h.closeFile(handle);
  });
});
