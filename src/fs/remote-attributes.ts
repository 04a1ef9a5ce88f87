import { inodeXattrs } from '../meta/file-attributes.js';
import { FileType, isDirectory, isRegular, isSymlink, type Inode } from '../meta/inode.js';
import { DownloadQueue, type Job } from '../prefetch/download-queue.js';
import type { ComingHead } from '../prefetch/object-reader.js';
import { TxGroup } from '../db/tx-group.js';
import { decodeAttributes, isFileBySize, type DecodedAttributes } from '../s3/metadata-codec.js';
import type { Key, ObjectHead } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import { isContentUseless } from '../writeback/attributes.js';
import type { ActiveListing, ActiveListings } from './active-listings.js';
import type { FsDeps } from './deps.js';
import { toFsError } from './errno-map.js';
import type { RemoteChanges } from './remote-changes.js';
import { waitFor } from './wait-for.js';

/** HEADs at the same time; those nobody waits for take three quarters of it. */
const parallelMax = 256;
const aheadMax = 1000;
const symlinkBytesMax = 4096;
/** A HEAD gets at least this long, whatever was waited for before. */
const lastDeadlineMs = 1000;
/** An object younger than this at its HEAD may be replaced within the same second, without LastModified showing it (O1). */
const settledMs = 2000;

/** Completes what a listing leaves out: a HEAD per object for mode, owner, times, xattrs; the body of a symlink. Cached until the object changes (O1). */
export class RemoteAttributes {
  /** ino -> its HEAD, queued or under way. Bounded by who waits, and `aheadMax`. */
  private readonly flights = new Map<number, Completion>();
  /** Those somebody waits for first; HEADs ahead leave room for them. */
  private readonly queue = new DownloadQueue(parallelMax);

  /** Answers of HEADs that come together are written together. */
  private readonly merges: TxGroup;

  constructor(private readonly deps: FsDeps, private readonly changes: RemoteChanges, private readonly listings: ActiveListings) {
    this.merges = new TxGroup(deps.db, () => 0);
  }

  needed(inode: Inode): boolean {
    return !inode.attrsComplete && this.deps.config.attributes === 'full';
  }

  /** Its type is known without its attributes: enough for whoever reads only names. */
  isTypeKnown(inode: Inode): boolean {
    return !this.needed(inode) || isDirectory(inode) || (isRegular(inode) && isFileBySize(inode.sizeBytes));
  }

  /** HEADs in parallel, each at most once at a time. Afterwards a name may mean another inode, or nothing: look again. */
  async complete(inodes: readonly Inode[], signal?: AbortSignal): Promise<void> {
    const wanted = inodes.filter((inode) => this.needed(inode));
    if (wanted.length === 0) return;
    const flights = wanted.map((inode) => this.flight(inode.ino, true));
    for (const flight of flights) flight.isUrgent = true;
    this.queue.changed();
    try {
      await waitFor(signal, Promise.all(flights.map((flight) => flight.done)));
    } catch (error) {
      throw toFsError(error);
    }
  }

  /** HEADs before anybody waits for them; failures are left for whoever asks. @returns those begun, fewer where too much is queued already. */
  prefetch(inodes: readonly Inode[]): Inode[] {
    const begun: Inode[] = [];
    for (const inode of inodes) {
      if (this.queue.size >= aheadMax) break;
      if (!this.needed(inode) || this.flights.has(inode.ino)) continue;
      this.flight(inode.ino).done.catch(() => undefined);
      begun.push(inode);
    }
    this.deps.metrics.add('prefetch.attributes_begun', begun.length);
    this.queue.changed();
    return begun;
  }

  /** Resolves when the attributes are complete, or cannot be for now. */
  async completeAhead(inode: Inode): Promise<void> {
    if (!this.needed(inode)) return;
    const { done } = this.flight(inode.ino);
    this.queue.changed();
    await done.catch(() => undefined);
  }

