import { afterEach, expect, it } from 'vitest';
import { FsHarness } from '../../test/support/fs-harness.js';
import { ManualClock } from '../base/clock.js';

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
