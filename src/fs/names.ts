import { Errno } from '../base/errno.js';
import { nameBytesMax, nameToBytes } from '../base/file-name.js';
import { FsError } from '../base/fs-error.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { OpenFlag, type Entry, type OpenReply, type RequestContext } from '../fuse/ops.js';
import type { Dentry } from '../meta/dentry-table.js';
import { FileType, isDirectory, isRegular, rootIno, type Inode } from '../meta/inode.js';
import { longAreaName } from '../s3/long-keys.js';
import { scratchPrefix } from '../writeback/desired.js';
import type { Attributes } from './attributes.js';
import type { FsDeps } from './deps.js';
import { toFsError } from './errno-map.js';
import type { FileContents } from './file-content.js';
import type { Inodes } from './inodes.js';
import type { OpenReplies } from './open-replies.js';
import type { RemoteNames } from './remote-names.js';
import type { Replay } from './replay.js';
import type { WalkAhead } from './walk-ahead.js';

/** Four times what the kernel takes in one call: step by step, from one working directory to the next, trees could get deeper without end. */
const pathBytesMax = 16_384;
const linkMax = 65_000;
/** What a new file takes of the disk at once. */
const newFileBytes = 4096;

/** Operations on names, renames apart: lookup and everything that makes or removes one. */
export class Names {
  constructor(
    private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents, private readonly attributes: Attributes,
    private readonly remote: RemoteNames, private readonly replay: Replay, private readonly opens: OpenReplies, private readonly ahead: WalkAhead,
  ) {}

  lookup(ctx: RequestContext, parent: number, name: string): MaybePromise<Entry> {
    if (name === '.') return this.byNumber(ctx, parent);
    if (name === '..') return this.byNumber(ctx, this.parentOf(parent));
    checkName(name);
    const directory = this.inodes.directory(parent);
    const dentry = this.remote.find(directory, name, () => ctx.signal);
    return dentry instanceof Promise ? dentry.then((found) => this.found(ctx, parent, found)) : this.found(ctx, parent, dentry);
  }

  /** By a file handle. It must have a name still, and S3 is asked for that as for any other; an inode without one lives only while it is open, and then the kernel knows it. */
  private byNumber(ctx: RequestContext, ino: number): MaybePromise<Entry> {
    const inode = this.inodes.mustGet(ino);
    if (ino === rootIno) return this.attributes.entry(inode, undefined);
    const known = this.deps.tree.dentries.ofInode(ino)[0];
    if (!known) throw new FsError(Errno.ESTALE, `inode ${ino} has no name`);
    return andThen(this.remote.find(this.inodes.directory(known.parent), known.name, () => ctx.signal), (dentry) => {
      if (dentry?.ino !== ino) throw new FsError(Errno.ESTALE, `inode ${ino} lost its name`);
      return this.found(ctx, known.parent, dentry);
    });
  }

  private parentOf(ino: number): number {
    if (ino === rootIno) return rootIno;
    const parent = this.deps.tree.dentries.ofInode(this.inodes.directory(ino).ino)[0]?.parent;
    if (parent === undefined) throw new FsError(Errno.ESTALE, `directory ${ino} was removed`);
    return parent;
  }

  private found(ctx: RequestContext, parent: number, dentry: Dentry | undefined): MaybePromise<Entry> {
    const directory = this.inodes.directory(parent);
    if (!dentry) return { attr: null, entryValidMs: this.attributes.validMs(directory.complete ? directory.listedAtMs : this.deps.clock.now()), attrValidMs: 0 };
    const inode = this.deps.tree.inodes.mustGet(dentry.ino);
    const isKnown = !this.remote.needsAttributes(inode);
    this.ahead.looked(ctx, parent, dentry, !isKnown);
    if (isKnown) return this.attributes.entry(inode, this.remote.checkedAt(directory, dentry, inode));
    return this.remote.completeAttributes([inode], ctx.signal).then(
      () => {
        const now = this.deps.tree.dentries.get(parent, dentry.name);
        if (!now) throw new FsError(Errno.ENOENT);
        const found = this.deps.tree.inodes.mustGet(now.ino);
        return this.attributes.entry(found, this.remote.checkedAt(this.inodes.directory(parent), now, found));
      },
      (error: unknown) => {
        // listed a moment ago, gone now
        if (error instanceof FsError && error.errno === Errno.ENOENT) return { attr: null, entryValidMs: 0, attrValidMs: 0 };
        throw error;
      },
    );
  }

