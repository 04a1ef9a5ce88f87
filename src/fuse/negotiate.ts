/** What is asked of the kernel in INIT, and why: rules K1 to K4. Pure. */
import { InitFlag, protocolMajor, protocolMinor, protocolMinorMin } from './abi.js';

export interface InitOptions {
  /** K5: root only, kernel 6.9 or later; everything works without. */
  readonly passthrough?: boolean;
  /** 1: the cache may not lie on a stacked file system; 2: it may lie on overlayfs (K7). Of use with passthrough only. */
  readonly maxStackDepth?: 1 | 2;
  /** POSIX ACLs. DONT_MASK comes with them and only with them: then the file system applies umask and default ACLs itself (K1). */
  readonly posixAcl?: boolean;
  /**
   * Answer FUSE_STATX. Off: ENOSYS once, and the kernel takes what GETATTR or a LOOKUP told it. There is no birth time to tell, so
   * answering would only cost every caller that asks for one (Rust, Node, stat(1)) a round trip after each LOOKUP.
   */
  readonly statx?: boolean;
  /**
   * Not 0: file handles (name_to_handle_at, an NFS server) outlive the kernel's memory of an inode, and the mount. For as long as inode numbers mean the
   * same files this is the same number, and another one never.
   */
  readonly handleGeneration?: number;
  /** close(2) has nothing to wait for: ENOSYS once, and the kernel never asks again. */
  readonly noFlush?: boolean;
}

/** The outcome. Plain JSON: INIT happens once per connection, so the next daemon must be told (K12). */
export interface NegotiatedInit {
  readonly kernelMinor: number;
  readonly minor: number;
  /** Hexadecimal, both halves. */
  readonly offeredFlags: string;
  readonly flags: string;
  readonly maxWriteBytes: number;
  readonly maxPages: number;
  readonly maxReadaheadBytes: number;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxStackDepth: number;
  readonly hasResend: boolean;
  readonly passthrough: boolean;
  readonly expireOnly: boolean;
  readonly posixAcl: boolean;
  readonly setxattrExt: boolean;
  /** Of every inode but the root; 0: file handles live as long as the kernel remembers their inode. */
  readonly generation: number;
}

export const pageBytes = 4096;
/** 256 pages, the default fs.fuse.max_pages_limit: more needs that sysctl raised (K4). */
export const maxPages = 256;
export const maxWriteBytes = maxPages * pageBytes;
/** A READ is a page shorter, so that its answer fits into a pipe of 256 pages, the largest that everybody may have (`splice-pipe`): a mount option. */
export const readBytesMax = maxWriteBytes - pageBytes;
/** K4: readahead that waits for S3 must not use up the slots of hot files. */
export const maxBackground = 1024;
export const congestionThreshold = 768;

/**
 * K1, and BIG_WRITES, without which Linux 6.18 still cuts write(2) into requests of 4 KiB (measured: 93 MB/s instead of GB/s). What is not named here is refused: WRITEBACK_CACHE, locks, AUTO_INVAL_DATA, NO_OPEN_SUPPORT, idmaps, io_uring, timeouts, ...
 */
export const taken = InitFlag.ASYNC_READ | InitFlag.ATOMIC_O_TRUNC | InitFlag.BIG_WRITES | InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO | InitFlag.PARALLEL_DIROPS
  | InitFlag.MAX_PAGES | InitFlag.CACHE_SYMLINKS | InitFlag.EXPLICIT_INVAL_DATA | InitFlag.HANDLE_KILLPRIV_V2 | InitFlag.SETXATTR_EXT | InitFlag.INIT_EXT
  | InitFlag.CREATE_SUPP_GROUP | InitFlag.HAS_EXPIRE_ONLY | InitFlag.DIRECT_IO_ALLOW_MMAP | InitFlag.HAS_RESEND;

/** @returns undefined if the kernel's protocol is too old or of another major version. */
export function negotiate(offer: { major: number; minor: number; maxReadahead: number; flags: bigint }, options: InitOptions): NegotiatedInit | undefined {
  if (offer.major !== protocolMajor || offer.minor < protocolMinorMin) return undefined;
  let wanted: bigint = taken;
  if (options.passthrough === true) wanted |= InitFlag.PASSTHROUGH;
  if (options.posixAcl === true) wanted |= InitFlag.POSIX_ACL | InitFlag.DONT_MASK;
  if (options.handleGeneration !== undefined) wanted |= InitFlag.EXPORT_SUPPORT;
  const flags = wanted & offer.flags;
  const has = (flag: bigint): boolean => (flags & flag) !== 0n;
  const pages = has(InitFlag.MAX_PAGES) ? maxPages : 32;
  return {
    kernelMinor: offer.minor,
    minor: Math.min(offer.minor, protocolMinor),
    offeredFlags: `0x${offer.flags.toString(16)}`,
    flags: `0x${flags.toString(16)}`,
    maxWriteBytes: pages * pageBytes,
    maxPages: pages,
    // never less than what the kernel has: it takes the minimum, and sysfs may raise it afterwards (K4)
    maxReadaheadBytes: Math.max(offer.maxReadahead, maxWriteBytes),
    maxBackground,
    congestionThreshold,
    maxStackDepth: has(InitFlag.PASSTHROUGH) ? (options.maxStackDepth ?? 1) : 0,
    hasResend: has(InitFlag.HAS_RESEND),
    passthrough: has(InitFlag.PASSTHROUGH),
    expireOnly: has(InitFlag.HAS_EXPIRE_ONLY),
    posixAcl: has(InitFlag.POSIX_ACL),
    setxattrExt: has(InitFlag.SETXATTR_EXT),
    generation: has(InitFlag.EXPORT_SUPPORT) ? options.handleGeneration! : 0,
  };
}
