import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { RenameFlag, type RequestContext } from '../fuse/ops.js';
import { FileType, isDirectory, type Inode } from '../meta/inode.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { Inodes } from './inodes.js';
import type { Names } from './names.js';
import type { RemoteNames } from './remote-names.js';
import type { Replay } from './replay.js';

interface Plan {
  readonly here: Inode; readonly name: string; readonly inode: Inode;
  readonly there: Inode; readonly newName: string; readonly replaced: Inode | undefined;
  readonly exchange: boolean;
  /** A device node 0, 0 takes the place of what is moved: so union file systems say that a name is gone. */
  readonly whiteout: boolean;
}

/**
 * rename(2): one transaction changes names; S3 follows in the background. A file's bytes go from the old key to the new one by a
 * server-side copy before the old key is deleted (J4); a directory is one dentry and one walk row, whatever its size (J8).
 */
export class Rename {
  constructor(
    private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents,
    private readonly names: Names, private readonly remote: RemoteNames, private readonly replay: Replay,
  ) {}

  rename(ctx: RequestContext, parent: number, name: string, newParent: number, newName: string, flags: number): MaybePromise<void> {
    if (this.replay.find(ctx)) return;
    const known = RenameFlag.NOREPLACE | RenameFlag.EXCHANGE | RenameFlag.WHITEOUT;
    if (flags & ~known || (flags & RenameFlag.EXCHANGE && flags !== RenameFlag.EXCHANGE)) throw new FsError(Errno.EINVAL);
    const act = (tries: number): MaybePromise<void> => {
      const plan = this.plan(parent, name, newParent, newName, flags);
      if (plan === null) return; // two names of one file: nothing to do, says POSIX
      const unknown = this.unknownTo(plan);
      if (unknown.length === 0) return this.commit(ctx, plan);
      // A listing of one may have changed the other: look again, and act without another wait
      if (tries === 3) throw new FsError(Errno.ESTALE, 'names kept changing during the rename');
      return this.makeKnown(unknown, ctx.signal).then(() => act(tries + 1));
    };
    return andThen(this.names.findExisting(ctx, parent, name), () => andThen(this.names.find(ctx, newParent, newName), () => act(0)));
  }

  private async makeKnown(directories: readonly Inode[], signal: AbortSignal): Promise<void> {
    for (const directory of directories) await this.remote.ensureSubtree(directory, signal);
  }

  /** What is to be done, as of now; all that POSIX refuses is refused here. */
  private plan(parent: number, name: string, newParent: number, newName: string, flags: number): Plan | null {
    const { tree } = this.deps;
    const { directory: here, inode } = this.names.currentExisting(parent, name);
    const { directory: there, dentry } = this.names.current(newParent, newName);
    const exchange = (flags & RenameFlag.EXCHANGE) !== 0;
    if (dentry && flags & RenameFlag.NOREPLACE) throw new FsError(Errno.EEXIST);
    if (!dentry && exchange) throw new FsError(Errno.ENOENT);
    if (!dentry) this.names.mustFit(newParent, newName);
    const replaced = dentry && tree.inodes.mustGet(dentry.ino);
    if (replaced?.ino === inode.ino) return null;
    if (isDirectory(inode) && tree.isWithin(newParent, inode.ino)) throw new FsError(Errno.EINVAL);
    if (exchange && isDirectory(replaced!) && tree.isWithin(parent, replaced!.ino)) throw new FsError(Errno.EINVAL);
    this.checkTypes(inode, replaced, exchange);
    if (replaced && !exchange && isDirectory(replaced) && !tree.dentries.isEmpty(replaced.ino)) throw new FsError(Errno.ENOTEMPTY);
    return { here, name, inode, there, newName, replaced, exchange, whiteout: (flags & RenameFlag.WHITEOUT) !== 0 };
  }

  /** Directories of the plan that must be listed first: a moved one to its leaves (J8), a replaced one to be called empty (J7). */
  private unknownTo({ inode, replaced }: Plan): Inode[] {
    return [inode, replaced].filter((each): each is Inode => each !== undefined && isDirectory(each) && !this.remote.isSubtreeComplete(each));
  }

