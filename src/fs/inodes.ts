import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import type { RequestContext } from '../fuse/ops.js';
import { FileType, isDirectory, rootIno, type Inode } from '../meta/inode.js';
import { clearSetIds } from './attributes.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { KernelInodes } from './kernel-inodes.js';
import type { OpenFiles } from './open-files.js';
import { accessAclName, aclOf, chmodAcl, defaultAclName, inheritAcl, withAcl } from './posix-acl.js';

/** How long a directory's new mtime may wait for more changes before its marker is written again. */
const directoryTimesDelayMs = 5000;
const setgid = 0o2000;

/** Making, linking and dropping inodes: what all operations on names share. Methods run in the caller's transaction unless they say otherwise. */
export class Inodes {
  constructor(private readonly deps: FsDeps, private readonly contents: FileContents, private readonly open: OpenFiles, private readonly kernel: KernelInodes) {}

  mustGet(ino: number): Inode {
    const inode = this.deps.tree.inodes.get(ino);
    if (!inode) throw new FsError(Errno.ESTALE, `inode ${ino} is gone`);
    return inode;
  }

  directory(ino: number): Inode {
    const inode = this.mustGet(ino);
    if (!isDirectory(inode)) throw new FsError(Errno.ENOTDIR);
    return inode;
  }

  /** A directory that may get new names: removed ones may not. */
  liveDirectory(ino: number): Inode {
    const inode = this.directory(ino);
    if (inode.nlink === 0) throw new FsError(Errno.ENOENT, `directory ${ino} was removed`);
    return inode;
  }

  /** @param umask of the caller; a default ACL of the directory takes its place (K1). */
  create(ctx: RequestContext, parent: Inode, mode: number, umask: number, fields: Partial<Inode> = {}): Inode {
    const now = this.deps.clock.time();
    const directory = (mode & FileType.MASK) === FileType.DIR;
    let gid = ctx.gid;
    if (parent.mode & setgid) {
      gid = parent.gid;
      if (directory) mode |= setgid;
      else if ((mode & (setgid | 0o010)) === (setgid | 0o010) && ctx.uid !== 0 && ctx.gid !== gid && ctx.supplementaryGid !== gid) mode &= ~setgid;
    }
    let xattrs: Inode['xattrs'] = null;
    const defaults = (mode & FileType.MASK) === FileType.LINK ? null : aclOf(parent.xattrs, defaultAclName);
    if (defaults) {
      const inherited = inheritAcl(defaults, mode);
      mode = inherited.mode;
      xattrs = withAcl(directory ? withAcl(null, defaultAclName, defaults) : null, accessAclName, inherited.access);
    } else if ((mode & FileType.MASK) !== FileType.LINK) {
      mode &= ~(umask & 0o777);
    }
    const created = this.deps.tree.inodes.create({
      mode, uid: ctx.uid, gid, rdev: 0, sizeBytes: directory ? 4096 : 0, atime: now, mtime: now, ctime: now, nlink: directory ? 2 : 1, gen: 1, mgen: 1, baseGen: null,
      unsealed: false, sealedUnsynced: false, attrsComplete: true, content: null, target: null, xattrs, foreign: null, linkId: null, linkOffset: 0, lastModifiedMs: null,
      marker: directory, complete: directory, listedAtMs: directory ? this.deps.clock.now() : 0, opens: 0, ...fields,
    });
    this.deps.tree.dentries.isNew(created.ino);
    this.deps.tree.objects.isNew(created.ino);
    return created;
  }

  /** Gives the inode a name; the directory's times move; its key goes to the journal. */
  addName(parent: Inode, name: string, inode: Inode, delayMs = this.deps.config.uploadDelayMs): void {
    const { tree, clock, journal, keys } = this.deps;
    tree.dentries.insert(parent.ino, name, inode.ino, clock.now());
    if (isDirectory(inode)) parent.nlink++;
    // Nothing else shows a directory whose only names lie in its long area
    if (keys.isDeep(tree.directoryKey(parent.ino) ?? '')) this.ensureMarker(parent);
    this.namesChanged(parent);
    const key = tree.keyOf(parent.ino, name, isDirectory(inode));
    if (key !== undefined) journal.mark(key, delayMs);
  }

