import fs from 'node:fs';
import { sleep } from '../base/backoff.js';
import { lseek } from '../base/libc.js';
import type { WritebackDeps } from './ports.js';
import { copyAside, frozen, handled, markSealed, sealedContentSynced, type Seal, type Sealed, type Sealer } from './seal.js';

const SEEK_HOLE = 4;
/** Without multigrain timestamps two changes within a tick share their ctime: a seal's must be older than that (S3). */
const ctimeGrainMs = 20;
/** Copies tried in a row, each a little after the one before: writers that write in a rhythm leave gaps. */
const copiesMax = 5;
const copyPauseMs = 53;

/**
 * Seals files the kernel may be writing itself (S3). There is no frozen copy and no WRITE request; what proves a read whole is the file's ctime
 * and size, before and after, with all that could hide a change put out of the way first: `lseek(SEEK_HOLE)` waits for a write in flight,
 * `fdatasync` write-protects mapped pages, so that the next store to one moves ctime.
 *
 * Writers are still there: whoever looks at the file next and finds another ctime begins the next generation.
 */
export class PassthroughSealer implements Sealer {
  constructor(private readonly deps: Pick<WritebackDeps, 'db' | 'tree' | 'contents' | 'hooks' | 'clock' | 'config'>, private readonly plain: Sealer) {}

  seal(ino: number, partial = false): Promise<Seal | null> {
    return this.deps.hooks.kernelWrites?.hasWriters(ino) ? this.sealWritten(ino) : this.plain.seal(ino, partial);
  }

  sealNow(ino: number): Sealed | null {
    return this.deps.hooks.kernelWrites?.hasWriters(ino) ? null : this.plain.sealNow(ino);
  }

  freeze(ino: number): Promise<Seal | null> {
    return this.deps.hooks.kernelWrites?.hasWriters(ino) ? this.copyWritten(ino) : this.plain.freeze(ino);
  }

  /**
   * Nobody can hold the kernel's writers back, and a copy could be torn like any other read; but it takes a hundredth of an upload's time, so a file that
   * is written every now and then rests so long. One written all the time, in pieces closer than the copy takes, waits for its writers.
   */
  private async copyWritten(ino: number): Promise<Seal | null> {
    const { tree, contents, config } = this.deps;
    const room = await contents.reserve(tree.inodes.get(ino)?.sizeBytes ?? 0);
    try {
      for (let attempt = 0; attempt < copiesMax; attempt++) {
        if (attempt > 0) await sleep(copyPauseMs);
        const seal = await this.sealWritten(ino);
        if (seal === null) continue;
        const copy = await copyAside(seal.path, config.scratchDir, ino);
        if (await seal.isIntact()) return frozen({ ...seal, path: copy }, room);
        await fs.promises.rm(copy, { force: true });
      }
    } catch (error) {
      room();
      throw error;
    }
    room();
    return null;
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
        markSealed(this.deps, now);
        hooks.kernelWrites!.sealed(ino, before);
        const { gen, sizeBytes, mtime } = now;
        return { gen, sizeBytes, mtime };
      });
      return {
        ...sealed, path, durable: handled(sealedContentSynced(this.deps, ino)),
        isIntact: () => Promise.resolve(tree.inodes.get(ino)?.content === file.id && isSame(fs.statSync(path, { bigint: true, throwIfNoEntry: false }))),
        release: () => Promise.resolve(),
      };
    } finally {
      await handle.close();
    }
  }
}
