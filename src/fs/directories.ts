import type { DirentSink, OpenReply, RequestContext } from '../fuse/ops.js';
import { rootIno, type Inode } from '../meta/inode.js';
import type { Dentry } from '../meta/dentry-table.js';
import type { Attributes } from './attributes.js';
import type { FsDeps } from './deps.js';
import type { Inodes } from './inodes.js';
import type { RemoteAttributes } from './remote-attributes.js';
import type { RemoteNames } from './remote-names.js';

/** Cookies 1 and 2 are `.` and `..`; a dentry's is its id + 2: ids ascend and are never reused, so a cookie survives deletes and daemons (K12). */
const dotCookie = 1;
const dotDotCookie = 2;
const idOffset = 2;

/** opendir, readdir, releasedir. */
export class Directories {
  /** Per open directory: names made after the (re)start of a scan are not shown in it, or a scan that renames what it sees would never end. */
  private readonly scans = new Map<number, number>();
  private nextFh: number;

  constructor(
    private readonly deps: FsDeps, generation: number, private readonly inodes: Inodes, private readonly attributes: Attributes,
    private readonly remote: RemoteNames, private readonly remoteAttributes: RemoteAttributes,
  ) {
    this.nextFh = generation * 2 ** 32 + 1;
  }

  async opendir(ctx: RequestContext, ino: number): Promise<OpenReply> {
    const directory = this.inodes.directory(ino);
    if (directory.nlink > 0) await this.remote.ensureComplete(directory, ctx.signal);
    return { fh: this.nextFh++ };
  }

  releasedir(fh: number): void {
    this.scans.delete(fh);
  }

  async readdir(ctx: RequestContext, ino: number, fh: number, offset: number, sink: DirentSink): Promise<void> {
    const directory = this.inodes.directory(ino);
    if (offset === 0) {
      if (directory.nlink > 0) await this.remote.ensureComplete(directory, ctx.signal);
      this.scans.set(fh, this.deps.tree.dentries.newestId);
    }
    const newest = this.scans.get(fh) ?? Number.MAX_SAFE_INTEGER;
    if (offset < dotCookie && !sink.add('.', ino, directory.mode, dotCookie)) return;
    if (offset < dotDotCookie && !sink.add('..', this.parentOf(directory), 0o040000, dotDotCookie)) return;
    let after = Math.max(0, offset - idOffset);
    for (;;) {
      const batch = this.deps.tree.dentries.list(ino, after, Math.max(16, Math.min(1024, sink.roomFor)));
      if (batch.length === 0) return;
      const inodes = batch.map((dentry) => this.deps.tree.inodes.mustGet(dentry.ino));
      if (sink.plus) await this.completeForPlus(inodes, ctx);
      for (const dentry of batch) {
        after = dentry.id;
        if (dentry.id > newest) return;
        if (!this.add(sink, this.inodes.directory(ino), dentry)) return;
      }
    }
  }

  private add(sink: DirentSink, directory: Inode, dentry: Dentry): boolean {
    const now = this.deps.tree.dentries.get(directory.ino, dentry.name);
    if (now?.id !== dentry.id) return true; // removed while we waited
    const inode = this.deps.tree.inodes.mustGet(now.ino); // or means something else by now
    const incomplete = this.remote.needsAttributes(inode);
    const entry = sink.plus && !incomplete ? this.attributes.entry(inode, this.remote.checkedAt(directory, now, inode)) : undefined;
    // An object that has not been asked for its attributes may be a symlink: say "unknown", not "file"
    return sink.add(dentry.name, inode.ino, incomplete && (inode.mode & 0o170000) !== 0o040000 ? 0 : inode.mode, dentry.id + idOffset, entry);
  }

  /** READDIRPLUS carries attributes: all HEADs of the batch at once instead of one per stat. An outage leaves them for the stat to fail. */
  private async completeForPlus(inodes: readonly Inode[], ctx: RequestContext): Promise<void> {
    if (this.deps.health.isOffline) return;
    try {
      await this.remoteAttributes.complete(inodes, ctx.signal);
    } catch (error) {
      this.deps.log.debug('attributes are incomplete', { room: 'fs', op: 'readdirplus', error });
    }
  }

  private parentOf(directory: Inode): number {
    return this.deps.tree.dentries.ofInode(directory.ino)[0]?.parent ?? rootIno;
  }
}
