/** What a power cut leaves, where nothing but what was synced reached the disk. */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { ContentLostError } from '../cache/cache-error.js';
import { ContentFile, type ContentStat } from '../cache/content-file.js';
import { FsHarness, type Handle } from '../../test/support/fs-harness.js';
import { OpenFlag } from '../fuse/ops.js';

let harness: FsHarness;
afterEach(() => harness.close());

/** Everything accepted so far in the database is journaled, and no other content file is: a program syncs a file of its own. */
async function othersSync(): Promise<void> {
  const handle = await harness.create('other');
  await harness.fsync(handle);
  await harness.closeFile(handle);
  await harness.daemon.db.durable();
}

const stored = (): string => harness.memory.snapshot().get('file')!.bytes.toString();
const parked = (): (string | null)[] => harness.journal.list(10).filter(({ key }) => key === 'file').map((row) => row.parked);

it('a new file whose content did not reach the disk, not even by name, is empty', async () => {
  harness = await FsHarness.open({ powerCuts: true });
  await harness.writeFile('file', 'never synced');
  await othersSync();
  await harness.cutPower();
  expect(await harness.readFile('file')).toBe('');
  await harness.writeFile('file', 'again');
  await harness.sync();
  expect(stored()).toBe('again');
});

it('a file that was only in S3 and of whose change nothing reached the disk is as it is in S3', async () => {
  harness = await FsHarness.open({ powerCuts: true });
  await harness.writeFile('file', 'what S3 has');
  await harness.sync();
  await harness.evict();
  await harness.writeAt('file', 0, 'WHAT');
  await othersSync();
  await harness.cutPower();
  expect(await harness.readFile('file')).toBe('what S3 has');
  expect(parked()).toEqual(['recovered-unsynced']);
});

it('a cached file whose length did not reach the disk is read from S3', async () => {
  harness = await FsHarness.open({ powerCuts: true });
  const text = 'x'.repeat(200_000);
  await harness.stranger.put('file', text);
  await harness.open('file');
  await othersSync();
  await harness.cutPower();
  expect((await harness.readFile('file')).length).toBe(text.length);
  harness.checkInvariants();
});

it('S6: a file that was sealed for its upload, and whose sync was under way, does not replace what S3 has by itself', async () => {
  harness = await FsHarness.open({ powerCuts: true });
  await harness.writeFile('file', '12345678');
  await harness.sync();
  await harness.writeAt('file', 0, 'abcd');
  await harness.using('file', OpenFlag.RDONLY, (handle) => harness.fsync(handle));
  await harness.writeAt('file', 4, 'efgh');
  const { ino } = harness.inodeOf('file');
  const release = harness.disk!.hold('content.sync');
  harness.clock.advance(1500);
  const upload = harness.daemon.writeback.runDue().catch(() => undefined);
  while (harness.tree.inodes.get(ino)!.unsealed) await new Promise((resolve) => setImmediate(resolve));
  await harness.daemon.db.durable();
  const cut = harness.cutPower();
  release();
  await cut;
  await upload;
  harness.clock.advance(1500);
  await harness.uploadDue();
  expect(await harness.readFile('file')).toBe('abcd5678');
  expect(stored()).toBe('12345678');
  expect(parked()).toEqual(['recovered-unsynced']);
  await harness.using('file', OpenFlag.RDONLY, (handle) => harness.fsync(handle));
  await harness.sync();
  expect(stored()).toBe('abcd5678');
});

it('a file that was sealed and synced before the power was cut is uploaded by itself', async () => {
  harness = await FsHarness.open({ powerCuts: true });
  await harness.writeFile('file', '12345678');
  await harness.sync();
  await harness.writeAt('file', 0, 'abcd');
  harness.setOffline(true);
  harness.clock.advance(1500);
  await harness.uploadDue();
  await harness.daemon.db.durable();
  await harness.cutPower();
  harness.setOffline(false);
  await harness.sync();
  expect(stored()).toBe('abcd5678');
});

it('a power cut at the very beginning leaves a cache directory that can be used', async () => {
  harness = await FsHarness.open({ powerCuts: true });
  await harness.writeFile('file', 'text');
  await harness.cutPower();
  await harness.writeFile('file', 'again');
  expect(await harness.readFile('file')).toBe('again');
});

it('content files that are lost keep no mount from starting, and their files can be removed', async () => {
  harness = await FsHarness.open();
  let next = 1;
  harness.fs.passthrough.enable({ open: () => next++, close: () => undefined });
  const handles = [await harness.create('file'), await harness.create('orphan')];
  for (const handle of handles) await harness.pwrite(handle, 0, 'text');
  await harness.unlink('orphan');
  const paths = handles.map(({ ino }) => harness.daemon.contents.find(harness.tree.inodes.get(ino)!.content!)!.path);
  await harness.daemon.stop();
  for (const path of paths) rmSync(path);
  await harness.remount();
  await expect(harness.readFile('file')).rejects.toThrow(ContentLostError);
  await harness.unlink('file');
  expect(await harness.readdir('')).toEqual([]);
  await harness.writeFile('file', 'again');
  await harness.sync();
});

