import { sharedAbort } from '../base/shared-abort.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import { compareKeys, expectedEnd, keyBetween, probesBeyond } from '../prefetch/key-split.js';
import type { Key, ListPage, ListQuery } from '../s3/object-store.js';
import type { ActiveListing, ActiveListings } from './active-listings.js';
import type { FsDeps } from './deps.js';
import type { HiddenKeys } from './hidden-keys.js';
import { ListingSoFar, type ListingMerge } from './listing-merge.js';

/** Listings of one directory at the same time. */
const rangesMax = 12;
/** A directory with more pages than this is worth the questions of where to cut it. */
const pagesBeforeRanges = 2;

/** How far the listing of one directory is: readers take names as they come. */
export class ListingProgress {
  isOver = false;
  /** The newest name when it had found them all: what is made later was not there when the directory was read. */
  newestId: number | undefined;
  /** The directory had no names when it began, so every name in it is confirmed. */
  readonly isStreamable: boolean;
  pages = 0;
  failure: { readonly error: unknown } | undefined;
  private wakeups: (() => void)[] = [];

  constructor(isStreamable: boolean) {
    this.isStreamable = isStreamable;
  }

  /** Resolves when there are more names, or it is over. */
  next(): Promise<void> {
    return this.isOver ? Promise.resolve() : new Promise((resolve) => this.wakeups.push(resolve));
  }

  merged(): void {
    this.pages++;
    this.wake();
  }

  ended(): void {
    this.isOver = true;
    this.wake();
  }

  private wake(): void {
    for (const wakeup of this.wakeups.splice(0)) wakeup();
  }
}

/** What several requests of one listing share. */
interface Run {
  readonly ino: number;
  readonly prefix: Key;
  readonly asked: ActiveListing;
  readonly soFar: ListingSoFar;
  readonly progress: ListingProgress;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

interface Range {
  /** Everything up to here was seen. */
  last: Key;
  /** Keys up to and including it are this range's; undefined: all. */
  end: Key | undefined;
  token: string | undefined;
  /** It answered a full page since it was cut: so it is still long. */
  isLong: boolean;
}

class Unordered extends Error {}
class Moved extends Error {}

/**
 * Lists one directory: page by page, and a huge one in several ranges at once.
 *
 * Invariants: 1. ranges meet without a gap, and a key seen twice (a page may pass the end of its range) changes nothing, so every key is merged
 * whatever the cuts were. 2. All requests of a listing share one change number, taken before the first of them left (J7). 3. The directory becomes complete only after the
 * last range ended. 4. A server that does not list in byte order gets no ranges: cuts would mean nothing there.
 */
export class DirectoryListing {
  private isOrdered = true;

  constructor(private readonly deps: FsDeps, private readonly merge: ListingMerge, private readonly hidden: HiddenKeys, private readonly listings: ActiveListings) {}

  begin(ino: number): ListingProgress {
    return new ListingProgress(this.deps.tree.dentries.isEmpty(ino));
  }

  /** @returns false if `pagesMax` pages were not all of it. What was moved or removed meanwhile is left as it is. */
  async run(ino: number, deadlineMs: number, pagesMax: number, progress: ListingProgress): Promise<boolean> {
    const { tree, clock, db } = this.deps;
    const prefix = tree.directoryKey(ino);
    if (prefix === undefined) return true;
    const startedAt = clock.now();
    const asked = this.listings.start();
    const stop = sharedAbort();
    this.hidden.reset(ino);
    try {
      let run: Run;
      for (;;) {
        run = { ino, prefix, asked, soFar: new ListingSoFar(progress.isStreamable), progress, deadlineMs, signal: stop.signal };
        try {
          if (!(await this.all(run, pagesMax))) return false;
          break;
        } catch (error) {
          if (!(error instanceof Unordered)) throw error;
          this.isOrdered = false;
          this.deps.metrics.add('fs.unordered_listings');
        }
      }
      const directory = this.directory(run);
      db.tx(() => {
        this.merge.end(directory, prefix, asked, run.soFar);
        if (!tree.objects.get(prefix)?.etag) directory.attrsComplete = true; // no marker among its keys: there is nothing more to know
        directory.complete = true;
        directory.listedAtMs = startedAt;
        tree.inodes.save(directory);
      });
      progress.newestId = tree.dentries.newestId;
      return true;
    } catch (error) {
      if (error instanceof Moved) return true;
      progress.failure = { error };
      throw error;
    } finally {
      stop.abort();
      asked.end();
      progress.ended();
    }
  }

