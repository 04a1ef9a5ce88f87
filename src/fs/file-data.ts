import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { SystemError } from '../base/libc.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { ContentFile } from '../cache/content-file.js';
import { FallocateMode, Seek, type RequestContext } from '../fuse/ops.js';
import type { ReadSource } from '../prefetch/object-reader.js';
import { isDirectory, isRegular, type Inode } from '../meta/inode.js';
import type { FsDeps } from './deps.js';
import { toFsError } from './errno-map.js';
import type { FileContents } from './file-content.js';
import type { Inodes } from './inodes.js';
import type { OpenFiles } from './open-files.js';
import { waitFor } from './wait-for.js';
import type { Passthrough } from './passthrough.js';
import type { ReadCounts } from './read-counts.js';
import type { Replay } from './replay.js';

const fileSizeBytesMax = 5 * 2 ** 40; // the largest S3 object
const copyChunkBytes = 2 ** 20;
const relatimeMs = 86_400_000;

/** Bytes of regular files: read, write, allocate, seek, copy. */
export class FileData {
  constructor(
    private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents, private readonly files: OpenFiles,
    private readonly replay: Replay, private readonly passthrough: Passthrough, private readonly counts: ReadCounts,
  ) {}

  /** Before `read`: undefined if its bytes are here, else resolves when they are. Counts the read, and starts what should be fetched ahead of it. */
  ready(ctx: RequestContext, ino: number, fh: number, offset: number, length: number): Promise<void> | undefined {
    const inode = this.regular(ino);
    const end = Math.min(offset + length, inode.sizeBytes);
    if (end <= offset) return undefined;
    this.noteAccess(inode);
    const file = this.contents.file(inode);
    const open = this.files.get(fh);
    this.deps.contents.touch(file);
    this.counts.read(open, file, offset, end);
    if (file.isComplete) return undefined;
    const hint = open?.stream.onRead(offset, end - offset);
    const source = this.contents.source(inode, file);
    // What is waited for goes first
    const waits = file.missing.intersects(offset, end) ? this.bring(ctx, source, offset, end) : undefined;
    if (open && hint) {
      for (const range of hint.prefetch) {
        const wanted = Math.min(range.end, inode.sizeBytes);
        const { coveredTo } = this.deps.reader.prefetch(source, range.start, wanted);
        if (coveredTo < wanted) open.stream.fetchedOnlyTo(coveredTo);
      }
      this.deps.reader.scanned(file, open.stream, offset);
    }
    return waits;
  }

  read(ctx: RequestContext, ino: number, _fh: number, offset: number, into: Buffer): MaybePromise<number> {
    const inode = this.regular(ino);
    const end = Math.min(offset + into.length, inode.sizeBytes);
    if (end <= offset) return 0;
    const file = this.contents.file(inode);
    if (!file.missing.intersects(offset, end)) return file.read(into.subarray(0, end - offset), offset);
    return this.bring(ctx, this.contents.source(inode, file), offset, end).then(() => file.read(into.subarray(0, end - offset), offset));
  }

  /** Where the bytes are that `read` would copy. */
  located(ino: number, offset: number, length: number): { fd: number; length: number } | undefined {
    const inode = this.regular(ino);
    const end = Math.min(offset + length, inode.sizeBytes);
    const file = this.contents.file(inode);
    if (end <= offset || file.missing.intersects(offset, end)) return undefined;
    return { fd: file.readDescriptor(), length: end - offset };
  }

  private async bring(ctx: RequestContext, source: ReadSource, offset: number, end: number): Promise<void> {
    const release = this.deps.contents.acquire(source.file);
    try {
      await this.deps.reader.ensure(source, offset, end, { signal: ctx.signal });
    } catch (error) {
      if (ctx.signal.aborted) throw new FsError(Errno.EINTR, 'interrupted', { cause: error });
      const mapped = toFsError(error);
      // The object is gone although the name is known: a change behind an open file, not a missing name (promise 5)
      if (mapped instanceof FsError && mapped.errno === Errno.ENOENT) throw new FsError(Errno.ESTALE, mapped.message, { cause: error });
      throw mapped;
    } finally {
      release();
    }
  }

