/**
 * What a file system has to answer: the interface between the kernel session (`fuse/session`) and POSIX meaning (`fs/`).
 * Nothing here is wire format; nothing below it knows an opcode. Methods may answer at once or with a promise: an answer
 * given at once costs no turn of the event loop, which is what makes a cached `stat` cheap.
 *
 * Errors: throw (or reject with) `FsError`; anything else is a bug, logged once by the session and answered EIO.
 * Names are the strings of `base/file-name.ts`. Inode numbers and handles are safe integers.
 */
import type { Time } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';

export interface RequestContext {
  /** The kernel's request number without bit 63 (FUSE_UNIQUE_RESEND). */
  readonly unique: bigint;
  /** True if the kernel says it may have been executed by an earlier daemon (K11). */
  readonly resent: boolean;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** FUSE_CREATE_SUPP_GROUP: a supplementary group that owns the parent directory, when the kernel sent one. */
  readonly supplementaryGid?: number;
  /** Fires when the caller was interrupted (FUSE_INTERRUPT) or the session ends. Created only when asked for. */
  readonly signal: AbortSignal;
}

/** struct fuse_attr, in natural units. `mode` includes the type bits. */
export interface Attr {
  readonly ino: number;
  readonly sizeBytes: number;
  /** 512-byte units. */
  readonly blocks: number;
  readonly atime: Time;
  readonly mtime: Time;
  readonly ctime: Time;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
}

export interface AttrReply { readonly attr: Attr; readonly attrValidMs: number }

/** Answer to LOOKUP and everything that makes a name. `attr: null` is a negative entry the kernel may cache for `entryValidMs`. */
export interface Entry {
  readonly attr: Attr | null;
  readonly entryValidMs: number;
  readonly attrValidMs: number;
}

export interface OpenReply {
  readonly fh: number;
  /** The kernel may keep the pages it has of this inode (K10). */
  readonly keepCache?: boolean;
  readonly directIo?: boolean;
  readonly nonSeekable?: boolean;
  /** For directories: the kernel may cache the readdir result. */
  readonly cacheDir?: boolean;
  /** Passthrough: the backing id registered for this inode (K5). */
  readonly backingId?: number;
}

export interface SetAttr {
  readonly sizeBytes?: number | undefined;
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly atime?: Time | 'now' | undefined;
  readonly mtime?: Time | 'now' | undefined;
  readonly ctime?: Time | undefined;
  /** Handle the call came through (ftruncate, fchmod), if any. */
  readonly fh?: number | undefined;
  /** Clear setuid and setgid (FATTR_KILL_SUIDGID, or valid=0 under HANDLE_KILLPRIV_V2: K2). */
  readonly killSuidGid: boolean;
}

/** Receives directory entries; `add` answers false when the reply is full and that entry was not taken. */
export interface DirentSink {
  /** True for READDIRPLUS: `entry` is then sent along and counts as a lookup of that inode (not for `.` and `..`). */
  readonly plus: boolean;
  /** Rough number of entries that still fit, for sizing a query. */
  readonly roomFor: number;
  /** @param nextOffset cookie that continues *after* this entry; stable across daemon restarts (K12). */
  add(name: string, ino: number, mode: number, nextOffset: number, entry?: Entry): boolean;
}

export interface StatFs {
  readonly blocks: number; readonly blocksFree: number; readonly blocksAvailable: number;
  readonly files: number; readonly filesFree: number; readonly blockSizeBytes: number; readonly nameBytesMax: number;
}

/** Linux open(2) flags as the kernel passes them. Source: asm-generic/fcntl.h (x86-64 and arm64 agree on these). */
export const OpenFlag = {
  ACCMODE: 0o3, RDONLY: 0, WRONLY: 1, RDWR: 2, CREAT: 0o100, EXCL: 0o200, TRUNC: 0o1000, APPEND: 0o2000, NONBLOCK: 0o4000, DSYNC: 0o10000,
  SYNC: 0o4010000, DIRECT: 0o40000, TMPFILE: 0o20200000, NOATIME: 0o1000000,
} as const;

