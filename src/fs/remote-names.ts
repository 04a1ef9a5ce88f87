import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { Semaphore } from '../base/semaphore.js';
import { SingleFlight } from '../base/single-flight.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Dentry } from '../meta/dentry-table.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import { StoreError } from '../s3/store-error.js';
import type { ActiveListings } from './active-listings.js';
import { DirectoryListing, type ListingProgress } from './directory-listing.js';
import type { RemoteAttributes } from './remote-attributes.js';
import type { FsDeps } from './deps.js';
import { toFsError } from './errno-map.js';
import type { HiddenKeys } from './hidden-keys.js';
import type { ListingMerge } from './listing-merge.js';
import { waitFor } from './wait-for.js';

/** A directory of at most this many names is listed again as a whole; a bigger one is asked name by name. */
const relistNamesMax = 1000;
/** While something stale can be served instead, S3 gets only this long to say otherwise. */
const revalidateDeadlineMs = 3000;
const deepListMax = 100_000;

/**
 * Which names exist: the tree where it is known to be right, S3 where it is not.
 *
 * A name is answered from the tree while it is fresh: its directory was completely listed, or the name itself confirmed, less
 * than a TTL ago, or it has changes of ours that S3 does not have yet. After that S3 is asked; if S3 cannot answer, what is known is
 * served stale, and what is not known fails with EIO: never a false "no such file" (promise 5).
 */
export class RemoteNames {
  /** ino of a directory -> listing of all of it. */
  private readonly listFlights = new SingleFlight<number, void>();
  /** ino of a directory -> listing of its first page. */
  private readonly pageFlights = new SingleFlight<number, void>();
  private readonly singleFlights = new SingleFlight<string, void>();
  /** ino of a directory -> how far its listing is; while it is in `listFlights`. */
  private readonly progress = new Map<number, ListingProgress>();
  private readonly listing: DirectoryListing;
  private readonly parallel = new Semaphore(64);
  /** Directories whose first page was not all: names are asked one by one until someone lists them. Bounded by `clear`. */
  private readonly huge = new Set<number>();

  constructor(
    private readonly deps: FsDeps, private readonly merge: ListingMerge, hidden: HiddenKeys, private readonly attributes: RemoteAttributes,
    private readonly listings: ActiveListings,
  ) {
    this.listing = new DirectoryListing(deps, merge, hidden, listings);
  }

  needsAttributes(inode: Inode): boolean {
    return this.attributes.needed(inode);
  }

  completeAttributes(inodes: readonly Inode[], signal?: AbortSignal): Promise<void> {
    return this.attributes.complete(inodes, signal);
  }

  /** When S3 last confirmed `dentry`; undefined if it is ours alone. */
  checkedAt(directory: Inode, dentry: Dentry, inode: Inode): number | undefined {
    const key = this.deps.tree.keyOf(directory.ino, dentry.name, isDirectory(inode));
    if (key === undefined || this.deps.journal.has(key)) return undefined;
    return Math.max(dentry.checkedAtMs, directory.complete ? directory.listedAtMs : 0);
  }

  /** The name in the directory, as of now. */
  find(directory: Inode, name: string, signal: () => AbortSignal): MaybePromise<Dentry | undefined> {
    const dentry = this.deps.tree.dentries.get(directory.ino, name);
    if (this.isKnown(directory, name, dentry)) return dentry;
    return this.ask(directory, name, dentry, signal());
  }

  /** Makes the directory completely known; `fresh` also lists again what is older than the TTL. */
  async ensureComplete(directory: Inode, signal: AbortSignal | undefined, fresh = true): Promise<void> {
    if (directory.complete && (!fresh || this.isFresh(directory.listedAtMs))) return;
    if (this.isMoving(directory)) return;
    const known = directory.complete;
    if (known && this.deps.health.isOffline) return;
    try {
      await this.list(directory, signal, known ? revalidateDeadlineMs : this.deps.config.deadlineMs);
    } catch (error) {
      if (known && isOutage(error)) return this.servedStale();
      throw toFsError(error);
    }
    const now = this.deps.tree.inodes.get(directory.ino);
    // Renamed under the listing: its names were made known by that
    if (now && !now.complete && now.nlink > 0 && !this.isMoving(now)) throw new FsError(Errno.EIO, `Cannot list inode ${directory.ino}: it changed places meanwhile`);
  }