  write(ctx: RequestContext, ino: number, _fh: number, offset: number, data: Buffer, killSuidGid: boolean): MaybePromise<number> {
    const inode = this.regular(ino);
    const end = offset + data.length;
    if (end > fileSizeBytesMax) throw new FsError(Errno.EFBIG, `Cannot write at ${offset}: an S3 object holds at most 5 TiB`);
    if (data.length === 0) return 0;
    const file = this.contents.file(inode);
    const busy = file.isComplete ? undefined : this.deps.reader.inFlight(file.id, offset, end);
    const room = this.deps.contents.reserve(data.length, undefined);
    const isFree = !busy && !(room instanceof Promise) && !this.contents.held(ino);
    const begun = isFree ? this.passthrough.beginChange(inode, file) : undefined;
    if (isFree && !begun) return this.writeNow(ctx, inode, file, offset, data, killSuidGid);
    return this.writeLater(ctx, ino, offset, Buffer.from(data), killSuidGid, begun ?? Promise.resolve(room)); // borrowed only until we return
  }

  private async writeLater(ctx: RequestContext, ino: number, offset: number, data: Buffer, killSuidGid: boolean, first: Promise<void>): Promise<number> {
    try {
      for (let waits: Promise<void> | undefined = first; ;) {
        await waitFor(ctx.signal, waits);
        const inode = this.regular(ino);
        const file = this.contents.file(inode);
        const busy = this.contents.held(ino) ?? (file.isComplete ? undefined : this.deps.reader.inFlight(file.id, offset, offset + data.length));
        waits = busy ? busy.then(() => undefined, () => undefined) : this.passthrough.beginChange(inode, file);
        if (!waits) return this.writeNow(ctx, inode, file, offset, data, killSuidGid);
      }
    } catch (error) {
      throw toFsError(error);
    }
  }

  private writeNow(ctx: RequestContext, inode: Inode, file: ContentFile, offset: number, data: Buffer, killSuidGid: boolean): number {
    if (killSuidGid && inode.mode & 0o6000) this.deps.db.tx(() => {
      this.inodes.dropPrivileges(ctx, inode);
      this.deps.tree.inodes.save(inode);
    });
    try {
      file.write(data, offset);
    } catch (error) {
      // A full disk: the first part may be there, and the inode is as long as its content file, always
      this.contents.contentChanged(inode, Math.max(inode.sizeBytes, file.sizeBytes));
      throw error;
    }
    this.contents.contentChanged(inode, Math.max(inode.sizeBytes, offset + data.length));
    return data.length;
  }

  async fallocate(ctx: RequestContext, ino: number, _fh: number, offset: number, length: number, mode: number): Promise<void> {
    const inode = this.regular(ino);
    const replayed = this.replay.find(ctx);
    if (replayed) {
      if (replayed.sizeBeforeBytes === undefined) return;
      if (replayed.sizeBeforeBytes !== this.contents.file(inode).sizeBytes) return this.allocated(ctx, inode, this.contents.file(inode));
    }
    const known = FallocateMode.KEEP_SIZE | FallocateMode.PUNCH_HOLE | FallocateMode.ZERO_RANGE | FallocateMode.COLLAPSE_RANGE | FallocateMode.INSERT_RANGE;
    if (mode & ~known) throw new FsError(Errno.EOPNOTSUPP);
    const grows = (mode & FallocateMode.INSERT_RANGE) !== 0;
    if ((grows ? inode.sizeBytes : offset) + length > fileSizeBytesMax) throw new FsError(Errno.EFBIG);
    const moves = grows || (mode & FallocateMode.COLLAPSE_RANGE) !== 0;
    const file = this.contents.file(inode);
    const release = this.deps.contents.acquire(file); // not evicted while we wait
    try {
      if (moves && !file.isComplete) await this.deps.reader.fetchWhole(this.contents.source(inode, file), ctx.signal);
      // Bytes that moved cannot come from S3 any more: not even for a crash may they be missing
      if (moves && !file.isKept) await this.deps.contents.sync([file.id]);
      if (!(mode & FallocateMode.PUNCH_HOLE)) await waitFor(ctx.signal, Promise.resolve(this.deps.contents.reserve(length, ctx.signal)));
      await this.contents.atRest(() => this.regular(ino), (now, content) => this.passthrough.beginChange(now, content), (now, content) => {
        if (moves && (!content.isComplete || content.hasUnstoredPresence)) throw new FsError(Errno.ESTALE, `the content of inode ${ino} was replaced`);
        if (moves) this.deps.db.tx(() => this.replay.record(ctx, 'fallocate', { sizeBeforeBytes: content.sizeBytes }));
        content.fallocate(mode, offset, length);
        this.allocated(ctx, now, content);
      });
    } catch (error) {
      throw toFsError(error);
    } finally {
      release();
    }
  }

