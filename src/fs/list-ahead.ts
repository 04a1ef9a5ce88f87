import type { FsDeps } from './deps.js';
import type { RemoteNames } from './remote-names.js';

/** Listings nobody waits for, at the same time. */
const parallelMax = 32;
/** Directories listed, or about to be, that no walker has reached yet. */
const aheadMax = 1000;
/** Who has not come by then will not come: its place in the budget is free again. */
const keepMs = 30_000;
const subdirectoriesPerLook = 256;

/** Attributes begun: those without which a type is not known, or of all its names. */
type Begun = 'none' | 'types' | 'all';

interface Listed { readonly atMs: number; readonly isDeep: boolean; attributes: Begun }

/**
 * Lists directories ahead of a walker, breadth first: siblings first, then what lies below them. Bounded by requests in
 * flight and by directories that nobody has read yet.
 */
export class ListAhead {
  /** ino -> since when; oldest first. */
  private readonly ahead = new Map<number, Listed>();
  private readonly waiting: number[] = [];
  private running = 0;

  /** @param onListed the names in the directory are known now. */
  constructor(private readonly deps: FsDeps, private readonly remote: RemoteNames, private readonly onListed: (ino: number) => void) {}

  /** @param isDeep its sub-directories too. @returns false if the budget is used up. */
  add(ino: number, isDeep: boolean): boolean {
    if (this.ahead.has(ino)) return true;
    const now = this.deps.clock.monotonic();
    for (const [oldest, { atMs }] of this.ahead) {
      if (now - atMs < keepMs) break;
      this.ahead.delete(oldest);
    }
    if (this.ahead.size >= aheadMax) return false;
    this.ahead.set(ino, { atMs: now, isDeep, attributes: 'none' });
    this.waiting.push(ino);
    this.pump();
    return true;
  }

  /** A walker arrived. */
  used(ino: number): void {
    this.ahead.delete(ino);
  }

  /** @returns true once for each, and for a directory ahead. */
  claimAttributes(ino: number, what: Exclude<Begun, 'none'>): boolean {
    const listed = this.ahead.get(ino);
    if (!listed || listed.attributes === what || listed.attributes === 'all') return false;
    listed.attributes = what;
    return true;
  }

  private pump(): void {
    while (this.running < parallelMax) {
      const ino = this.waiting.shift();
      if (ino === undefined) return;
      if (!this.ahead.has(ino) || this.deps.health.isOffline) continue; // the walker was faster
      this.running++;
      void this.list(ino).finally(() => {
        this.running--;
        this.pump();
      });
    }
  }

  private async list(ino: number): Promise<void> {
    const { metrics, log, tree } = this.deps;
    try {
      if (!tree.inodes.get(ino)?.complete) metrics.add('prefetch.directories_listed');
      await this.remote.listAhead(ino);
      this.onListed(ino);
      if (this.ahead.get(ino)?.isDeep) {
        for (const dentry of tree.dentries.list(ino, 0, subdirectoriesPerLook)) {
          const inode = tree.inodes.get(dentry.ino);
          if (inode && (inode.mode & 0o170000) === 0o040000 && !this.add(inode.ino, true)) break;
        }
      }
    } catch (error) {
      metrics.add('prefetch.failures');
      log.debug('cannot list a directory ahead', { room: 'fs', error });
    }
  }
}
