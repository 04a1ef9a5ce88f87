/**
 * The few libc calls Node does not offer, through koffi. Every wrapper answers like the system call but throws a `SystemError` with a positive errno on
 * failure. 64-bit arguments are numbers where they are file offsets. The first call loads koffi: 20 ms, which most commands and threads never spend.
 */
import { closeSync } from 'node:fs';
import { createRequire } from 'node:module';
import type koffiModule from 'koffi';
import type { Time } from './clock.js';
import { errnoName, type Errno } from './errno.js';

export class SystemError extends Error {
  override readonly name = 'SystemError';
  constructor(readonly call: string, readonly errno: Errno, detail = '') {
    super(`${call}${detail}: ${errnoName(errno)}`);
  }
}

function load() {
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
  const library = koffi.load('libc.so.6');
  return {
    koffi,
    mount: library.func('int mount(const char *, const char *, const char *, unsigned long, const char *)'),
    umount2: library.func('int umount2(const char *, int)'),
    lseek: library.func('int64_t lseek64(int, int64_t, int)'),
    fallocate: library.func('int fallocate64(int, int, int64_t, int64_t)'),
    fcntl: library.func('int fcntl(int, int, int)'),
    flock: library.func('int flock(int, int)'),
    syncfs: library.func('int syncfs(int)'),
    read: library.func('int64_t read(int, void *, size_t)'),
    write: library.func('int64_t write(int, const void *, size_t)'),
    ioctl: library.func('int ioctl(int, unsigned long, void *)'),
    socketpair: library.func('int socketpair(int, int, int, _Out_ int *)'),
    poll: library.func('int poll(void *, unsigned long, int)'),
    pipe2: library.func('int pipe2(_Out_ int *, int)'),
    splice: library.func('int64_t splice(int, void *, int, void *, size_t, unsigned int)'),
    recvmsg: library.func('int64_t recvmsg(int, void *, int)'),
    statx: library.func('int statx(int, const void *, int, unsigned int, void *)'),
    futimens: library.func('int futimens(int, const void *)'),
    // no wrapper in the glibc of older distributions; the numbers are the same on all architectures
    openTree: library.func('long syscall(long, int, const char *, unsigned int)'),
    mountSetattr: library.func('long syscall(long, int, const char *, unsigned int, void *, size_t)'),
  };
}

let loaded: ReturnType<typeof load> | undefined;

function c(): ReturnType<typeof load> {
  return (loaded ??= load());
}

/** Now and not with the first call: for who has time now and none then. */
export function loadLibc(): void {
  c();
}

/** For its polling on Node's loop. */
export function koffi(): typeof koffiModule {
  return c().koffi;
}

function check(call: string, result: number, detail = ''): number {
  if (result < 0) throw new SystemError(call, c().koffi.errno() as Errno, detail);
  return result;
}

function orErrno(result: unknown): number {
  const count = Number(result);
  return count < 0 ? -c().koffi.errno() : count;
}

export const MountFlag = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8, REMOUNT: 32, NOSYMFOLLOW: 256 } as const;
export const UmountFlag = { FORCE: 1, DETACH: 2, NOFOLLOW: 8 } as const;

export function mount(source: string, target: string, type: string, flags: number, data: string): void {
  check('mount', c().mount(source, target, type, flags, data) as number, ` ${target}`);
}

/** What reading does to a file's atime, as mount_setattr(2) has it. */
export const AtimeAttribute = { RELATIME: 0, NOATIME: 0x10, STRICTATIME: 0x20 } as const;

/**
 * A descriptor of a copy of the mount that `path` lies in, from there on and without what is mounted below, which no path leads to and whose files keep their
 * atime as told; it goes with the descriptor. @throws SystemError EPERM without CAP_SYS_ADMIN, ENOSYS before Linux 5.12
 */
export function cloneMount(path: string, atime: (typeof AtimeAttribute)[keyof typeof AtimeAttribute]): number {
  const tree = check('open_tree', Number(c().openTree(428, -100 /* AT_FDCWD */, path, 1 /* OPEN_TREE_CLONE */ | 0o2000000 /* OPEN_TREE_CLOEXEC */)), ` ${path}`);
  const attributes = Buffer.alloc(32); // struct mount_attr { u64 attr_set, attr_clr, propagation, userns_fd }
  attributes.writeBigUInt64LE(BigInt(atime), 0);
  attributes.writeBigUInt64LE(0x70n /* MOUNT_ATTR__ATIME: the old value goes */, 8);
  try {
    check('mount_setattr', Number(c().mountSetattr(442, tree, '', 0x1000 /* AT_EMPTY_PATH */, attributes, attributes.length)), ` ${path}`);
    return tree;
  } catch (error) {
    closeSync(tree);
    throw error;
  }
}

