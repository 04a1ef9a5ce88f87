import fs from 'node:fs';
import { lseek } from '../base/libc.js';
import type { WritebackDeps } from './ports.js';
import type { Seal, Sealer } from './seal.js';

const SEEK_HOLE = 4;
/** Without multigrain timestamps two changes within a tick share their ctime: a seal's must be older than that (S3). */
const ctimeGrainMs = 20;

/**
 * Seals files the kernel may be writing itself (S3). There is no frozen copy and no WRITE request; what proves a read whole is the file's ctime
 * and size, before and after, with all that could hide a change put out of the way first: `lseek(SEEK_HOLE)` waits for a write in flight,
 * `fdatasync` write-protects mapped pages, so that the next store to one moves ctime.
 *
 * Writers are still there: whoever looks at the file next and finds another ctime begins the next generation.
 */
export class PassthroughSealer implements Sealer {
  constructor(private readonly deps: Pick<WritebackDeps, 'db' | 'tree' | 'contents' | 'hooks' | 'clock'>, private readonly plain: Sealer) {}

  seal(ino: number, partial = false): Promise<Seal | null> {
    return this.deps.hooks.kernelWrites?.hasWriters(ino) ? this.sealWritten(ino) : this.plain.seal(ino, partial);
  }

  freeze(ino: number): Promise<Seal | null> {
    // A copy of a file the kernel writes could be torn like any other read of it: trying again is all there is
    return this.deps.hooks.kernelWrites?.hasWriters(ino) ? this.sealWritten(ino) : this.plain.freeze(ino);
  }

  private async sealWritten(ino: number): Promise<Seal | null> {
    const { tree, contents, hooks, db, clock } = this.deps;
    const inode = tree.inodes.get(ino);
    const file = inode?.content == null ? undefined : contents.find(inode.content);
    if (!inode || !file?.isComplete) return null;
    const { path } = file;
    const handle = await fs.promises.open(path, 'r');
    try {
      const before = fs.fstatSync(handle.fd, { bigint: true });
      if (clock.now() - Number(before.ctimeNs / 1_000_000n) < ctimeGrainMs) return null;
      if (before.size > 0n) lseek(handle.fd, 0, SEEK_HOLE);
      await handle.datasync();
      const now = tree.inodes.get(ino);
      if (!now || now.content !== file.id || !hooks.kernelWrites?.hasWriters(ino)) return null;
      const isSame = (stat: fs.BigIntStats | undefined): boolean => stat !== undefined && stat.ctimeNs === before.ctimeNs && stat.size === before.size;
      if (!isSame(fs.fstatSync(handle.fd, { bigint: true }))) return null;
      const sealed = db.tx(() => {
        hooks.kernelWrites!.refresh(ino);
        now.unsealed = false;
        tree.inodes.settle(now);
        tree.inodes.save(now);
        hooks.kernelWrites!.sealed(ino, before);
        const { gen, sizeBytes, mtime } = now;
        return { gen, sizeBytes, mtime };
      });
      return {
        ...sealed, path, durable: Promise.resolve(),
        isIntact: () => Promise.resolve(tree.inodes.get(ino)?.content === file.id && isSame(fs.statSync(path, { bigint: true, throwIfNoEntry: false }))),
        release: () => Promise.resolve(),
      };
    } finally {
      await handle.close();
    }
  }
}