  /** CREATE of a name that is there already is an open of it; what turned up there meanwhile may be no file at all. */
  private openFound(ctx: RequestContext, dentry: Dentry, flags: number): MaybePromise<Entry & OpenReply> {
    if (flags & OpenFlag.EXCL) throw new FsError(Errno.EEXIST);
    const inode = this.deps.tree.inodes.mustGet(dentry.ino);
    if (isDirectory(inode)) throw new FsError(Errno.EISDIR);
    if (!isRegular(inode)) throw new FsError(Errno.ESTALE, `inode ${inode.ino} is no regular file`); // the kernel walks the path again
    return andThen(this.opens.open(ctx, inode.ino, flags, false), (opened) => this.openedEntry(inode.ino, opened));
  }

  create(ctx: RequestContext, parent: number, name: string, flags: number, mode: number, umask: number): MaybePromise<Entry & OpenReply> {
    const replayed = this.replay.find(ctx);
    if (replayed?.ino !== undefined) return this.createReply(ctx, this.inodes.mustGet(replayed.ino), flags);
    return andThen(this.reserveFile(ctx), () => andThen(this.find(ctx, parent, name), () => this.createFound(ctx, parent, name, flags, mode, umask)));
  }

  private createFound(ctx: RequestContext, parent: number, name: string, flags: number, mode: number, umask: number): MaybePromise<Entry & OpenReply> {
    const { directory, dentry } = this.current(parent, name);
    if (dentry) return this.openFound(ctx, dentry, flags);
    this.mustFit(parent, name);
    const inode = this.deps.db.tx(() => {
      const created = this.inodes.create(ctx, directory, FileType.REG | (mode & 0o7777), umask, { unsealed: true, content: this.newContent() });
      this.inodes.addName(directory, name, created);
      this.opens.prepare(created, flags); // what the open would commit by itself
      this.replay.record(ctx, 'create', { ino: created.ino });
      return created;
    });
    return this.createdReply(ctx, inode, flags);
  }

  /** In a transaction: an empty content file for bytes that S3 lacks. */
  private newContent(): number {
    return this.deps.contents.create(0, 'none', 0, true).id;
  }

  /** Sent again: the kernel may have been told before. */
  private createReply(ctx: RequestContext, inode: Inode, flags: number): MaybePromise<Entry & OpenReply> {
    return andThen(this.opens.openedDurably(ctx, inode, flags), (opened) => this.openedEntry(inode.ino, opened));
  }

  private createdReply(ctx: RequestContext, inode: Inode, flags: number): MaybePromise<Entry & OpenReply> {
    const opened = this.opens.openedDurably(ctx, inode, flags);
    if (!(opened instanceof Promise)) return entryOpened(this.attributes.newEntry(inode), opened);
    return opened.then((later) => this.openedEntry(inode.ino, later));
  }

  private openedEntry(ino: number, opened: OpenReply): Entry & OpenReply {
    return entryOpened(this.attributes.entry(this.inodes.mustGet(ino), undefined), opened);
  }

  async tmpfile(ctx: RequestContext, parent: number, flags: number, mode: number, umask: number): Promise<Entry & OpenReply> {
    const replayed = this.replay.find(ctx);
    if (replayed?.ino !== undefined) return this.createReply(ctx, this.inodes.mustGet(replayed.ino), flags);
    await this.reserveFile(ctx);
    const directory = this.inodes.liveDirectory(parent);
    const inode = this.deps.db.tx(() => {
      const created = this.inodes.create(ctx, directory, FileType.REG | (mode & 0o7777), umask, { unsealed: true, nlink: 0, opens: 1, content: this.newContent() });
      this.replay.record(ctx, 'tmpfile', { ino: created.ino });
      return created;
    });
    return this.createdReply(ctx, inode, flags);
  }

