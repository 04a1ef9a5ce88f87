import { timeFromMs } from '../base/clock.js';
import type { ETag, Key } from '../s3/object-store.js';
import type { Dentry } from './dentry-table.js';
import { FileType, fileType, isDirectory, type Inode } from './inode.js';
import type { Tree } from './tree.js';

/** Owner and permissions of what carries no metadata of its own. */
export interface DefaultAttributes { readonly uid: number; readonly gid: number; readonly umask: number }

/** What a listing or HEAD says about an object; enough to show a name. */
export interface Seen { readonly key: Key; readonly etag: ETag; readonly sizeBytes: number; readonly lastModifiedMs: number; readonly versionId?: string }

/**
 * Turns objects that others made into names and inodes. Attributes come from a listing only (`attrsComplete` false) until a HEAD
 * completes them. All methods run in the caller's transaction.
 */
export class Discovery {
  constructor(private readonly tree: Tree, private readonly defaults: DefaultAttributes) {}

  /** A new name for an object nobody here knew. */
  addObject(parent: number, name: string, seen: Seen, nowMs: number): Inode {
    const inode = this.newInode(FileType.REG, seen.sizeBytes, seen.lastModifiedMs);
    this.tree.dentries.insert(parent, name, inode.ino, nowMs);
    this.recordObject(inode, seen);
    return inode;
  }

  /** A directory known because something lies below it, or by its marker `seen`. A folded prefix hides whether there is a marker: only its HEAD can tell. */
  addDirectory(parent: number, name: string, seen: Seen | null, nowMs: number): Inode {
    const inode = this.newInode(FileType.DIR, 4096, seen?.lastModifiedMs ?? nowMs);
    inode.marker = seen !== null;
    this.tree.inodes.save(inode);
    this.tree.dentries.insert(parent, name, inode.ino, nowMs);
    if (seen) this.recordObject(inode, seen);
    const above = this.tree.inodes.mustGet(parent);
    above.nlink++;
    this.tree.inodes.save(above);
    return inode;
  }

  /**
   * The object under an existing name is another version now. Nobody may have the inode open: content and attributes are
   * forgotten, the number stays. The content file is the caller's to remove.
   */
  refresh(inode: Inode, seen: Seen): void {
    inode.gen++;
    inode.mgen++;
    inode.baseGen = null;
    inode.unsealed = false;
    inode.content = null;
    inode.target = null;
    this.forgetAttributes(inode);
    inode.lastModifiedMs = seen.lastModifiedMs;
    if (!isDirectory(inode)) {
      inode.sizeBytes = seen.sizeBytes;
      inode.mtime = inode.ctime = timeFromMs(seen.lastModifiedMs);
    } else {
      inode.marker = true;
    }
    this.tree.inodes.save(inode);
    this.recordObject(inode, seen);
  }

  /**
   * The object under an existing name is another version, and the old inode is still in use: the name gets a new inode, the old one loses it.
   * @param linkId of the old one: if the new version still says so, the two names will be one file again (J10).
   */
  supersede(dentry: Dentry, seen: Seen, nowMs: number, linkId: string | null = null): Inode {
    const inode = this.newInode(FileType.REG, seen.sizeBytes, seen.lastModifiedMs);
    inode.linkId = linkId;
    this.tree.inodes.save(inode);
    this.tree.dentries.repoint(dentry, inode.ino, nowMs);
    this.recordObject(inode, seen);
    return inode;
  }

  /** The object's metadata may be others now: until they are looked at, and where they say nothing, it is as if just found. Saved by the caller. */
  forgetAttributes(inode: Inode): void {
    inode.mode = fileType(inode) | this.permissions(fileType(inode));
    inode.uid = this.defaults.uid;
    inode.gid = this.defaults.gid;
    inode.attrsComplete = false;
  }

  private permissions(type: number): number {
    return (type === FileType.DIR ? 0o777 : 0o666) & ~this.defaults.umask;
  }

  recordObject(inode: Inode, seen: Seen): void {
    this.tree.objects.put({
      key: seen.key, etag: seen.etag, sizeBytes: seen.sizeBytes, lastModifiedMs: seen.lastModifiedMs, versionId: seen.versionId ?? null,
      ino: inode.ino, gen: inode.gen, mgen: inode.mgen,
    });
  }

  private newInode(type: number, sizeBytes: number, lastModifiedMs: number): Inode {
    const time = timeFromMs(lastModifiedMs);
    const inode = this.tree.inodes.create({
      mode: type | this.permissions(type), uid: this.defaults.uid, gid: this.defaults.gid, rdev: 0, sizeBytes, atime: time, mtime: time, ctime: time,
      nlink: type === FileType.DIR ? 2 : 1, gen: 1, mgen: 1, baseGen: null, unsealed: false, sealedUnsynced: false, attrsComplete: false, content: null, target: null, xattrs: null,
      foreign: null, linkId: null, linkOffset: 0, lastModifiedMs, marker: false, complete: false, listedAtMs: 0, opens: 0,
    });
    this.tree.dentries.isNew(inode.ino);
    this.tree.objects.isNew(inode.ino);
    return inode;
  }
}
