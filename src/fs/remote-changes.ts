import type { Dentry } from '../meta/dentry-table.js';
import type { Seen } from '../meta/discovery.js';
import { isDirectory, isRegular, type Inode } from '../meta/inode.js';
import type { Key } from '../s3/object-store.js';
import type { ActiveListing } from './active-listings.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { OpenFiles } from './open-files.js';

/**
 * What an answer of S3 may change in the tree, and how; shared by listings and HEADs. Methods run in the caller's transaction.
 *
 * The rule (J7): a key that has a journal or attempt row, that lies where a renamed directory was and is not yet walked (J8), or that was
 * touched here since S3 was asked, is *ours*: there the tree is right and S3 follows. For all others S3 is right and the tree follows.
 */
export class RemoteChanges {
  constructor(private readonly deps: FsDeps, private readonly contents: FileContents, private readonly open: OpenFiles, private readonly orphaned: (ino: number) => void) {}

  /** A name in the directory `prefix`, be it a file or a directory with all below it. */
  isOurs(prefix: Key, name: string, asked: ActiveListing): boolean {
    const below = `${prefix}${name}/`;
    return this.isOursKey(prefix + name, asked) || this.isOursKey(below, asked) || this.deps.journal.hasUnder(below) || asked.touchedUnder(below);
  }

  /** Nothing at or below `prefix` is ours: true until the next yield. */
  isQuiet(prefix: Key, asked: ActiveListing): boolean {
    const { journal, attempts } = this.deps;
    return journal.walks().length === 0 && !this.isOursKey(prefix, asked) && !journal.hasUnder(prefix) && !attempts.hasUnder(prefix) && !asked.touchedUnder(prefix);
  }

  isOursKey(key: Key, asked: ActiveListing): boolean {
    const { journal, attempts } = this.deps;
    if (asked.touched(key) || journal.has(key) || attempts.has(key)) return true;
    // Children of a directory that was moved away get their rows only when the walk comes by
    return journal.walks().some((walk) => key.startsWith(walk.oldPrefix) || (key.endsWith('/') && walk.oldPrefix.startsWith(key)));
  }

  /**
   * The object under a name is another version, and we have nothing pending for it. Whoever has the old one open keeps it; other
   * names of it keep it too (J10); and what is no regular file gets a new number, since the new object may be of another type (K14).
   */
  changed(dentry: Dentry, inode: Inode, seen: Seen): void {
    const { tree, discovery, clock, kernel, metrics, log } = this.deps;
    metrics.add('fs.remote_changed');
    log.debug('object changed behind the mount', { room: 'fs', key: seen.key });
    if (!isRegular(inode) || inode.nlink > 1 || this.open.openCount(inode.ino) > 0) {
      this.supersede(dentry, inode, seen);
    } else {
      this.contents.drop(inode);
      discovery.refresh(inode, seen);
      tree.dentries.confirm(dentry, clock.now());
      kernel.contentChanged(inode.ino);
      kernel.nameChanged(dentry.parent, dentry.name);
    }
  }

  /** What is local of a clean inode's content is not wanted after all. */
  dropContent(inode: Inode): void {
    this.contents.drop(inode);
    this.deps.tree.inodes.save(inode);
  }

  /** The name means a new inode from now on. */
  supersede(dentry: Dentry, inode: Inode, seen: Seen): Inode {
    const { discovery, clock, kernel } = this.deps;
    const next = discovery.supersede(dentry, seen, clock.now(), inode.linkId);
    inode.nlink--;
    this.lostName(inode);
    kernel.nameChanged(dentry.parent, dentry.name);
    return next;
  }

  /** The name, and all below it, is gone from S3. Open files stay readable as far as they are cached. */
  removeSubtree(parent: Inode, dentry: Dentry): void {
    const { tree } = this.deps;
    const left = [{ parent, dentry, isEmptied: false }]; // a loop: trees may be deeper than calls may nest
    for (let top = left.at(-1); top !== undefined; top = left.at(-1)) {
      const inode = tree.inodes.mustGet(top.dentry.ino);
      if (top.isEmptied || !isDirectory(inode)) {
        left.pop();
        this.removeName(top.parent, top.dentry, inode);
      } else {
        top.isEmptied = true;
        for (const child of tree.dentries.list(inode.ino, 0, Number.MAX_SAFE_INTEGER).reverse()) left.push({ parent: inode, dentry: child, isEmptied: false });
      }
    }
  }

  private removeName(parent: Inode, dentry: Dentry, inode: Inode): void {
    const { tree, kernel } = this.deps;
    const key = tree.keyOf(parent.ino, dentry.name, isDirectory(inode));
    if (isDirectory(inode)) {
      parent.nlink--;
      inode.nlink = 0;
      tree.inodes.save(parent);
    } else {
      inode.nlink--;
    }
    tree.dentries.remove(dentry);
    if (key !== undefined) tree.objects.setAbsent(key);
    if (isDirectory(inode)) tree.directoriesMoved();
    this.lostName(inode);
    kernel.nameChanged(parent.ino, dentry.name);
  }

  private lostName(inode: Inode): void {
    inode.opens = this.open.openCount(inode.ino);
    this.deps.tree.inodes.save(inode);
    if (inode.nlink === 0) this.orphaned(inode.ino);
  }
}
