import { Errno } from '../base/errno.js';
import { fcntlRaw, SystemError } from '../base/libc.js';

const F_SETLEASE = 1024;
const F_RDLCK = 0;
const F_UNLCK = 2;

/**
 * S2: a read lease is granted only on a file that nobody has open for writing and nobody has mapped writable. It is given back at
 * once: who wants to write after it must open the file first, and that passes through this process.
 *
 * @param fd open for reading only.
 */
export function isQuiescent(fd: number): boolean {
  const result = fcntlRaw(fd, F_SETLEASE, F_RDLCK);
  if (result === -Errno.EAGAIN) return false;
  if (result < 0) throw new SystemError('fcntl', -result as Errno);
  fcntlRaw(fd, F_SETLEASE, F_UNLCK);
  return true;
}
