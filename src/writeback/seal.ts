/**
 * Sealing: proving that the bytes read for an upload are one generation of the file (S). A `Sealer` without passthrough knows of every
 * write, because each comes through this process and moves `gen` before its first byte after a seal. The passthrough sealer (leases, S2, S3)
 * stands beside it behind the same interface.
 */
import fs from 'node:fs';
import { join } from 'node:path';
import type { Time } from '../base/clock.js';
import type { Inode } from '../meta/inode.js';
import type { WritebackDeps } from './ports.js';

/** What was sealed. */
export interface Sealed {
  readonly gen: number;
  readonly sizeBytes: number;
  readonly mtime: Time;
  /** Where the bytes are. */
  readonly path: string;
}

export interface Seal extends Sealed {
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
  /**
   * In a transaction, and for who reads all of the bytes before it ends: nobody can change them meanwhile. `sealedContentSynced` is the caller's.
   * null: cannot be sealed so.
   */
  sealNow(ino: number): Sealed | null;
  /** A copy that nobody writes to, for a file that never rests (S3); null as above. */
  freeze(ino: number): Promise<Seal | null>;
}

export class PlainSealer implements Sealer {
  constructor(private readonly deps: Pick<WritebackDeps, 'db' | 'group' | 'tree' | 'contents' | 'hooks' | 'config'>) {}

  async seal(ino: number, partial = false): Promise<Seal | null> {
    const sealed = await this.deps.group.run(() => this.sealNow(ino, partial));
    if (sealed === null) return null;
    const { gen, sizeBytes, mtime, path } = sealed;
    return {
      gen, sizeBytes, mtime, path, durable: handled(sealedContentSynced(this.deps, ino)),
      isIntact: () => {
        const now = this.deps.tree.inodes.get(ino);
        return Promise.resolve(now !== undefined && now.gen === gen && !now.unsealed && fs.statSync(path, { throwIfNoEntry: false })?.size === sizeBytes);
      },
      release: () => Promise.resolve(),
    };
  }

  sealNow(ino: number, partial = false): Sealed | null {
    const inode = this.deps.tree.inodes.get(ino);
    const path = inode && this.pathOf(inode, partial);
    if (inode === undefined || path == null) return null;
    markSealed(this.deps, inode);
    const { gen, sizeBytes, mtime } = inode;
    return { gen, sizeBytes, mtime, path };
  }

  /** Whoever writes waits for the copy: some 0.1 s for 100 MiB where the file system cannot share blocks. */
  async freeze(ino: number): Promise<Seal | null> {
    const { tree, contents, hooks } = this.deps;
    const inode = tree.inodes.get(ino);
    if (inode === undefined || this.pathOf(inode) === null) return null;
    const room = await contents.reserve(inode.sizeBytes);
    const letGo = hooks.holdWrites(ino);
    try {
      const now = tree.inodes.get(ino);
      const path = now && this.pathOf(now);
      if (now === undefined || path == null) return await giveBack(room);
      this.deps.db.tx(() => markSealed(this.deps, now));
      const { gen, sizeBytes, mtime } = now;
      const copy = await copyAside(path, this.deps.config.scratchDir, ino);
      const after = tree.inodes.get(ino);
      if (after?.gen !== gen || after.unsealed || fs.statSync(copy).size !== sizeBytes) return await giveBack(room, copy);
      return frozen({ gen, sizeBytes, mtime, path: copy, durable: handled(sealedContentSynced(this.deps, ino)) }, room);
    } catch (error) {
      room();
      throw error;
    } finally {
      letGo();
    }
  }

  private pathOf(inode: Inode, partial = false): string | null {
    if (inode.content === null) return null;
    const file = this.deps.contents.find(inode.content);
    return file && (partial || file.isComplete) ? file.path : null;
  }
}

type SealDeps = Pick<WritebackDeps, 'db' | 'tree' | 'contents'>;

/**
 * In a transaction. A power cut may come after this is durable and before the content is: until `sealedContentSynced` the row says that too, and the next
 * start takes the inode for one that was being written (S6).
 */
export function markSealed({ db, tree, contents }: SealDeps, inode: Inode): void {
  const { unsealed, sealedUnsynced } = inode;
  db.onRollback(() => Object.assign(inode, { unsealed, sealedUnsynced }));
  inode.unsealed = false;
  inode.sealedUnsynced = contents.isUnsynced(inode.content!);
  tree.inodes.settle(inode);
  tree.inodes.save(inode);
}

/** What was sealed, and its name, are on stable storage when it resolves; the row says so no later than anything that follows from it (J3). */
export async function sealedContentSynced({ db, tree, contents }: SealDeps, ino: number): Promise<void> {
  const sealed = tree.inodes.get(ino);
  if (!sealed?.sealedUnsynced || sealed.content === null) return;
  const { gen, content } = sealed;
  await contents.sync([content]);
  const inode = tree.inodes.get(ino);
  if (!inode?.sealedUnsynced || inode.unsealed || inode.gen !== gen || inode.content !== content) return;
  db.tx(() => {
    inode.sealedUnsynced = false;
    tree.inodes.save(inode);
  });
}

/** A failure is for who awaits it, and nobody's surprise if nobody gets that far. */
export function handled(promise: Promise<void>): Promise<void> {
  promise.catch(() => undefined);
  return promise;
}

let nextCopy = 1;

/** Of a file that does not rest; the name is new. Blocks are shared where the file system can, in no time and no space. */
export async function copyAside(path: string, dir: string, ino: number): Promise<string> {
  fs.mkdirSync(dir, { recursive: true });
  const copy = join(dir, `${ino}-${nextCopy++}`);
  try {
    await fs.promises.copyFile(path, copy, fs.constants.COPYFILE_FICLONE);
  } catch (error) {
    await fs.promises.rm(copy, { force: true });
    throw error;
  }
  return copy;
}

/** A seal of a copy, which is nobody's but ours. */
export function frozen(what: Omit<Seal, 'isIntact' | 'release'>, room: () => void): Seal {
  return { ...what, isIntact: () => Promise.resolve(true), release: () => giveBack(room, what.path).then(() => undefined) };
}

export async function giveBack(room: () => void, copy?: string): Promise<null> {
  if (copy !== undefined) await fs.promises.rm(copy, { force: true });
  room();
  return null;
}
