/**
 * From the bytes of one request to a typed `Request`. Lengths are checked here and nowhere above: a truncated or lying frame throws
 * `FsError` EINVAL (a name over 255 bytes ENAMETOOLONG), never reads past its end, and never yields half a request.
 *
 * Inode numbers and handles are ours and must be safe integers. Offsets and sizes are the caller's: those past 2^53 are EFBIG.
 * `data` of a WRITE is a view of the frame (borrowed); everything else is copied out, so that the frame can be filled again.
 */
import type { Time } from '../base/clock.js';
import { Errno } from '../base/errno.js';
import { nameBytesMax, nameFromBytes } from '../base/file-name.js';
import { FsError } from '../base/fs-error.js';
import { AttrValid, ExtType, FsyncFlag, GetattrFlag, inBytes, inHeaderBytes, Opcode, opcodeName, OpenInFlag, SetxattrExtFlag, WriteInFlag } from './abi.js';
import type { SetAttr } from './ops.js';

const body = inHeaderBytes;

/** One request's bytes. Reused from request to request: `load` points it at what was read. */
export class Frame {
  readonly view: DataView;
  length = 0;
  /** End of struct and names: `length` without extensions. */
  end = 0;

  constructor(readonly buffer: Buffer) {
    this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  }

  /** @returns false if not even the header is whole: then nobody can be answered. */
  load(length: number): boolean {
    this.length = length;
    this.end = length;
    return length >= inHeaderBytes;
  }

  get opcode(): number { return this.view.getUint32(4, true); }
  get uniqueLow(): number { return this.view.getUint32(8, true); }
  get uniqueHigh(): number { return this.view.getUint32(12, true); }
  get uid(): number { return this.view.getUint32(24, true); }
  get gid(): number { return this.view.getUint32(28, true); }
  get pid(): number { return this.view.getUint32(32, true); }
  get nodeid(): number { return this.id(16); }
  u32(at: number): number { return this.view.getUint32(at, true); }

  /** An inode number, handle or cookie: minted by us, so a safe integer. */
  id(at: number): number {
    const value = this.view.getUint32(at + 4, true) * 0x1_0000_0000 + this.view.getUint32(at, true);
    if (value > Number.MAX_SAFE_INTEGER) throw malformed(this, `the number at byte ${at} is not one of ours`);
    return value;
  }

  /** A file offset or size. */
  offset(at: number): number {
    const value = this.view.getInt32(at + 4, true) * 0x1_0000_0000 + this.view.getUint32(at, true);
    if (value < 0) throw malformed(this, `negative offset at byte ${at}`);
    if (value > Number.MAX_SAFE_INTEGER) throw new FsError(Errno.EFBIG, `Offset ${value} is beyond 2^53`);
    return value;
  }

  /** Where a program seeks to: anything it likes. What lies outside of all files, on either side, becomes a number that does, too. */
  seekOffset(at: number): number {
    const value = this.view.getInt32(at + 4, true) * 0x1_0000_0000 + this.view.getUint32(at, true);
    return Math.max(-1, Math.min(value, Number.MAX_SAFE_INTEGER));
  }

  time(secAt: number, nsecAt: number): Time {
    return { sec: this.view.getInt32(secAt + 4, true) * 0x1_0000_0000 + this.view.getUint32(secAt, true), nsec: this.view.getUint32(nsecAt, true) };
  }

  /** Bytes up to a NUL, which must lie before `end`. */
  bytesUntilNul(at: number): Buffer {
    const nul = this.buffer.indexOf(0, at);
    if (nul < 0 || nul >= this.end) throw malformed(this, 'unterminated name');
    return this.buffer.subarray(at, nul);
  }

  /** Where the NUL is that ends a name of ASCII letters; -1 if it is another, or not a name. Most are such, and want no view of their bytes to become a string. */
  endOfPlainName(at: number): number {
    const last = Math.min(this.end, at + nameBytesMax + 1);
    for (let i = at; i < last; i++) {
      const byte = this.buffer[i]!;
      if (byte === 0) return i > at ? i : -1;
      if (byte > 0x7f) return -1;
    }
    return -1;
  }
}

