import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OpenFlag, RenameFlag } from '../fuse/ops.js';
import { FileType, rootIno } from '../meta/inode.js';
import { errnoOf, FsHarness } from '../../test/support/fs-harness.js';

let h: FsHarness;
beforeEach(async () => { h = await FsHarness.open(); });
afterEach(async () => {
  h.checkInvariants();
  await h.close();
});

/** What lies at the place: a file, an empty directory, a full one, nothing. */
async function put(kind: string, path: string): Promise<void> {
  if (kind === 'file') await h.writeFile(path, path);
  if (kind === 'empty' || kind === 'full') await h.mkdir(path);
  if (kind === 'full') await h.writeFile(`${path}/inside`, path);
}
const kinds = ['file', 'empty', 'full', 'nothing'];
const plain: Record<string, string> = {
  'file file': 'ok', 'file empty': 'EISDIR', 'file full': 'EISDIR', 'file nothing': 'ok',
  'empty file': 'ENOTDIR', 'empty empty': 'ok', 'empty full': 'ENOTEMPTY', 'empty nothing': 'ok',
  'full file': 'ENOTDIR', 'full empty': 'ok', 'full full': 'ENOTEMPTY', 'full nothing': 'ok',
};

for (const uploaded of [false, true]) {
  describe(uploaded ? 'of what S3 has already' : 'before anything is uploaded', () => {
    test('rename answers as rename(2) for every pair of kinds, with and without flags, and S3 follows', async () => {
      let n = 0;
      const expected: string[] = [];
      for (const source of kinds.slice(0, 3)) for (const target of kinds) for (const flag of [0, RenameFlag.NOREPLACE, RenameFlag.EXCHANGE]) {
        const [a, b] = [`a${n}`, `b${n++}`];
        await put(source, a);
        await put(target, b);
        if (uploaded) await h.sync();
        const wanted = flag === 0 ? plain[`${source} ${target}`]! : flag === RenameFlag.NOREPLACE ? (target === 'nothing' ? 'ok' : 'EEXIST') : target === 'nothing' ? 'ENOENT' : 'ok';
        const { ino } = await h.stat(a);
        expect(await errnoOf(() => h.rename(a, b, flag)), `${source} to ${target}, flag ${flag}`).toBe(wanted);
        const [atA, atB] = wanted !== 'ok' ? [source, target] : flag === RenameFlag.EXCHANGE ? [target, source] : ['nothing', source];
        if (wanted === 'ok') expect((await h.stat(b)).ino).toBe(ino);
        for (const [path, kind] of [[a, atA], [b, atB]] as const) {
          expect(await h.exists(path), `${path} of ${source} to ${target}, flag ${flag}`).toBe(kind !== 'nothing');
          if (kind === 'file') expected.push(path);
          if (kind === 'empty' || kind === 'full') expected.push(`${path}/`);
          if (kind === 'full') expected.push(`${path}/inside`);
        }
      }
      await h.sync();
      expect(h.stranger.keys()).toEqual(expected.sort());
    });
  });
}

test('of two names of one file does nothing', async () => {
  await h.writeFile('a', 'x');
  await h.link('a', 'b');
  await h.rename('a', 'b');
  expect(await h.readdir('')).toEqual(['a', 'b']);
  expect((await h.stat('a')).nlink).toBe(2);
  await h.rename('a', 'a');
});

test('into its own subtree is EINVAL, both ways for EXCHANGE; over its own parent ENOTEMPTY', async () => {
  await h.mkdir('d');
  await h.mkdir('d/e');
  await h.mkdir('d/e/f');
  expect(await errnoOf(() => h.rename('d', 'd/e/x'))).toBe('EINVAL');
  expect(await errnoOf(() => h.rename('d', 'd/e/f'))).toBe('EINVAL');
  expect(await errnoOf(() => h.rename('d', 'd/e', RenameFlag.EXCHANGE))).toBe('EINVAL');
  expect(await errnoOf(() => h.rename('d/e/f', 'd', RenameFlag.EXCHANGE))).toBe('EINVAL');
  expect(await errnoOf(() => h.rename('d/e/f', 'd'))).toBe('ENOTEMPTY');
  expect(await errnoOf(() => h.rename('d', 'x', RenameFlag.NOREPLACE | RenameFlag.EXCHANGE))).toBe('EINVAL');
  expect(await errnoOf(() => h.rename('d', 'x', RenameFlag.WHITEOUT | RenameFlag.EXCHANGE))).toBe('EINVAL');
  expect(await errnoOf(() => h.rename('d', 'x', 8))).toBe('EINVAL');
});