export const opensForReading = (flags: number): boolean => (flags & OpenFlag.ACCMODE) !== OpenFlag.WRONLY;
export const opensForWriting = (flags: number): boolean => (flags & OpenFlag.ACCMODE) !== OpenFlag.RDONLY;

export const RenameFlag = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;
export const FallocateMode = { KEEP_SIZE: 1, PUNCH_HOLE: 2, COLLAPSE_RANGE: 8, ZERO_RANGE: 16, INSERT_RANGE: 32, UNSHARE_RANGE: 64 } as const;
export const Seek = { DATA: 3, HOLE: 4 } as const;
export const XattrFlag = { CREATE: 1, REPLACE: 2 } as const;

/** What a reply gave the kernel. */
export interface Undo {
  readonly lookupIno?: number;
  readonly open?: { readonly ino: number; readonly fh: number; readonly flags: number; readonly directory: boolean };
}

export interface FileSystem {
  /**
   * LOOKUP: a path walk met `name` in directory `parent`. One nlookup reference per positive answer. ENOENT may be thrown or answered as a negative entry.
   * A file handle of an inode that the kernel has forgotten: `.` asks for the inode `parent` itself, which may be of any type, `..` for the parent of a directory; ESTALE if it is gone.
   */
  lookup(ctx: RequestContext, parent: number, name: string): MaybePromise<Entry>;
  /** FORGET: the kernel drops `count` lookup references. No reply. */
  forget(ino: number, count: number): void;
  /** GETATTR. `fh` is set for fstat. */
  getattr(ctx: RequestContext, ino: number, fh: number | undefined): MaybePromise<AttrReply>;
  /** SETATTR: chmod, chown, truncate, utimens, and suid clearing. */
  setattr(ctx: RequestContext, ino: number, change: SetAttr): MaybePromise<AttrReply>;
  readlink(ctx: RequestContext, ino: number): MaybePromise<Buffer>;
  /** MKNOD: regular file, fifo, socket, device. `mode` has type bits; `umask` has not been applied (DONT_MASK) only if `init` took it. */
  mknod(ctx: RequestContext, parent: number, name: string, mode: number, rdev: number, umask: number): MaybePromise<Entry>;
  mkdir(ctx: RequestContext, parent: number, name: string, mode: number, umask: number): MaybePromise<Entry>;
  unlink(ctx: RequestContext, parent: number, name: string): MaybePromise<void>;
  rmdir(ctx: RequestContext, parent: number, name: string): MaybePromise<void>;
  symlink(ctx: RequestContext, parent: number, name: string, target: Buffer): MaybePromise<Entry>;
  /** RENAME and RENAME2. `flags` is a set of `RenameFlag`; EINVAL for those not supported. */
  rename(ctx: RequestContext, parent: number, name: string, newParent: number, newName: string, flags: number): MaybePromise<void>;
  link(ctx: RequestContext, ino: number, newParent: number, newName: string): MaybePromise<Entry>;