export function malformed(frame: Frame, what: string): FsError {
  return new FsError(Errno.EINVAL, `Malformed ${opcodeName(frame.opcode)} of ${frame.length} bytes: ${what}`);
}

function need(frame: Frame, bytes: number): void {
  if (frame.end < body + bytes) throw malformed(frame, `needs ${body + bytes} bytes`);
}

/** A name and where the byte after its terminator is. One decoder state is enough: names are taken one after the other. */
let nextAt = 0;
function name(frame: Frame, at: number): string {
  const plainEnd = frame.endOfPlainName(at);
  if (plainEnd >= 0) {
    nextAt = plainEnd + 1;
    return frame.buffer.toString('latin1', at, plainEnd);
  }
  const bytes = frame.bytesUntilNul(at);
  nextAt = at + bytes.length + 1;
  if (bytes.length === 0) throw malformed(frame, 'empty name');
  if (bytes.length > nameBytesMax) throw new FsError(Errno.ENAMETOOLONG, `Name of ${bytes.length} bytes, at most ${nameBytesMax}`);
  return nameFromBytes(bytes);
}

export type Request =
  | { readonly op: 'LOOKUP'; readonly name: string }
  | { readonly op: 'FORGET'; readonly count: number }
  | { readonly op: 'BATCH_FORGET'; readonly items: readonly { readonly ino: number; readonly count: number }[] }
  | { readonly op: 'GETATTR'; readonly fh: number | undefined }
  | { readonly op: 'STATX'; readonly fh: number | undefined }
  | { readonly op: 'SETATTR'; readonly change: SetAttr }
  | { readonly op: 'SYMLINK'; readonly name: string; readonly target: Buffer }
  | { readonly op: 'MKNOD'; readonly name: string; readonly mode: number; readonly rdev: number; readonly umask: number }
  | { readonly op: 'MKDIR'; readonly name: string; readonly mode: number; readonly umask: number }
  | { readonly op: 'UNLINK' | 'RMDIR' | 'REMOVEXATTR'; readonly name: string }
  | { readonly op: 'RENAME'; readonly name: string; readonly newParent: number; readonly newName: string; readonly flags: number }
  | { readonly op: 'LINK'; readonly ino: number; readonly newName: string }
  | { readonly op: 'OPEN' | 'OPENDIR'; readonly flags: number; readonly killSuidGid: boolean }
  | { readonly op: 'CREATE' | 'TMPFILE'; readonly name: string; readonly flags: number; readonly mode: number; readonly umask: number }
  | { readonly op: 'READ' | 'READDIR' | 'READDIRPLUS'; readonly fh: number; readonly offset: number; readonly size: number }
  | { readonly op: 'WRITE'; readonly fh: number; readonly offset: number; readonly data: Buffer; readonly flags: number; readonly killSuidGid: boolean; readonly fromPageCache: boolean }
  | { readonly op: 'RELEASE' | 'RELEASEDIR'; readonly fh: number; readonly flags: number }
  | { readonly op: 'FLUSH'; readonly fh: number }
  | { readonly op: 'FSYNC' | 'FSYNCDIR'; readonly fh: number; readonly dataOnly: boolean }
  | { readonly op: 'SETXATTR'; readonly name: string; readonly value: Buffer; readonly flags: number; readonly killSgid: boolean }
  | { readonly op: 'GETXATTR'; readonly name: string; readonly size: number }
  | { readonly op: 'LISTXATTR'; readonly size: number }
  | { readonly op: 'FALLOCATE'; readonly fh: number; readonly offset: number; readonly length: number; readonly mode: number }
  | { readonly op: 'LSEEK'; readonly fh: number; readonly offset: number; readonly whence: number }
  | { readonly op: 'COPY_FILE_RANGE'; readonly fh: number; readonly offset: number; readonly outIno: number; readonly outFh: number; readonly outOffset: number; readonly length: number }
  | { readonly op: 'INIT'; readonly major: number; readonly minor: number; readonly maxReadahead: number; readonly flags: bigint }
  | { readonly op: 'INTERRUPT'; readonly low: number; readonly high: number }
  | { readonly op: 'READLINK' | 'STATFS' | 'DESTROY' | 'IOCTL' | 'UNSUPPORTED' };

