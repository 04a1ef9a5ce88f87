/**
 * POSIX access control lists, as far as the file system has a part in them: the kernel checks them (FUSE_POSIX_ACL with default_permissions) and
 * leaves to us what changes them: inheritance, chmod, and the mode that follows from a new list. Pure.
 *
 * A list is stored in the form of its extended attribute, as s3fs stores it: version 2 (u32), then entries of tag (u16), permissions (u16) and
 * id (u32), little-endian. Source: linux/posix_acl_xattr.h, acl(5); the masks are those of the kernel's posix_acl_create_masq and posix_acl_chmod_masq.
 */
import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';

export const accessAclName = 'system.posix_acl_access';
export const defaultAclName = 'system.posix_acl_default';

const Tag = { USER_OBJ: 0x01, USER: 0x02, GROUP_OBJ: 0x04, GROUP: 0x08, MASK: 0x10, OTHER: 0x20 } as const;
const version = 2;
const headerBytes = 4;
const entryBytes = 8;

export interface AclEntry { readonly tag: number; perm: number; readonly id: number }

/** @throws FsError EINVAL for what is no valid list. An empty one is null: no list. */
export function decodeAcl(value: Buffer): AclEntry[] | null {
  if (value.length < headerBytes || (value.length - headerBytes) % entryBytes !== 0 || value.readUInt32LE(0) !== version) throw new FsError(Errno.EINVAL, 'malformed ACL');
  const entries: AclEntry[] = [];
  for (let at = headerBytes; at < value.length; at += entryBytes) {
    entries.push({ tag: value.readUInt16LE(at), perm: value.readUInt16LE(at + 2), id: value.readUInt32LE(at + 4) });
  }
  if (entries.length === 0) return null;
  const count = (tag: number): number => entries.filter((entry) => entry.tag === tag).length;
  const named = count(Tag.USER) + count(Tag.GROUP);
  const known = count(Tag.USER_OBJ) + count(Tag.GROUP_OBJ) + count(Tag.OTHER) + count(Tag.MASK) + named;
  const valid = count(Tag.USER_OBJ) === 1 && count(Tag.GROUP_OBJ) === 1 && count(Tag.OTHER) === 1 && count(Tag.MASK) <= 1 && (named === 0 || count(Tag.MASK) === 1)
    && known === entries.length && entries.every((entry) => (entry.perm & ~7) === 0);
  if (!valid) throw new FsError(Errno.EINVAL, 'invalid ACL');
  return entries;
}

export function encodeAcl(entries: readonly AclEntry[]): Buffer {
  const value = Buffer.alloc(headerBytes + entries.length * entryBytes);
  value.writeUInt32LE(version, 0);
  entries.forEach((entry, index) => {
    const at = headerBytes + index * entryBytes;
    value.writeUInt16LE(entry.tag, at);
    value.writeUInt16LE(entry.perm, at + 2);
    value.writeUInt32LE(entry.id, at + 4);
  });
  return value;
}

/** True if the list says no more than a mode can. */
export function isMinimal(entries: readonly AclEntry[]): boolean {
  return entries.every((entry) => entry.tag === Tag.USER_OBJ || entry.tag === Tag.GROUP_OBJ || entry.tag === Tag.OTHER);
}

/** The mode a file with this access list shows: the group bits are the mask's, if there is one. */
export function modeOfAcl(entries: readonly AclEntry[], mode: number): number {
  const perm = (tag: number): number | undefined => entries.find((entry) => entry.tag === tag)?.perm;
  return (mode & ~0o777) | (perm(Tag.USER_OBJ)! << 6) | ((perm(Tag.MASK) ?? perm(Tag.GROUP_OBJ)!) << 3) | perm(Tag.OTHER)!;
}

/** The list after chmod: the group bits go to the mask, if there is one. */
export function chmodAcl(entries: readonly AclEntry[], mode: number): AclEntry[] {
  const group = entries.some((entry) => entry.tag === Tag.MASK) ? Tag.MASK : Tag.GROUP_OBJ;
  return entries.map((entry) => {
    if (entry.tag === Tag.USER_OBJ) return { ...entry, perm: (mode >> 6) & 7 };
    if (entry.tag === group) return { ...entry, perm: (mode >> 3) & 7 };
    if (entry.tag === Tag.OTHER) return { ...entry, perm: mode & 7 };
    return entry;
  });
}

/** What a new file gets from its directory's default list: that list and the mode asked for, each limiting the other. The umask has no say. */
export function inheritAcl(defaults: readonly AclEntry[], mode: number): { readonly mode: number; readonly access: AclEntry[] | null } {
  const group = defaults.some((entry) => entry.tag === Tag.MASK) ? Tag.MASK : Tag.GROUP_OBJ;
  const access = defaults.map((entry) => {
    if (entry.tag === Tag.USER_OBJ) return { ...entry, perm: entry.perm & (mode >> 6) };
    if (entry.tag === group) return { ...entry, perm: entry.perm & (mode >> 3) };
    if (entry.tag === Tag.OTHER) return { ...entry, perm: entry.perm & mode };
    return entry;
  });
  return { mode: modeOfAcl(access, mode), access: isMinimal(access) ? null : access };
}

/** The inode's list of that name, if it has one. */
export function aclOf(xattrs: Readonly<Record<string, string>> | null, name: string): AclEntry[] | null {
  const value = xattrs !== null && Object.hasOwn(xattrs, name) ? xattrs[name] : undefined;
  if (value === undefined) return null;
  try {
    return decodeAcl(Buffer.from(value, 'base64'));
  } catch (error) {
    if (error instanceof FsError) return null; // others may store anything
    throw error;
  }
}

export function withAcl(xattrs: Readonly<Record<string, string>> | null, name: string, entries: readonly AclEntry[] | null): Readonly<Record<string, string>> | null {
  const { [name]: _old, ...rest } = xattrs ?? {};
  if (entries !== null) return { ...rest, [name]: encodeAcl(entries).toString('base64') };
  return Object.keys(rest).length > 0 ? rest : null;
}