  private allocated(ctx: RequestContext, inode: Inode, content: ContentFile): void {
    this.contents.contentChanged(inode, content.sizeBytes);
    this.deps.db.tx(() => {
      this.deps.tree.inodes.settle(inode);
      this.replay.record(ctx, 'fallocate', {});
    });
  }

  lseek(ino: number, offset: number, whence: number): number {
    const inode = this.inodes.mustGet(ino);
    if (isDirectory(inode) || !isRegular(inode)) throw new FsError(Errno.EINVAL);
    this.passthrough.refresh(inode);
    if (whence !== Seek.DATA && whence !== Seek.HOLE) throw new FsError(Errno.EINVAL);
    if (offset < 0 || offset >= inode.sizeBytes) throw new FsError(Errno.ENXIO);
    const file = this.contents.existing(inode);
    if (file) {
      try {
        return file.seek(offset, whence);
      } catch (error) {
        if (error instanceof SystemError && error.errno === Errno.ENXIO) throw new FsError(Errno.ENXIO, 'no data from here on', { cause: error }); // an answer, not a failure
        throw error;
      }
    }
    return whence === Seek.DATA ? offset : inode.sizeBytes; // all of it is data in S3
  }

  async copyFileRange(ctx: RequestContext, ino: number, offset: number, outIno: number, outOffset: number, length: number): Promise<number> {
    const replayed = this.replay.find(ctx);
    if (replayed?.count !== undefined) return replayed.count;
    const sourceBytes = replayed?.sizeBeforeBytes ?? this.regular(ino).sizeBytes;
    this.regular(outIno);
    const count = Math.max(0, Math.min(length, sourceBytes - offset));
    if (outOffset + count > fileSizeBytesMax) throw new FsError(Errno.EFBIG);
    // Copied behind its own end the source grows: done once more it would find bytes that were none
    if (ino === outIno && count < length) this.deps.db.tx(() => this.replay.record(ctx, 'copy_file_range', { sizeBeforeBytes: sourceBytes }));
    const buffer = Buffer.allocUnsafe(Math.min(copyChunkBytes, Math.max(count, 1)));
    let done = 0;
    try {
      while (done < count) {
        const part = buffer.subarray(0, Math.min(buffer.length, count - done));
        await this.ready(ctx, ino, 0, offset + done, part.length);
        const got = await this.read(ctx, ino, 0, offset + done, part);
        if (got === 0) break;
        await this.write(ctx, outIno, 0, outOffset + done, part.subarray(0, got), false);
        done += got;
      }
    } catch (error) {
      if (done === 0) throw error; // else a short copy; the next call meets the error again
    }
    this.deps.db.tx(() => this.replay.record(ctx, 'copy_file_range', { count: done }));
    return done;
  }

  /** relatime: only when it says something new. It never causes an upload by itself (J11). */
  private noteAccess(inode: Inode): void {
    const { atime } = this.deps.config;
    if (atime === 'noatime') return;
    const now = this.deps.clock.now();
    const atimeMs = inode.atime.sec * 1000;
    if (atime === 'relatime' && atimeMs > inode.mtime.sec * 1000 && atimeMs > inode.ctime.sec * 1000 && now - atimeMs < relatimeMs) return;
    inode.atime = this.deps.clock.time();
    this.deps.tree.inodes.keepVolatile(inode);
  }

  private regular(ino: number): Inode {
    const inode = this.inodes.mustGet(ino);
    if (!isRegular(inode)) throw new FsError(isDirectory(inode) ? Errno.EISDIR : Errno.EINVAL);
    this.passthrough.refresh(inode); // K8: its size here may be from before the kernel wrote
    return inode;
  }
}