/**
 * @param frame loaded; `end` is set to exclude extensions.
 * @param setxattrExt SETXATTR_EXT was negotiated: fuse_setxattr_in has 16 bytes instead of 8.
 * @throws FsError EINVAL, ENAMETOOLONG, EFBIG
 */
export function decodeRequest(frame: Frame, setxattrExt: boolean): Request {
  const announced = frame.u32(0);
  if (announced !== frame.length) throw malformed(frame, `its header says ${announced}`);
  const extensionBytes = frame.view.getUint16(36, true) * 8;
  if (extensionBytes > frame.length - body) throw malformed(frame, 'extensions longer than the frame');
  frame.end = frame.length - extensionBytes;
  switch (frame.opcode) {
    case Opcode.LOOKUP: return { op: 'LOOKUP', name: name(frame, body) };
    case Opcode.GETATTR: return { op: 'GETATTR', fh: getattrHandle(frame, inBytes.getattr) };
    case Opcode.READ: return readIn(frame, 'READ');
    case Opcode.WRITE: return writeIn(frame);
    case Opcode.OPEN: return openIn(frame, 'OPEN');
    case Opcode.RELEASE: return releaseIn(frame, 'RELEASE');
    case Opcode.FLUSH: need(frame, inBytes.flush); return { op: 'FLUSH', fh: frame.id(body) };
    case Opcode.OPENDIR: return openIn(frame, 'OPENDIR');
    case Opcode.READDIR: return readIn(frame, 'READDIR');
    case Opcode.READDIRPLUS: return readIn(frame, 'READDIRPLUS');
    case Opcode.RELEASEDIR: return releaseIn(frame, 'RELEASEDIR');
    case Opcode.FORGET: need(frame, inBytes.forget); return { op: 'FORGET', count: frame.id(body) };
    case Opcode.BATCH_FORGET: return batchForgetIn(frame);
    case Opcode.SETATTR: return { op: 'SETATTR', change: setattrIn(frame) };
    case Opcode.STATX: return { op: 'STATX', fh: getattrHandle(frame, inBytes.statx) };
    case Opcode.READLINK: return { op: 'READLINK' };
    case Opcode.SYMLINK: {
      const link = name(frame, body);
      return { op: 'SYMLINK', name: link, target: Buffer.from(frame.bytesUntilNul(nextAt)) };
    }
    case Opcode.MKNOD:
      need(frame, inBytes.mknod);
      return { op: 'MKNOD', mode: frame.u32(body), rdev: frame.u32(body + 4), umask: frame.u32(body + 8), name: name(frame, body + inBytes.mknod) };
    case Opcode.MKDIR:
      need(frame, inBytes.mkdir);
      return { op: 'MKDIR', mode: frame.u32(body), umask: frame.u32(body + 4), name: name(frame, body + inBytes.mkdir) };
    case Opcode.UNLINK: return { op: 'UNLINK', name: name(frame, body) };
    case Opcode.RMDIR: return { op: 'RMDIR', name: name(frame, body) };
    case Opcode.RENAME: need(frame, inBytes.rename); return renameIn(frame, inBytes.rename, 0);
    case Opcode.RENAME2: need(frame, inBytes.rename2); return renameIn(frame, inBytes.rename2, frame.u32(body + 8));
    case Opcode.LINK: need(frame, inBytes.link); return { op: 'LINK', ino: frame.id(body), newName: name(frame, body + inBytes.link) };
    case Opcode.CREATE: return createIn(frame, 'CREATE');
    case Opcode.TMPFILE: return createIn(frame, 'TMPFILE');
    case Opcode.FSYNC: return fsyncIn(frame, 'FSYNC');
    case Opcode.FSYNCDIR: return fsyncIn(frame, 'FSYNCDIR');
    case Opcode.SETXATTR: return setxattrIn(frame, setxattrExt);
    case Opcode.GETXATTR: need(frame, inBytes.getxattr); return { op: 'GETXATTR', size: frame.u32(body), name: name(frame, body + inBytes.getxattr) };
    case Opcode.LISTXATTR: need(frame, inBytes.getxattr); return { op: 'LISTXATTR', size: frame.u32(body) };
    case Opcode.REMOVEXATTR: return { op: 'REMOVEXATTR', name: name(frame, body) };
    case Opcode.FALLOCATE:
      need(frame, inBytes.fallocate);
      return { op: 'FALLOCATE', fh: frame.id(body), offset: frame.offset(body + 8), length: frame.offset(body + 16), mode: frame.u32(body + 24) };
    case Opcode.LSEEK:
      need(frame, inBytes.lseek);
      return { op: 'LSEEK', fh: frame.id(body), offset: frame.seekOffset(body + 8), whence: frame.u32(body + 16) };
    case Opcode.COPY_FILE_RANGE: return copyFileRangeIn(frame);
    case Opcode.STATFS: return { op: 'STATFS' };
    case Opcode.INIT: return initIn(frame);
    case Opcode.INTERRUPT: need(frame, inBytes.interrupt); return { op: 'INTERRUPT', low: frame.u32(body), high: frame.u32(body + 4) };
    case Opcode.DESTROY: return { op: 'DESTROY' };
    case Opcode.IOCTL: return { op: 'IOCTL' };
    default: return { op: 'UNSUPPORTED' };
  }
}