  /** OPEN (O_CREAT of an existing file arrives here, O_TRUNC included: ATOMIC_O_TRUNC). */
  open(ctx: RequestContext, ino: number, flags: number, killSuidGid: boolean): MaybePromise<OpenReply>;
  /** CREATE: lookup, create and open in one; counts as a lookup. EXCL is the kernel's business unless the name appeared meanwhile. */
  create(ctx: RequestContext, parent: number, name: string, flags: number, mode: number, umask: number): MaybePromise<Entry & OpenReply>;
  /** TMPFILE: like create, without a name. */
  tmpfile(ctx: RequestContext, parent: number, flags: number, mode: number, umask: number): MaybePromise<Entry & OpenReply>;
  /**
   * Called before each `read`, without a buffer, so that many READs can wait for S3 and hold no memory: undefined if its bytes are here, else resolves when they
   * are. `read` right after it answers at once; it waits by itself where the bytes left meanwhile.
   */
  ready?(ctx: RequestContext, ino: number, fh: number, offset: number, length: number): Promise<void> | undefined;
  /** READ into `into` (its length is the size asked). Answers the byte count; short only at end of file. */
  read(ctx: RequestContext, ino: number, fh: number, offset: number, into: Buffer): MaybePromise<number>;
  /**
   * Instead of `read`, where all bytes asked for (up to the end of the file) are in a local file at the same offset: its descriptor, borrowed until the handler returns, and how many they are.
   * undefined: call `read`.
   */
  located?(ctx: RequestContext, ino: number, fh: number, offset: number, length: number): { readonly fd: number; readonly length: number } | undefined;
  /**
   * WRITE. `data` is borrowed: it is valid only until the method returns (not until its promise settles), so a method that must
   * wait copies it first. `flags` are the open flags; `killSuidGid` is FUSE_WRITE_KILL_SUIDGID; `fromPageCache` means a mapping wrote it.
   * Answers the bytes taken, always all of them.
   */
  write(ctx: RequestContext, ino: number, fh: number, offset: number, data: Buffer, flags: number, killSuidGid: boolean, fromPageCache: boolean): MaybePromise<number>;
  /** FLUSH: a descriptor was closed (may come several times per open). */
  flush(ctx: RequestContext, ino: number, fh: number): MaybePromise<void>;
  /** RELEASE: the last descriptor and mapping of this open are gone. An unknown fh succeeds (K11). */
  release(ctx: RequestContext, ino: number, fh: number, flags: number): MaybePromise<void>;
  /** FSYNC / fdatasync: *journaled* when it returns. */
  fsync(ctx: RequestContext, ino: number, fh: number, dataOnly: boolean): MaybePromise<void>;

  opendir(ctx: RequestContext, ino: number): MaybePromise<OpenReply>;
  /** READDIR and READDIRPLUS from cookie `offset` (0 = start). */
  readdir(ctx: RequestContext, ino: number, fh: number, offset: number, sink: DirentSink): MaybePromise<void>;
  releasedir(ctx: RequestContext, ino: number, fh: number): MaybePromise<void>;
  fsyncdir(ctx: RequestContext, ino: number, fh: number, dataOnly: boolean): MaybePromise<void>;

  statfs(ctx: RequestContext, ino: number): MaybePromise<StatFs>;
  /** GETXATTR: the whole value; the session does the size negotiation (ERANGE). undefined if there is none (ENODATA): the everyday answer, and no error. */
  getxattr(ctx: RequestContext, ino: number, name: string): MaybePromise<Buffer | undefined>;
  listxattr(ctx: RequestContext, ino: number): MaybePromise<string[]>;
  /** `flags` are `XattrFlag`; `killSgid` is FUSE_SETXATTR_ACL_KILL_SGID. */
  setxattr(ctx: RequestContext, ino: number, name: string, value: Buffer, flags: number, killSgid: boolean): MaybePromise<void>;
  removexattr(ctx: RequestContext, ino: number, name: string): MaybePromise<void>;
  fallocate(ctx: RequestContext, ino: number, fh: number, offset: number, length: number, mode: number): MaybePromise<void>;
  /** LSEEK with `Seek.DATA` or `Seek.HOLE`; ENXIO past the end. */
  lseek(ctx: RequestContext, ino: number, fh: number, offset: number, whence: number): MaybePromise<number>;
  copyFileRange(ctx: RequestContext, ino: number, fh: number, offset: number, outIno: number, outFh: number, outOffset: number, length: number): MaybePromise<number>;

  /** The reply to a successful request reached the kernel: replay rows of `ctx.unique` may go (K11). Called for requests that may change something only. */
  delivered(ctx: RequestContext): void;
  /**
   * The caller has no success of this request: its reply could not be delivered (ENOENT: the caller is gone), or was an error. Undo the lookup or the open it carried
   * (K12). The kernel will not send it again, so its replay row may go, too.
   */
  undelivered(ctx: RequestContext, undo: Undo): void;
  /** DESTROY, or the device reported ENODEV: the connection is over, no more requests. */
  destroyed(): void;
}