  /** Somebody waits for its attributes already, or will. */
  isAsked(inode: Inode): boolean { return this.flights.has(inode.ino); }

  /** `coming`: the GET of the whole object says as much as a HEAD. Whoever needs the attributes waits for that once it is at S3; until then it may have to wait long. */
  expect(inode: Inode, coming: ComingHead): void {
    const { ino, gen } = inode;
    const flight = this.newFlight(ino, () => this.completeBy(ino, gen, coming.answer), coming.isSent);
    flight.done.catch(() => undefined);
    void flight.run();
  }

  /** HEADs queued or under way. */
  get backlog(): number { return this.queue.size; }

  /** @param isWanted now: what comes with bytes that S3 was not asked for yet is too late. */
  private flight(ino: number, isWanted = false): Completion {
    const known = this.flights.get(ino);
    if (known && !(isWanted && !known.isSent())) return known;
    const flight = this.newFlight(ino, () => this.completeOne(ino));
    this.queue.push(flight);
    return flight;
  }

  private newFlight(ino: number, work: () => Promise<void>, isSent?: () => boolean): Completion {
    const flight: Completion = new Completion(() => work().finally(() => {
      if (this.flights.get(ino) === flight) this.flights.delete(ino);
    }), isSent);
    this.flights.set(ino, flight);
    return flight;
  }

  private async completeOne(ino: number, deadlineMs = this.deps.config.deadlineMs): Promise<void> {
    for (let tries = 0; tries < 3; tries++) {
      const inode = this.deps.tree.inodes.get(ino);
      if (!inode || !this.needed(inode)) return;
      const row = this.deps.tree.objects.holding(inode.ino, inode.gen)[0];
      if (await (isDirectory(inode) ? this.completeDirectory(inode, row?.key) : row === undefined || this.completeFile(inode, row.key, deadlineMs))) return;
    }
  }

  private async completeBy(ino: number, gen: number, answer: Promise<ObjectHead | undefined>): Promise<void> {
    const { clock, config } = this.deps;
    const begun = clock.monotonic();
    const asked = this.listings.start();
    try {
      const head = await answer;
      const found = head && (await this.withTarget(head).catch(() => undefined)); // whoever asks next meets the error again
      if (found) await this.merges.run(() => this.fileAnswered(ino, gen, found.head.key, found, asked));
    } finally {
      asked.end();
    }
    // Does nothing if they are complete now; else whoever waits has waited for the bytes already
    await this.completeOne(ino, Math.max(lastDeadlineMs, config.deadlineMs - (clock.monotonic() - begun)));
  }

  /** Its marker: where it is known to be, which after a move is not yet under the present name (J8), else where it would be. */
  private async completeDirectory({ ino }: Inode, markerKey: Key | undefined): Promise<boolean> {
    const { tree } = this.deps;
    const key = markerKey ?? tree.directoryKey(ino);
    if (key === undefined || key === '') return true;
    const asked = this.listings.start();
    try {
      if (markerKey === undefined && this.changes.isOursKey(key, asked)) return true; // what we have is what counts
      const head = await this.head(key);
      return await this.merges.run<boolean>(() => {
        const inode = tree.inodes.get(ino);
        if (!inode || inode.attrsComplete) return true;
        const isThere = markerKey === undefined ? tree.directoryKey(ino) === key && !this.changes.isOursKey(key, asked) : tree.objects.get(key)?.ino === ino && !asked.touched(key);
        if (!isThere) return false; // moved meanwhile
        if (head) this.apply(inode, FileType.DIR, head, decodeAttributes(head), null);
        inode.attrsComplete = true; // without a marker it is implied by what lies below it
        tree.inodes.save(inode);
        return true;
      });
    } finally {
      asked.end();
    }
  }

