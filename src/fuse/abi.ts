/**
 * The FUSE kernel protocol, version 7.31 to 7.45, as numbers. Little-endian only (x86-64 and arm64).
 *
 * A request is one read(2) of the device:
 *
 *     0 len u32 | 4 opcode u32 | 8 unique u64 | 16 nodeid u64 | 24 uid u32 | 28 gid u32 | 32 pid u32 | 36 total_extlen u16 | 38 pad
 *     40 the operation's fixed struct, then names (NUL terminated) or data, then extensions (`total_extlen` units of 8 bytes)
 *
 * A reply is one write(2): `0 len u32 | 4 error i32 (0 or -errno) | 8 unique u64 | 16 body`. With unique 0 it is a notification
 * and `error` holds its (positive) code.
 *
 * *Valid* means: `len` equals the bytes read and is at least 40; the fixed struct, every terminator and all extensions lie inside
 * `len`; a WRITE or SETXATTR carries exactly the bytes it announces. Everything else is answered EINVAL (`decode.ts`), never guessed.
 *
 * Source of layouts and numbers: include/uapi/linux/fuse.h of Linux 6.18.
 */

export const protocolMajor = 7;
/** What we say in INIT. 45 would promise COPY_FILE_RANGE_64, which is answered ENOSYS and falls back (K3). */
export const protocolMinor = 44;
/** Oldest kernel we speak to: 7.31 is Linux 5.4. */
export const protocolMinorMin = 31;

export const rootIno = 1;
export const inHeaderBytes = 40;
export const outHeaderBytes = 16;

export const Opcode = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKNOD: 8, MKDIR: 9, UNLINK: 10, RMDIR: 11, RENAME: 12,
  LINK: 13, OPEN: 14, READ: 15, WRITE: 16, STATFS: 17, RELEASE: 18, FSYNC: 20, SETXATTR: 21, GETXATTR: 22, LISTXATTR: 23,
  REMOVEXATTR: 24, FLUSH: 25, INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30, GETLK: 31, SETLK: 32, SETLKW: 33,
  ACCESS: 34, CREATE: 35, INTERRUPT: 36, BMAP: 37, DESTROY: 38, IOCTL: 39, POLL: 40, NOTIFY_REPLY: 41, BATCH_FORGET: 42,
  FALLOCATE: 43, READDIRPLUS: 44, RENAME2: 45, LSEEK: 46, COPY_FILE_RANGE: 47, SYNCFS: 50, TMPFILE: 51, STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

const opcodeNames = new Map<number, string>(Object.entries(Opcode).map(([name, value]) => [value, name]));

/** `LOOKUP` for 1, `op99` for one that has no name here. */
export function opcodeName(opcode: number): string {
  return opcodeNames.get(opcode) ?? `op${opcode}`;
}

/** INIT flags, as 64-bit sets; bits 32 to 63 travel in `flags2`, which is there only if INIT_EXT is. */
export const InitFlag = {
  ASYNC_READ: 1n << 0n, POSIX_LOCKS: 1n << 1n, ATOMIC_O_TRUNC: 1n << 3n, EXPORT_SUPPORT: 1n << 4n, BIG_WRITES: 1n << 5n, DONT_MASK: 1n << 6n,
  FLOCK_LOCKS: 1n << 10n, AUTO_INVAL_DATA: 1n << 12n, DO_READDIRPLUS: 1n << 13n, READDIRPLUS_AUTO: 1n << 14n,
  WRITEBACK_CACHE: 1n << 16n, NO_OPEN_SUPPORT: 1n << 17n, PARALLEL_DIROPS: 1n << 18n, POSIX_ACL: 1n << 20n, ABORT_ERROR: 1n << 21n,
  MAX_PAGES: 1n << 22n, CACHE_SYMLINKS: 1n << 23n, NO_OPENDIR_SUPPORT: 1n << 24n, EXPLICIT_INVAL_DATA: 1n << 25n,
  HANDLE_KILLPRIV_V2: 1n << 28n, SETXATTR_EXT: 1n << 29n, INIT_EXT: 1n << 30n, SECURITY_CTX: 1n << 32n, CREATE_SUPP_GROUP: 1n << 34n,
  HAS_EXPIRE_ONLY: 1n << 35n, DIRECT_IO_ALLOW_MMAP: 1n << 36n, PASSTHROUGH: 1n << 37n, HAS_RESEND: 1n << 39n, ALLOW_IDMAP: 1n << 40n,
  OVER_IO_URING: 1n << 41n, REQUEST_TIMEOUT: 1n << 42n,
} as const;

/** `unique` of a request the kernel sends again after FUSE_NOTIFY_RESEND (K11): bit 63, here as a bit of the upper half. */
export const uniqueResendHigh = 0x8000_0000;

export const OpenReplyFlag = { DIRECT_IO: 1, KEEP_CACHE: 2, NONSEEKABLE: 4, CACHE_DIR: 8, PASSTHROUGH: 128 } as const;
export const OpenInFlag = { KILL_SUIDGID: 1 } as const;
export const WriteInFlag = { CACHE: 1, KILL_SUIDGID: 4 } as const;
export const GetattrFlag = { FH: 1 } as const;
export const FsyncFlag = { FDATASYNC: 1 } as const;
export const SetxattrExtFlag = { ACL_KILL_SGID: 1 } as const;
export const AttrValid = {
  MODE: 1, UID: 2, GID: 4, SIZE: 8, ATIME: 16, MTIME: 32, FH: 64, ATIME_NOW: 128, MTIME_NOW: 256, CTIME: 1024, KILL_SUIDGID: 2048,
} as const;

/** Extension types above 31; those up to 31 are security contexts, which are not negotiated. `u32 size, u32 type, payload`. */
export const ExtType = { GROUPS: 32 } as const;

export const NotifyCode = { INVAL_INODE: 2, INVAL_ENTRY: 3, DELETE: 6, RESEND: 7 } as const;
export const InvalEntryFlag = { EXPIRE_ONLY: 1 } as const;

/** Fixed structs at 40 in a request: their sizes. Fields are read in `decode.ts`, beside the name they get. */
export const inBytes = {
  forget: 8, getattr: 16, setattr: 88, mknod: 16, mkdir: 8, rename: 8, rename2: 16, link: 8, open: 8, create: 16, read: 40, write: 40,
  release: 24, flush: 24, fsync: 16, setxattr: 8, setxattrExt: 16, getxattr: 8, init: 16, interrupt: 8, batchForget: 8, forgetOne: 16,
  fallocate: 32, lseek: 24, copyFileRange: 56, statx: 24,
} as const;

/** Bodies at 16 in a reply. */
export const outBytes = {
  attr: 88, entry: 128, attrReply: 104, open: 16, write: 8, statfs: 80, getxattr: 8, init: 64, lseek: 8, statx: 288,
  /** struct fuse_dirent before the name; READDIRPLUS puts an entry before it. Records are padded to 8 bytes. */
  dirent: 24,
} as const;

/** _IOW(229, 1, struct fuse_backing_map) and _IOW(229, 2, u32). */
export const DeviceIoctl = { BACKING_OPEN: 0x4010e501, BACKING_CLOSE: 0x4004e502 } as const;

/** What a mode's type bits become in a directory entry: DT_DIR is S_IFDIR >> 12, and so on. */
export function direntType(mode: number): number {
  return (mode & 0o170000) >>> 12;
}