/**
 * FUSE_CREATE_SUPP_GROUP: `u32 size, u32 type 32, u32 nr_groups, u32 groups[]`, padded to 8. The kernel sends at most one group.
 * @returns undefined if there is none. @throws FsError EINVAL
 */
export function decodeSupplementaryGroup(frame: Frame): number | undefined {
  let at = frame.end;
  while (at + 8 <= frame.length) {
    const size = frame.u32(at);
    if (size < 8 || at + size > frame.length) throw malformed(frame, 'extension of a wrong size');
    if (frame.u32(at + 4) === ExtType.GROUPS) {
      if (size < 12) throw malformed(frame, 'group extension of a wrong size');
      const count = frame.u32(at + 8);
      if (count > (size - 12) / 4) throw malformed(frame, 'more groups than bytes');
      return count === 0 ? undefined : frame.u32(at + 12);
    }
    at += (size + 7) & ~7;
  }
  return undefined;
}

function getattrHandle(frame: Frame, bytes: number): number | undefined {
  need(frame, bytes);
  return (frame.u32(body) & GetattrFlag.FH) !== 0 ? frame.id(body + 8) : undefined;
}

function readIn(frame: Frame, op: 'READ' | 'READDIR' | 'READDIRPLUS'): Request {
  need(frame, inBytes.read);
  const offset = op === 'READ' ? frame.offset(body + 8) : frame.id(body + 8);
  return { op, fh: frame.id(body), offset, size: frame.u32(body + 16) };
}

function writeIn(frame: Frame): Request {
  need(frame, inBytes.write);
  const size = frame.u32(body + 16);
  const start = body + inBytes.write;
  if (start + size !== frame.end) throw malformed(frame, `announces ${size} bytes of data`);
  const writeFlags = frame.u32(body + 20);
  return {
    op: 'WRITE', fh: frame.id(body), offset: frame.offset(body + 8), data: frame.buffer.subarray(start, start + size), flags: frame.u32(body + 32),
    killSuidGid: (writeFlags & WriteInFlag.KILL_SUIDGID) !== 0, fromPageCache: (writeFlags & WriteInFlag.CACHE) !== 0,
  };
}

function openIn(frame: Frame, op: 'OPEN' | 'OPENDIR'): Request {
  need(frame, inBytes.open);
  return { op, flags: frame.u32(body), killSuidGid: (frame.u32(body + 4) & OpenInFlag.KILL_SUIDGID) !== 0 };
}

function createIn(frame: Frame, op: 'CREATE' | 'TMPFILE'): Request {
  need(frame, inBytes.create);
  // TMPFILE carries the name of its directory entry in memory ("/" or a made-up one): of no meaning, possibly empty
  const path = op === 'CREATE' ? name(frame, body + inBytes.create) : '';
  return { op, flags: frame.u32(body), mode: frame.u32(body + 4), umask: frame.u32(body + 8), name: path };
}

function releaseIn(frame: Frame, op: 'RELEASE' | 'RELEASEDIR'): Request {
  need(frame, inBytes.release);
  return { op, fh: frame.id(body), flags: frame.u32(body + 8) };
}

