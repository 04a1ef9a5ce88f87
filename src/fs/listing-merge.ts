import { isNameText, nameBytesMax, nameToBytes } from '../base/file-name.js';
import type { Dentry } from '../meta/dentry-table.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import { compareKeys } from '../prefetch/key-split.js';
import type { Key, ListPage, ObjectSummary } from '../s3/object-store.js';
import { scratchPrefix } from '../writeback/desired.js';
import type { ActiveListing } from './active-listings.js';
import type { FsDeps } from './deps.js';
import type { HiddenKeys } from './hidden-keys.js';
import type { RemoteChanges } from './remote-changes.js';

/** What one listing has seen so far, across its pages. */
export class ListingSoFar {
  readonly names = new Set<string>();
  /** Objects under the name of a directory we know: the prefix that decides which of the two is shown sorts later (`a`, `a-`, `a/`). */
  readonly later: { readonly name: string; readonly object: ObjectSummary }[] = [];
  readonly directories = new Set<string>();

  /** @param wasEmpty the directory had no names when it began. */
  constructor(readonly wasEmpty = false) {}
}

/** Brings the tree in line with what a listing of one directory said, by the rule of `RemoteChanges`. Methods run in the caller's transaction. */
export class ListingMerge {
  constructor(private readonly deps: FsDeps, private readonly changes: RemoteChanges, private readonly hidden: HiddenKeys) {}

  /** One page. */
  page(directory: Inode, prefix: Key, page: ListPage, asked: ActiveListing, soFar: ListingSoFar): void {
    const { tree } = this.deps;
    const isQuiet = this.changes.isQuiet(prefix, asked); // nothing yields within a page: one look instead of one per name
    const areNew = this.areNew(directory, prefix, page);
    for (const folded of page.prefixes) {
      const name = folded.slice(prefix.length, -1);
      if (!isName(name)) { this.hidden.add(directory.ino, folded); continue; }
      soFar.names.add(name);
      soFar.directories.add(name);
      if (isQuiet || !this.changes.isOurs(prefix, name, asked)) this.directorySeen(directory, name);
    }
    for (const object of page.objects) {
      if (object.key === prefix) { if (prefix !== '' && !this.changes.isOursKey(prefix, asked)) this.markerSeen(directory, object); continue; }
      if (object.key.startsWith(scratchPrefix)) continue; // our own copies aside (J9): no one's file
      const name = object.key.slice(prefix.length);
      if (!isName(name)) { this.hidden.add(directory.ino, object.key); continue; }
      if (soFar.directories.has(name)) { this.hidden.add(directory.ino, object.key); continue; } // an object `a` beside `a/...`: the directory is shown
      const isNew = areNew && !soFar.names.has(name); // a server may say a name twice
      soFar.names.add(name);
      if (!isQuiet && this.changes.isOurs(prefix, name, asked)) continue;
      const dentry = isNew ? undefined : tree.dentries.get(directory.ino, name);
      if (dentry && isDirectory(tree.inodes.mustGet(dentry.ino))) soFar.later.push({ name, object });
      else this.objectSeen(directory, name, object, dentry ?? null);
    }
  }

  /** The directory has none of the page's objects yet, as in the first listing of it. */
  private areNew(directory: Inode, prefix: Key, { objects }: ListPage): boolean {
    let [first, last] = [objects[0]?.key, objects[0]?.key];
    if (first === undefined || last === undefined) return false;
    for (const { key } of objects) {
      if (compareKeys(key, first) < 0) first = key;
      else if (compareKeys(key, last) > 0) last = key;
    }
    return this.deps.tree.dentries.isFree(directory.ino, first.slice(prefix.length), last.slice(prefix.length));
  }

  /** After the last page: names that S3 no longer has, and those that stopped being directories. */
  end(directory: Inode, prefix: Key, asked: ActiveListing, soFar: ListingSoFar): void {
    const { tree, metrics } = this.deps;
    for (const { name, object } of soFar.later) {
      if (soFar.directories.has(name)) this.hidden.add(directory.ino, object.key);
      else if (!this.changes.isOurs(prefix, name, asked)) this.objectSeen(directory, name, object);
    }
    if (soFar.wasEmpty && this.changes.isQuiet(prefix, asked) && tree.dentries.count(directory.ino) === soFar.names.size) return; // all made by this listing
    let after = 0;
    for (;;) {
      const dentries = tree.dentries.list(directory.ino, after, 1000);
      for (const dentry of dentries) {
        after = dentry.id;
        if (soFar.names.has(dentry.name) || this.changes.isOurs(prefix, dentry.name, asked)) continue;
        metrics.add('fs.remote_deleted');
        this.changes.removeSubtree(directory, dentry);
      }
      if (dentries.length < 1000) break;
    }
  }

