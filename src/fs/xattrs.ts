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

/** Extended attributes: part of the object's metadata, so all of them together must fit S3's 2 KB; what does not fails with ENOSPC, as on ext4. */
export class Xattrs {
  constructor(private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents, private readonly remote: RemoteNames, private readonly replay: Replay) {}

  async get(ctx: RequestContext, ino: number, name: string): Promise<Buffer> {
    const value = (await this.known(ctx, ino)).xattrs?.[name];
    if (value === undefined) throw new FsError(Errno.ENODATA);
    return Buffer.from(value, 'base64');
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
    const exists = inode.xattrs !== null && name in inode.xattrs;
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
    if (inode.xattrs === null || !(name in inode.xattrs)) throw new FsError(Errno.ENODATA);
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

  private mustFit(inode: Inode): void {
    try {
      encodeAttributes(fileAttributes(inode), inode.foreign, '0'.repeat(32));
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
