/** J10: names of one inode are whole objects tied by an id, and become one inode again in a mount that knows nothing. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileType } from '../meta/inode.js';
import { FsHarness } from '../../test/support/fs-harness.js';

describe('hard links', () => {
  let fs: FsHarness;
  const others: FsHarness[] = [];
  beforeEach(async () => {
    fs = await FsHarness.open();
  });
  afterEach(async () => {
    for (const each of [fs, ...others.splice(0)]) {
      expect(each.daemon.errors).toEqual([]);
      await each.close();
    }
  });

  async function fresh(options: Parameters<FsHarness['freshMount']>[0] = {}): Promise<FsHarness> {
    const other = await fs.freshMount(options);
    others.push(other);
    return other;
  }
  async function linked(text = 'one'): Promise<void> {
    await fs.mkdir('d');
    await fs.writeFile('a', text);
    await fs.link('a', 'd/b');
    await fs.link('a', 'c');
    await fs.sync();
  }
  const linkOf = (key: string): string | undefined => fs.memory.snapshot().get(key)?.attributes.metadata['hearthfs-link'];
  const objects = (...keys: string[]): (string | undefined)[] => keys.map((key) => fs.stranger.text(key));
  async function inos(mount: FsHarness, ...paths: string[]): Promise<number> {
    for (const path of paths) await mount.stat(path);
    const stats = await Promise.all(paths.map((path) => mount.stat(path)));
    for (const stat of stats) expect(stat.nlink).toBe(paths.length);
    return new Set(stats.map((stat) => stat.ino)).size;
  }
  const reports = (mount: FsHarness): string[] => mount.daemon.conflicts.list().map(({ key, reason }) => `${key} ${reason}`);
  /** Another tool changes an object as it likes, its metadata kept unless given. */
  async function alter(key: string, text: string, metadata?: Record<string, string>): Promise<void> {
    const { attributes } = fs.memory.snapshot().get(key)!;
    await fs.stranger.put(key, text, { ...attributes, metadata: metadata ?? attributes.metadata });
  }

  it('every name is a plain object with the right bytes, and the names are one inode in a fresh mount', async () => {
    await linked();
    expect(objects('a', 'd/b', 'c')).toEqual(['one', 'one', 'one']);
    const other = await fresh();
    expect(await inos(other, 'a', 'd/b', 'c')).toBe(1);
    expect(await other.readFile('d/b')).toBe('one');
    expect(other.journal.count()).toBe(0);
    expect(reports(other)).toEqual([]);
  });

  it('a write through any name of a fresh mount reaches all names, generations go on, and the next mount sees one file', async () => {
    await linked();
    const second = await fresh();
    await inos(second, 'a', 'd/b', 'c');
    await second.writeFile('d/b', 'two two');
    expect(await second.readFile('a')).toBe('two two');
    await second.sync();
    expect(objects('a', 'd/b', 'c')).toEqual(['two two', 'two two', 'two two']);
    const generation = Number(linkOf('a')!.split(':')[0]);
    const third = await fresh();
    expect(await inos(third, 'a', 'd/b', 'c')).toBe(1);
    await third.writeFile('c', 'three');
    await third.sync();
    expect(Number(linkOf('a')!.split(':')[0])).toBeGreaterThan(generation);
    expect(await inos(await fresh(), 'a', 'd/b', 'c')).toBe(1);
  });

  it('a write before the other names were found reaches them once they are', async () => {
    await linked();
    const second = await fresh();
    await second.writeFile('a', 'changed');
    expect((await second.stat('c')).ino).toBe((await second.stat('a')).ino);
    expect(await second.readFile('d/b')).toBe('changed');
    await second.sync();
    expect(objects('a', 'd/b', 'c')).toEqual(['changed', 'changed', 'changed']);
    expect(reports(second)).toEqual([]);
  });

  it('chmod through one name shows through all, here and in a fresh mount', async () => {
    await linked();
    await fs.chmod('c', 0o640);
    await fs.sync();
    const other = await fresh();
    for (const path of ['a', 'd/b', 'c']) expect((await other.stat(path)).mode & 0o777).toBe(0o640);
    expect(await inos(other, 'a', 'd/b', 'c')).toBe(1);
  });

  it('renaming and removing names leaves the others linked', async () => {
    await linked();
    await fs.rename('a', 'd/renamed');
    await fs.unlink('c');
    await fs.sync();
    const other = await fresh();
    expect(await inos(other, 'd/renamed', 'd/b')).toBe(1);
    await other.unlink('d/b');
    expect((await other.stat('d/renamed')).nlink).toBe(1);
    await other.sync();
    expect(await (await fresh()).readFile('d/renamed')).toBe('one');
  });

  it('a directory of links that was renamed before anybody looked into it keeps its links', async () => {
    await linked();
    const second = await fresh();
    await second.rename('d', 'e');
    await second.sync();
    const third = await fresh();
    expect(await inos(third, 'a', 'e/b', 'c')).toBe(1);
  });

  it('symlinks, fifos and empty files can be linked too', async () => {
    await fs.symlink('s', 'target');
    await fs.mknod('f', FileType.FIFO | 0o600);
    await fs.writeFile('empty', '');
    for (const name of ['s', 'f', 'empty']) await fs.link(name, `${name}2`);
    await fs.sync();
    const other = await fresh();
    for (const name of ['s', 'f', 'empty']) expect(await inos(other, name, `${name}2`)).toBe(1);
    expect(await other.readlink('s2')).toBe('target');
  });

  it('the names stay one through a crash at any moment of an upload', async () => {
    await linked();
    await fs.writeFile('a', 'changed');
    fs.daemon.db.tx(() => fs.journal.hastenAll());
    const uploading = fs.daemon.writeback.runDue();
    await fs.crash();
    await uploading.catch(() => undefined);
    await fs.sync();
    expect(objects('a', 'd/b', 'c')).toEqual(['changed', 'changed', 'changed']);
    expect(await inos(await fresh(), 'a', 'd/b', 'c')).toBe(1);
  });

  it('a mount that died between two PUTs for good: the higher generation wins and the lower is brought up to date, but not while the other may still be at work', async () => {
    await linked('old');
    const before = fs.memory.snapshot().get('c')!;
    fs.clock.advance(60_000);
    await fs.writeFile('a', 'newer');
    await fs.sync();
    await fs.memory.put('c', { kind: 'bytes', bytes: before.bytes }, before.attributes, 'any'); // as if it had not been reached; but its LastModified is that of now
    const early = await fresh();
    for (const path of ['c', 'a', 'd/b']) await early.stat(path);
    expect(await early.readFile('c')).toBe('newer');
    expect(await inos(early, 'a', 'd/b', 'c')).toBe(1);
    expect(early.journal.count()).toBe(0);
    fs.clock.advance(3_600_000);
    const late = await fresh();
    for (const path of ['c', 'a', 'd/b']) await late.stat(path);
    expect(await late.readFile('c')).toBe('newer');
    await late.sync();
    expect(objects('a', 'd/b', 'c')).toEqual(['newer', 'newer', 'newer']);
    expect(reports(late)).toEqual([]);
  });

  it('older bytes that were put there later than the newer ones are a change by others: both stay, and it is reported', async () => {
    await linked('old');
    const before = fs.memory.snapshot().get('c')!;
    await fs.writeFile('a', 'newer');
    await fs.sync();
    fs.clock.advance(60_000);
    await fs.memory.put('c', { kind: 'bytes', bytes: before.bytes }, before.attributes, 'any');
    const other = await fresh();
    for (const path of ['a', 'd/b', 'c']) await other.stat(path);
    expect([await other.readFile('a'), await other.readFile('c')]).toEqual(['newer', 'old']);
    expect(reports(other)).toEqual(['c link-broken-by-others']);
    await other.sync();
    expect(linkOf('c')).toBeUndefined(); // or the next mount would think again
    fs.clock.advance(3_600_000);
    const next = await fresh();
    for (const path of ['c', 'a', 'd/b']) await next.stat(path);
    expect(await next.readFile('c')).toBe('old');
    expect(await inos(next, 'a', 'd/b')).toBe(1);
  });

  it.each([['without the id', {}], ['with another id', { 'hearthfs-link': '9:0123456789abcdef.00000000' }]])('a remote write to one name, %s, breaks that link only and is reported', async (_what, metadata) => {
    await linked();
    await alter('c', 'by others', { ...metadata });
    fs.clock.advance(61_000);
    expect(await fs.readFile('c')).toBe('by others');
    expect(await fs.readFile('a')).toBe('one');
    expect(await inos(fs, 'a', 'd/b')).toBe(1);
    expect(reports(fs)).toEqual(['c link-broken-by-others']);
    expect(fs.daemon.metrics.snapshot().counters['writeback.links_broken']).toBe(1);
    await fs.writeFile('a', 'two');
    await fs.sync();
    expect(objects('a', 'd/b', 'c')).toEqual(['two', 'two', 'by others']);
  });

  it('a remote write that keeps the id, as s3fs does it, breaks the link in a mount that knew it, and in a fresh one', async () => {
    await linked();
    fs.clock.advance(61_000);
    await alter('c', 'ONE', { ...fs.memory.snapshot().get('c')!.attributes.metadata, mtime: '1234567890' });
    const other = await fresh();
    for (const path of ['a', 'd/b', 'c']) await other.stat(path);
    expect([await other.readFile('a'), await other.readFile('c')]).toEqual(['one', 'ONE']);
    expect((await other.stat('a')).nlink).toBe(2);
    expect(await fs.readFile('c')).toBe('ONE');
    expect(reports(fs)).toEqual(['c link-broken-by-others']);
  });

  it('a copy that another tool made, metadata and all, is a file of its own', async () => {
    await linked();
    const { bytes, attributes } = fs.memory.snapshot().get('a')!;
    await fs.memory.put('copy', { kind: 'bytes', bytes }, attributes, null);
    const other = await fresh();
    expect(await inos(other, 'a', 'd/b', 'c')).toBe(1);
    expect((await other.stat('copy')).nlink).toBe(1);
    await other.writeFile('a', 'changed');
    await other.sync();
    expect(objects('c', 'copy')).toEqual(['changed', 'one']);
  });

  it('another mount writes through one name: the names change together and stay one file here, whoever has the old version open keeps it', async () => {
    await linked();
    const other = await fresh();
    await inos(other, 'a', 'd/b', 'c');
    const old = await other.open('a');
    await other.pread(old, 0, 10);
    await fs.writeFile('c', 'by the first mount');
    await fs.sync();
    fs.clock.advance(61_000);
    expect(await inos(other, 'a', 'd/b', 'c')).toBe(1);
    expect(await other.readFile('d/b')).toBe('by the first mount');
    expect((await other.pread(old, 0, 10)).toString()).toBe('one');
    await other.closeFile(old);
    expect(reports(other)).toEqual([]);
    expect(other.journal.count()).toBe(0);
  });

  it('another mount is between its PUTs: its newest content shows under all names, and nobody interferes', async () => {
    await linked();
    const other = await fresh();
    await inos(other, 'a', 'd/b', 'c');
    await fs.writeFile('a', 'first of three');
    const key = fs.journal.list(10).map((row) => row.key).find((each) => each !== 'd/')!;
    fs.daemon.db.tx(() => fs.journal.hasten(key));
    fs.clock.advance(0);
    const only = fs.journal.list(10).filter((row) => row.key !== key);
    fs.daemon.db.tx(() => only.forEach((row) => fs.journal.defer(row.key, fs.clock.now() + 3_600_000, null, 0)));
    await fs.daemon.writeback.runDue();
    expect(new Set(objects('a', 'd/b', 'c')).size).toBe(2);
    other.clock.advance(61_000);
    for (const path of ['a', 'd/b', 'c']) await other.stat(path);
    for (const path of ['a', 'd/b', 'c']) expect(await other.readFile(path), path).toBe('first of three');
    expect(await inos(other, 'a', 'd/b', 'c')).toBe(1);
    expect(other.journal.count()).toBe(0);
    await fs.sync();
    other.clock.advance(61_000);
    expect(await inos(other, 'a', 'd/b', 'c')).toBe(1);
    expect([...reports(fs), ...reports(other)]).toEqual([]);
  });

  it('two mounts write through different names at once: both versions stay, under names of their own, and no mount mixes them up later', async () => {
    await linked();
    const other = await fresh();
    await inos(other, 'a', 'd/b', 'c');
    await fs.writeFile('a', 'AAA');
    await other.writeFile('c', 'CCC');
    fs.daemon.db.tx(() => fs.journal.hasten('a'));
    fs.daemon.db.tx(() => fs.journal.list(10).filter((row) => row.key !== 'a').forEach((row) => fs.journal.defer(row.key, fs.clock.now() + 3_600_000, null, 0)));
    await fs.daemon.writeback.runDue(); // `a` is the first mount's
    await other.sync(); // `c` and `d/b` the second's; `a` is lost to the first
    await fs.sync();
    const third = await fresh();
    const listed = await third.readdir('');
    const texts = new Map<string, string>();
    for (const path of [...listed.filter((name) => name !== 'd'), ...(await third.readdir('d')).map((name) => `d/${name}`)]) texts.set(path, await third.readFile(path));
    expect(texts.get('a')).toBe('AAA');
    expect(texts.get('c')).toBe('CCC');
    expect(new Set(texts.values())).toEqual(new Set(['AAA', 'CCC']));
    for (const [path, text] of texts) expect(fs.stranger.text(path), path).toBe(text);
    expect((await third.stat('a')).ino).not.toBe((await third.stat('c')).ino);
  });

  it('with --attributes=listing every name is a file of its own until it is written, and nothing is lost', async () => {
    await linked();
    const listing = await fresh({ config: { attributes: 'listing' } });
    expect((await listing.stat('a')).nlink).toBe(1);
    await listing.writeFile('a', 'by listing');
    await listing.sync();
    expect(objects('a', 'c')).toEqual(['by listing', 'one']);
    fs.clock.advance(3_600_000);
    const full = await fresh();
    for (const path of ['a', 'd/b', 'c']) await full.stat(path);
    expect(await inos(full, 'a', 'd/b', 'c')).toBe(1);
    for (const path of ['a', 'd/b', 'c']) expect(await full.readFile(path)).toBe('by listing');
    expect(reports(full)).toEqual([]);
  });

  it('K14: a name that comes to mean another inode is announced to the kernel', async () => {
    await linked();
    const other = await fresh();
    await other.stat('a');
    other.daemon.notices.length = 0;
    const { ino } = await other.stat('d/b');
    expect(ino).toBe((await other.stat('a')).ino);
    const parent = (await other.stat('d')).ino;
    expect(other.daemon.notices).toContain(`name ${parent}/b`);
    expect(other.daemon.notices).toContain(`content ${ino}`);
  });
});
