import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { XattrFlag, type RequestContext } from '../fuse/ops.js';
import { isDirectory, isSymlink, type Inode } from '../meta/inode.js';
import { encodeAttributes, MetadataTooLarge } from '../s3/metadata-codec.js';
import { fileAttributes } from '../meta/file-attributes.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { Inodes } from './inodes.js';
import type { RemoteNames } from './remote-names.js';
import { accessAclName, decodeAcl, defaultAclName, isMinimal, modeOfAcl, withAcl } from './posix-acl.js';
import type { Replay } from './replay.js';

const nameBytesMax = 255;
const valueBytesMax = 65_536;
const idMax = 0xffff_fffe;
const setgid = 0o2000;
/** A nonce is 16 or more letters and three numbers in base 36 (writeback/nonce). */
const nonceBytesMax = 40;
const linkIdBytesMax = 28;

/** Extended attributes: part of the object's metadata, so all of them together must fit S3's 2 KB; what does not fails with ENOSPC, as on ext4. */
export class Xattrs {
  constructor(private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents, private readonly remote: RemoteNames, private readonly replay: Replay) {}

  get(ctx: RequestContext, ino: number, name: string): MaybePromise<Buffer | undefined> {
    const inode = this.known(ctx, ino);
    return inode instanceof Promise ? inode.then((known) => valueOf(known, name)) : valueOf(inode, name);
  }

  list(ctx: RequestContext, ino: number): MaybePromise<string[]> {
    return andThen(this.known(ctx, ino), ({ xattrs }) => Object.keys(xattrs ?? {}));
  }

  async set(ctx: RequestContext, ino: number, name: string, value: Buffer, flags: number, killSgid: boolean): Promise<void> {
    if (this.replay.find(ctx)) return;
    if (name === accessAclName || name === defaultAclName) return this.setAcl(ctx, ino, name, Buffer.from(value), killSgid); // borrowed only until we return
    checkNamespace(name);
    if (value.length > valueBytesMax) throw new FsError(Errno.E2BIG);
    const encoded = value.toString('base64');
    const inode = await this.known(ctx, ino);
    const exists = has(inode.xattrs, name);
    if (flags & XattrFlag.CREATE && exists) throw new FsError(Errno.EEXIST);
    if (flags & XattrFlag.REPLACE && !exists) throw new FsError(Errno.ENODATA);
    const changed = { ...inode.xattrs, [name]: encoded };
    this.mustFit({ ...inode, xattrs: changed });
    this.change(ctx, 'setxattr', inode, changed);
  }

  /** The kernel has checked who may. An access list sets the mode too; one that says no more than the mode is not kept. */
  private async setAcl(ctx: RequestContext, ino: number, name: string, value: Buffer, killSgid: boolean): Promise<void> {
    const acl = decodeAcl(value);
    const inode = await this.known(ctx, ino);
    if (isSymlink(inode)) throw new FsError(Errno.EOPNOTSUPP);
    if (name === defaultAclName && acl !== null && !isDirectory(inode)) throw new FsError(Errno.EACCES);
    const isAccess = name === accessAclName;
    const xattrs = withAcl(inode.xattrs, name, isAccess && acl !== null && isMinimal(acl) ? null : acl);
    let mode = isAccess && acl !== null ? modeOfAcl(acl, inode.mode) : inode.mode;
    if (killSgid) mode &= ~setgid;
    // A directory made in this one gets the default list twice: that must fit too
    this.mustFit({ ...inode, mode, xattrs: isAccess ? xattrs : withAcl(xattrs, accessAclName, acl) });
    this.change(ctx, 'setxattr', inode, xattrs, mode);
  }

  async remove(ctx: RequestContext, ino: number, name: string): Promise<void> {
    if (this.replay.find(ctx)) return;
    const isAcl = name === accessAclName || name === defaultAclName;
    if (!isAcl) checkNamespace(name);
    const inode = await this.known(ctx, ino);
    if (isAcl && !has(inode.xattrs, name)) return; // as on ext4: there is no list afterwards
    if (!has(inode.xattrs, name)) throw new FsError(Errno.ENODATA);
    const { [name]: _gone, ...rest } = inode.xattrs;
    this.change(ctx, 'removexattr', inode, Object.keys(rest).length > 0 ? rest : null);
  }

  private change(ctx: RequestContext, opcode: string, inode: Inode, xattrs: Inode['xattrs'], mode = inode.mode): void {
    this.deps.db.tx(() => {
      inode.xattrs = xattrs;
      inode.mode = mode;
      inode.ctime = this.deps.clock.time();
      if (isDirectory(inode)) this.inodes.ensureMarker(inode);
      this.contents.metadataChanged(inode);
      this.replay.record(ctx, opcode, {});
    });
  }

  /** Counted with everything else at its longest: what is accepted today must still be storable when the times have other digits, or there is a link. */
  private mustFit(inode: Inode): void {
    const longestTime = { sec: 99_999_999_999, nsec: 999_999_999 };
    const longest = { ...fileAttributes(inode), uid: idMax, gid: idMax, mtime: longestTime, atime: longestTime, ctime: longestTime };
    try {
      encodeAttributes({ ...longest, linkId: 'x'.repeat(linkIdBytesMax), linkGeneration: 999_999_999 }, inode.foreign, 'x'.repeat(nonceBytesMax));
    } catch (error) {
      if (error instanceof MetadataTooLarge) throw new FsError(Errno.ENOSPC, error.message, { cause: error });
      throw error;
    }
  }

  private known(ctx: RequestContext, ino: number): MaybePromise<Inode> {
    const inode = this.inodes.mustGet(ino);
    if (!this.remote.needsAttributes(inode)) return inode;
    return this.remote.completeAttributes([inode], ctx.signal).then(() => this.inodes.mustGet(ino));
  }
}

function valueOf({ xattrs }: Inode, name: string): Buffer | undefined {
  return has(xattrs, name) ? Buffer.from(xattrs[name]!, 'base64') : undefined;
}

function checkNamespace(name: string): void {
  if (Buffer.byteLength(name) > nameBytesMax) throw new FsError(Errno.ERANGE);
  if (!/^(user|trusted|security)\./.test(name)) throw new FsError(Errno.EOPNOTSUPP);
}

function has(xattrs: Inode['xattrs'], name: string): xattrs is Readonly<Record<string, string>> {
  return xattrs !== null && Object.hasOwn(xattrs, name); // names are anyone's: `constructor` is no attribute
}
