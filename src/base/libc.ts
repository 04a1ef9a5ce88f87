/**
 * The few libc calls Node does not offer, through koffi. Every wrapper answers like the system call but throws a
 * `SystemError` with a positive errno on failure. 64-bit arguments are numbers where they are file offsets.
 */
import koffi from 'koffi';
import { errnoName, type Errno } from './errno.js';

export class SystemError extends Error {
  override readonly name = 'SystemError';
  constructor(readonly call: string, readonly errno: Errno, detail = '') {
    super(`${call}${detail}: ${errnoName(errno)}`);
  }
}

const library = koffi.load('libc.so.6');
const c = {
  mount: library.func('int mount(const char *, const char *, const char *, unsigned long, const char *)'),
  umount2: library.func('int umount2(const char *, int)'),
  lseek: library.func('int64_t lseek64(int, int64_t, int)'),
  fallocate: library.func('int fallocate64(int, int, int64_t, int64_t)'),
  fcntl: library.func('int fcntl(int, int, int)'),
  flock: library.func('int flock(int, int)'),
  copyFileRange: library.func('ssize_t copy_file_range(int, _Inout_ int64_t *, int, _Inout_ int64_t *, size_t, unsigned int)'),
};

function check(call: string, result: number, detail = ''): number {
  if (result < 0) throw new SystemError(call, koffi.errno() as Errno, detail);
  return result;
}

export const MountFlag = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8, NOATIME: 1024 } as const;
export const UmountFlag = { FORCE: 1, DETACH: 2 } as const;

export function mount(source: string, target: string, type: string, flags: number, data: string): void {
  check('mount', c.mount(source, target, type, flags, data) as number, ` ${target}`);
}

export function umount2(target: string, flags: number): void {
  check('umount2', c.umount2(target, flags) as number, ` ${target}`);
}

/** lseek with SEEK_DATA (3) or SEEK_HOLE (4) and friends; throws ENXIO past the end. */
export function lseek(fd: number, offset: number, whence: number): number {
  return check('lseek', Number(c.lseek(fd, offset, whence)));
}

export function fallocate(fd: number, mode: number, offset: number, length: number): void {
  check('fallocate', c.fallocate(fd, mode, offset, length) as number);
}

export function fcntl(fd: number, command: number, argument: number): number {
  return check('fcntl', c.fcntl(fd, command, argument) as number);
}

/** Advisory lock of a whole open file: LOCK_EX 2, LOCK_NB 4, LOCK_UN 8. Answers false where another holds it. */
export function tryLockExclusive(fd: number): boolean {
  if ((c.flock(fd, 2 | 4) as number) === 0) return true;
  const errno = koffi.errno();
  if (errno === 11) return false;
  throw new SystemError('flock', errno as Errno);
}

/** Copies inside the kernel (reflink where the file system can); answers the bytes copied, which may be fewer than asked. */
export function copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number {
  return check('copy_file_range', Number(c.copyFileRange(from, [fromOffset], to, [toOffset], length, 0)));
}
