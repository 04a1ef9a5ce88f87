import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { wasPowerCut } from '../db/previous-run.js';
import type { DirentSink, FileSystem, OpenReply, RequestContext, SetAttr, StatFs, Undo } from '../fuse/ops.js';
import { isSymlink, opensUnknown } from '../meta/inode.js';
import { ActiveListings } from './active-listings.js';
import { Attributes } from './attributes.js';
import type { FsDeps } from './deps.js';
import { Directories } from './directories.js';
import { Durability } from './durability.js';
import { FileContents } from './file-content.js';
import { FileData } from './file-data.js';
import { Foreground } from './foreground.js';
import { HiddenKeys } from './hidden-keys.js';
import { Inodes } from './inodes.js';
import { KernelInodes } from './kernel-inodes.js';
import { ListingMerge } from './listing-merge.js';
import { Names } from './names.js';
import { OpenFiles } from './open-files.js';
import { OpenReplies } from './open-replies.js';
import { Passthrough } from './passthrough.js';
import { ReadCounts } from './read-counts.js';
import { RemoteAttributes } from './remote-attributes.js';
import { RemoteChanges } from './remote-changes.js';
import { RemoteNames } from './remote-names.js';
import { Rename } from './rename.js';
import { Replay } from './replay.js';
import { WalkAhead } from './walk-ahead.js';
import { Xattrs } from './xattrs.js';

/** S3 has no size: a petabyte is shown, so that programs that look for room find it. */
const shownBlocks = 2 ** 38;
const shownFiles = 2 ** 32;

/**
 * POSIX meaning of a bucket: the `FileSystem` the kernel session talks to. This class only hands each operation to its family.
 *
 * Invariants: 1. a mutating operation is *accepted* when it returns: its transaction has committed. 2. Between the last await of an operation and its
 * transaction nothing else runs, so what it checked still holds. 3. Only this thread touches the state.
 */
export class HearthFs implements FileSystem {
  readonly files: OpenFiles;
  readonly hidden = new HiddenKeys();
  readonly foreground: Foreground;
  readonly durability: Durability;
  readonly remote: RemoteNames;
  readonly contents: FileContents;
  readonly data: FileData;
  readonly passthrough: Passthrough;
  private readonly kernel: KernelInodes;
  private readonly inodes: Inodes;
  private readonly attributes: Attributes;
  private readonly names: Names;
  private readonly renames: Rename;
  private readonly opens: OpenReplies;
  private readonly directories: Directories;
  private readonly xattrs: Xattrs;
  private readonly replay: Replay;

  /** @param generation how many daemons served this connection before: 0 for a new mount. */
  constructor(private readonly deps: FsDeps, generation: number) {
    const kernel = new KernelInodes();
    this.kernel = kernel;
    this.files = new OpenFiles(generation, kernel);
    this.foreground = new Foreground(deps.clock);
    this.replay = new Replay(deps.db);
    this.contents = new FileContents(deps);
    this.passthrough = new Passthrough(deps, this.contents, this.files, kernel);
    this.durability = new Durability(deps, this.passthrough);
    const listings = new ActiveListings(deps.journal);
    const changes = new RemoteChanges(deps, this.contents, this.files, (ino) => this.orphaned(ino));
    const remoteAttributes = new RemoteAttributes(deps, changes, listings);
    this.remote = new RemoteNames(deps, new ListingMerge(deps, changes, this.hidden), this.hidden, remoteAttributes, listings);
    const ahead = new WalkAhead(deps, this.contents, remoteAttributes, this.remote);
    const counts = new ReadCounts(deps.metrics);
    this.inodes = new Inodes(deps, this.contents, this.files, kernel);
    this.attributes = new Attributes(deps, this.inodes, this.contents, this.remote, this.replay, this.passthrough, kernel);
    this.opens = new OpenReplies(deps, this.inodes, this.contents, this.files, this.remote, this.replay, this.durability, () => this.attributes, this.passthrough, ahead, counts);
    this.names = new Names(deps, this.inodes, this.contents, this.attributes, this.remote, this.replay, this.opens, ahead);
    this.renames = new Rename(deps, this.inodes, this.contents, this.names, this.remote, this.replay);
    this.data = new FileData(deps, this.inodes, this.contents, this.files, this.replay, this.passthrough, counts);
    this.directories = new Directories(deps, generation, this.inodes, this.attributes, this.remote, remoteAttributes, ahead);
    this.xattrs = new Xattrs(deps, this.inodes, this.contents, this.remote, this.replay);
  }