  mkdir(ctx: RequestContext, parent: number, name: string, mode: number, umask: number): MaybePromise<Entry> {
    return this.make(ctx, 'mkdir', parent, name, FileType.DIR | (mode & 0o7777), umask);
  }

  mknod(ctx: RequestContext, parent: number, name: string, mode: number, rdev: number, umask: number): MaybePromise<Entry> {
    const type = (mode & FileType.MASK) || FileType.REG;
    return this.make(ctx, 'mknod', parent, name, type | (mode & 0o7777), umask, { rdev });
  }

  symlink(ctx: RequestContext, parent: number, name: string, target: Buffer): MaybePromise<Entry> {
    if (target.length === 0) throw new FsError(Errno.ENOENT);
    if (target.length >= 4096) throw new FsError(Errno.ENAMETOOLONG);
    return this.make(ctx, 'symlink', parent, name, FileType.LINK | 0o777, 0, { target: Buffer.from(target), sizeBytes: target.length });
  }

  private make(ctx: RequestContext, opcode: string, parent: number, name: string, mode: number, umask: number, fields: Partial<Inode> = {}): MaybePromise<Entry> {
    const replayed = this.replay.find(ctx);
    if (replayed?.ino !== undefined) return this.attributes.entry(this.inodes.mustGet(replayed.ino), undefined);
    return andThen(this.find(ctx, parent, name), () => {
      const { directory, dentry } = this.current(parent, name);
      if (dentry) throw new FsError(Errno.EEXIST);
      this.mustFit(parent, name);
      const inode = this.deps.db.tx(() => {
        const created = this.inodes.create(ctx, directory, mode, umask, fields);
        this.inodes.addName(directory, name, created);
        this.replay.record(ctx, opcode, { ino: created.ino });
        return created;
      });
      return this.attributes.entry(inode, undefined);
    });
  }

  async link(ctx: RequestContext, ino: number, newParent: number, newName: string): Promise<Entry> {
    if (this.replay.find(ctx)) return this.attributes.entry(this.inodes.mustGet(ino), undefined);
    const before = this.inodes.mustGet(ino);
    if (this.remote.needsAttributes(before)) await this.remote.completeAttributes([before], ctx.signal);
    await this.find(ctx, newParent, newName);
    const { directory, dentry } = this.current(newParent, newName);
    if (dentry) throw new FsError(Errno.EEXIST);
    this.mustFit(newParent, newName);
    const inode = this.inodes.mustGet(ino);
    if (isDirectory(inode)) throw new FsError(Errno.EPERM);
    if (inode.nlink >= linkMax) throw new FsError(Errno.EMLINK);
    this.deps.db.tx(() => {
      if (inode.nlink > 0) this.deps.links.ensureId(inode);
      inode.nlink++;
      inode.opens = 0;
      inode.ctime = this.deps.clock.time();
      this.inodes.addName(directory, newName, inode);
      this.contents.metadataChanged(inode);
      this.replay.record(ctx, 'link', { ino });
    });
    return this.attributes.entry(inode, undefined);
  }

  unlink(ctx: RequestContext, parent: number, name: string): MaybePromise<void> {
    if (this.replay.find(ctx)) return;
    return andThen(this.findExisting(ctx, parent, name), () => {
      const { directory, inode } = this.currentExisting(parent, name);
      if (isDirectory(inode)) throw new FsError(Errno.EISDIR);
      this.deps.db.tx(() => {
        this.inodes.removeName(directory, name, inode);
        this.replay.record(ctx, 'unlink', {});
      });
    });
  }

  async rmdir(ctx: RequestContext, parent: number, name: string): Promise<void> {
    if (this.replay.find(ctx)) return;
    await this.findExisting(ctx, parent, name);
    await this.mustBeEmptyDirectory(this.currentExisting(parent, name).inode, ctx.signal);
    const { directory, inode } = this.currentExisting(parent, name);
    if (!isDirectory(inode)) throw new FsError(Errno.ENOTDIR);
    if (!inode.complete || !this.deps.tree.dentries.isEmpty(inode.ino)) throw new FsError(Errno.ENOTEMPTY);
    this.deps.db.tx(() => {
      this.inodes.removeName(directory, name, inode);
      this.replay.record(ctx, 'rmdir', {});
    });
  }

