/**
 * Removing a directory in which something may still be mounted. What is removed through a mount is gone from the bucket behind it, so nothing is removed
 * before the mount table shows nothing below the directory, and even then the removal stays on one file system.
 */
import { delay, run } from './child.js';
import { mountsBelow } from './mount.js';

const tries = 5;

/** Unmounts what is mounted at `directory` or below, busy or not, then removes it. @throws if something stays mounted: then nothing is removed. */
export async function removeTree(directory: string): Promise<void> {
  for (let i = 0; i <= tries && mountsBelow(directory).length > 0; i++) {
    if (i > 0) await delay(200);
    const lazy = i === tries ? ['-l'] : [];
    for (const mountpoint of mountsBelow(directory).reverse()) await run('umount', [...lazy, mountpoint], { check: false, timeoutMs: 30_000 }); // the latest mount first
  }
  const left = mountsBelow(directory);
  if (left.length > 0) throw new Error(`${directory} is left as it is, for something is still mounted there: ${left.join(', ')}`);
  await run('rm', ['-rf', '--one-file-system', '--', directory], { timeoutMs: 300_000, cwd: '/' });
}
