/**
 * Replies. One `Reply` is reused for every answer of fixed size: fill it, write it with one write(2), fill it again. READ, READDIR
 * and other long answers live in buffers of their own that have room for the header in front (`headRoom`), so that header and data
 * still leave in one plain write without being copied together.
 */
import { assert } from '../base/assert.js';
import type { Time } from '../base/clock.js';
import { nameToBytes } from '../base/file-name.js';
import { direntType, outBytes, outHeaderBytes, OpenReplyFlag, rootIno } from './abi.js';
import type { Attr, AttrReply, DirentSink, Entry, OpenReply, StatFs } from './ops.js';

const body = outHeaderBytes;
const two32 = 0x1_0000_0000;

/** Bytes in front of the data of a long answer; the header uses the last 16 of them, the rest keeps the data on a cache line. */
export const headRoom = 64;

export function putHeader(view: DataView, at: number, length: number, error: number, uniqueLow: number, uniqueHigh: number): void {
  view.setUint32(at, length, true);
  view.setInt32(at + 4, error, true);
  view.setUint32(at + 8, uniqueLow, true);
  view.setUint32(at + 12, uniqueHigh, true);
}

/** A safe integer, possibly negative, as 64 bits. */
export function putI64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % two32, true); // ToUint32 wraps negative remainders the right way
  view.setInt32(at + 4, Math.floor(value / two32), true);
}

export function putAttr(view: DataView, at: number, attr: Attr): void {
  putI64(view, at, attr.ino);
  putI64(view, at + 8, attr.sizeBytes);
  putI64(view, at + 16, attr.blocks);
  putI64(view, at + 24, attr.atime.sec);
  putI64(view, at + 32, attr.mtime.sec);
  putI64(view, at + 40, attr.ctime.sec);
  view.setUint32(at + 48, attr.atime.nsec, true);
  view.setUint32(at + 52, attr.mtime.nsec, true);
  view.setUint32(at + 56, attr.ctime.nsec, true);
  view.setUint32(at + 60, attr.mode, true);
  view.setUint32(at + 64, attr.nlink, true);
  view.setUint32(at + 68, attr.uid, true);
  view.setUint32(at + 72, attr.gid, true);
  view.setUint32(at + 76, attr.rdev, true);
  view.setUint32(at + 80, attr.blksize, true);
  view.setUint32(at + 84, 0, true);
}

/**
 * struct fuse_entry_out. A null attr gives nodeid 0, a negative entry.
 * @param generation the same for all inodes of a connection, as their numbers are never reused (K14): it tells the numbers of one cache directory from those of
 *   the next, where someone kept a file handle. The root's is 0, says the kernel.
 */
export function putEntry(view: DataView, at: number, entry: Entry, generation = 0): void {
  putI64(view, at, entry.attr === null ? 0 : entry.attr.ino);
  putI64(view, at + 8, entry.attr === null || entry.attr.ino === rootIno ? 0 : generation);
  putI64(view, at + 16, Math.floor(entry.entryValidMs / 1000));
  putI64(view, at + 24, Math.floor(entry.attrValidMs / 1000));
  view.setUint32(at + 32, nsecOf(entry.entryValidMs), true);
  view.setUint32(at + 36, nsecOf(entry.attrValidMs), true);
  if (entry.attr === null) zero(view, at + 40, outBytes.attr);
  else putAttr(view, at + 40, entry.attr);
}

export function putOpen(view: DataView, at: number, open: OpenReply): void {
  const passthrough = open.backingId !== undefined && open.backingId > 0;
  putI64(view, at, open.fh);
  view.setUint32(at + 8,
    // K6: the kernel answers EIO to PASSTHROUGH|KEEP_CACHE
    (open.keepCache === true && !passthrough ? OpenReplyFlag.KEEP_CACHE : 0) | (open.directIo === true ? OpenReplyFlag.DIRECT_IO : 0)
    | (open.nonSeekable === true ? OpenReplyFlag.NONSEEKABLE : 0) | (open.cacheDir === true ? OpenReplyFlag.CACHE_DIR : 0)
    | (passthrough ? OpenReplyFlag.PASSTHROUGH : 0), true);
  view.setInt32(at + 12, passthrough ? open.backingId : 0, true);
}