  /** Takes a name away; the inode goes, or becomes an orphan while it is open. `key` is looked up before the name goes. */
  removeName(parent: Inode, name: string, inode: Inode): void {
    const { tree, journal, config } = this.deps;
    const key = tree.keyOf(parent.ino, name, isDirectory(inode));
    const dentry = tree.dentries.get(parent.ino, name)!;
    tree.dentries.remove(dentry);
    if (isDirectory(inode)) {
      parent.nlink--;
      inode.nlink = 0;
      tree.directoriesMoved();
    } else {
      inode.nlink--;
    }
    this.ensureMarker(parent);
    this.namesChanged(parent);
    if (key !== undefined) journal.mark(key, config.uploadDelayMs);
    inode.ctime = this.deps.clock.time();
    if (inode.nlink === 0) this.orphan(inode);
    else {
      inode.mgen++;
      tree.inodes.save(inode);
      this.contents.markKeys(inode, config.uploadDelayMs);
    }
  }

  /** nlink is 0. It stays until the kernel forgets it (K14): an open file, a working directory or an O_PATH descriptor may still need it. */
  private orphan(inode: Inode): void {
    inode.opens = this.open.openCount(inode.ino);
    this.deps.tree.inodes.save(inode);
  }

  /** An orphan whose number the kernel does not have, so that no FORGET will come for it (K14). In no transaction. */
  reapUnknown(ino: number): void {
    const inode = this.deps.tree.inodes.get(ino);
    if (!inode || inode.nlink > 0 || this.kernel.isKnown(ino) || this.open.ownCount(ino) > 0) return;
    this.deps.db.tx(() => this.reap(inode));
  }

  /** An orphan that nobody uses any more. */
  reap(inode: Inode): void {
    this.contents.drop(inode);
    this.deps.tree.inodes.remove(inode.ino);
  }

  /** Names in the directory changed: mtime and ctime now; the marker follows, late and coalesced. */
  namesChanged(directory: Inode): void {
    directory.mtime = directory.ctime = this.deps.clock.time();
    if (directory.marker) {
      directory.mgen++;
      const key = this.deps.tree.directoryKey(directory.ino);
      if (key !== undefined && key !== '' && !this.deps.journal.has(key)) this.deps.journal.mark(key, directoryTimesDelayMs);
    }
    this.deps.tree.inodes.save(directory);
  }

  /** The directory must exist in S3 by itself from now on: it has attributes of its own, or may lose its last child (J4). */
  ensureMarker(directory: Inode): void {
    if (directory.marker || directory.ino === rootIno || directory.nlink === 0) return;
    directory.marker = true;
    directory.mgen++;
    this.deps.tree.inodes.save(directory);
    const key = this.deps.tree.directoryKey(directory.ino);
    if (key !== undefined) this.deps.journal.mark(key, this.deps.config.uploadDelayMs);
  }

  /** chmod: an access ACL follows, its mask gets the group bits. */
  setMode(inode: Inode, mode: number): void {
    inode.mode = (inode.mode & FileType.MASK) | (mode & 0o7777);
    const acl = aclOf(inode.xattrs, accessAclName);
    if (acl) inode.xattrs = withAcl(inode.xattrs, accessAclName, chmodAcl(acl, mode));
  }

  /**
   * setuid goes, file capabilities too (K2); setgid where the group may execute, or where the caller is not of the group: FUSE does not say the latter, but
   * the kernel's own file systems do so since Linux 6.2. `isCapable`: the caller may keep it in any case (CAP_FSETID).
   */
  dropPrivileges(ctx: RequestContext, inode: Inode, isCapable = false): void {
    inode.mode = clearSetIds(inode.mode);
    if (inode.mode & setgid && !isCapable && !this.isOfGroup(ctx, inode.gid)) inode.mode &= ~setgid;
    if (inode.xattrs && 'security.capability' in inode.xattrs) {
      const { 'security.capability': _gone, ...rest } = inode.xattrs;
      inode.xattrs = rest;
    }
  }
  /** A request names one supplementary group at most: the others are asked of the process, which is waiting for the answer. */
  private isOfGroup(ctx: RequestContext, gid: number): boolean {
    return ctx.gid === gid || ctx.supplementaryGid === gid || this.deps.groupsOf(ctx.pid).includes(gid);
  }
}
