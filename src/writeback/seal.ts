/**
 * Sealing: proving that the bytes read for an upload are one generation of the file (S). A `Sealer` without passthrough knows of every
 * write, because each comes through this process and moves `gen` before its first byte after a seal. The passthrough sealer (leases, S2, S3)
 * stands beside it behind the same interface.
 */
import fs from 'node:fs';
import { join } from 'node:path';
import type { Time } from '../base/clock.js';
import { errorCode } from '../base/errno.js';
import type { Inode } from '../meta/inode.js';
import type { WritebackDeps } from './ports.js';

export interface Seal {
  readonly gen: number;
  readonly sizeBytes: number;
  readonly mtime: Time;
  /** Where the bytes are. */
  readonly path: string;
  /** The bytes are on stable storage. To be awaited before a request that shows the object: a record of their upload must not outlive them (D1). */
  readonly durable: Promise<void>;
  /** Asked after the bytes were read: are they all of `gen`? */
  isIntact(): Promise<boolean>;
  /** Idempotent. */
  release(): Promise<void>;
}

export interface Sealer {
  /**
   * null: cannot be sealed now, try later.
   * @param partial also with bytes missing, which are in S3.
   */
  seal(ino: number, partial?: boolean): Promise<Seal | null>;
  /** A copy that nobody writes to, for a file that never rests (S3); null as above. */
  freeze(ino: number): Promise<Seal | null>;
}

/** Copying this much in one synchronous stretch takes some 20 ms where the file system cannot share blocks. */
const syncCopyBytesMax = 64 * 1024 * 1024;

export class PlainSealer implements Sealer {
  private nextCopy = 1;

  constructor(private readonly deps: Pick<WritebackDeps, 'db' | 'group' | 'tree' | 'contents' | 'hooks' | 'config'>) {}

  async seal(ino: number, partial = false): Promise<Seal | null> {
    const sealed = await this.deps.group.run(() => {
      const inode = this.deps.tree.inodes.get(ino);
      const path = inode && this.pathOf(inode, partial);
      if (inode === undefined || path == null) return null;
      this.markSealed(inode);
      const { gen, sizeBytes, mtime, content } = inode;
      return { gen, sizeBytes, mtime, path, content: content! };
    });
    if (sealed === null) return null;
    const { gen, sizeBytes, mtime, path, content } = sealed;
    return {
      gen, sizeBytes, mtime, path, durable: this.deps.contents.isUnsynced(content) ? handled(this.deps.contents.sync([content])) : done,
      isIntact: () => {
        const now = this.deps.tree.inodes.get(ino);
        return Promise.resolve(now !== undefined && now.gen === gen && !now.unsealed && fs.statSync(path, { throwIfNoEntry: false })?.size === sizeBytes);
      },
      release: () => Promise.resolve(),
    };
  }

  async freeze(ino: number): Promise<Seal | null> {
    const release = await this.deps.hooks.holdWrites?.(ino);
    try {
      return await this.freezeHeld(ino, release !== undefined);
    } finally {
      release?.();
    }
  }

  private async freezeHeld(ino: number, isHeld: boolean): Promise<Seal | null> {
    const inode = this.deps.tree.inodes.get(ino);
    const path = inode && this.pathOf(inode);
    if (inode === undefined || path == null) return null;
    fs.mkdirSync(this.deps.config.scratchDir, { recursive: true });
    const copy = join(this.deps.config.scratchDir, `${ino}-${this.nextCopy++}`);
    const remove = (): Promise<void> => fs.promises.rm(copy, { force: true });
    // No await between the mark and the copy: nothing can be written in between.
    this.markSealed(inode);
    const { gen, sizeBytes, mtime } = inode;
    const isUnchanged = (): boolean => {
      const now = this.deps.tree.inodes.get(ino);
      return now !== undefined && now.gen === gen && !now.unsealed;
    };
    try {
      if (!shareBlocks(path, copy)) {
        if (isHeld || sizeBytes > syncCopyBytesMax) await fs.promises.copyFile(path, copy);
        else fs.copyFileSync(path, copy);
      }
      const isWhole = isUnchanged() && fs.statSync(copy).size === sizeBytes;
      await this.deps.contents.sync([inode.content!]);
      if (isWhole) return { gen, sizeBytes, mtime, path: copy, durable: Promise.resolve(), isIntact: () => Promise.resolve(true), release: remove };
    } catch (error) {
      await remove();
      throw error;
    }
    await remove();
    return null;
  }

  private markSealed(inode: Inode): void {
    this.deps.db.tx(() => {
      const wasUnsealed = inode.unsealed;
      this.deps.db.onRollback(() => (inode.unsealed = wasUnsealed));
      inode.unsealed = false;
      this.deps.tree.inodes.settle(inode);
      this.deps.tree.inodes.save(inode);
    });
  }

  private pathOf(inode: Inode, partial = false): string | null {
    if (inode.content === null) return null;
    const file = this.deps.contents.find(inode.content);
    return file && (partial || file.isComplete) ? file.path : null;
  }
}

const done = Promise.resolve();

/** A failure is for who awaits it, and nobody's surprise if nobody gets that far. */
export function handled(promise: Promise<void>): Promise<void> {
  promise.catch(() => undefined);
  return promise;
}

/** FICLONE, in no time and no space; false where the file system cannot. */
function shareBlocks(from: string, to: string): boolean {
  try {
    fs.copyFileSync(from, to, fs.constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    const code = errorCode(error);
    if (code === 'EOPNOTSUPP' || code === 'ENOTSUP' || code === 'EXDEV' || code === 'ENOTTY' || code === 'EINVAL' || code === 'ENOSYS') return false;
    throw error;
  }
}