  /**
   * The object that holds the inode's bytes, which for one that was moved is not yet under its present name. False: it went
   * elsewhere meanwhile.
   */
  private async completeFile({ ino, gen }: Inode, key: Key, deadlineMs: number): Promise<boolean> {
    const asked = this.listings.start();
    try {
      const head = await this.head(key, deadlineMs);
      const found = head && (await this.withTarget(head));
      switch (await this.merges.run<Outcome>(() => this.fileAnswered(ino, gen, key, found, asked))) {
        case 'complete': return true;
        case 'elsewhere': return false;
        case 'gone': throw new StoreError('not-found', `${key} is gone from S3`);
        case 'replaced': throw new StoreError('precondition-failed', `${key} was changed by others while it was about to be moved`);
      }
    } finally {
      asked.end();
    }
  }

  /** In a transaction. */
  private fileAnswered(ino: number, gen: number, key: Key, found: Found | null, asked: ActiveListing): Outcome {
    const { tree, metrics } = this.deps;
    const now = tree.objects.get(key);
    if (now?.ino !== ino || now.gen !== gen) return 'elsewhere';
    if (found?.head.etag === now.etag) {
      this.applyTo(ino, key, found, asked);
      return 'complete';
    }
    const named = tree.resolve(key);
    if (named?.inode.ino !== ino || this.changes.isOursKey(key, asked)) return 'replaced';
    if (found) {
      this.changes.changed(named.dentry!, named.inode, found.head);
      this.applyTo(tree.resolve(key)!.inode.ino, key, found, asked);
      return 'complete';
    }
    metrics.add('fs.remote_deleted');
    this.changes.removeSubtree(tree.inodes.mustGet(named.dentry!.parent), named.dentry!);
    return 'gone';
  }

  private head(key: Key, deadlineMs = this.deps.config.deadlineMs): Promise<ObjectHead | null> {
    this.deps.metrics.add('fs.attribute_heads');
    return this.deps.store.head(key, { deadlineMs });
  }

  /** A HEAD of the name says what the tree should show under it. */
  async applyHead(key: Key, head: ObjectHead, asked: ActiveListing): Promise<void> {
    const { tree, db } = this.deps;
    const seen = await this.withTarget(head);
    db.tx(() => {
      const named = tree.resolve(key);
      if (!named || isDirectory(named.inode) || this.changes.isOursKey(key, asked)) return;
      if (tree.objects.get(key)?.etag !== head.etag) this.changes.changed(named.dentry!, named.inode, head);
      this.applyTo(tree.resolve(key)!.inode.ino, key, seen, asked);
    });
  }

  /** What the answer means; a symlink's target is its object's content. */
  private async withTarget(head: ObjectHead): Promise<Found> {
    const attributes = decodeAttributes(head);
    if (typeOf(attributes) !== FileType.LINK || head.sizeBytes === 0 || head.sizeBytes > symlinkBytesMax) return { head, attributes, target: null };
    const body = await this.deps.store.getBytes(head.key, { start: 0, end: head.sizeBytes, etag: head.etag }, { deadlineMs: this.deps.config.deadlineMs });
    return { head, attributes, target: Buffer.from(body.bytes) };
  }

  /** In a transaction: the attributes of the object under `key`, which holds the inode's bytes. */
  private applyTo(ino: number, key: Key, { head, attributes, target }: Found, asked: ActiveListing): void {
    const { tree } = this.deps;
    let inode = tree.inodes.get(ino);
    const row = tree.objects.get(key);
    if (!inode || inode.attrsComplete || row?.etag !== head.etag || row.ino !== ino || asked.touched(key)) return; // overtaken
    const type = this.typeFor(typeOf(attributes), target);
    const dentry = tree.dentries.ofInode(ino)[0];
    if (type !== (inode.mode & FileType.MASK) && dentry && !this.isUnseen(inode)) {
      inode.attrsComplete = true; // whoever has the old one keeps it as it was
      inode = this.changes.supersede(dentry, inode, head);
    }
    const isUnseen = this.isUnseen(inode);
    this.apply(inode, type, head, attributes, target);
    if (!inode.unsealed && this.deps.config.attributes === 'full' && isContentUseless(inode, attributes)) this.changes.dropContent(inode);
    this.deps.links.completed(inode, { key, head, attributes, isUnseen });
  }