  /**
   * Makes names of the directory available to a reader: it is complete when this resolves, or its listing runs and the reader takes
   * names as they come. Only a directory that had no names before is read so: all its names are then confirmed.
   */
  async ensureReadable(directory: Inode, signal: AbortSignal | undefined): Promise<ListingProgress | undefined> {
    if (directory.complete) {
      await this.ensureComplete(directory, signal);
      return undefined;
    }
    const whole = this.ensureComplete(directory, signal);
    const progress = this.progress.get(directory.ino);
    if (!progress?.isStreamable) {
      await whole;
      return undefined;
    }
    const failed = whole.then(() => undefined, () => undefined); // whoever still reads then lists again, and meets the error
    if (progress.pages === 0) await waitFor(signal, Promise.race([failed, progress.next()]));
    if (!progress.isOver) return progress;
    await whole;
    return undefined;
  }

  /** Lists the directory ahead of whoever will read it; joined by everyone else. Failures are left for them to meet. */
  async listAhead(ino: number): Promise<void> {
    const directory = this.deps.tree.inodes.get(ino);
    if (!directory || !isDirectory(directory) || directory.nlink === 0 || directory.complete || this.isMoving(directory)) return;
    await this.list(directory, undefined, this.deps.config.deadlineMs);
  }

  /** True if every name below the directory is known: what a rename of it needs (J8). */
  isSubtreeComplete(directory: Inode): boolean {
    return this.deps.tree.incompleteWithin(directory.ino, 1).length === 0;
  }

  /** Makes everything below the directory known, many directories at once. */
  async ensureSubtree(directory: Inode, signal: AbortSignal): Promise<void> {
    let listed = 0;
    for (;;) {
      const incomplete = this.deps.tree.incompleteWithin(directory.ino, 1000);
      if (incomplete.length === 0) return;
      if (signal.aborted) throw new FsError(Errno.EINTR, 'interrupted while listing');
      if ((listed += incomplete.length) > deepListMax) throw new FsError(Errno.EIO, `Cannot list inode ${directory.ino}: more than ${deepListMax} directories below it`);
      await Promise.all(incomplete.map((each) => this.parallel.run(() => this.ensureComplete(each, signal, false))));
      const left = this.deps.tree.incompleteWithin(directory.ino, 1000);
      if (left.length === incomplete.length && left.every((each, index) => each.ino === incomplete[index]!.ino)) {
        throw new FsError(Errno.EIO, `Cannot list inode ${directory.ino}: what is below it is still being moved`);
      }
    }
  }

  private isKnown(directory: Inode, name: string, dentry: Dentry | undefined): boolean {
    if (directory.complete && this.isFresh(directory.listedAtMs)) return true;
    if (dentry && this.isFresh(dentry.checkedAtMs)) return true;
    const prefix = this.deps.tree.directoryKey(directory.ino);
    if (prefix === undefined) return true; // a removed directory has no names and gets none
    const { journal } = this.deps;
    if (journal.has(prefix + name) || journal.has(`${prefix}${name}/`) || journal.hasUnder(`${prefix}${name}/`)) return true;
    return this.isMoving(directory);
  }

  private isFresh(sinceMs: number): boolean {
    const { ttlMs } = this.deps.config;
    if (sinceMs === 0) return false;
    return ttlMs === null || this.deps.clock.now() - sinceMs < ttlMs;
  }

  /** The directory's keys are on their way from an old prefix to a new one: S3 has nothing to say about it yet (J8). */
  private isMoving(directory: Inode): boolean {
    const walks = this.deps.journal.walks();
    if (walks.length === 0) return false;
    const key = this.deps.tree.directoryKey(directory.ino);
    return walks.some((walk) => this.deps.tree.isWithin(directory.ino, walk.ino) || (key !== undefined && key.startsWith(walk.oldPrefix)));
  }

