import { copyFileSync, mkdirSync, readdirSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode } from './errno.js';

/**
 * For tests.
 * What a daemon that is killed at this moment leaves in its directory, for the next one: in one synchronous stretch, so that no transaction is half done. A file
 * whose unlink a thread is just about to make is there or not. Locks are not kept, nor what SQLite shares between processes.
 */
export function copyState(from: string, to: string): void {
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [path, copy] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) {
      mkdirSync(copy, { mode: 0o700 });
      copyState(path, copy);
    } else if (!/-shm$|^lock$/.test(entry.name)) {
      try {
        const { atime, mtime } = statSync(path);
        copyFileSync(path, copy);
        utimesSync(copy, atime, mtime);
      } catch (error) {
        if (errorCode(error) !== 'ENOENT') throw error;
      }
    }
  }
}