test('WHITEOUT leaves a device node 0, 0 in the old place, here and in S3; a moved object follows all the same', async () => {
  await h.writeFile('a', 'text');
  await h.writeFile('there', 'old');
  await h.mkdir('d');
  await h.writeFile('d/x', 'inside');
  await h.sync();
  await h.rename('a', 'b', RenameFlag.WHITEOUT | RenameFlag.NOREPLACE);
  await h.rename('b', 'there', RenameFlag.WHITEOUT);
  await h.rename('d', 'e', RenameFlag.WHITEOUT);
  expect(await errnoOf(() => h.rename('there', 'a', RenameFlag.WHITEOUT | RenameFlag.NOREPLACE))).toBe('EEXIST');
  const check = async (at: FsHarness): Promise<void> => {
    expect(await at.readdir('')).toEqual(['a', 'b', 'd', 'e', 'there']);
    for (const name of ['a', 'b', 'd']) expect(await at.stat(name)).toMatchObject({ mode: FileType.CHAR, rdev: 0, nlink: 1, uid: 0 });
    expect(await at.readFile('there')).toBe('text');
    expect(await at.readFile('e/x')).toBe('inside');
  };
  await check(h);
  await h.crash();
  await check(h);
  await h.sync();
  expect(h.stranger.keys()).toEqual(['a', 'b', 'd', 'e/', 'e/x', 'there']);
  const other = await h.freshMount();
  await check(other);
  await other.close();
});

test('of an object that only a listing knows is a copy and a delete, and no byte comes here', async () => {
  await h.stranger.put('a', Buffer.alloc(2_000_000, 7), { metadata: { foreign: 'kept' } });
  const puts = h.calls('put');
  await h.rename('a', 'b');
  await h.sync();
  expect(h.stranger.keys()).toEqual(['b']);
  expect([h.calls('get'), h.calls('copy'), h.calls('put') - puts]).toEqual([0, 1, 0]);
  expect(h.memory.snapshot().get('b')!.attributes.metadata).toMatchObject({ foreign: 'kept' });
  expect((await h.readBytes('b')).equals(Buffer.alloc(2_000_000, 7))).toBe(true);
});

test('of a directory that is not listed lists it first, and moves all of it (J8)', async () => {
  for (const key of ['d/a', 'd/e/b', 'd/e/f/c']) await h.stranger.put(key, key);
  await h.rename('d', 'moved');
  expect(await h.readFile('moved/e/f/c')).toBe('d/e/f/c');
  await h.sync();
  expect(h.stranger.keys()).toEqual(['moved/', 'moved/a', 'moved/e/b', 'moved/e/f/c']);
  const other = await h.freshMount();
  expect(await other.readFile('moved/e/b')).toBe('d/e/b');
  await other.close();
});