function fsyncIn(frame: Frame, op: 'FSYNC' | 'FSYNCDIR'): Request {
  need(frame, inBytes.fsync);
  return { op, fh: frame.id(body), dataOnly: (frame.u32(body + 8) & FsyncFlag.FDATASYNC) !== 0 };
}

function renameIn(frame: Frame, bytes: number, flags: number): Request {
  const from = name(frame, body + bytes);
  return { op: 'RENAME', name: from, newParent: frame.id(body), newName: name(frame, nextAt), flags };
}

function batchForgetIn(frame: Frame): Request {
  need(frame, inBytes.batchForget);
  const count = frame.u32(body);
  if (count > (frame.end - body - inBytes.batchForget) / inBytes.forgetOne) throw malformed(frame, `announces ${count} items`);
  const items = [];
  for (let i = 0, at = body + inBytes.batchForget; i < count; i++, at += inBytes.forgetOne) items.push({ ino: frame.id(at), count: frame.id(at + 8) });
  return { op: 'BATCH_FORGET', items };
}

function setattrIn(frame: Frame): SetAttr {
  need(frame, inBytes.setattr);
  const valid = frame.u32(body);
  const has = (bit: number): boolean => (valid & bit) !== 0;
  return {
    fh: has(AttrValid.FH) ? frame.id(body + 8) : undefined,
    sizeBytes: has(AttrValid.SIZE) ? frame.offset(body + 16) : undefined,
    atime: has(AttrValid.ATIME) ? (has(AttrValid.ATIME_NOW) ? 'now' : frame.time(body + 32, body + 56)) : undefined,
    mtime: has(AttrValid.MTIME) ? (has(AttrValid.MTIME_NOW) ? 'now' : frame.time(body + 40, body + 60)) : undefined,
    ctime: has(AttrValid.CTIME) ? frame.time(body + 48, body + 64) : undefined,
    mode: has(AttrValid.MODE) ? frame.u32(body + 68) : undefined,
    uid: has(AttrValid.UID) ? frame.u32(body + 76) : undefined,
    gid: has(AttrValid.GID) ? frame.u32(body + 80) : undefined,
    // K2: passthrough writes clear suid by a SETATTR that names nothing (FATTR_FH and the lock owner do not count as something)
    killSuidGid: has(AttrValid.KILL_SUIDGID) || (valid & ~(AttrValid.FH | 512)) === 0,
  };
}

function setxattrIn(frame: Frame, ext: boolean): Request {
  const bytes = ext ? inBytes.setxattrExt : inBytes.setxattr;
  need(frame, bytes);
  const size = frame.u32(body);
  const key = name(frame, body + bytes);
  if (nextAt + size !== frame.end) throw malformed(frame, `announces a value of ${size} bytes`);
  return {
    op: 'SETXATTR', name: key, value: Buffer.from(frame.buffer.subarray(nextAt, nextAt + size)), flags: frame.u32(body + 4),
    killSgid: ext && (frame.u32(body + 8) & SetxattrExtFlag.ACL_KILL_SGID) !== 0,
  };
}

function copyFileRangeIn(frame: Frame): Request {
  need(frame, inBytes.copyFileRange);
  // the length is the caller's wish and may be anything: no file is longer than 2^53
  const length = Math.min(Number.MAX_SAFE_INTEGER, frame.u32(body + 44) * 0x1_0000_0000 + frame.u32(body + 40));
  return {
    op: 'COPY_FILE_RANGE', fh: frame.id(body), offset: frame.offset(body + 8), outIno: frame.id(body + 16), outFh: frame.id(body + 24),
    outOffset: frame.offset(body + 32), length,
  };
}

function initIn(frame: Frame): Request {
  need(frame, inBytes.init);
  let flags = BigInt(frame.u32(body + 12));
  if ((flags & (1n << 30n)) !== 0n) {
    need(frame, inBytes.init + 4);
    flags |= BigInt(frame.u32(body + 16)) << 32n;
  }
  return { op: 'INIT', major: frame.u32(body), minor: frame.u32(body + 4), maxReadahead: frame.u32(body + 8), flags };
}