  /** A new connection: nothing of an old one is open, so orphans go and old answers are forgotten (K11, K14). */
  newConnection(): void {
    this.replay.clear();
    const { db, tree } = this.deps;
    this.restoreUnsynced();
    this.passthrough.recover(false);
    for (const orphan of tree.inodes.orphans()) db.tx(() => this.inodes.reap(orphan));
  }

  /** The connection of an earlier daemon goes on: its handles are open. */
  sameConnection(): void {
    this.restoreUnsynced(); // that daemon may have died over it
    this.passthrough.recover(true);
  }

  private restoreUnsynced(): void {
    if (wasPowerCut(this.deps.db.previous)) this.contents.restoreUnsynced();
  }

  lookup(ctx: RequestContext, parent: number, name: string) { return this.names.lookup(ctx, parent, name); }
  getattr(ctx: RequestContext, ino: number) { return this.attributes.getattr(ctx, ino); }
  setattr(ctx: RequestContext, ino: number, change: SetAttr) { return this.attributes.setattr(ctx, ino, change); }
  create(ctx: RequestContext, parent: number, name: string, flags: number, mode: number, umask = 0) { return this.names.create(ctx, parent, name, flags, mode, umask); }
  tmpfile(ctx: RequestContext, parent: number, flags: number, mode: number, umask = 0) { return this.names.tmpfile(ctx, parent, flags, mode, umask); }
  mknod(ctx: RequestContext, parent: number, name: string, mode: number, rdev: number, umask = 0) { return this.names.mknod(ctx, parent, name, mode, rdev, umask); }
  mkdir(ctx: RequestContext, parent: number, name: string, mode: number, umask = 0) { return this.names.mkdir(ctx, parent, name, mode, umask); }
  symlink(ctx: RequestContext, parent: number, name: string, target: Buffer) { return this.names.symlink(ctx, parent, name, target); }
  link(ctx: RequestContext, ino: number, newParent: number, newName: string) { return this.names.link(ctx, ino, newParent, newName); }
  unlink(ctx: RequestContext, parent: number, name: string) { return this.names.unlink(ctx, parent, name); }
  rmdir(ctx: RequestContext, parent: number, name: string) { return this.names.rmdir(ctx, parent, name); }
  rename(ctx: RequestContext, parent: number, name: string, newParent: number, newName: string, flags: number) {
    return this.renames.rename(ctx, parent, name, newParent, newName, flags);
  }

  readlink(ctx: RequestContext, ino: number): MaybePromise<Buffer> {
    const read = (): Buffer => {
      const inode = this.inodes.mustGet(ino);
      if (!isSymlink(inode)) throw new FsError(Errno.EINVAL);
      if (!inode.target) throw new FsError(Errno.EIO, `the target of symlink ${ino} is not known`);
      return inode.target;
    };
    const inode = this.inodes.mustGet(ino);
    return this.remote.needsAttributes(inode) ? this.remote.completeAttributes([inode], ctx.signal).then(read) : read();
  }