  private async ask(directory: Inode, name: string, dentry: Dentry | undefined, signal: AbortSignal): Promise<Dentry | undefined> {
    const stale = dentry !== undefined || directory.complete;
    if (stale && this.deps.health.isOffline) {
      this.servedStale();
      return dentry;
    }
    const deadlineMs = stale ? revalidateDeadlineMs : this.deps.config.deadlineMs;
    try {
      const whole = directory.complete ? this.deps.tree.dentries.count(directory.ino) <= relistNamesMax : !this.huge.has(directory.ino);
      if (whole) await (directory.complete ? this.list(directory, signal, deadlineMs) : this.firstPage(directory, signal, deadlineMs));
      const now = this.deps.tree.inodes.get(directory.ino);
      const found = this.deps.tree.dentries.get(directory.ino, name);
      if (!whole || (now && !now.complete && !(found && this.isFresh(found.checkedAtMs)))) await this.askOne(directory, name, signal, deadlineMs);
    } catch (error) {
      if (stale && isOutage(error)) {
        this.servedStale();
        return this.deps.tree.dentries.get(directory.ino, name);
      }
      throw toFsError(error);
    }
    return this.deps.tree.dentries.get(directory.ino, name);
  }

  private servedStale(): void {
    this.deps.metrics.add('fs.served_stale');
  }

  /** One name: HEAD of the object and a listing of one key below it, side by side (O4). */
  private askOne(directory: Inode, name: string, signal: AbortSignal, deadlineMs: number): Promise<void> {
    const prefix = this.deps.tree.directoryKey(directory.ino);
    if (prefix === undefined) return Promise.resolve();
    return waitFor(signal, this.singleFlights.run(prefix + name, async () => {
      const { store, db, tree } = this.deps;
      const listing = this.listings.start();
      try {
        const [head, below] = await Promise.all([
          store.head(prefix + name, { deadlineMs }), store.list({ prefix: `${prefix}${name}/`, maxKeys: 1 }, { deadlineMs }),
        ]);
        const parent = tree.inodes.get(directory.ino);
        if (!parent || tree.directoryKey(parent.ino) !== prefix || this.isMoving(parent)) return;
        const isPrefix = below.objects.length > 0 || below.prefixes.length > 0;
        db.tx(() => this.merge.single(parent, prefix, name, head, isPrefix, listing));
        if (head && !isPrefix) await this.attributes.applyHead(prefix + name, head, listing);
      } finally {
        listing.end();
      }
    }));
  }

  /** Lists the directory to its end. Joined by everyone who wants the same. */
  private list(directory: Inode, signal: AbortSignal | undefined, deadlineMs: number): Promise<void> {
    return waitFor(signal, this.listFlights.run(directory.ino, () => {
      const progress = this.listing.begin(directory.ino);
      this.progress.set(directory.ino, progress);
      return this.listNow(directory.ino, deadlineMs, Infinity, progress).finally(() => this.progress.delete(directory.ino));
    }));
  }

  /** Its first page only, which for most directories is all; whoever lists it anyway is joined. */
  private firstPage(directory: Inode, signal: AbortSignal | undefined, deadlineMs: number): Promise<void> {
    return waitFor(signal, this.listFlights.get(directory.ino) ?? this.pageFlights.run(directory.ino, () => this.listNow(directory.ino, deadlineMs, 1)));
  }

  private async listNow(ino: number, deadlineMs: number, pagesMax: number, progress = this.listing.begin(ino)): Promise<void> {
    const isAll = await this.listing.run(ino, deadlineMs, pagesMax, progress);
    if (isAll) this.huge.delete(ino);
    else {
      if (this.huge.size > 10_000) this.huge.clear();
      this.huge.add(ino);
    }
  }
}

function isOutage(error: unknown): boolean {
  return error instanceof StoreError && (error.kind === 'unavailable' || error.kind === 'throttled' || error.kind === 'bad-credentials' || error.kind === 'access-denied');
}
