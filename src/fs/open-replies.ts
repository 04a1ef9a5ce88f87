import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { OpenFlag, opensForReading, opensForWriting, type OpenReply, type RequestContext } from '../fuse/ops.js';
import { isDirectory, isRegular, opensUnknown, type Inode } from '../meta/inode.js';
import { StreamState } from '../prefetch/stream-state.js';
import type { Attributes } from './attributes.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { Inodes } from './inodes.js';
import type { OpenFile, OpenFiles } from './open-files.js';
import type { Passthrough } from './passthrough.js';
import type { ReadCounts } from './read-counts.js';
import type { RemoteNames } from './remote-names.js';
import type { Replay } from './replay.js';
import type { Durability } from './durability.js';
import type { WalkAhead } from './walk-ahead.js';

/** OPEN, FLUSH, RELEASE: what happens when descriptors come and go. */
export class OpenReplies {
  /** Keeps a content file from being evicted while any handle of its inode is open. */
  private readonly held = new Map<number, { release: () => void; content: number }>();

  constructor(
    private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents, private readonly files: OpenFiles,
    private readonly remote: RemoteNames, private readonly replay: Replay, private readonly durability: Durability, private readonly attributes: () => Attributes,
    private readonly passthrough: Passthrough, private readonly ahead: WalkAhead, private readonly counts: ReadCounts,
  ) {}

  open(ctx: RequestContext, ino: number, flags: number, killSuidGid: boolean): MaybePromise<OpenReply> {
    const before = this.inodes.mustGet(ino);
    if (isDirectory(before)) throw new FsError(Errno.EISDIR);
    if (!isRegular(before)) throw new FsError(Errno.ENXIO); // fifos and devices are the kernel's own
    const isPlain = (flags & OpenFlag.TRUNC) === 0 && before.nlink > 0 && !this.remote.needsAttributes(before) && !this.contents.existing(before)?.hasUnstoredPresence;
    return isPlain ? this.openedDurably(ctx, before, flags) : this.openedLater(ctx, before, flags, killSuidGid);
  }

  private async openedLater(ctx: RequestContext, before: Inode, flags: number, killSuidGid: boolean): Promise<OpenReply> {
    const { ino } = before;
    if (this.remote.needsAttributes(before)) {
      const hadName = before.nlink > 0;
      await this.remote.completeAttributes([before], ctx.signal);
      if (hadName && this.inodes.mustGet(ino).nlink === 0) throw new FsError(Errno.ESTALE, `inode ${ino} lost its name to another (J10)`); // the kernel walks the path again
    }
    const isReplayed = this.replay.find(ctx) !== undefined;
    if (flags & OpenFlag.TRUNC && !isReplayed) {
      await this.attributes().truncate(ino, 0);
      const inode = this.inodes.mustGet(ino);
      this.deps.db.tx(() => {
        if (killSuidGid) this.inodes.dropPrivileges(ctx, inode);
        this.contents.metadataChanged(inode); // an empty file stays the same content, but its mtime is new
        this.deps.tree.inodes.settle(inode);
        this.orphanOpened(inode);
        this.replay.record(ctx, 'open', { ino });
      });
    } else if (!isReplayed && this.inodes.mustGet(ino).nlink === 0) {
      this.deps.db.tx(() => {
        this.orphanOpened(this.inodes.mustGet(ino));
        this.replay.record(ctx, 'open', { ino });
      });
    }
    if (this.passthrough.enabled && opensForWriting(flags)) await this.presenceOnRecord(ino);
    return this.openedDurably(ctx, this.inodes.mustGet(ino), flags);
  }

  /** Where the kernel writes by itself nothing may be missing after a crash, and what is on record must be on the disk (D1): a sync for a file that was fetched a moment ago. */
  private async presenceOnRecord(ino: number): Promise<void> {
    const file = this.contents.existing(this.inodes.mustGet(ino));
    if (file?.isComplete && file.hasUnstoredPresence) await this.deps.contents.sync([file.id]);
  }

  /**
   * K9: O_SYNC and O_DSYNC writes in passthrough send no FSYNC, so their dirty mark is *journaled* before the OPEN is answered; and any mark of a file
   * that counted as unchanged.
   */
  openedDurably(ctx: RequestContext, inode: Inode, flags: number): MaybePromise<OpenReply> {
    const reply = this.opened(ctx, inode, flags);
    if (reply.backingId === undefined || !opensForWriting(flags)) return reply;
    const waits = flags & OpenFlag.SYNC ? this.deps.db.durable() : this.passthrough.marked(inode.ino);
    return waits ? andThen(waits, () => reply) : reply;
  }

