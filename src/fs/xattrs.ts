import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { XattrFlag, type RequestContext } from '../fuse/ops.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import { encodeAttributes, MetadataTooLarge } from '../s3/metadata-codec.js';
import { fileAttributes } from '../meta/file-attributes.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { Inodes } from './inodes.js';
import type { RemoteNames } from './remote-names.js';
import type { Replay } from './replay.js';

const nameBytesMax = 255;
const valueBytesMax = 65_536;
const idMax = 0xffff_fffe;
/** A nonce is 16 or more letters and three numbers in base 36 (writeback/nonce). */
const nonceBytesMax = 40;
const linkIdBytesMax = 28;

/** Extended attributes: part of the object's metadata, so all of them together must fit S3's 2 KB; what does not fails with ENOSPC, as on ext4. */
export class Xattrs {
  constructor(private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents, private readonly remote: RemoteNames, private readonly replay: Replay) {}

  async get(ctx: RequestContext, ino: number, name: string): Promise<Buffer> {
    const { xattrs } = await this.known(ctx, ino);
    if (!has(xattrs, name)) throw new FsError(Errno.ENODATA);
    return Buffer.from(xattrs[name]!, 'base64');
  }

  async list(ctx: RequestContext, ino: number): Promise<string[]> {
    return Object.keys((await this.known(ctx, ino)).xattrs ?? {});
  }

  async set(ctx: RequestContext, ino: number, name: string, value: Buffer, flags: number): Promise<void> {
    if (this.replay.find(ctx)) return;
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

  async remove(ctx: RequestContext, ino: number, name: string): Promise<void> {
    if (this.replay.find(ctx)) return;
    checkNamespace(name);
    const inode = await this.known(ctx, ino);
    if (!has(inode.xattrs, name)) throw new FsError(Errno.ENODATA);
    const { [name]: _gone, ...rest } = inode.xattrs;
    this.change(ctx, 'removexattr', inode, Object.keys(rest).length > 0 ? rest : null);
  }

  private change(ctx: RequestContext, opcode: string, inode: Inode, xattrs: Inode['xattrs']): void {
    this.deps.db.tx(() => {
      inode.xattrs = xattrs;
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

  private async known(ctx: RequestContext, ino: number): Promise<Inode> {
    const inode = this.inodes.mustGet(ino);
    if (!this.remote.needsAttributes(inode)) return inode;
    await this.remote.completeAttributes([inode], ctx.signal);
    return this.inodes.mustGet(ino);
  }
}

function checkNamespace(name: string): void {
  if (Buffer.byteLength(name) > nameBytesMax) throw new FsError(Errno.ERANGE);
  if (!/^(user|trusted|security)\./.test(name)) throw new FsError(Errno.EOPNOTSUPP);
}

function has(xattrs: Inode['xattrs'], name: string): xattrs is Readonly<Record<string, string>> {
  return xattrs !== null && Object.hasOwn(xattrs, name); // names are anyone's: `constructor` is no attribute
}
