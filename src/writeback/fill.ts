import { assert } from '../base/assert.js';
import type { Inode } from '../meta/inode.js';
import { sourceOf } from './desired.js';
import type { ByteSource, LocalFile, WritebackDeps } from './ports.js';
import type { TreeWorld } from './world.js';

/** Brings bytes here that are only in S3, because a changed file is uploaded whole, or because its only copy is in the way. */
export class Filler {
  constructor(private readonly deps: WritebackDeps, private readonly world: TreeWorld) {}

  async fill(inode: Inode, signal: AbortSignal): Promise<void> {
    const { db, tree, reader, contents } = this.deps;
    const file = this.localFile(inode);
    if (!file.isComplete) await reader.fetchWhole(this.sourceOf(inode.ino, file), signal);
    if (!file.isKept) await contents.sync([file.id]); // a base is given up only for bytes that a crash leaves here
    const now = tree.inodes.get(inode.ino);
    if (now === undefined || now.baseGen === null || now.content !== file.id || !file.isKept) return;
    db.tx(() => {
      const { baseGen } = now;
      db.onRollback(() => (now.baseGen = baseGen));
      now.baseGen = null;
      tree.inodes.save(now);
    });
  }

  /** The bytes are here, on stable storage, and stay: the object they came from may be overwritten (J4, J9). */
  async hold(inode: Inode, signal: AbortSignal): Promise<void> {
    const { db, contents } = this.deps;
    if (inode.sizeBytes === 0 && inode.content === null) return this.world.hold(inode);
    const file = this.localFile(inode);
    db.tx(() => contents.setDirty(file.id, true)); // first: nothing may evict it on the way
    await this.fill(inode, signal);
    await contents.sync([file.id]);
    const now = this.deps.tree.inodes.get(inode.ino);
    if (now?.content === file.id && now.nlink > 0 && this.world.isKept(now)) this.world.hold(now); // an orphan's bytes need no more than to be kept, and not to be evicted
  }

  /** Where the missing bytes of a file are; undefined if there is no file. */
  source(ino: number): ByteSource | undefined {
    const content = this.deps.tree.inodes.get(ino)?.content ?? null;
    const file = content === null ? undefined : this.deps.contents.find(content);
    return file && this.sourceOf(ino, file);
  }

  private sourceOf(ino: number, file: LocalFile): ByteSource {
    const { tree } = this.deps;
    return {
      file,
      locate: () => {
        const now = tree.inodes.get(ino);
        const holder = now && tree.objects.holding(now.ino, now.baseGen ?? now.gen)[0];
        return holder ? sourceOf(holder) : null;
      },
    };
  }

  private localFile(inode: Inode): LocalFile {
    const { db, tree, contents } = this.deps;
    const known = inode.content === null ? undefined : contents.find(inode.content);
    if (known) return known;
    return db.tx(() => {
      assert(!inode.unsealed, `inode ${inode.ino} was changed and has no content file`);
      const file = contents.create(inode.sizeBytes);
      const before = inode.content;
      db.onRollback(() => (inode.content = before));
      inode.content = file.id;
      tree.inodes.save(inode);
      return file;
    });
  }
}