  /** The directory while it is where it was when we asked. */
  private directory(run: Run): Inode {
    const { tree, journal } = this.deps;
    const directory = tree.inodes.get(run.ino);
    if (!directory || !isDirectory(directory) || tree.directoryKey(run.ino) !== run.prefix) throw new Moved();
    if (journal.walks().some((walk) => tree.isWithin(run.ino, walk.ino) || run.prefix.startsWith(walk.oldPrefix))) throw new Moved();
    return directory;
  }

  private async all(run: Run, pagesMax: number): Promise<boolean> {
    const range: Range = { last: '', end: undefined, token: undefined, isLong: true };
    for (let pages = 1; ; pages++) {
      await this.page(run, range);
      if (range.token === undefined) return true;
      if (pages >= pagesMax) return false;
      if (pages >= pagesBeforeRanges && this.isOrdered && range.last !== '') break;
    }
    await this.inRanges(run, range);
    return true;
  }

  /** The next page of the range. */
  private async page(run: Run, range: Range): Promise<void> {
    const { token } = range;
    const page = await this.list(run, token !== undefined ? { token } : range.last === '' ? {} : { startAfter: range.last });
    if (this.isOrdered && !page.isOutOfOrder) range.last = lastOf(page, range.last);
    const directory = this.directory(run);
    this.deps.db.tx(() => this.merge.page(directory, run.prefix, page, run.asked, run.soFar));
    this.deps.metrics.add('fs.listing_pages');
    range.token = range.end !== undefined && compareKeys(range.last, range.end) >= 0 ? undefined : page.token;
    range.isLong = range.token !== undefined;
    run.progress.merged();
  }

  private list(run: Run, query: Omit<ListQuery, 'prefix'>): Promise<ListPage> {
    return this.deps.store.list({ prefix: run.prefix, delimiter: '/', ...query }, { deadlineMs: run.deadlineMs, signal: run.signal });
  }

  /** `first` goes on; what is left of every range is shared again with whoever has nothing to do. */
  private async inRanges(run: Run, first: Range): Promise<void> {
    const ranges = new Set([first]);
    const work = new Set<Promise<void>>();
    let bound: Key | undefined;
    let failure: { readonly error: unknown } | undefined;
    const start = (range: Range): void => {
      ranges.add(range);
      const job = (async () => {
        do {
          await this.page(run, range);
          share();
        } while (range.token !== undefined && failure === undefined);
      })().catch((error: unknown) => {
        failure ??= { error };
      }).finally(() => {
        ranges.delete(range);
        work.delete(job);
      });
      work.add(job);
    };
    const share = (): void => {
      for (const range of [...ranges]) {
        if (ranges.size >= rangesMax || failure) return;
        const high = range.end ?? bound;
        if (!range.isLong || high === undefined) continue;
        const cut = keyBetween(range.last.slice(run.prefix.length), high.slice(run.prefix.length));
        if (cut === undefined) continue;
        const at = run.prefix + cut;
        this.deps.metrics.add('fs.listing_ranges');
        const { end } = range;
        range.end = at;
        range.isLong = false;
        start({ last: at, end, token: undefined, isLong: false });
      }
    };
    const probed = this.probe(run, first.last).then((found) => {
      bound = found;
      share();
    }, () => undefined); // without it the listing goes on page by page
    start(first);
    while (work.size > 0) await Promise.race(work);
    await probed;
    while (work.size > 0) await Promise.race(work);
    if (failure) throw failure.error;
  }

  /** As far as names can be expected beyond `last`; undefined if there are none. */
  private async probe(run: Run, last: Key): Promise<Key | undefined> {
    const name = last.slice(run.prefix.length);
    const hits = await Promise.all(probesBeyond(name).map(async ([position, after]) => {
      const page = await this.list(run, { startAfter: run.prefix + after, maxKeys: 1 });
      return page.objects.length + page.prefixes.length > 0 ? position : undefined;
    }));
    const position = hits.find((hit) => hit !== undefined);
    return position === undefined ? undefined : run.prefix + expectedEnd(name, position);
  }
}

/** The greatest key of a page that must lie beyond `after` and ascend. */
function lastOf(page: ListPage, after: Key): Key {
  let last = after;
  for (const keys of [page.objects.map(({ key }) => key), page.prefixes]) {
    let previous = after;
    for (const key of keys) {
      if (compareKeys(key, previous) <= 0) throw new Unordered();
      previous = key;
    }
    if (compareKeys(previous, last) > 0) last = previous;
  }
  return last;
}
