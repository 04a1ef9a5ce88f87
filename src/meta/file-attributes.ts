import type { FileAttributes } from '../s3/metadata-codec.js';
import type { Inode } from './inode.js';

/** The inode's attributes in the form the metadata codec stores. */
export function fileAttributes(inode: Inode): FileAttributes {
  const xattrs = inode.xattrs && new Map(Object.entries(inode.xattrs).map(([name, value]) => [name, Buffer.from(value, 'base64')]));
  return { mode: inode.mode, uid: inode.uid, gid: inode.gid, rdev: inode.rdev, mtime: inode.mtime, atime: inode.atime, ctime: inode.ctime, xattrs };
}