it('J4: a file of which a part had just been fetched is on record as whole before an upload in parts takes the place of where it was fetched from', async () => {
  harness = await FsHarness.open({ powerCuts: true, writeback: { singlePutBytesMax: 128 * 1024, partBytes: 64 * 1024 } });
  await harness.writeFile('file', 'first');
  await harness.sync();
  await harness.evict();
  expect(await harness.readFile('file')).toBe('first');
  await harness.writeAt('file', 200_000, 'x');
  harness.clock.advance(1500);
  await harness.uploadDue();
  expect(harness.memory.snapshot().get('file')!.bytes.length).toBe(200_001);
  await harness.cutPower();
  expect((await harness.readFile('file')).slice(0, 5)).toBe('first');
});

it.each(['what was synced', 'written back'] as const)('a file that S3 has and whose change was accepted only is as it was or as it became (%s)', async (left) => {
  harness = await FsHarness.open({ powerCuts: true });
  await harness.writeFile('file', 'what S3 has');
  await harness.sync();
  await harness.daemon.db.durable();
  await harness.writeAt('file', 0, 'WHAT');
  await harness.cutPower(left);
  expect(await harness.readFile('file')).toBe(left === 'written back' ? 'WHAT S3 has' : 'what S3 has');
  expect(parked()).toEqual(['recovered-unsynced']); // not taken for what S3 has
  harness.checkInvariants();
});

it('a power cut right after a start that followed an orderly end is not taken for that end', async () => {
  harness = await FsHarness.open({ powerCuts: true });
  await harness.writeFile('file', '');
  await harness.remount();
  await harness.writeAt('file', 0, 'x');
  await harness.cutPower('written back');
  expect(await harness.readFile('file')).toBe('x');
  harness.checkInvariants();
});

it('S6: a file that was written while its upload was under way does not replace what S3 has by itself', async () => {
  harness = await FsHarness.open({ powerCuts: true });
  await harness.writeFile('file', '12345678');
  await harness.sync();
  await harness.writeAt('file', 0, 'abcd');
  harness.clock.advance(1500);
  await harness.beginUploads();
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
  await harness.writeAt('file', 4, 'efgh');
  await harness.daemon.db.durable();
  await harness.cutPower();
  expect(parked()).toEqual(['recovered-unsynced']);
  harness.clock.advance(1500);
  await harness.uploadDue();
  expect(['12345678', 'abcd1234', 'abcd5678']).toContain(stored());
  expect(parked()).toEqual(['recovered-unsynced']);
});

describe('a file that the kernel may have written, and whose ctime on the disk says nothing of it (S6)', () => {
  const ahead = (): ManualClock => new ManualClock(Date.now() + 3_600_000); // no ctime is too fresh
  let backings = 1;
  afterEach(() => vi.restoreAllMocks());

  async function openInPassthrough(flags: number): Promise<{ file: ContentFile; handle: Handle }> {
    harness.fs.passthrough.enable({ open: () => backings++, close: () => undefined });
    harness.clock.advance(10_000);
    const handle = await harness.open('file', flags);
    const file = harness.daemon.contents.find(harness.tree.inodes.get(handle.ino)!.content!)!;
    expect(harness.tree.inodes.get(handle.ino)!.unsealed).toBe(false);
    return { file, handle };
  }

  /** fdatasync need not bring a ctime to the disk; the harness copies files, which gives them another one. */
  async function cutPowerWithoutCtime(file: ContentFile, before: ContentStat, how: 'what was synced' | 'written back'): Promise<void> {
    const real = Object.getOwnPropertyDescriptor(ContentFile.prototype, 'stat')!.value as () => ContentStat | undefined;
    vi.spyOn(ContentFile.prototype, 'stat').mockImplementation(function (this: ContentFile) {
      const stat = real.call(this);
      return stat && this.id === file.id ? Object.assign(stat, { ctimeNs: before.ctimeNs, mtimeNs: before.mtimeNs }) : stat;
    });
    await harness.cutPower(how);
    vi.restoreAllMocks();
  }

  it('keeps what an O_DSYNC write put on the disk, and does not send it by itself', async () => {
    harness = await FsHarness.open({ powerCuts: true, clock: ahead() });
    await harness.writeFile('file', 'what S3 has');
    await harness.sync();
    await harness.using('file', OpenFlag.RDONLY, (handle) => harness.fsync(handle));
    const { file } = await openInPassthrough(OpenFlag.RDWR | OpenFlag.DSYNC);
    const before = file.stat()!;
    const fd = openSync(file.path, 'r+'); // the kernel's write(2)
    writeSync(fd, 'WHAT', 0);
    closeSync(fd);
    await cutPowerWithoutCtime(file, before, 'what was synced');
    expect(await harness.readFile('file')).toBe('WHAT S3 has');
    expect(parked()).toEqual(['recovered-unsynced']);
  });

  it('keeps the times that were set and synced', async () => {
    harness = await FsHarness.open({ powerCuts: true, clock: ahead() });
    await harness.writeFile('file', 'one');
    await harness.sync();
    await harness.using('file', OpenFlag.RDONLY, (handle) => harness.fsync(handle));
    const { file, handle } = await openInPassthrough(OpenFlag.RDWR);
    const mtime = { sec: 1_000_000_000, nsec: 0 };
    await harness.utimens('file', undefined, mtime);
    await harness.fsync(handle);
    await cutPowerWithoutCtime(file, file.stat()!, 'written back');
    expect((await harness.getattr('file')).mtime).toEqual(mtime);
  });
});