function nsecOf(ms: number): number {
  return Math.round((ms % 1000) * 1e6);
}

function zero(view: DataView, at: number, bytes: number): void {
  for (let i = 0; i < bytes; i += 4) view.setUint32(at + i, 0, true);
}

/** The reused buffer for answers of fixed size. Each method fills the body and answers its length. */
export class Reply {
  /** Of all inodes. */
  generation = 0;
  readonly buffer = Buffer.alloc(512);
  readonly view = new DataView(this.buffer.buffer, this.buffer.byteOffset, this.buffer.byteLength);

  entry(entry: Entry): number {
    putEntry(this.view, body, entry, this.generation);
    return outBytes.entry;
  }

  attr(reply: AttrReply): number {
    putI64(this.view, body, Math.floor(reply.attrValidMs / 1000));
    this.view.setUint32(body + 8, nsecOf(reply.attrValidMs), true);
    this.view.setUint32(body + 12, 0, true);
    putAttr(this.view, body + 16, reply.attr);
    return outBytes.attrReply;
  }

  /** struct fuse_statx_out: what GETATTR says, in statx(2)'s layout; no birth time. */
  statx(reply: AttrReply): number {
    const { view } = this;
    const attr = reply.attr;
    zero(view, body, outBytes.statx);
    putI64(view, body, Math.floor(reply.attrValidMs / 1000));
    view.setUint32(body + 8, nsecOf(reply.attrValidMs), true);
    const at = body + 32;
    view.setUint32(at, 0x7ff /* STATX_BASIC_STATS */, true);
    view.setUint32(at + 4, attr.blksize, true);
    view.setUint32(at + 16, attr.nlink, true);
    view.setUint32(at + 20, attr.uid, true);
    view.setUint32(at + 24, attr.gid, true);
    view.setUint16(at + 28, attr.mode, true);
    putI64(view, at + 32, attr.ino);
    putI64(view, at + 40, attr.sizeBytes);
    putI64(view, at + 48, attr.blocks);
    this.statxTime(at + 64, attr.atime);
    this.statxTime(at + 96, attr.ctime);
    this.statxTime(at + 112, attr.mtime);
    view.setUint32(at + 128, (attr.rdev >>> 8) & 0xfff, true); // new_encode_dev: minor low 8 | major 12 | minor high 12
    view.setUint32(at + 132, (attr.rdev & 0xff) | ((attr.rdev >>> 12) & 0xfff00), true);
    return outBytes.statx;
  }

  open(open: OpenReply): number {
    putOpen(this.view, body, open);
    return outBytes.open;
  }

  create(created: Entry & OpenReply): number {
    putEntry(this.view, body, created, this.generation);
    putOpen(this.view, body + outBytes.entry, created);
    return outBytes.entry + outBytes.open;
  }

  /** WRITE, COPY_FILE_RANGE and the size answers of GETXATTR and LISTXATTR: u32 count and padding. */
  count(count: number): number {
    this.view.setUint32(body, count, true);
    this.view.setUint32(body + 4, 0, true);
    return outBytes.write;
  }

  lseek(offset: number): number {
    putI64(this.view, body, offset);
    return outBytes.lseek;
  }

  statfs(stat: StatFs): number {
    zero(this.view, body, outBytes.statfs);
    putI64(this.view, body, stat.blocks);
    putI64(this.view, body + 8, stat.blocksFree);
    putI64(this.view, body + 16, stat.blocksAvailable);
    putI64(this.view, body + 24, stat.files);
    putI64(this.view, body + 32, stat.filesFree);
    this.view.setUint32(body + 40, stat.blockSizeBytes, true);
    this.view.setUint32(body + 44, stat.nameBytesMax, true);
    this.view.setUint32(body + 48, stat.blockSizeBytes, true); // frsize: the unit `blocks` counts in
    return outBytes.statfs;
  }