  private commit(ctx: RequestContext, plan: Plan): void {
    this.deps.db.tx(() => {
      if (plan.exchange) this.exchange(plan.here, plan.name, plan.inode, plan.there, plan.newName, plan.replaced!);
      else this.move(plan.here, plan.name, plan.inode, plan.there, plan.newName, plan.replaced);
      if (plan.whiteout) this.inodes.addName(plan.here, plan.name, this.inodes.create(ctx, plan.here, FileType.CHAR, 0));
      this.replay.record(ctx, 'rename', {});
    });
  }

  private checkTypes(source: Inode, replaced: Inode | undefined, exchange: boolean): void {
    if (!replaced || exchange) return;
    if (isDirectory(source) && !isDirectory(replaced)) throw new FsError(Errno.ENOTDIR);
    if (!isDirectory(source) && isDirectory(replaced)) throw new FsError(Errno.EISDIR);
  }

  private move(here: Inode, name: string, inode: Inode, there: Inode, newName: string, replaced: Inode | undefined): void {
    const { tree } = this.deps;
    if (replaced) {
      this.inodes.removeName(there, newName, replaced);
      this.deps.db.afterCommit(() => this.inodes.reapUnknown(replaced.ino)); // the kernel may have believed that the name was free
    }
    const oldKey = tree.keyOf(here.ino, name, isDirectory(inode))!;
    tree.dentries.remove(tree.dentries.get(here.ino, name)!);
    tree.dentries.insert(there.ino, newName, inode.ino, this.deps.clock.now());
    if (isDirectory(inode)) {
      here.nlink--;
      there.nlink++;
    }
    this.renamed(inode, oldKey, tree.keyOf(there.ino, newName, isDirectory(inode))!);
    this.directoriesChanged(here, there);
  }

  private exchange(here: Inode, name: string, inode: Inode, there: Inode, newName: string, other: Inode): void {
    const { tree, clock } = this.deps;
    const first = tree.keyOf(here.ino, name, isDirectory(inode))!;
    const second = tree.keyOf(there.ino, newName, isDirectory(other))!;
    const from = tree.dentries.get(here.ino, name)!;
    const to = tree.dentries.get(there.ino, newName)!;
    tree.dentries.repoint(from, other.ino, clock.now());
    tree.dentries.repoint(to, inode.ino, clock.now());
    if (isDirectory(inode) !== isDirectory(other)) {
      const change = isDirectory(inode) ? 1 : -1;
      here.nlink -= change;
      there.nlink += change;
    }
    this.renamed(inode, first, tree.keyOf(there.ino, newName, isDirectory(inode))!);
    this.renamed(other, second, tree.keyOf(here.ino, name, isDirectory(other))!);
    this.directoriesChanged(here, there);
  }

  /** The inode has another key now: its ctime moves, both keys are to be looked at, and for a directory all below. */
  private renamed(inode: Inode, oldKey: string, newKey: string): void {
    const { tree, journal, clock, config } = this.deps;
    inode.ctime = clock.time();
    inode.mgen++;
    if (isDirectory(inode)) {
      tree.directoriesMoved();
      inode.marker = true; // its attributes have to follow it, and it may be empty
      inode.complete = true;
      inode.listedAtMs = Math.max(inode.listedAtMs, 1);
      journal.addWalk(inode.ino, oldKey);
    }
    tree.inodes.save(inode);
    journal.mark(oldKey, config.uploadDelayMs);
    journal.mark(newKey, config.uploadDelayMs);
    if (inode.nlink > 1 && !isDirectory(inode)) this.contents.markKeys(inode, config.uploadDelayMs);
  }

  private directoriesChanged(here: Inode, there: Inode): void {
    this.inodes.ensureMarker(here);
    this.inodes.namesChanged(here);
    if (there.ino !== here.ino) {
      this.inodes.ensureMarker(there);
      this.inodes.namesChanged(there);
    }
  }
}
