import type { Key } from '../s3/object-store.js';
import type { WritebackDeps } from './ports.js';

/** S3 does not, and for now will not, hold what was waited for. */
export class UploadFailed extends Error {
  override readonly name = 'UploadFailed';
  constructor(readonly reason: string, message: string) {
    super(message);
  }
}

interface Waiter { readonly ino: number; readonly gen: number; readonly mgen: number; readonly resolve: () => void; readonly reject: (error: unknown) => void }

/** Who waits for *uploaded*. Bounded by calls of fsync and close in flight. */
export class UploadWaiters {
  private readonly waiters = new Set<Waiter>();

  constructor(private readonly deps: Pick<WritebackDeps, 'tree' | 'journal'>) {}

  wait(ino: number, signal?: AbortSignal): Promise<void> {
    const inode = this.deps.tree.inodes.get(ino);
    if (!inode) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.waiters.delete(waiter);
        reject(signal!.reason instanceof Error ? signal!.reason : new UploadFailed('interrupted', 'The wait for the upload was interrupted'));
      };
      const waiter: Waiter = {
        ino, gen: inode.gen, mgen: inode.mgen,
        resolve: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
        reject: (error) => {
          signal?.removeEventListener('abort', onAbort);
          reject(error);
        },
      };
      if (signal?.aborted) return onAbort();
      signal?.addEventListener('abort', onAbort, { once: true });
      this.waiters.add(waiter);
      this.check();
    });
  }

  /** After anything may have been uploaded or parked. */
  check(): void {
    for (const waiter of this.waiters) {
      const verdict = this.judge(waiter);
      if (verdict === 'waiting') continue;
      this.waiters.delete(waiter);
      if (verdict === 'uploaded') waiter.resolve();
      else waiter.reject(verdict);
    }
  }

  parked(_key: Key, _reason: string, _error: string): void { this.check(); }

  lost(ino: number, reason: string): void {
    for (const waiter of this.waiters) {
      if (waiter.ino !== ino) continue;
      this.waiters.delete(waiter);
      waiter.reject(new UploadFailed(reason, `Inode ${ino} lost a race: ${reason}`));
    }
  }

  close(): void {
    for (const waiter of this.waiters) waiter.reject(new UploadFailed('stopped', 'The daemon is stopping; the change is kept and uploaded by the next one'));
    this.waiters.clear();
  }

  private judge({ ino, gen, mgen }: Waiter): 'uploaded' | 'waiting' | UploadFailed {
    const { tree, journal } = this.deps;
    const inode = tree.inodes.get(ino);
    if (!inode) return 'uploaded'; // nothing is left that could be
    for (const key of tree.keysOf(inode)) {
      const row = tree.objects.get(key);
      const isThere = row !== undefined && row.etag !== null && row.ino === ino && row.gen! >= gen && row.mgen! >= mgen;
      if (isThere) continue;
      const parked = journal.get(key);
      if (parked === undefined) {
        if (journal.walks().length > 0) return 'waiting'; // its directory was renamed: the key gets its row when the walk comes by (J8)
        continue; // clean without an object: an implied directory
      }
      if (parked.parked !== null) return new UploadFailed(parked.parked, parked.error ?? `"${key}" is parked: ${parked.parked}`);
      return 'waiting';
    }
    return 'uploaded';
  }
}
