import { Semaphore } from '../base/semaphore.js';
import { SingleFlight } from '../base/single-flight.js';
import { FileType, isDirectory, isRegular, isSymlink, type Inode } from '../meta/inode.js';
import { decodeAttributes } from '../s3/metadata-codec.js';
import type { Key, ObjectHead } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import type { ActiveListing, ActiveListings } from './active-listings.js';
import type { FsDeps } from './deps.js';
import { toFsError } from './errno-map.js';
import type { RemoteChanges } from './remote-changes.js';
import { waitFor } from './wait-for.js';

const symlinkBytesMax = 4096;
/** An object younger than this at its HEAD may be replaced within the same second, without LastModified showing it (O1). */
const settledMs = 2000;

/** Completes what a listing leaves out: a HEAD per object for mode, owner, times, xattrs; the body of a symlink. Cached until the object changes (O1). */
export class RemoteAttributes {
  private readonly flights = new SingleFlight<number, void>();
  private readonly parallel = new Semaphore(64);

  constructor(private readonly deps: FsDeps, private readonly changes: RemoteChanges, private readonly listings: ActiveListings) {}

  needed(inode: Inode): boolean {
    return !inode.attrsComplete && this.deps.config.attributes === 'full';
  }

  /** HEADs in parallel, each at most once at a time. Afterwards a name may mean another inode, or nothing: look again. */
  async complete(inodes: readonly Inode[], signal?: AbortSignal): Promise<void> {
    const wanted = inodes.filter((inode) => this.needed(inode));
    if (wanted.length === 0) return;
    try {
      await waitFor(signal, Promise.all(wanted.map((inode) => this.flights.run(inode.ino, () => this.parallel.run(() => this.completeOne(inode.ino))))));
    } catch (error) {
      throw toFsError(error);
    }
  }

  /** Starts completing without waiting; failures are left for whoever asks. */
  prefetch(inodes: readonly Inode[]): void {
    for (const inode of inodes) {
      if (this.needed(inode) && this.parallel.waiting < 1000) this.flights.run(inode.ino, () => this.parallel.run(() => this.completeOne(inode.ino))).catch(() => undefined);
    }
  }

  private async completeOne(ino: number): Promise<void> {
    const { store, tree, metrics, config } = this.deps;
    const inode = tree.inodes.get(ino);
    if (!inode || !this.needed(inode)) return;
    const key = tree.keysOf(inode)[0];
    if (key === undefined || key === '' || this.deps.journal.has(key)) return; // ours: what we have is what counts
    const asked = this.listings.start();
    try {
      metrics.add('fs.attribute_heads');
      const head = await store.head(key, { deadlineMs: config.deadlineMs });
      if (head) await this.applyHead(key, head, asked);
      else this.applyAbsent(ino, key, asked);
    } finally {
      asked.end();
    }
  }

  /** The HEAD of a key says what the tree should show under it. */
  async applyHead(key: Key, head: ObjectHead, asked: ActiveListing): Promise<void> {
    const { tree, db, store, config } = this.deps;
    if (!this.adopt(key, head, asked)) return;
    const attributes = decodeAttributes(head);
    let target: Buffer | null = null;
    if (typeOf(attributes) === FileType.LINK && head.sizeBytes > 0 && head.sizeBytes <= symlinkBytesMax) {
      const body = await store.getBytes(key, { start: 0, end: head.sizeBytes, etag: head.etag }, { deadlineMs: config.deadlineMs });
      target = Buffer.from(body.bytes);
    }
    db.tx(() => {
      const found = tree.resolve(key);
      if (!found || found.inode.attrsComplete || asked.touched(key) || this.deps.journal.has(key)) return;
      const isDir = isDirectory(found.inode);
      if (!isDir && tree.objects.get(key)?.etag !== head.etag) return; // overtaken while the target was fetched
      let { inode } = found;
      const type = this.typeFor(inode, typeOf(attributes), target);
      if (!isDir && type !== (inode.mode & FileType.MASK) && !this.isUnseen(inode)) inode = this.changes.supersede(found.dentry!, inode, head);
      this.apply(inode, type, head, attributes, target);
    });
  }

