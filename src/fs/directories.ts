import type { DirentSink, OpenReply, RequestContext } from '../fuse/ops.js';
import { isDirectory, rootIno, type Inode } from '../meta/inode.js';
import type { Dentry } from '../meta/dentry-table.js';
import type { Attributes } from './attributes.js';
import type { FsDeps } from './deps.js';
import type { ListingProgress } from './directory-listing.js';
import { toFsError } from './errno-map.js';
import type { Inodes } from './inodes.js';
import type { RemoteAttributes } from './remote-attributes.js';
import type { RemoteNames } from './remote-names.js';
import type { WalkAhead } from './walk-ahead.js';
import { waitFor } from './wait-for.js';

/** Cookies 1 and 2 are `.` and `..`; a dentry's is its id + 2: ids ascend and are never reused, so a cookie survives deletes and daemons (K12). */
const dotCookie = 1;
const dotDotCookie = 2;
const idOffset = 2;

/** One reader of a directory. */
interface Scan {
  /** Names made after the (re)start of a scan are not shown in it, or a scan that renames what it sees would never end. */
  newestId: number;
  /** The directory is still being listed. */
  listing: ListingProgress | undefined;
}

/** opendir, readdir, releasedir. */
export class Directories {
  private readonly scans = new Map<number, Scan>();
  private nextFh: number;

  constructor(
    private readonly deps: FsDeps, generation: number, private readonly inodes: Inodes, private readonly attributes: Attributes,
    private readonly remote: RemoteNames, private readonly remoteAttributes: RemoteAttributes, private readonly ahead: WalkAhead,
  ) {
    this.nextFh = generation * 2 ** 32 + 1;
  }

  async opendir(ctx: RequestContext, ino: number): Promise<OpenReply> {
    const directory = this.inodes.directory(ino);
    if (directory.nlink > 0) {
      this.ahead.directoryOpened(ctx, directory);
      await this.remote.ensureReadable(directory, ctx.signal);
    }
    return { fh: this.nextFh++ };
  }

  releasedir(fh: number): void {
    this.scans.delete(fh);
  }

  async readdir(ctx: RequestContext, ino: number, fh: number, offset: number, sink: DirentSink): Promise<void> {
    const directory = this.inodes.directory(ino);
    const scan = await this.scan(ctx, directory, fh, offset);
    if (offset < dotCookie && !sink.add('.', ino, directory.mode, dotCookie)) return;
    if (offset < dotDotCookie && !sink.add('..', this.parentOf(directory), 0o040000, dotDotCookie)) return;
    let after = Math.max(0, offset - idOffset);
    let shown = offset < dotDotCookie;
    for (;;) {
      const batch = this.deps.tree.dentries.list(ino, after, Math.max(16, Math.min(1024, sink.roomFor)));
      if (batch.length === 0) {
        if (!scan.listing || shown) return;
        await this.moreNames(ctx, ino, scan, scan.listing);
        continue;
      }
      const inodes = batch.map((dentry) => this.deps.tree.inodes.mustGet(dentry.ino));
      if (sink.plus) {
        await this.completeForPlus(ctx, directory, inodes, offset === 0, batch.at(-1)!.id);
      }
      for (const dentry of batch) {
        after = dentry.id;
        if (dentry.id > scan.newestId) return;
        const now = sink.plus ? this.deps.tree.dentries.get(ino, dentry.name) : dentry;
        if (now?.id !== dentry.id) continue; // removed while we waited for attributes
        if (!this.add(sink, this.inodes.directory(ino), now)) return;
        shown = true;
      }
      if (scan.listing && shown) return; // what is known goes out at once, and the reader comes back; an empty answer would be the end
    }
  }

  /** Where this reader of the directory is. The first request starts it; with a handle of an earlier daemon it goes on once all names are known (K12). */
  private async scan(ctx: RequestContext, directory: Inode, fh: number, offset: number): Promise<Scan> {
    if (offset > 0) {
      const known = this.scans.get(fh);
      if (!known && directory.nlink > 0) await this.remote.ensureComplete(directory, ctx.signal, false);
      return known ?? { newestId: Number.MAX_SAFE_INTEGER, listing: undefined };
    }
    const listing = directory.nlink > 0 ? await this.remote.ensureReadable(directory, ctx.signal) : undefined;
    const scan: Scan = { newestId: listing ? Number.MAX_SAFE_INTEGER : this.deps.tree.dentries.newestId, listing };
    this.scans.set(fh, scan);
    return scan;
  }

  /** Waits until the listing found more, or takes note of its end. */
  private async moreNames(ctx: RequestContext, ino: number, scan: Scan, listing: ListingProgress): Promise<void> {
    if (!listing.isOver) return waitFor(ctx.signal, listing.next());
    if (listing.failure) throw toFsError(listing.failure.error);
    if (listing.newestId === undefined) { // the directory moved meanwhile
      const directory = this.inodes.directory(ino);
      if (directory.nlink > 0) await this.remote.ensureComplete(directory, ctx.signal, false);
    }
    scan.newestId = listing.newestId ?? this.deps.tree.dentries.newestId;
    scan.listing = undefined;
  }

  private add(sink: DirentSink, directory: Inode, now: Dentry): boolean {
    const inode = this.deps.tree.inodes.mustGet(now.ino); // or means something else by now
    const incomplete = this.remote.needsAttributes(inode);
    const entry = sink.plus && !incomplete ? this.attributes.entry(inode, this.remote.checkedAt(directory, now, inode)) : undefined;
    // A small object that has not been asked for its attributes may be a symlink: say "unknown", not "file"
    return sink.add(now.name, inode.ino, this.remoteAttributes.isTypeKnown(inode) ? inode.mode : 0, now.id + idOffset, entry);
  }

  /**
   * READDIRPLUS carries attributes: all HEADs of the batch at once instead of one per stat. But the kernel asks so for the first names of every directory, and
   * whoever reads only names (`find`, a glob) should not wait for what it never looks at: it gets entries without attributes, which the kernel takes for plain
   * names, and waits only where the type of a name is not known either. An outage leaves it all for the stat to fail.
   */
  private async completeForPlus(ctx: RequestContext, directory: Inode, inodes: readonly Inode[], isFirst: boolean, lastId: number): Promise<void> {
    if (this.deps.health.isOffline) return;
    const wantsAll = this.ahead.usesAttributes(ctx, directory, isFirst);
    try {
      const completing = this.remoteAttributes.complete(wantsAll ? inodes : inodes.filter((inode) => !this.remoteAttributes.isTypeKnown(inode)), ctx.signal); // these leave first
      if (wantsAll) this.ahead.namesRead(directory.ino, lastId, isFirst);
      else this.remoteAttributes.prefetch(inodes.filter(isDirectory)); // whoever goes down into them looks at them before
      await completing;
    } catch (error) {
      this.deps.log.debug('attributes are incomplete', { room: 'fs', op: 'readdirplus', error });
    }
  }

  private parentOf(directory: Inode): number {
    return this.deps.tree.dentries.ofInode(directory.ino)[0]?.parent ?? rootIno;
  }
}
