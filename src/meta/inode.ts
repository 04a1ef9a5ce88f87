import type { Time } from '../base/clock.js';
import type { ObjectAttributes } from '../s3/object-store.js';

/** File type bits of a mode. Source: inode(7). */
export const FileType = { MASK: 0o170000, FIFO: 0o010000, CHAR: 0o020000, DIR: 0o040000, BLOCK: 0o060000, REG: 0o100000, LINK: 0o120000, SOCK: 0o140000 } as const;

/**
 * An inode as the tree knows it: the row of `inode`, in memory. The main thread is its only owner: change the fields, then
 * `InodeTable.save` in the same transaction. See db/schema.ts for the meaning of each field.
 */
export interface Inode {
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  rdev: number;
  sizeBytes: number;
  atime: Time;
  mtime: Time;
  ctime: Time;
  nlink: number;
  gen: number;
  mgen: number;
  baseGen: number | null;
  unsealed: boolean;
  /** Sealed, and its content is not known to be on stable storage yet. */
  sealedUnsynced: boolean;
  attrsComplete: boolean;
  content: number | null;
  target: Buffer | null;
  /** name -> base64 of the value; null: none. */
  xattrs: Readonly<Record<string, string>> | null;
  foreign: ObjectAttributes | null;
  /** Of a hard-linked file; in the metadata of all its names (J10). While `attrsComplete` is false: what the name was linked with before it changed. */
  linkId: string | null;
  /** The link generation that S3 shows is `gen + linkOffset`: every mount numbers its generations for itself. */
  linkOffset: number;
  lastModifiedMs: number | null;
  marker: boolean;
  complete: boolean;
  listedAtMs: number;
  /** Once it has no name: how many handles are open, `opensUnknown` if nobody can say. */
  opens: number;
}

/**
 * Handles of an earlier daemon are not counted: an inode that loses its last name then stays until the kernel forgets it. So large that the handles
 * that are counted on top do not matter.
 */
export const opensUnknown = 2 ** 30;

export function fileType(inode: { readonly mode: number }): number {
  return inode.mode & FileType.MASK;
}
export function isDirectory(inode: { readonly mode: number }): boolean {
  return (inode.mode & FileType.MASK) === FileType.DIR;
}
export function isRegular(inode: { readonly mode: number }): boolean {
  return (inode.mode & FileType.MASK) === FileType.REG;
}
export function isSymlink(inode: { readonly mode: number }): boolean {
  return (inode.mode & FileType.MASK) === FileType.LINK;
}

export const rootIno = 1;
