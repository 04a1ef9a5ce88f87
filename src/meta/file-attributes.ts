import type { FileAttributes } from '../s3/metadata-codec.js';
import type { Inode } from './inode.js';

/** The inode's attributes in the form the metadata codec stores. */
export function fileAttributes(inode: Inode): FileAttributes {
  const xattrs = inode.xattrs && new Map(Object.entries(inode.xattrs).map(([name, value]) => [name, Buffer.from(value, 'base64')]));
  return { mode: inode.mode, uid: inode.uid, gid: inode.gid, rdev: inode.rdev, mtime: inode.mtime, atime: inode.atime, ctime: inode.ctime, xattrs };
}

/** Extended attributes as the codec reads them, in the form an inode keeps them; none is null. */
export function inodeXattrs(xattrs: ReadonlyMap<string, Buffer> | null | undefined): Inode['xattrs'] {
  if (!xattrs || xattrs.size === 0) return null;
  return Object.fromEntries([...xattrs].map(([name, value]) => [name, value.toString('base64')]));
}