  init(init: { minor: number; maxReadahead: number; flags: bigint; maxBackground: number; congestionThreshold: number; maxWrite: number; maxPages: number; maxStackDepth: number }): number {
    const { view } = this;
    zero(view, body, outBytes.init);
    view.setUint32(body, 7, true);
    view.setUint32(body + 4, init.minor, true);
    view.setUint32(body + 8, init.maxReadahead, true);
    view.setUint32(body + 12, Number(init.flags & 0xffff_ffffn), true);
    view.setUint16(body + 16, init.maxBackground, true);
    view.setUint16(body + 18, init.congestionThreshold, true);
    view.setUint32(body + 20, init.maxWrite, true);
    view.setUint32(body + 24, 1, true); // time_gran: nanoseconds
    view.setUint16(body + 28, init.maxPages, true);
    view.setUint32(body + 32, Number(init.flags >> 32n), true);
    view.setUint32(body + 36, init.maxStackDepth, true);
    return outBytes.init;
  }

  private statxTime(at: number, time: Time): void {
    putI64(this.view, at, time.sec);
    this.view.setUint32(at + 8, time.nsec, true);
  }
}

/** Packs directory entries into the data part of a long buffer. Records are padded to 8 bytes. */
export class DirentPacker implements DirentSink {
  length = 0;
  /** Inodes that were counted as looked up; what has to be undone if the answer is not delivered (K12). */
  readonly lookups: number[] = [];
  private readonly view: DataView;

  /** @param into the data part, as long as the kernel asked. */
  constructor(private readonly into: Buffer, readonly plus: boolean, private readonly generation = 0) {
    this.view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  }

  get roomFor(): number {
    // 16 bytes is an ordinary name; a wrong guess costs the query some rows
    const record = outBytes.dirent + 16 + (this.plus ? outBytes.entry : 0);
    return Math.max(1, Math.floor((this.into.length - this.length) / record));
  }

  add(name: string, ino: number, mode: number, nextOffset: number, entry?: Entry): boolean {
    assert(Number.isSafeInteger(ino) && Number.isSafeInteger(nextOffset), 'inode numbers and cookies are safe integers');
    const { view } = this;
    const simple = isAscii(name);
    const bytes = simple ? undefined : nameToBytes(name);
    const nameLength = bytes?.length ?? name.length;
    let at = this.length;
    const end = at + (this.plus ? outBytes.entry : 0) + ((outBytes.dirent + nameLength + 7) & ~7);
    if (end > this.into.length) return false;
    if (this.plus) {
      // nodeid 0 means "no attributes sent": not counted as a lookup
      if (entry?.attr && name !== '.' && name !== '..') {
        putEntry(view, at, entry, this.generation);
        this.lookups.push(entry.attr.ino);
      } else zero(view, at, outBytes.entry);
      at += outBytes.entry;
    }
    putI64(view, at, ino);
    putI64(view, at + 8, nextOffset);
    view.setUint32(at + 16, nameLength, true);
    view.setUint32(at + 20, direntType(mode), true);
    if (bytes) bytes.copy(this.into, at + outBytes.dirent);
    else for (let i = 0; i < nameLength; i++) this.into[at + outBytes.dirent + i] = name.charCodeAt(i);
    this.into.fill(0, at + outBytes.dirent + nameLength, end);
    this.length = end;
    return true;
  }
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

/** Names as listxattr(2) wants them: each followed by a NUL. */
export function xattrList(names: readonly string[]): Buffer {
  return Buffer.concat(names.flatMap((name) => [nameToBytes(name), Buffer.from([0])]));
}
