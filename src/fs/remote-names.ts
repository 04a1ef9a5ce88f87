import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { Semaphore } from '../base/semaphore.js';
import { SingleFlight } from '../base/single-flight.js';
import type { MaybePromise } from '../fuse/ops.js';
import type { Dentry } from '../meta/dentry-table.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import { StoreError } from '../s3/store-error.js';
import { ActiveListings } from './active-listings.js';
import type { RemoteAttributes } from './remote-attributes.js';
import type { FsDeps } from './deps.js';
import { toFsError } from './errno-map.js';
import type { HiddenKeys } from './hidden-keys.js';
import type { ListingMerge } from './listing-merge.js';

/** A directory of at most this many names is listed again as a whole; a bigger one is asked name by name. */
const relistNamesMax = 1000;
/** While something stale can be served instead, S3 gets only this long to say otherwise. */
const revalidateDeadlineMs = 3000;
const deepListPagesMax = 100_000;

/**
 * Which names exist: the tree where it is known to be right, S3 where it is not.
 *
 * A name is answered from the tree while it is fresh: its directory was completely listed, or the name itself confirmed, less
 * than a TTL ago, or it has changes of ours that S3 does not have yet. After that S3 is asked; if S3 cannot answer, what is known is
 * served stale, and what is not known fails with EIO: never a false "no such file" (promise 5).
 */
export class RemoteNames {
  private readonly listings: ActiveListings;
  private readonly listFlights = new SingleFlight<number, void>();
  private readonly singleFlights = new SingleFlight<string, void>();
  private readonly parallel = new Semaphore(64);
  /** Directories whose first page was not all: names are asked one by one until someone lists them. Bounded by `clear`. */
  private readonly huge = new Set<number>();

  constructor(private readonly deps: FsDeps, private readonly merge: ListingMerge, private readonly hidden: HiddenKeys, private readonly attributes: RemoteAttributes) {
    this.listings = new ActiveListings(deps.journal);
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
  }

  /** Makes everything below the directory known, with flat listings: what a rename of it needs (J8). */
  async ensureSubtree(directory: Inode, signal: AbortSignal): Promise<void> {
    const pending: Inode[] = [directory];
    for (let at = pending.pop(); at; at = pending.pop()) {
      if (!at.complete) {
        await this.listDeep(at, signal);
        continue;
      }
      for (const dentry of this.deps.tree.dentries.list(at.ino, 0, Number.MAX_SAFE_INTEGER)) {
        const child = this.deps.tree.inodes.mustGet(dentry.ino);
        if (isDirectory(child)) pending.push(child);
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
      if (whole) await this.list(directory, signal, deadlineMs, directory.complete ? Infinity : 1);
      const now = this.deps.tree.dentries.get(directory.ino, name);
      if (!whole || (!directory.complete && !now)) await this.askOne(directory, name, signal, deadlineMs);
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
        if (!parent || tree.directoryKey(parent.ino) !== prefix) return;
        const isPrefix = below.objects.length > 0 || below.prefixes.length > 0;
        db.tx(() => this.merge.single(parent, prefix, name, head, isPrefix, listing));
        if (head && !isPrefix) this.attributes.applyHead(prefix + name, head);
      } finally {
        listing.end();
      }
    }));
  }

  /** Lists the directory, at most `pagesMax` pages; complete if that was all. Joined by everyone who wants the same. */
  private list(directory: Inode, signal: AbortSignal | undefined, deadlineMs: number, pagesMax = Infinity): Promise<void> {
    return waitFor(signal, this.listFlights.run(directory.ino, () => this.listNow(directory.ino, deadlineMs, pagesMax))).then(async () => {
      // joined a shorter listing than asked for
      const now = this.deps.tree.inodes.get(directory.ino);
      if (now && pagesMax === Infinity && !now.complete && now.nlink > 0) await waitFor(signal, this.listFlights.run(directory.ino, () => this.listNow(directory.ino, deadlineMs, pagesMax)));
    });
  }

  private async listNow(ino: number, deadlineMs: number, pagesMax: number): Promise<void> {
    const { store, db, tree, clock, metrics } = this.deps;
    const prefix = tree.directoryKey(ino);
    if (prefix === undefined) return;
    const startedAt = clock.now();
    const listing = this.listings.start();
    const seen = new Set<string>();
    this.hidden.reset(ino);
    try {
      let token: string | undefined;
      let pages = 0;
      do {
        const page = await store.list({ prefix, delimiter: '/', ...(token !== undefined && { token }) }, { deadlineMs });
        token = page.token;
        pages++;
        metrics.add('fs.listing_pages');
        const directory = tree.inodes.get(ino);
        if (!directory || tree.directoryKey(ino) !== prefix) return; // moved or gone meanwhile
        db.tx(() => this.merge.page(directory, prefix, page, listing, seen));
      } while (token !== undefined && pages < pagesMax);
      const directory = tree.inodes.get(ino);
      if (!directory || tree.directoryKey(ino) !== prefix) return;
      if (token !== undefined) {
        if (this.huge.size > 10_000) this.huge.clear();
        this.huge.add(ino);
        return;
      }
      db.tx(() => {
        if (!this.isMoving(directory)) this.merge.vanished(directory, prefix, listing, seen);
        directory.complete = true;
        directory.listedAtMs = startedAt;
        tree.inodes.save(directory);
      });
      this.huge.delete(ino);
    } finally {
      listing.end();
    }
  }

  /** Lists level by level below `directory`, many directories at once. */
  private async listDeep(directory: Inode, signal: AbortSignal): Promise<void> {
    let level = [directory];
    let pages = 0;
    while (level.length > 0) {
      if (signal.aborted) throw new FsError(Errno.EINTR, 'interrupted while listing');
      if ((pages += level.length) > deepListPagesMax) throw new FsError(Errno.EIO, `Cannot list inode ${directory.ino}: more than ${deepListPagesMax} directories below it`);
      await Promise.all(level.map((each) => this.parallel.run(() => this.ensureComplete(each, signal, false))));
      const below: Inode[] = [];
      for (const each of level) {
        for (const dentry of this.deps.tree.dentries.list(each.ino, 0, Number.MAX_SAFE_INTEGER)) {
          const child = this.deps.tree.inodes.mustGet(dentry.ino);
          if (isDirectory(child) && !child.complete) below.push(child);
        }
      }
      level = below;
    }
  }
}

function isOutage(error: unknown): boolean {
  return error instanceof StoreError && (error.kind === 'unavailable' || error.kind === 'throttled' || error.kind === 'bad-credentials' || error.kind === 'access-denied');
}

/** Waits for shared work, but only as long as the caller wants to. The work goes on for the others. */
export function waitFor<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  if (!signal) return work;
  if (signal.aborted) {
    work.catch(() => undefined);
    return Promise.reject(new FsError(Errno.EINTR, 'interrupted'));
  }
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => reject(new FsError(Errno.EINTR, 'interrupted'));
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
