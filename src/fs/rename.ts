import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { RenameFlag, type RequestContext } from '../fuse/ops.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { Inodes } from './inodes.js';
import type { Names } from './names.js';
import type { RemoteNames } from './remote-names.js';
import type { Replay } from './replay.js';

/**
 * rename(2): one transaction changes names; S3 follows in the background. A file's bytes go from the old key to the new one by a
 * server-side copy before the old key is deleted (J4); a directory is one dentry and one walk row, whatever its size (J8).
 */
export class Rename {
  constructor(
    private readonly deps: FsDeps, private readonly inodes: Inodes, private readonly contents: FileContents,
    private readonly names: Names, private readonly remote: RemoteNames, private readonly replay: Replay,
  ) {}

  async rename(ctx: RequestContext, parent: number, name: string, newParent: number, newName: string, flags: number): Promise<void> {
    if (this.replay.find(ctx)) return;
    if (flags & ~(RenameFlag.NOREPLACE | RenameFlag.EXCHANGE) || flags === (RenameFlag.NOREPLACE | RenameFlag.EXCHANGE)) throw new FsError(Errno.EINVAL);
    const { tree } = this.deps;
    const source = await this.names.existing(ctx, parent, name);
    const found = await this.names.freeOrFound(ctx, newParent, newName);
    const exchange = (flags & RenameFlag.EXCHANGE) !== 0;
    if (found.dentry && flags & RenameFlag.NOREPLACE) throw new FsError(Errno.EEXIST);
    if (!found.dentry && exchange) throw new FsError(Errno.ENOENT);
    const replaced = found.dentry && tree.inodes.mustGet(found.dentry.ino);
    if (replaced?.ino === source.inode.ino) return; // two names of one file: nothing to do, says POSIX
    this.checkTypes(source.inode, replaced, exchange);
    if (isDirectory(source.inode) && tree.isWithin(newParent, source.inode.ino)) throw new FsError(Errno.EINVAL);
    if (exchange && isDirectory(replaced!) && tree.isWithin(parent, replaced!.ino)) throw new FsError(Errno.EINVAL);
    if (replaced && !exchange && isDirectory(replaced)) await this.names.mustBeEmptyDirectory(replaced, ctx.signal);
    if (isDirectory(source.inode)) await this.remote.ensureSubtree(source.inode, ctx.signal);
    if (exchange && isDirectory(replaced!)) await this.remote.ensureSubtree(replaced!, ctx.signal);
    // The world may have moved while waiting: look again, and act without another wait
    const from = tree.dentries.get(parent, name);
    const to = tree.dentries.get(newParent, newName);
    if (from?.ino !== source.inode.ino || to?.ino !== replaced?.ino) throw new FsError(Errno.EAGAIN, 'a name changed during the rename');
    if (replaced && !exchange && isDirectory(replaced) && !tree.dentries.isEmpty(replaced.ino)) throw new FsError(Errno.ENOTEMPTY);
    this.deps.db.tx(() => {
      const here = this.inodes.liveDirectory(parent);
      const there = this.inodes.liveDirectory(newParent);
      if (exchange) this.exchange(here, name, source.inode, there, newName, replaced!);
      else this.move(here, name, source.inode, there, newName, replaced);
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
    if (replaced) this.inodes.removeName(there, newName, replaced);
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
