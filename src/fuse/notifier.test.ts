/** What notices do to a kernel's cache is for test/mount; here is what becomes of them when their thread cannot start. Threads run the build output. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { compiledEntry } from '../base/entry-url.js';
import { silentLog } from '../base/log.js';
import { Metrics } from '../base/metrics.js';
import { Notifier } from './notifier.js';

const bytesEach = 40;

test('a thread that cannot start is nothing to who changed a name, and flush() does not wait for it', async () => {
  const metrics = new Metrics();
  const notifier = Notifier.start({ device: 999_999, log: silentLog, metrics });
  notifier.invalInode(5);
  notifier.invalInode(6);
  await notifier.flush();
  expect(metrics.get('fuse.notices_queued')).toBe(2);
  await notifier.close();
});

// With few left: its descriptor cannot be had, its event loop, its modules. What a thread of Node needs is not ours to say, so all are tried
test.each([0, 1, 2, 3, 4, 5, 6, 7, 8])('notices with %i descriptors left go out with a later one, and that is said once', async (left) => {
  const entry = compiledEntry(import.meta.url, '../../test/support/few-descriptors.js').pathname;
  const { stdout } = await promisify(execFile)('prlimit', ['--nofile=64:64', process.execPath, entry, String(left)]);
  const { early, ...then } = JSON.parse(stdout) as { early: number };
  if (early > 0) expect({ early, ...then }).toEqual({ early: 2 * bytesEach, bytes: 3 * bytesEach, notices: 3, dropped: 0, logged: 0 });
  else expect(then).toEqual({ bytes: 2 * bytesEach, notices: 2, dropped: 1, logged: 1 });
  if (left === 0) expect(early).toBe(0);
});
