/** Files the kernel writes by itself: nothing but the content file tells (S3). */
import fs from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { TestMount } from './fixture.js';

const mounts: TestMount[] = [];
afterEach(async () => {
  for (const mount of mounts.splice(0)) await mount.close();
});

/** A file with a writer that the kernel serves; `during` runs after each part that reached S3. Its clock is ahead of the file's times. */
async function written(sizeBytes: number, during: (path: string, parts: number) => void): Promise<TestMount> {
  let parts = 0;
  let path = '';
  const mount = await TestMount.open({
    clock: new ManualClock(Date.now() + 3_600_000),
    tap: { after: (op) => {
      if (op === 'uploadPart') during(path, ++parts);
    } },
    hooks: { kernelWrites: { hasWriters: () => true, refresh: () => undefined, sealed: () => undefined } },
  });
  mounts.push(mount);
  const inode = mount.create('log', 'x'.repeat(sizeBytes));
  path = mount.contents.find(inode.content!)!.path;
  return mount;
}

test('promise 3: a file that is written during each of its uploads is uploaded from a copy, whole, and the copy goes', async () => {
  const mount = await written(100_000, (path, parts) => fs.writeFileSync(path, String(parts % 10).repeat(100_000), { flag: 'r+' }));
  for (let i = 0; i < 10 && !mount.memory.snapshot().has('log'); i++) {
    mount.clock.advance(31_000);
    await mount.writeback.runDue();
  }
  expect(mount.memory.snapshot().get('log')!.bytes.toString()).toMatch(/^(.)\1{99999}$/);
  expect(mount.deps.metrics.get('writeback.torn_reads')).toBe(3);
  expect(fs.readdirSync(mount.deps.config.scratchDir)).toEqual([]);
  expect(mount.memory.openUploads).toBe(0);
});

test('a file that is at rest needs no copy', async () => {
  const mount = await written(100_000, () => undefined);
  await mount.settle();
  expect(mount.deps.metrics.get('writeback.torn_reads')).toBe(0);
  expect(mount.memory.snapshot().get('log')!.bytes.toString()).toBe('x'.repeat(100_000));
});
