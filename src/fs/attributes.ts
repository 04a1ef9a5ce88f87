import type { Time } from '../base/clock.js';
import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Attr, AttrReply, Entry, RequestContext, SetAttr } from '../fuse/ops.js';
import type { ContentStat } from '../cache/content-file.js';
import { isDirectory, isRegular, type Inode } from '../meta/inode.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { Inodes } from './inodes.js';
import type { KernelInodes } from './kernel-inodes.js';
import type { Passthrough } from './passthrough.js';
import type { RemoteNames } from './remote-names.js';
import type { Replay } from './replay.js';

const fileSizeBytesMax = 5 * 2 ** 40; // the largest S3 object
const exclusiveValidMs = 3_600_000;
const setuid = 0o4000;
const setgid = 0o2000;
const groupExecute = 0o010;

/** getattr and setattr, and the attribute part of every reply. */
export class Attributes {
  constructor(
    private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents,
    private readonly remote: RemoteNames, private readonly replay: Replay, private readonly passthrough: Passthrough, private readonly kernel: KernelInodes,
  ) {}

  /** @param stat what `refresh` of the inode saw in the same stretch, for who has called it already. */
  attrOf(inode: Inode, stat = this.passthrough.refresh(inode)): Attr {
    this.passthrough.told(inode.ino);
    const file = isRegular(inode) ? this.contents.existingIfThere(inode) : undefined;
    // Holes of a file that is wholly local show in st_blocks as on any file system; what is still in S3 counts as if it were here
    const bytes = file?.isComplete ? Math.min(stat ? Number(stat.blocks) * 512 : file.allocatedBytes(), Math.ceil(inode.sizeBytes / 512) * 512 + 4096) : inode.sizeBytes;
    return {
      ino: inode.ino, sizeBytes: inode.sizeBytes, blocks: Math.ceil(bytes / 512), atime: inode.atime, mtime: inode.mtime, ctime: inode.ctime,
      mode: inode.mode, nlink: inode.nlink, uid: inode.uid, gid: inode.gid, rdev: inode.rdev, blksize: 4096,
    };
  }

  reply(inode: Inode, stat?: ContentStat): AttrReply {
    return { attr: this.attrOf(inode, stat), attrValidMs: this.validMs(undefined) };
  }

  /** @param checkedAtMs when S3 last confirmed the name; undefined: it is ours. */
  entry(inode: Inode, checkedAtMs: number | undefined): Entry {
    const validMs = this.validMs(checkedAtMs);
    this.kernel.sent(inode.ino);
    return { attr: this.attrOf(inode), entryValidMs: validMs, attrValidMs: validMs };
  }

  /** Of an inode that was made in the same stretch. */
  newEntry(inode: Inode): Entry {
    const validMs = this.validMs(undefined);
    this.kernel.sent(inode.ino);
    return { attr: this.attrOf(inode, this.passthrough.refreshNew(inode)), entryValidMs: validMs, attrValidMs: validMs };
  }

  /** How long the kernel may believe a fact without asking: what is left of the TTL, so that the two caches do not add up. */
  validMs(checkedAtMs: number | undefined): number {
    const { ttlMs } = this.deps.config;
    if (ttlMs === null) return exclusiveValidMs;
    if (checkedAtMs === undefined) return ttlMs;
    return Math.max(0, Math.min(ttlMs, checkedAtMs + ttlMs - this.deps.clock.now()));
  }

  getattr(ctx: RequestContext, ino: number): MaybePromise<AttrReply> {
    const inode = this.inodes.mustGet(ino);
    if (!this.remote.needsAttributes(inode)) return this.reply(inode);
    return this.remote.completeAttributes([inode], ctx.signal).then(() => this.reply(this.inodes.mustGet(ino)));
  }

  setattr(ctx: RequestContext, ino: number, change: SetAttr): MaybePromise<AttrReply> {
    if (this.replay.find(ctx)) return this.reply(this.inodes.mustGet(ino));
    const before = this.inodes.mustGet(ino);
    if (!this.remote.needsAttributes(before) && change.sizeBytes === undefined) return this.changed(ctx, before, change);
    return this.changedLater(ctx, before, change);
  }