/** umount2 in a thread of the pool: it may have to wait for the mount's own daemon to write back mapped pages. */
export function umount2Async(target: string, flags: number): Promise<void> {
  return new Promise((resolve, reject) => {
    c().umount2.async(target, flags, (error: Error | null, result: number) => {
      const errno = c().koffi.errno() as Errno; // koffi carries the errno of the call over to its callback
      if (error) reject(error);
      else if (result < 0) reject(new SystemError('umount2', errno, ` ${target}`));
      else resolve();
    });
  });
}

/** lseek with SEEK_DATA (3) or SEEK_HOLE (4) and friends; throws ENXIO past the end. */
export function lseek(fd: number, offset: number, whence: number): number {
  return check('lseek', Number(c().lseek(fd, offset, whence)));
}

export function fallocate(fd: number, mode: number, offset: number, length: number): void {
  check('fallocate', c().fallocate(fd, mode, offset, length) as number);
}

export function fcntl(fd: number, command: number, argument: number): number {
  return check('fcntl', c().fcntl(fd, command, argument) as number);
}

/** The answer, or a negative errno, as `readRaw`. */
export function fcntlRaw(fd: number, command: number, argument: number): number {
  return orErrno(c().fcntl(fd, command, argument));
}

/** Advisory lock of a whole open file: LOCK_EX 2, LOCK_NB 4, LOCK_UN 8. Answers false where another holds it. */
export function tryLockExclusive(fd: number): boolean {
  if ((c().flock(fd, 2 | 4) as number) === 0) return true;
  const errno = c().koffi.errno();
  if (errno === 11) return false;
  throw new SystemError('flock', errno as Errno);
}

/**
 * read(2) into the first `length` bytes of `into`. For hot paths: answers the byte count or a *negative errno* and never throws,
 * since an exception costs ten times the system call and EAGAIN is an everyday answer.
 */
export function readRaw(fd: number, into: Buffer, length: number): number {
  return orErrno(c().read(fd, into, length));
}

/** write(2) of the first `length` bytes of `from`; the byte count or a negative errno, as `readRaw`. */
export function writeRaw(fd: number, from: Buffer, length: number): number {
  return orErrno(c().write(fd, from, length));
}

/** Both ends are closed on exec, and never block: [to read from, to write to]. */
export function pipe(): [number, number] {
  const ends = new Int32Array(2);
  check('pipe2', c().pipe2(ends, 0o2000000 /* O_CLOEXEC */ | 0o4000 /* O_NONBLOCK */) as number);
  return [ends[0]!, ends[1]!];
}

const spliceOffset = new BigInt64Array(1);
const spliceNonblock = 2;

/** splice(2) of a file's bytes from `offset` into a pipe that has room for all or some of them; the byte count or a negative errno, as `readRaw`. */
export function spliceToPipe(file: number, offset: number, pipeEnd: number, length: number): number {
  spliceOffset[0] = BigInt(offset);
  return orErrno(c().splice(file, spliceOffset, pipeEnd, null, length, spliceNonblock));
}

/** splice(2) of `length` bytes of a pipe into a device; the byte count or a negative errno, as `readRaw`. */
export function spliceFromPipe(pipeEnd: number, device: number, length: number): number {
  return orErrno(c().splice(pipeEnd, null, device, null, length, spliceNonblock));
}

