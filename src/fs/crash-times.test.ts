import { afterEach, expect, it } from 'vitest';
import { FsHarness } from '../../test/support/fs-harness.js';
import { ManualClock } from '../base/clock.js';
import { FallocateMode, OpenFlag } from '../fuse/ops.js';

let harness: FsHarness;
afterEach(() => harness.close());

/** Our clock is a little behind that of the kernel, which stamps the content file: the two never agree to the nanosecond. */
const behind = (): ManualClock => new ManualClock(Date.now() - 5);

it('times set after the last write survive a crash, to the nanosecond', async () => {
  harness = await FsHarness.open({ clock: behind() });
  const handle = await harness.create('file');
  await harness.pwrite(handle, 0, 'text');
  const mtime = { sec: 1_000_000_000, nsec: 123_456_789 };
  await harness.utimens('file', undefined, mtime);
  await harness.crash();
  expect((await harness.getattr('file')).mtime).toEqual(mtime);
});

it('a write after times were set has its own time after a crash', async () => {
  harness = await FsHarness.open({ clock: behind() });
  const handle = await harness.create('file');
  await harness.utimens('file', undefined, { sec: 1_000_000_000, nsec: 0 });
  await harness.pwrite(handle, 0, 'longer');
  await harness.crash();
  const { mtime, sizeBytes } = await harness.getattr('file');
  expect(Math.abs(mtime.sec * 1000 - Date.now())).toBeLessThan(10_000);
  expect(sizeBytes).toBe(6);
});

it('a change that was refused does not take the times away that were set, whenever the daemon dies', async () => {
  harness = await FsHarness.open({ clock: behind() });
  await harness.writeFile('file', 'text');
  await harness.sync(); // S3 has it: the next change is the first of a new generation
  const mtime = { sec: 1_000_000_000, nsec: 5 };
  await harness.utimens('file', undefined, mtime);
  await expect(harness.using('file', OpenFlag.RDWR, (handle) => harness.fallocate(handle, FallocateMode.COLLAPSE_RANGE, 0, 4096))).rejects.toThrow();
  await harness.crash();
  expect((await harness.getattr('file')).mtime).toEqual(mtime);
});

it('bytes that come from S3 into a changed file do not take the times away that were set', async () => {
  harness = await FsHarness.open({ clock: behind() });
  await harness.stranger.put('file', 'bytes of S3');
  await harness.truncate('file', 20);
  const mtime = { sec: 1_000_000_000, nsec: 5 };
  await harness.utimens('file', undefined, mtime);
  expect(await harness.readFile('file')).toBe(`bytes of S3${'\0'.repeat(9)}`);
  await harness.crash();
  expect((await harness.getattr('file')).mtime).toEqual(mtime);
});

it('a write while bytes come from S3 has its own time after a crash', async () => {
  harness = await FsHarness.open({ clock: behind() });
  await harness.stranger.put('file', 'bytes of S3');
  await harness.truncate('file', 20);
  await harness.utimens('file', undefined, { sec: 1_000_000_000, nsec: 5 });
  const store = harness.memory;
  const getToFile = store.getToFile.bind(store);
  store.getToFile = async (...query) => {
    const answer = await getToFile(...query);
    await harness.writeAt('file', 18, 'x'); // behind what is fetched
    return answer;
  };
  await harness.readFile('file');
  await harness.crash();
  expect(Math.abs((await harness.getattr('file')).mtime.sec * 1000 - Date.now())).toBeLessThan(10_000);
});