  /** Makes the tree hold this version of the object, unless it is ours to say what is there. @returns whether its attributes are of use. */
  private adopt(key: Key, head: ObjectHead, asked: ActiveListing): boolean {
    const { tree, db, journal } = this.deps;
    const found = tree.resolve(key);
    if (!found || asked.touched(key) || journal.has(key)) return false;
    const row = tree.objects.get(key);
    if (isDirectory(found.inode) || row?.etag === head.etag) return true;
    if (this.changes.isOursKey(key, asked)) return false;
    db.tx(() => this.changes.changed(found.dentry!, found.inode, head));
    return true;
  }

  private applyAbsent(ino: number, key: Key, asked: ActiveListing): void {
    const { tree, db, metrics } = this.deps;
    const found = tree.resolve(key);
    if (!found || found.inode.ino !== ino || this.changes.isOursKey(key, asked)) return;
    if (isDirectory(found.inode)) {
      db.tx(() => { // implied by what lies below it; no marker
        found.inode.attrsComplete = true;
        tree.inodes.save(found.inode);
      });
      return;
    }
    db.tx(() => {
      metrics.add('fs.remote_deleted');
      this.changes.removeSubtree(tree.inodes.mustGet(found.dentry!.parent), found.dentry!);
    });
    throw new StoreError('not-found', `${key} is gone from S3`);
  }

  private apply(inode: Inode, type: number, head: ObjectHead, attributes: ReturnType<typeof decodeAttributes>, target: Buffer | null): void {
    const { tree, discovery } = this.deps;
    const permissions = attributes.mode === undefined ? inode.mode & 0o7777 : attributes.mode & 0o7777;
    inode.mode = type | permissions;
    if (attributes.uid !== undefined) inode.uid = attributes.uid;
    if (attributes.gid !== undefined) inode.gid = attributes.gid;
    if (attributes.mtime) inode.mtime = attributes.mtime;
    inode.ctime = attributes.ctime ?? inode.mtime;
    inode.atime = attributes.atime ?? inode.mtime;
    if (attributes.rdev !== undefined) inode.rdev = attributes.rdev;
    inode.xattrs = attributes.xattrs && attributes.xattrs.size > 0 ? Object.fromEntries([...attributes.xattrs].map(([name, value]) => [name, value.toString('base64')])) : null;
    inode.foreign = attributes.foreign;
    if (isSymlink(inode)) inode.target = target;
    if (!isRegular(inode) && !isSymlink(inode) && !isDirectory(inode)) inode.sizeBytes = 0;
    if (isDirectory(inode)) inode.marker = true;
    inode.lastModifiedMs = head.lastModifiedMs;
    inode.attrsComplete = true;
    tree.inodes.save(inode);
    // Too young to be sure: remembered as of a moment earlier, so that the next listing asks once more
    const young = head.serverDateMs !== undefined && head.serverDateMs - head.lastModifiedMs < settledMs;
    discovery.recordObject(inode, young ? { ...head, lastModifiedMs: head.lastModifiedMs - 1 } : head);
  }

  /** Nothing has named this inode to the kernel as a file of its present type: only a listing made it, and listings do not show types. */
  private isUnseen(inode: Inode): boolean {
    return inode.gen === 1 && inode.mgen === 1 && inode.nlink === 1 && this.deps.config.attributes === 'full';
  }

  /** A directory stays one; a symlink without a target is the file it looks like. */
  private typeFor(inode: Inode, type: number, target: Buffer | null): number {
    if (isDirectory(inode)) return FileType.DIR;
    if (type === 0 || type === FileType.DIR || (type === FileType.LINK && target === null)) return FileType.REG;
    return type;
  }
}

function typeOf(attributes: { readonly mode?: number }): number {
  return attributes.mode === undefined ? 0 : attributes.mode & FileType.MASK;
}