  /** Only a completely known directory can be called empty; S3 is asked where ours is not (J7). */
  async mustBeEmptyDirectory(inode: Inode, signal: AbortSignal): Promise<void> {
    if (!isDirectory(inode)) throw new FsError(Errno.ENOTDIR);
    if (!this.deps.tree.dentries.isEmpty(inode.ino)) throw new FsError(Errno.ENOTEMPTY);
    await this.remote.ensureComplete(inode, signal, false);
    if (!this.deps.tree.dentries.isEmpty(inode.ino)) throw new FsError(Errno.ENOTEMPTY);
  }

  /** Makes what `name` means known. The caller looks at it afterwards with `current`, in the same stretch in which it acts: an await lets others in. */
  find(ctx: RequestContext, parent: number, name: string): MaybePromise<unknown> {
    checkName(name);
    const prefix = this.deps.tree.directoryKey(parent) ?? '';
    if (prefix === '' && name.startsWith(scratchPrefix)) throw new FsError(Errno.EPERM, `Names that start with ${scratchPrefix} are hearthfs's own`);
    if (name === longAreaName) throw new FsError(Errno.EPERM, `${longAreaName} is hearthfs's own`);
    return this.remote.find(this.inodes.liveDirectory(parent), name, () => ctx.signal);
  }

  /** A name that is about to be made. What lies deeper already, by a rename further up, stays usable. */
  mustFit(parent: number, name: string): void {
    const { tree, keys } = this.deps;
    const prefix = tree.directoryKey(parent) ?? '';
    if ((prefix.length + name.length) * 3 > pathBytesMax && nameToBytes(prefix + name).length > pathBytesMax) throw new FsError(Errno.ENAMETOOLONG, `The path would be longer than ${pathBytesMax} bytes`);
    if (!keys.isRoomy && keys.physical(`${prefix}${name}/`) === undefined) throw new FsError(Errno.ENAMETOOLONG, 'The prefix of the mount leaves too little of an S3 key for this name');
  }

  /** The directory, which may get and lose names, and what it has under the name. */
  current(parent: number, name: string): { directory: Inode; dentry: Dentry | undefined } {
    return { directory: this.inodes.liveDirectory(parent), dentry: this.deps.tree.dentries.get(parent, name) };
  }

  /** Like `find`, and completes the attributes of what is there: its type may be another than a listing shows. */
  findExisting(ctx: RequestContext, parent: number, name: string): MaybePromise<void> {
    return andThen(this.find(ctx, parent, name), () => {
      const { inode } = this.currentExisting(parent, name);
      return this.remote.needsAttributes(inode) && !this.deps.health.isOffline ? this.remote.completeAttributes([inode], ctx.signal) : undefined;
    });
  }

  currentExisting(parent: number, name: string): { directory: Inode; dentry: Dentry; inode: Inode } {
    const { directory, dentry } = this.current(parent, name);
    if (!dentry) throw new FsError(Errno.ENOENT);
    return { directory, dentry, inode: this.deps.tree.inodes.mustGet(dentry.ino) };
  }

  private reserveFile(ctx: RequestContext): MaybePromise<void> {
    const room = this.deps.contents.reserve(newFileBytes, () => ctx.signal);
    return room instanceof Promise ? room.catch((error: unknown) => { throw toFsError(error); }) : room;
  }
}

function entryOpened({ attr, entryValidMs, attrValidMs }: Entry, opened: OpenReply): Entry & OpenReply {
  return { ...opened, attr, entryValidMs, attrValidMs };
}

export function checkName(name: string): void {
  if (name.length > nameBytesMax / 4 && nameToBytes(name).length > nameBytesMax) throw new FsError(Errno.ENAMETOOLONG);
}
