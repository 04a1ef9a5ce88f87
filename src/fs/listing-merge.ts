import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { nameBytesMax, nameToBytes } from '../base/file-name.js';
import type { Dentry } from '../meta/dentry-table.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import type { ListPage, ObjectSummary } from '../s3/object-store.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { HiddenKeys } from './hidden-keys.js';
import type { ActiveListing } from './active-listings.js';
import type { OpenFiles } from './open-files.js';

/**
 * Brings the tree in line with what a listing of one directory said.
 *
 * The rule (J7): a key that has a journal or attempt row, or that was touched here while the listing ran, is skipped: here the
 * tree is right and S3 follows. For all others S3 is right and the tree follows. Methods run in the caller's transaction.
 */
export class ListingMerge {
  private readonly log: Log;
  private readonly metrics: Metrics;

  constructor(private readonly deps: FsDeps, private readonly contents: FileContents, private readonly open: OpenFiles, private readonly hidden: HiddenKeys) {
    this.log = deps.log;
    this.metrics = deps.metrics;
  }

  /** One page. Adds the names it saw to `seen`. */
  page(directory: Inode, prefix: string, page: ListPage, listing: ActiveListing, seen: Set<string>): void {
    for (const folded of page.prefixes) {
      const name = folded.slice(prefix.length, -1);
      if (!this.isName(name)) { this.hidden.add(directory.ino, folded); continue; }
      seen.add(name);
      if (!this.isOurs(prefix, name, listing)) this.directorySeen(directory, name);
    }
    for (const object of page.objects) {
      if (object.key === prefix) { if (prefix !== '' && !this.isOursKey(prefix, listing)) this.markerSeen(directory, object); continue; }
      const name = object.key.slice(prefix.length);
      if (!this.isName(name)) { this.hidden.add(directory.ino, object.key); continue; }
      if (seen.has(name)) { this.hidden.add(directory.ino, object.key); continue; } // an object `a` beside `a/...`: the directory is shown
      seen.add(name);
      if (!this.isOurs(prefix, name, listing)) this.objectSeen(directory, name, object);
    }
  }

  /** After the last page: names that S3 no longer has. */
  vanished(directory: Inode, prefix: string, listing: ActiveListing, seen: Set<string>): void {
    const { tree } = this.deps;
    let after = 0;
    for (;;) {
      const dentries = tree.dentries.list(directory.ino, after, 1000);
      for (const dentry of dentries) {
        after = dentry.id;
        if (seen.has(dentry.name) || this.isOurs(prefix, dentry.name, listing)) continue;
        this.metrics.add('fs.remote_deleted');
        this.removeSubtree(directory, dentry);
      }
      if (dentries.length < 1000) break;
    }
  }

  /** One name looked up by HEAD and LIST: the same rules as a listing that holds only this name. */
  single(directory: Inode, prefix: string, name: string, object: ObjectSummary | null, isPrefix: boolean, listing: ActiveListing): void {
    if (this.isOurs(prefix, name, listing)) return;
    const { tree, clock } = this.deps;
    if (isPrefix) this.directorySeen(directory, name);
    else if (object) this.objectSeen(directory, name, object);
    else {
      const dentry = tree.dentries.get(directory.ino, name);
      if (dentry) {
        this.metrics.add('fs.remote_deleted');
        this.removeSubtree(directory, dentry);
      }
      return;
    }
    const dentry = tree.dentries.get(directory.ino, name);
    if (dentry) tree.dentries.confirm(dentry, clock.now());
  }

  private isName(name: string): boolean {
    return name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0') && nameToBytes(name).length <= nameBytesMax;
  }

  private isOurs(prefix: string, name: string, listing: ActiveListing): boolean {
    return this.isOursKey(prefix + name, listing) || this.isOursKey(`${prefix}${name}/`, listing) || this.deps.journal.hasUnder(`${prefix}${name}/`);
  }