  open(ctx: RequestContext, ino: number, flags: number, killSuidGid: boolean) { return this.opens.open(ctx, ino, flags, killSuidGid); }
  flush(ctx: RequestContext, ino: number, fh: number) { return this.opens.flush(ctx, ino, fh); }
  release(ctx: RequestContext, ino: number, fh: number) { return this.opens.release(ctx, ino, fh); }
  ready(ctx: RequestContext, ino: number, fh: number, offset: number, length: number) { return this.data.ready(ctx, ino, fh, offset, length); }
  located(_ctx: RequestContext, ino: number, _fh: number, offset: number, length: number) { return this.data.located(ino, offset, length); }
  read(ctx: RequestContext, ino: number, fh: number, offset: number, into: Buffer) { return this.data.read(ctx, ino, fh, offset, into); }
  write(ctx: RequestContext, ino: number, fh: number, offset: number, data: Buffer, _flags: number, killSuidGid: boolean) {
    return this.data.write(ctx, ino, fh, offset, data, killSuidGid);
  }
  fallocate(ctx: RequestContext, ino: number, fh: number, offset: number, length: number, mode: number) {
    return this.data.fallocate(ctx, ino, fh, offset, length, mode);
  }
  lseek(_ctx: RequestContext, ino: number, _fh: number, offset: number, whence: number) { return this.data.lseek(ino, offset, whence); }
  copyFileRange(ctx: RequestContext, ino: number, _fh: number, offset: number, outIno: number, _outFh: number, outOffset: number, length: number) {
    return this.data.copyFileRange(ctx, ino, offset, outIno, outOffset, length);
  }
  fsync(ctx: RequestContext, ino: number) { return this.durability.journaled(this.inodes.mustGet(ino), ctx.signal); }

  opendir(ctx: RequestContext, ino: number): Promise<OpenReply> { return this.directories.opendir(ctx, ino); }
  readdir(ctx: RequestContext, ino: number, fh: number, offset: number, sink: DirentSink) { return this.directories.readdir(ctx, ino, fh, offset, sink); }
  releasedir(_ctx: RequestContext, _ino: number, fh: number) { return this.directories.releasedir(fh); }
  fsyncdir(ctx: RequestContext, ino: number) { return this.durability.journaled(this.inodes.mustGet(ino), ctx.signal); }

  getxattr(ctx: RequestContext, ino: number, name: string) { return this.xattrs.get(ctx, ino, name); }
  listxattr(ctx: RequestContext, ino: number) { return this.xattrs.list(ctx, ino); }
  setxattr(ctx: RequestContext, ino: number, name: string, value: Buffer, flags: number, killSgid = false) {
    return this.xattrs.set(ctx, ino, name, value, flags, killSgid);
  }
  removexattr(ctx: RequestContext, ino: number, name: string) { return this.xattrs.remove(ctx, ino, name); }

  statfs(): StatFs {
    const used = Math.ceil(this.deps.contents.stats().cacheBytes / 4096);
    return {
      blocks: shownBlocks, blocksFree: shownBlocks - used, blocksAvailable: shownBlocks - used,
      files: shownFiles, filesFree: shownFiles, blockSizeBytes: 4096, nameBytesMax: 255,
    };
  }

  forget(ino: number): void {
    this.passthrough.forgotten(ino);
    if (this.files.ownCount(ino) > 0) return; // of an earlier lookup: what is open is known
    this.kernel.forgotten(ino);
    const inode = this.deps.tree.inodes.get(ino);
    if (!inode || inode.nlink > 0) return;
    if (inode.opens > 0 && inode.opens < opensUnknown) return;
    this.deps.db.tx(() => this.inodes.reap(inode));
  }

  /** The inode lost its last name, not by a program's doing: if the kernel never heard of it, nobody will tell us to forget it (K14). */
  orphaned(ino: number): void {
    this.deps.db.afterCommit(() => this.inodes.reapUnknown(ino));
  }

  delivered(ctx: RequestContext): void {
    if (this.replay.replied(ctx)) this.foreground.note();
  }

  undelivered(ctx: RequestContext, undo: Undo): void {
    if (undo.open) {
      if (undo.open.directory) this.directories.releasedir(undo.open.fh);
      else this.opens.undo(undo.open.ino, undo.open.fh);
    }
    if (undo.lookupIno !== undefined) this.forget(undo.lookupIno);
    this.replay.replied(ctx);
  }

  /** The daemon ends with the session, and what has to be said then it says itself. */
  destroyed(): void {}

  /** Writers of the inode's bytes wait until the answer is called; those the kernel serves itself cannot be held. */
  holdWrites(ino: number): () => void { return this.contents.holdWrites(ino); }

  /** True while an application may still write to it: its upload waits (J11). */
  isBusy(ino: number): boolean {
    return this.files.writerCount(ino) > 0;
  }
}
