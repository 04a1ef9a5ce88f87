import { fileAttributes, inodeXattrs } from '../meta/file-attributes.js';
import { FileType, fileType, isRegular, isSymlink, type Inode } from '../meta/inode.js';
import type { Time } from '../base/clock.js';
import { contentTypeOf } from '../s3/content-type.js';
import { decodeAttributes, encodeAttributes, withoutContentDigests, type DecodedAttributes, type FileAttributes } from '../s3/metadata-codec.js';
import type { Key, ObjectAttributes, ObjectHead } from '../s3/object-store.js';

/** What goes into the object's metadata. @throws MetadataTooLarge. */
export function attributesOf(inode: Inode, key: Key, nonce: string, link: Pick<FileAttributes, 'linkId' | 'linkGeneration'>, mtime: Time = inode.mtime): ObjectAttributes {
  return encodeAttributes({ ...fileAttributes(inode), mtime, contentType: contentTypeOf(key), ...link }, inode.foreign, nonce);
}

/** In a transaction, before other content goes out: digests of the old bytes must not follow the new ones. True if something changed. */
export function dropDigests(inode: Inode): boolean {
  if (inode.foreign === null) return false;
  const stripped = withoutContentDigests(inode.foreign);
  if (Object.keys(stripped.metadata).length === Object.keys(inode.foreign.metadata).length) return false;
  inode.foreign = stripped;
  return true;
}

/** Bytes that were fetched before its attributes were known: of no use to what is no file, and names of one file are joined before anything of them is local (J10). */
export function isContentUseless(inode: Inode, { linkId }: Pick<DecodedAttributes, 'linkId'>): boolean {
  return inode.content !== null && (!isRegular(inode) || linkId !== undefined);
}

/** A listing showed it as a file; its HEAD says it is a symlink, whose target is the content. */
export function isUnreadSymlink(inode: Inode, head: ObjectHead): boolean {
  const { mode } = decodeAttributes(head);
  return mode !== undefined && (mode & FileType.MASK) === FileType.LINK && isRegular(inode) && head.sizeBytes > 0 && head.sizeBytes <= 4096;
}

/**
 * The inode was known from a listing only and its object is about to be rewritten: what the object carries must be carried along (J12).
 * What a write changes (size, mtime, ctime) is newer here; the rest nobody can have changed without knowing it first. What a listing showed as a
 * regular file may turn out to be a symlink or special file.
 * @param target the object's content, if `isUnreadSymlink`.
 * @param isAsFound its content is what it was found with, and nobody has it open as the file it looked like.
 */
export function completeAttributes(inode: Inode, head: ObjectHead, target: Buffer | null, isAsFound: boolean): DecodedAttributes {
  const found = decodeAttributes(head);
  const isSameType = found.mode !== undefined && (found.mode & FileType.MASK) === fileType(inode);
  const isFoundType = found.mode !== undefined && isRegular(inode) && isAsFound && (found.mode & FileType.MASK) !== FileType.DIR
    && ((found.mode & FileType.MASK) !== FileType.LINK || target !== null);
  if (found.mode !== undefined && (isSameType || isFoundType)) inode.mode = found.mode;
  if (isSymlink(inode) && target !== null) inode.target = target;
  if (found.rdev !== undefined) inode.rdev = found.rdev;
  inode.uid = found.uid ?? inode.uid;
  inode.gid = found.gid ?? inode.gid;
  inode.atime = found.atime ?? inode.atime;
  if (!inode.unsealed) {
    inode.mtime = found.mtime ?? inode.mtime;
    inode.ctime = found.ctime ?? inode.ctime;
  }
  inode.xattrs ??= inodeXattrs(found.xattrs);
  inode.foreign = found.foreign;
  inode.attrsComplete = true;
  return found;
}
