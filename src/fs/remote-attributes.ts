import { Semaphore } from '../base/semaphore.js';
import { SingleFlight } from '../base/single-flight.js';
import { FileType, isDirectory, isRegular, isSymlink, type Inode } from '../meta/inode.js';
import { decodeAttributes } from '../s3/metadata-codec.js';
import type { Key, ObjectHead } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import type { FsDeps } from './deps.js';
import { toFsError } from './errno-map.js';
import type { FileContents } from './file-content.js';
import type { OpenFiles } from './open-files.js';
import { waitFor } from './remote-names.js';

const symlinkBytesMax = 4096;

/** Completes what a listing leaves out: a HEAD per object for mode, owner, times, xattrs; the body of a symlink. Cached until the object changes (O1). */
export class RemoteAttributes {
  private readonly flights = new SingleFlight<number, void>();
  private readonly parallel = new Semaphore(64);

  constructor(private readonly deps: FsDeps, private readonly contents: FileContents, private readonly open: OpenFiles) {}

  needed(inode: Inode): boolean {
    return !inode.attrsComplete && this.deps.config.attributes === 'full';
  }

  /** HEADs in parallel, each at most once at a time. */
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
    const { store, tree, db, metrics, config } = this.deps;
    const inode = tree.inodes.get(ino);
    if (!inode || !this.needed(inode)) return;
    const key = tree.keysOf(inode)[0];
    if (key === undefined || key === '' || this.deps.journal.has(key)) return; // ours: what we have is what counts
    metrics.add('fs.attribute_heads');
    const head = await store.head(key, { deadlineMs: config.deadlineMs });
    if (head) {
      await this.applyHead(key, head);
      return;
    }
    const now = tree.inodes.get(ino);
    if (!now || tree.keysOf(now)[0] !== key || this.deps.journal.has(key)) return;
    if (!isDirectory(now)) throw new StoreError('not-found', `${key} is gone from S3`);
    db.tx(() => { // implied by what lies below it; no marker
      now.attrsComplete = true;
      tree.inodes.save(now);
    });
  }

  /** The HEAD of a key says what the tree should show under it. */
  async applyHead(key: Key, head: ObjectHead): Promise<void> {
    const { tree, db, discovery, journal } = this.deps;
    const current = (): Inode | undefined => (journal.has(key) ? undefined : tree.resolve(key)?.inode);
    const inode = current();
    if (!inode) return;
    const row = tree.objects.get(key);
    if (row?.etag !== undefined && row.etag !== head.etag && !isDirectory(inode)) {
      db.tx(() => {
        if (this.open.openCount(inode.ino) > 0) {
          const { dentry } = tree.resolve(key)!;
          discovery.supersede(dentry!, head, this.deps.clock.now());
          inode.nlink--;
          tree.inodes.save(inode);
          this.deps.kernel.nameChanged(dentry!.parent, dentry!.name);
        } else {
          this.contents.drop(inode);
          discovery.refresh(inode, head);
        }
      });
    }
    const attributes = decodeAttributes(head);
    const type = attributes.mode === undefined ? 0 : attributes.mode & FileType.MASK;
    let target: Buffer | null = null;
    if (type === FileType.LINK && head.sizeBytes > 0 && head.sizeBytes <= symlinkBytesMax) {
      const body = await this.deps.store.getBytes(key, { start: 0, end: head.sizeBytes, etag: head.etag }, { deadlineMs: this.deps.config.deadlineMs });
      target = Buffer.from(body.bytes);
    }
    const now = current();
    if (!now || now.attrsComplete) return;
    db.tx(() => this.apply(key, now, head, attributes, target));
  }

  private apply(key: Key, inode: Inode, head: ObjectHead, attributes: ReturnType<typeof decodeAttributes>, target: Buffer | null): void {
    const { tree, discovery } = this.deps;
    const type = attributes.mode === undefined ? 0 : attributes.mode & FileType.MASK;
    if (attributes.mode !== undefined) inode.mode = (this.typeFor(inode, type, target) | (attributes.mode & 0o7777));
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
    inode.lastModifiedMs = head.lastModifiedMs;
    inode.attrsComplete = true;
    tree.inodes.save(inode);
    if (isDirectory(inode)) inode.marker = true;
    discovery.recordObject(inode, head);
    tree.inodes.save(inode);
    void key;
  }

  /** A regular file may turn out to be a symlink or special file, since no reply has named it yet; a directory stays one. */
  private typeFor(inode: Inode, type: number, target: Buffer | null): number {
    const now = inode.mode & FileType.MASK;
    if (now === FileType.DIR || type === FileType.DIR || type === 0) return now;
    if (type === FileType.LINK && target === null) return now;
    return type;
  }
}