/** Of stat(2), to the nanosecond. */
export interface FileStat {
  readonly size: bigint;
  /** Of 512 bytes. */
  readonly blocks: bigint;
  readonly nlink: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

const noPath = Buffer.alloc(1);
const statBuffer = Buffer.alloc(256); // struct statx, the same on all architectures
const statView = new DataView(statBuffer.buffer, statBuffer.byteOffset, statBuffer.byteLength);

function statTimeNs(at: number): bigint {
  return statView.getBigInt64(at, true) * 1_000_000_000n + BigInt(statView.getUint32(at + 8, true));
}

/** For hot paths: half of what `fs.fstatSync` costs, and only what is asked for. @throws SystemError */
export function fileStat(fd: number): FileStat {
  check('statx', c().statx(fd, noPath, 0x1000 /* AT_EMPTY_PATH */, 0x7ff /* STATX_BASIC_STATS */, statBuffer) as number);
  return {
    size: statView.getBigUint64(40, true), blocks: statView.getBigUint64(48, true), nlink: BigInt(statView.getUint32(16, true)),
    atimeNs: statTimeNs(64), mtimeNs: statTimeNs(112), ctimeNs: statTimeNs(96),
  };
}

const timesBuffer = Buffer.alloc(32); // struct timespec [2]
const timesView = new DataView(timesBuffer.buffer, timesBuffer.byteOffset, timesBuffer.byteLength);

/** To the nanosecond, where fs.futimesSync has a floating-point number of seconds. @throws SystemError */
export function setFileTimes(fd: number, atime: Time, mtime: Time): void {
  timesView.setBigInt64(0, BigInt(atime.sec), true);
  timesView.setBigInt64(8, BigInt(atime.nsec), true);
  timesView.setBigInt64(16, BigInt(mtime.sec), true);
  timesView.setBigInt64(24, BigInt(mtime.nsec), true);
  check('futimens', c().futimens(fd, timesBuffer) as number);
}

/** ioctl(2) with a pointer to a structure. Request numbers are those of asm-generic/ioctl.h (x86-64 and arm64 agree). */
export function ioctl(fd: number, request: number, argument: Buffer): number {
  return check('ioctl', c().ioctl(fd, request, argument) as number);
}

/** True if poll(2) reports an error condition on `fd` right now. For /dev/fuse: the connection is gone (or was never mounted). */
export function hasPollError(fd: number): boolean {
  const entry = Buffer.alloc(8); // struct pollfd { i32 fd; i16 events; i16 revents }
  entry.writeInt32LE(fd, 0);
  check('poll', c().poll(entry, 1, 0) as number);
  return (entry.readInt16LE(6) & 8 /* POLLERR */) !== 0;
}

/** A second descriptor of the same open file, closed on exec. */
export function duplicate(fd: number): number {
  return check('dup', c().fcntl(fd, 1030 /* F_DUPFD_CLOEXEC */, 3) as number);
}

export const SocketType = { STREAM: 1, SEQPACKET: 5, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const;

/** A pair of connected unix sockets; `type` is a SocketType with its flags or'ed in. */
export function socketPair(type: number): [number, number] {
  const pair = new Int32Array(2);
  check('socketpair', c().socketpair(1 /* AF_UNIX */, type, 0, pair) as number);
  return [pair[0]!, pair[1]!];
}

/**
 * Receives one descriptor sent with SCM_RIGHTS; undefined if the other end closed without sending one. Blocks until something
 * comes. The descriptor is closed on exec. Layouts: struct msghdr and cmsghdr of 64-bit Linux.
 */
export function receiveDescriptor(socket: number): number | undefined {
  const data = Buffer.alloc(16);
  const control = Buffer.alloc(64);
  const iovec = Buffer.alloc(16);
  iovec.writeBigUInt64LE(c().koffi.address(data), 0);
  iovec.writeBigUInt64LE(BigInt(data.length), 8);
  const message = Buffer.alloc(56);
  message.writeBigUInt64LE(c().koffi.address(iovec), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(c().koffi.address(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  check('recvmsg', Number(c().recvmsg(socket, message, 0x40000000 /* MSG_CMSG_CLOEXEC */)));
  const controlLength = Number(message.readBigUInt64LE(40));
  const isRights = controlLength >= 20 && control.readInt32LE(8) === 1 /* SOL_SOCKET */ && control.readInt32LE(12) === 1 /* SCM_RIGHTS */;
  return isRights ? control.readInt32LE(16) : undefined;
}

/** syncfs(2) in libuv's pool. The errno of a call made there is not known here: any failure is EIO. */
export function syncfs(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    c().syncfs.async(fd, (error: Error | null, result: number) => {
      if (error) reject(error);
      else if (result < 0) reject(new SystemError('syncfs', 5));
      else resolve();
    });
  });
}