  /** One name looked up by HEAD and LIST: the same rules as a listing that holds only this name. */
  single(directory: Inode, prefix: Key, name: string, object: ObjectSummary | null, isPrefix: boolean, asked: ActiveListing): void {
    if (this.changes.isOurs(prefix, name, asked)) return;
    const { tree, clock, metrics } = this.deps;
    if (isPrefix) this.directorySeen(directory, name);
    else if (object && !object.key.startsWith(scratchPrefix)) this.objectSeen(directory, name, object);
    else {
      const dentry = tree.dentries.get(directory.ino, name);
      if (dentry) {
        metrics.add('fs.remote_deleted');
        this.changes.removeSubtree(directory, dentry);
      }
      return;
    }
    const dentry = tree.dentries.get(directory.ino, name);
    if (dentry) tree.dentries.confirm(dentry, clock.now());
  }

  private directorySeen(directory: Inode, name: string): void {
    const { tree, discovery, clock } = this.deps;
    const dentry = tree.dentries.get(directory.ino, name);
    if (dentry) {
      if (isDirectory(tree.inodes.mustGet(dentry.ino))) return;
      this.changes.removeSubtree(directory, dentry); // a file whose name now has keys below it: the directory is shown
    }
    discovery.addDirectory(directory.ino, name, null, clock.now());
    if (dentry) this.deps.kernel.nameChanged(directory.ino, name);
  }

  /** The directory's own marker appears in its listing. */
  private markerSeen(directory: Inode, object: ObjectSummary): void {
    const { tree, discovery } = this.deps;
    if (directory.marker && this.isSameObject(object)) return;
    directory.marker = true;
    directory.attrsComplete = false;
    tree.inodes.save(directory);
    discovery.recordObject(directory, object);
  }

  /** @param known the name as it is, if the caller has looked already; null: there is none. */
  private objectSeen(directory: Inode, name: string, object: ObjectSummary, known?: Dentry | null): void {
    const { tree, discovery, clock } = this.deps;
    let dentry = known === undefined ? tree.dentries.get(directory.ino, name) : known ?? undefined;
    if (dentry && isDirectory(tree.inodes.mustGet(dentry.ino))) {
      this.changes.removeSubtree(directory, dentry);
      this.deps.kernel.nameChanged(directory.ino, name);
      dentry = undefined;
    }
    if (!dentry) {
      discovery.addObject(directory.ino, name, object, clock.now());
      return;
    }
    if (this.isSameObject(object)) return;
    const inode = tree.inodes.mustGet(dentry.ino);
    const row = tree.objects.get(object.key);
    if (row?.etag === object.etag && row.sizeBytes === object.sizeBytes && row.ino === inode.ino) {
      discovery.forgetAttributes(inode); // a metadata-only copy keeps the etag (O1)
      inode.mgen++; // it was complete once: its type is known to the kernel
      tree.inodes.save(inode);
      tree.objects.put({ ...row, lastModifiedMs: object.lastModifiedMs, gen: inode.gen, mgen: inode.mgen });
      return;
    }
    this.changes.changed(dentry, inode, object);
  }

  /** The object is the one we know. What our own upload left open, when it was stored by the server's clock, is filled in. */
  private isSameObject(object: ObjectSummary): boolean {
    const { objects } = this.deps.tree;
    const row = objects.get(object.key);
    if (row?.etag !== object.etag || row.sizeBytes !== object.sizeBytes) return false;
    if (row.lastModifiedMs === null) objects.put({ ...row, lastModifiedMs: object.lastModifiedMs });
    return row.lastModifiedMs === null || row.lastModifiedMs === object.lastModifiedMs;
  }
}

function isName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0') && nameToBytes(name).length <= nameBytesMax && isNameText(name);
}