test('of a directory nobody looked into: attributes are found where the objects still are', async () => {
  await h.stranger.put('d/file', 'x', { metadata: { mode: String(0o100640), foreign: 'kept' } });
  await h.stranger.put('d/link', 'file', { metadata: { mode: String(0o120777) } });
  await h.stranger.put('d/sub/', '', { metadata: { mode: String(0o040711) } });
  await h.stranger.put('d/sub/x', 'x', { metadata: { mode: String(0o100601) } });
  await h.rename('d', 'e');
  expect(await h.readlink('e/link')).toBe('file');
  expect((await h.stat('e/file')).mode).toBe(0o100640);
  h.daemon.db.tx(() => h.journal.mark('e/sub/x', 1000)); // as the walk does
  h.daemon.db.tx(() => h.journal.mark('e/sub/', 1000));
  expect((await h.stat('e/sub')).mode).toBe(0o040711);
  expect((await h.stat('e/sub/x')).mode).toBe(0o100601);
  expect(await h.readFile('e/file')).toBe('x');
  await h.sync();
  expect(h.memory.snapshot().get('e/file')!.attributes.metadata).toMatchObject({ mode: String(0o100640), foreign: 'kept' });
  const other = await h.freshMount();
  expect(await other.readlink('e/link')).toBe('file');
  expect((await other.stat('e/sub')).mode).toBe(0o040711);
  await other.close();
});

test('of a directory twice, and back, before anything is uploaded, leaves S3 as it was', async () => {
  for (const key of ['d/a', 'd/e/b']) await h.stranger.put(key, key);
  await h.rename('d', 'x');
  await h.rename('x', 'y');
  await h.rename('y', 'd');
  await h.sync();
  expect(h.stranger.keys()).toEqual(['d/', 'd/a', 'd/e/b']);
  expect(h.stranger.text('d/e/b')).toBe('d/e/b');
});

test('swapped directories, one of them only in S3, are swapped in S3 (J9)', async () => {
  await h.stranger.put('a/x', 'from a');
  await h.stranger.put('b/x', 'from b');
  await h.rename('a', 'b', RenameFlag.EXCHANGE);
  await h.sync();
  expect([h.stranger.text('a/x'), h.stranger.text('b/x')]).toEqual(['from b', 'from a']);
});

test('over a file that is open leaves the old one readable, and the last etag of the name is what is replaced (J1)', async () => {
  await h.stranger.put('a', 'old');
  await h.writeFile('tmp', 'new');
  const handle = await h.open('a', OpenFlag.RDONLY);
  await h.rename('tmp', 'a');
  expect(await h.readFile('a')).toBe('new');
  expect((await h.pread(handle, 0, 10)).toString()).toBe('old');
  await h.sync();
  expect(h.stranger.text('a')).toBe('new');
  expect(h.daemon.conflicts.list()).toEqual([]);
  await h.closeFile(handle);
});

test('loses no race against a listing that shows the target anew: it replaces what it finds or says ESTALE', async () => {
  await h.stranger.put('d/x', 'x');
  await h.writeFile('a', 'ours');
  await h.readdir('d');
  h.clock.advance(61_000);
  await h.stranger.put('d/target', 'theirs');
  const { ino } = await h.stat('d');
  const outcomes = await Promise.all([errnoOf(() => h.fs.rename(h.context(), rootIno, 'a', ino, 'target', RenameFlag.NOREPLACE)), errnoOf(() => h.readdir('d'))]);
  expect(outcomes).toEqual(['EEXIST', 'ok']);
});

test('is interrupted while it lists, and then nothing has moved', async () => {
  await h.stranger.put('d/a', 'x');
  await h.readdir('');
  await h.stat('d');
  const abort = new AbortController();
  const renamed = errnoOf(() => h.fs.rename(h.context({ signal: abort.signal }), rootIno, 'd', rootIno, 'e', 0));
  abort.abort();
  expect(await renamed).toBe('EINTR');
  expect(await h.readdir('')).toEqual(['d']);
});

test('a symlink that was only listed when a directory above it was renamed is still a symlink in S3', async () => {
  await h.stranger.put('d/link', 'target/elsewhere', { metadata: { mode: String(0o120777), uid: '0', gid: '0', mtime: '1700000000' } });
  await h.readdir('d');
  await h.rename('d', 'e');
  await h.sync();
  const object = h.memory.snapshot().get('e/link')!;
  expect(object.attributes.metadata['mode']).toBe(String(0o120777));
  expect(object.bytes.toString()).toBe('target/elsewhere');
  expect((await h.stat('e/link')).mode & 0o170000).toBe(0o120000);
});
