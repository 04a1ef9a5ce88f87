/**
 * File attributes in user metadata, as s3fs and rclone read and write it (DESIGN 6). The format:
 *
 * - `mode`: st_mode in decimal, type bits included. `uid`, `gid`: decimal.
 * - `mtime`, `atime`, `ctime`: decimal seconds; a fraction has exactly nine digits, because s3fs reads it as a count of
 *   nanoseconds and rclone as a fraction. No fraction if it is zero.
 * - `xattr`: percent-encoded JSON `{"name":"base64", ...}` (s3fs).
 * - `hearthfs-rdev`: decimal, devices only. `hearthfs-link`: `<generation>:<link id>` (J10). `hearthfs-nonce`: who wrote it (J2).
 * - A symlink is mode S_IFLNK with the target as content.
 *
 * Reading is tolerant: what makes no sense is as if it were missing. All other keys are *foreign* and are carried through rewrites (J12).
 */
import type { Time } from '../base/clock.js';
import { defaultContentType, directoryContentType } from './content-type.js';
import { encodeHeaderText } from './header-text.js';
import type { ObjectAttributes, ObjectHead } from './object-store.js';
import { decodeTime, encodeTime } from './metadata-time.js';

export interface FileAttributes {
  /** With type bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly mtime: Time;
  readonly atime: Time;
  readonly ctime: Time;
  readonly xattrs: ReadonlyMap<string, Buffer> | null;
  readonly linkId?: string;
  /** Content generation that this hard link's bytes have; the higher one wins after a crash (J10). */
  readonly linkGeneration?: number;
  /** For new files (`contentTypeOf`); a type the object already has is kept. */
  readonly contentType?: string;
}

export interface DecodedAttributes {
  mode?: number;
  uid?: number;
  gid?: number;
  mtime?: Time;
  atime?: Time;
  ctime?: Time;
  xattrs?: Map<string, Buffer>;
  rdev?: number;
  linkId?: string;
  linkGeneration?: number;
  nonce?: string;
  foreign: ObjectAttributes;
}

/** User metadata may hold 2 KB: the sum of the UTF-8 bytes of names (without `x-amz-meta-`) and values. */
export const metadataBytesMax = 2048;

export class MetadataTooLarge extends Error {
  override readonly name = 'MetadataTooLarge';
  constructor(readonly sizeBytes: number) {
    super(`Cannot store metadata: it has ${sizeBytes} of at most ${metadataBytesMax} bytes`);
  }
}

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const fileTypes = new Set([0o010000, S_IFCHR, S_IFDIR, S_IFBLK, S_IFREG, S_IFLNK, 0o140000]);
const symlinkTargetBytesMax = 4095;

/** Whatever its metadata say: symlinks are short, and special files have no content. So a listing is enough to know its type. */
export function isFileBySize(sizeBytes: number): boolean {
  return sizeBytes > symlinkTargetBytesMax;
}

const ownKeys = new Set(['mode', 'uid', 'gid', 'mtime', 'atime', 'ctime', 'hearthfs-rdev', 'hearthfs-link', 'hearthfs-nonce']);
/** Digests of the content that other tools keep in metadata: wrong as soon as the content is another. rclone, s3cmd. */
const digestKeys = new Set(['md5chksum', 's3cmd-attrs', 'sha256', 'sha1', 'md5', 'content-md5']);

/** @throws MetadataTooLarge over 2 KB, foreign metadata included. */
export function encodeAttributes(file: FileAttributes, foreign: ObjectAttributes | null, nonce?: string): ObjectAttributes {
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(foreign?.metadata ?? {})) {
    if (!ownKeys.has(name) && !(name === 'xattr' && file.xattrs !== null)) metadata[name] = value;
  }
  metadata['mode'] = String(file.mode);
  metadata['uid'] = String(file.uid);
  metadata['gid'] = String(file.gid);
  metadata['mtime'] = encodeTime(file.mtime);
  metadata['atime'] = encodeTime(file.atime);
  metadata['ctime'] = encodeTime(file.ctime);
  const type = file.mode & S_IFMT;
  if (type === S_IFCHR || type === S_IFBLK) metadata['hearthfs-rdev'] = String(file.rdev);
  if (file.xattrs !== null && file.xattrs.size > 0) metadata['xattr'] = encodeXattrs(file.xattrs);
  if (file.linkId !== undefined) metadata['hearthfs-link'] = `${file.linkGeneration ?? 0}:${file.linkId}`;
  if (nonce !== undefined) metadata['hearthfs-nonce'] = nonce;
  const sizeBytes = metadataSizeBytes(metadata);
  if (sizeBytes > metadataBytesMax) throw new MetadataTooLarge(sizeBytes);
  const contentType = type === S_IFDIR ? directoryContentType : foreign?.contentType ?? (type === S_IFREG ? file.contentType : undefined) ?? defaultContentType;
  return { ...foreign, metadata, contentType };
}