  private async changedLater(ctx: RequestContext, before: Inode, change: SetAttr): Promise<AttrReply> {
    if (this.remote.needsAttributes(before)) await this.remote.completeAttributes([before], ctx.signal);
    if (change.sizeBytes !== undefined) await this.truncate(before.ino, change.sizeBytes);
    return this.changed(ctx, this.inodes.mustGet(before.ino), change);
  }

  private changed(ctx: RequestContext, inode: Inode, change: SetAttr): AttrReply {
    const stat = this.passthrough.refresh(inode);
    if (changesNothing(inode, change)) {
      inode.ctime = this.deps.clock.time();
      this.deps.tree.inodes.keepVolatile(inode);
      return this.reply(inode, stat);
    }
    this.deps.db.tx(() => {
      this.apply(ctx, inode, change);
      if (change.mtime !== undefined && inode.unsealed) this.passthrough.keepTimes(inode);
      if (isDirectory(inode) && inode.nlink > 0) this.inodes.ensureMarker(inode);
      this.contents.metadataChanged(inode);
      this.deps.tree.inodes.settle(inode);
      this.replay.record(ctx, 'setattr', { ino: inode.ino });
    });
    return this.reply(inode, stat);
  }

  /** Sets the length; content that falls away is gone, growth reads as zeros. The caller settles the inode. */
  async truncate(ino: number, sizeBytes: number): Promise<void> {
    const checked = (): Inode => {
      const inode = this.inodes.mustGet(ino);
      if (isDirectory(inode)) throw new FsError(Errno.EISDIR);
      if (!isRegular(inode)) throw new FsError(Errno.EINVAL);
      this.passthrough.refresh(inode); // K8: its size here may be from before the kernel wrote
      return inode;
    };
    if (sizeBytes > fileSizeBytesMax) throw new FsError(Errno.EFBIG, `Cannot extend inode ${ino} to ${sizeBytes} bytes: an S3 object holds at most 5 TiB`);
    if (sizeBytes === checked().sizeBytes) return this.contents.contentChanged(checked(), sizeBytes);
    await this.contents.atRest(checked, (inode, file) => this.passthrough.beginChange(inode, file), (inode, file) => {
      file.truncate(sizeBytes);
      if (file.isKept) inode.baseGen = null;
      this.contents.contentChanged(inode, sizeBytes);
    });
  }

  private apply(ctx: RequestContext, inode: Inode, change: SetAttr): void {
    const now = this.deps.clock.time();
    if (change.mode !== undefined) this.inodes.setMode(inode, change.mode);
    const chown = change.uid !== undefined || change.gid !== undefined;
    // By the group it had. Where the kernel says so itself the caller lacks CAP_FSETID; a chown by root, who has it, spares what is setgid by name only
    if ((change.killSuidGid || (chown && change.mode === undefined)) && !isDirectory(inode)) this.inodes.dropPrivileges(ctx, inode, !change.killSuidGid && ctx.uid === 0);
    if (change.uid !== undefined) inode.uid = change.uid;
    if (change.gid !== undefined) inode.gid = change.gid;
    if (change.atime !== undefined) inode.atime = timeOr(change.atime, now);
    if (change.mtime !== undefined) inode.mtime = timeOr(change.mtime, now);
    inode.ctime = now;
  }
}

/** tar and cp give files the owner and mode they have already: no transaction and no upload for a ctime. Executed twice it does no harm (K11). */
function changesNothing(inode: Inode, change: SetAttr): boolean {
  const { mode, uid, gid, sizeBytes, atime, mtime } = change;
  if (!isRegular(inode) || sizeBytes !== undefined || atime !== undefined || mtime !== undefined || (mode ?? uid ?? gid) === undefined) return false;
  const isSame = (mode === undefined || mode === (inode.mode & 0o7777)) && (uid === undefined || uid === inode.uid) && (gid === undefined || gid === inode.gid);
  return isSame && (inode.mode & (setuid | setgid)) === 0 && !(inode.xattrs && 'security.capability' in inode.xattrs);
}

export function clearSetIds(mode: number): number {
  let cleared = mode & ~setuid;
  if (mode & groupExecute) cleared &= ~setgid;
  return cleared;
}

function timeOr(time: Time | 'now', now: Time): Time {
  return time === 'now' ? now : time;
}
