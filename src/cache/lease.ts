import fs from 'node:fs';
import { Errno } from '../base/errno.js';
import { fcntl, SystemError } from '../base/libc.js';

const F_SETLEASE = 1024;
const F_RDLCK = 0;
const F_UNLCK = 2;

/**
 * S2: a read lease is granted only on a file that nobody has open for writing and nobody has mapped writable. It is given back at
 * once: who wants to write after it must open the file first, and that passes through this process.
 */
export function isQuiescent(path: string): boolean {
  const fd = fs.openSync(path, 'r');
  try {
    fcntl(fd, F_SETLEASE, F_RDLCK);
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.errno === Errno.EAGAIN) return false;
    throw error;
  } finally {
    fs.closeSync(fd);
  }
}