export function decodeAttributes(head: ObjectHead): DecodedAttributes {
  const { metadata } = head.attributes;
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(metadata)) if (!ownKeys.has(name) && name !== 'xattr') kept[name] = value;
  const result: DecodedAttributes = { foreign: { ...head.attributes, metadata: kept } };

  const mode = decodeMode(head);
  if (mode !== undefined) result.mode = mode;
  const uid = decodeId(metadata['uid'] ?? metadata['owner'] ?? metadata['file-owner'] ?? metadata['goog-reserved-posix-uid']);
  if (uid !== undefined) result.uid = uid;
  const gid = decodeId(metadata['gid'] ?? metadata['group'] ?? metadata['file-group'] ?? metadata['goog-reserved-posix-gid']);
  if (gid !== undefined) result.gid = gid;
  const mtime = decodeTime(metadata['mtime']) ?? decodeTime(metadata['file-mtime']) ?? decodeTime(metadata['goog-reserved-file-mtime']);
  if (mtime) result.mtime = mtime;
  const atime = decodeTime(metadata['atime']) ?? decodeTime(metadata['file-atime']);
  if (atime) result.atime = atime;
  const ctime = decodeTime(metadata['ctime']);
  if (ctime) result.ctime = ctime;

  if (metadata['xattr'] !== undefined) {
    const xattrs = decodeXattrs(metadata['xattr']);
    if (xattrs) result.xattrs = xattrs;
    else kept['xattr'] = metadata['xattr']; // not ours to understand: carried like any foreign value
  }
  const rdev = metadata['hearthfs-rdev'];
  if (rdev !== undefined && /^\d{1,10}$/.test(rdev)) result.rdev = Number(rdev);
  const link = /^(\d{1,15}):(.+)$/.exec(metadata['hearthfs-link'] ?? '');
  if (link) {
    result.linkGeneration = Number(link[1]);
    result.linkId = link[2]!;
  }
  if (metadata['hearthfs-nonce']) result.nonce = metadata['hearthfs-nonce'];
  return result;
}

/** For a rewrite with *other content*: what `foreign` says about the old bytes must not be said about the new ones. */
export function withoutContentDigests(foreign: ObjectAttributes): ObjectAttributes {
  const metadata = Object.fromEntries(Object.entries(foreign.metadata).filter(([name]) => !digestKeys.has(name)));
  return { ...foreign, metadata };
}

/** As S3 counts it, in the form in which values are sent. */
export function metadataSizeBytes(metadata: Readonly<Record<string, string>>): number {
  let sum = 0;
  for (const [name, value] of Object.entries(metadata)) sum += Buffer.byteLength(name) + encodeHeaderText(value).length;
  return sum;
}

function decodeMode(head: ObjectHead): number | undefined {
  const { metadata, contentType } = head.attributes;
  const value = parseMode(metadata['mode']) ?? parseOctal(metadata['file-permissions'] ?? metadata['goog-reserved-posix-mode']);
  if (value === undefined) return undefined;
  const permissions = value & 0o7777;
  if (head.key.endsWith('/')) return S_IFDIR | permissions;
  const type = value & S_IFMT;
  if (type === 0) {
    const isDirectory = head.sizeBytes === 0 && /^(application\/x-directory|httpd\/unix-directory)\b/.test(contentType ?? '');
    return (isDirectory ? S_IFDIR : S_IFREG) | permissions;
  }
  // An object whose key does not end in `/` holds bytes: never a directory to us; and a target must be one.
  if (type === S_IFDIR || isFileBySize(head.sizeBytes)) return S_IFREG | permissions;
  if (type === S_IFLNK && head.sizeBytes === 0) return S_IFREG | permissions;
  return value;
}

/** Decimal as s3fs writes it; octal where only that can be meant (rclone --metadata writes `100644`, other tools `0644`). */
function parseMode(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,7}$/.test(text)) return undefined;
  const isOctalText = /^[0-7]+$/.test(text);
  if (isOctalText && text.startsWith('0') && text.length > 1) return checkMode(Number.parseInt(text, 8));
  return checkMode(Number(text)) ?? (isOctalText ? checkMode(Number.parseInt(text, 8)) : undefined);
}

function parseOctal(text: string | undefined): number | undefined {
  return text !== undefined && /^[0-7]{1,7}$/.test(text) ? checkMode(Number.parseInt(text, 8)) : undefined;
}

function checkMode(mode: number): number | undefined {
  if (mode > 0o177777) return undefined;
  const type = mode & S_IFMT;
  return type === 0 || fileTypes.has(type) ? mode : undefined;
}

function decodeId(text: string | undefined): number | undefined {
  if (text === undefined || text.trim() === '') return undefined;
  const value = Math.trunc(Number(text)); // tolerates `1000.0` and, as s3fs does, `0x3e8`
  return Number.isFinite(value) && value >= 0 && value < 0xffff_ffff ? value : undefined; // -1 means "no id" to the kernel
}

function encodeXattrs(xattrs: ReadonlyMap<string, Buffer>): string {
  const plain: Record<string, string> = {};
  for (const name of [...xattrs.keys()].sort()) plain[name] = xattrs.get(name)!.toString('base64');
  return encodeURIComponent(JSON.stringify(plain));
}

function decodeXattrs(text: string): Map<string, Buffer> | undefined {
  try {
    const plain: unknown = JSON.parse(decodeURIComponent(text));
    if (typeof plain !== 'object' || plain === null || Array.isArray(plain)) return undefined;
    const xattrs = new Map<string, Buffer>();
    for (const [name, value] of Object.entries(plain)) {
      if (typeof value !== 'string') return undefined;
      xattrs.set(name, Buffer.from(value, 'base64'));
    }
    return xattrs;
  } catch {
    return undefined; // damaged or another tool's: the caller carries it as foreign
  }
}