  private apply(inode: Inode, type: number, head: ObjectHead, attributes: DecodedAttributes, target: Buffer | null): void {
    const { tree, discovery } = this.deps;
    const permissions = attributes.mode === undefined ? inode.mode & 0o7777 : attributes.mode & 0o7777;
    inode.mode = type | permissions;
    if (attributes.uid !== undefined) inode.uid = attributes.uid;
    if (attributes.gid !== undefined) inode.gid = attributes.gid;
    if (attributes.mtime) inode.mtime = attributes.mtime;
    if (inode.mgen === 1) inode.ctime = attributes.ctime ?? inode.mtime; // else something was changed here, later
    inode.atime = attributes.atime ?? inode.mtime;
    if (attributes.rdev !== undefined) inode.rdev = attributes.rdev;
    inode.xattrs = inodeXattrs(attributes.xattrs);
    inode.foreign = attributes.foreign;
    if (isSymlink(inode)) inode.target = target;
    if (!isRegular(inode) && !isSymlink(inode) && !isDirectory(inode)) inode.sizeBytes = 0;
    if (isDirectory(inode)) inode.marker = true;
    inode.lastModifiedMs = head.lastModifiedMs;
    inode.attrsComplete = true;
    tree.inodes.save(inode);
    // Too young to be sure: remembered as of a moment earlier, so that the next listing asks once more
    const young = head.serverDateMs !== undefined && head.serverDateMs - head.lastModifiedMs < settledMs;
    const lastModifiedMs = young ? head.lastModifiedMs - 1 : head.lastModifiedMs;
    const row = tree.objects.get(head.key);
    // What the object was made from stays what it was: the inode may have changed since
    const versionId = head.versionId ?? row?.versionId ?? null;
    if (row?.ino !== inode.ino) discovery.recordObject(inode, { ...head, lastModifiedMs });
    else if (row.etag !== head.etag || row.sizeBytes !== head.sizeBytes || row.lastModifiedMs !== lastModifiedMs || row.versionId !== versionId) {
      tree.objects.put({ ...row, etag: head.etag, sizeBytes: head.sizeBytes, lastModifiedMs, versionId });
    }
  }

  /** Nothing has named this inode to the kernel as a file of its present type: only a listing made it, and listings do not show types. */
  private isUnseen(inode: Inode): boolean {
    return inode.gen === 1 && inode.mgen === 1 && inode.nlink === 1 && this.deps.config.attributes === 'full';
  }

  /** A symlink without a target is the file it looks like. */
  private typeFor(type: number, target: Buffer | null): number {
    if (type === 0 || type === FileType.DIR || (type === FileType.LINK && target === null)) return FileType.REG;
    return type;
  }
}

interface Found { readonly head: ObjectHead; readonly attributes: DecodedAttributes; readonly target: Buffer | null }

/** `elsewhere`: the bytes are under another key by now. `replaced`: by others, and the name is not theirs to change. */
type Outcome = 'complete' | 'elsewhere' | 'gone' | 'replaced';

class Completion implements Job {
  isUrgent = false;
  readonly done: Promise<void>;
  private settle!: (work: Promise<void>) => void;

  /** @param isSent what it waits for is under way; a HEAD in the queue goes as soon as somebody waits for it. */
  constructor(private readonly work: () => Promise<void>, readonly isSent: () => boolean = () => true) {
    this.done = new Promise((resolve) => (this.settle = resolve));
  }

  async run(): Promise<void> {
    const work = this.work();
    this.settle(work);
    await work.catch(() => undefined); // whoever waits for `done` is told
  }
}

function typeOf(attributes: { readonly mode?: number }): number {
  return attributes.mode === undefined ? 0 : attributes.mode & FileType.MASK;
}