  /** What opening the inode writes down, for a caller that has a transaction of its own. */
  prepare(inode: Inode, flags: number): void {
    this.passthrough.openFor(inode, flags);
  }

  /** The handle, and the read-ahead of a small file: it is fetched whole at open. */
  opened(ctx: RequestContext, inode: Inode, flags: number): OpenReply {
    const writable = opensForWriting(flags);
    const backingId = this.passthrough.openFor(inode, flags);
    const file = this.files.open(inode.ino, writable, new StreamState(() => this.deps.reader.windowBytes));
    if (inode.sizeBytes > 0 || inode.content !== null) this.hold(inode);
    const content = this.contents.existing(inode);
    if (opensForReading(flags)) this.counts.opened(file, content, inode.sizeBytes);
    if (content && !content.isComplete && inode.sizeBytes <= this.deps.config.smallFileBytes) {
      this.deps.reader.prefetch(this.contents.source(inode, content), 0, inode.sizeBytes);
    }
    if (!writable) this.ahead.fileOpened(ctx, inode);
    const keepCache = this.contents.noteOpen(inode);
    if (backingId !== undefined) return { fh: file.fh, backingId }; // K6: never with KEEP_CACHE
    return { fh: file.fh, keepCache };
  }

  /** The inode's content file stays while a handle is open; called again after the inode got another one. */
  hold(inode: Inode): void {
    const content = this.contents.file(inode);
    const held = this.held.get(inode.ino);
    if (held?.content === content.id) return;
    held?.release();
    this.held.set(inode.ino, { release: this.deps.contents.acquire(content), content: content.id });
  }

  /** close(2) of one descriptor. Write-through waits here until S3 has the file. */
  async flush(ctx: RequestContext, ino: number, fh: number): Promise<void> {
    if (this.deps.config.writeMode !== 'through') return;
    const file = this.files.get(fh);
    const inode = this.deps.tree.inodes.get(ino);
    if (!inode || !file?.writable || inode.nlink === 0) return;
    await this.durability.uploaded(inode, ctx.signal);
  }

  release(ctx: RequestContext, ino: number, fh: number): void {
    const file = this.files.release(fh);
    if (file) this.closed(ctx, file);
    else this.orphanClosed(ctx, ino);
  }

  /** An open whose reply nobody got (K12). What is on record of it under its number is that it was counted, and it is not undone twice. */
  undo(ino: number, fh: number): void {
    const file = this.files.release(fh);
    if (file) this.closed(undefined, file);
    else this.orphanClosed(undefined, ino);
  }

  private closed(ctx: RequestContext | undefined, file: OpenFile): void {
    const inode = this.deps.tree.inodes.get(file.ino);
    if (this.files.ownCount(file.ino) === 0) {
      this.held.get(file.ino)?.release();
      this.held.delete(file.ino);
    }
    if (!inode) return;
    const inPassthrough = this.passthrough.isHeld(inode.ino);
    this.passthrough.closed(inode);
    if (inode.nlink === 0) {
      this.orphanClosed(ctx, file.ino);
      return;
    }
    if (file.writable && inode.unsealed && !inPassthrough && this.files.writerCount(file.ino) === 0) {
      this.deps.db.tx(() => {
        this.deps.tree.inodes.settle(inode);
        this.contents.markKeys(inode, this.deps.config.uploadDelayMs);
      });
    }
  }

  /** An orphan's open count is stored, so that the next daemon knows when the last handle goes. In a transaction. Once more by /proc/self/fd. */
  private orphanOpened(inode: Inode): void {
    if (inode.nlink > 0 || inode.opens >= opensUnknown) return;
    inode.opens++;
    this.deps.tree.inodes.save(inode);
  }

  /** Counted once, also if the RELEASE is sent again: an object may be needed by the handles that are left. */
  private orphanClosed(ctx: RequestContext | undefined, ino: number): void {
    const inode = this.deps.tree.inodes.get(ino);
    if (!inode || inode.nlink > 0 || inode.opens === 0 || inode.opens >= opensUnknown || (ctx && this.replay.find(ctx))) return;
    this.deps.db.tx(() => {
      inode.opens--;
      this.deps.tree.inodes.save(inode);
      if (ctx) this.replay.record(ctx, 'release', { ino });
    });
  }
}