  private isOursKey(key: string, listing: ActiveListing): boolean {
    return listing.touched(key) || this.deps.journal.has(key) || this.deps.attempts.has(key);
  }

  private directorySeen(directory: Inode, name: string): void {
    const { tree, discovery, clock } = this.deps;
    const dentry = tree.dentries.get(directory.ino, name);
    if (dentry) {
      if (isDirectory(tree.inodes.mustGet(dentry.ino))) return;
      this.removeSubtree(directory, dentry); // a file whose name now has keys below it: the directory is shown
    }
    discovery.addDirectory(directory.ino, name, null, clock.now());
    if (dentry) this.deps.kernel.nameChanged(directory.ino, name);
  }

  /** The directory's own marker appears in its listing. */
  private markerSeen(directory: Inode, object: ObjectSummary): void {
    const { tree, discovery } = this.deps;
    const row = tree.objects.get(object.key);
    if (row?.etag === object.etag && row.lastModifiedMs === object.lastModifiedMs && directory.marker) return;
    directory.marker = true;
    directory.attrsComplete = false;
    tree.inodes.save(directory);
    discovery.recordObject(directory, object);
  }

  private objectSeen(directory: Inode, name: string, object: ObjectSummary): void {
    const { tree, discovery, clock } = this.deps;
    let dentry = tree.dentries.get(directory.ino, name);
    if (dentry && isDirectory(tree.inodes.mustGet(dentry.ino))) {
      this.removeSubtree(directory, dentry);
      this.deps.kernel.nameChanged(directory.ino, name);
      dentry = undefined;
    }
    if (!dentry) {
      discovery.addObject(directory.ino, name, object, clock.now());
      return;
    }
    const inode = tree.inodes.mustGet(dentry.ino);
    const row = tree.objects.get(object.key);
    if (row?.etag === object.etag && row.sizeBytes === object.sizeBytes) {
      if (row.lastModifiedMs === object.lastModifiedMs || row.lastModifiedMs === null) return;
      inode.attrsComplete = false; // a metadata-only copy keeps the etag (O1)
      tree.inodes.save(inode);
      discovery.recordObject(inode, object);
      return;
    }
    this.changed(dentry, inode, object);
  }

  /** Another version, of an object we have nothing pending for. */
  private changed(dentry: Dentry, inode: Inode, object: ObjectSummary): void {
    const { tree, discovery, clock, kernel } = this.deps;
    this.metrics.add('fs.remote_changed');
    this.log.debug('object changed behind the mount', { room: 'fs', key: object.key });
    if (inode.nlink > 1 || this.open.openCount(inode.ino) > 0) {
      discovery.supersede(dentry, object, clock.now());
      inode.nlink--;
      inode.opens = this.open.openCount(inode.ino);
      tree.inodes.save(inode);
    } else {
      this.contents.drop(inode);
      discovery.refresh(inode, object);
      kernel.contentChanged(inode.ino);
    }
    kernel.nameChanged(dentry.parent, dentry.name);
  }

  /** The name, and all below it, is gone from S3. Open files stay readable as far as they are cached. */
  removeSubtree(parent: Inode, dentry: Dentry): void {
    const { tree, kernel } = this.deps;
    const inode = tree.inodes.mustGet(dentry.ino);
    const key = tree.keyOf(parent.ino, dentry.name, isDirectory(inode));
    if (isDirectory(inode)) {
      for (const child of tree.dentries.list(inode.ino, 0, Number.MAX_SAFE_INTEGER)) this.removeSubtree(inode, child);
      parent.nlink--;
      inode.nlink = 0;
      tree.inodes.save(parent);
    } else {
      inode.nlink--;
    }
    tree.dentries.remove(dentry);
    if (key !== undefined) tree.objects.setAbsent(key);
    if (isDirectory(inode)) tree.directoriesMoved();
    inode.opens = this.open.openCount(inode.ino);
    tree.inodes.save(inode);
    kernel.nameChanged(parent.ino, dentry.name);
  }
}
