import { isRegular, type Inode } from '../meta/inode.js';
import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import type { FsDeps } from './deps.js';
import type { Passthrough } from './passthrough.js';
import { waitFor } from './wait-for.js';

/**
 * From *accepted* to *journaled*: settle what only memory knows, sync content files, then the log (D1), so that what the log says to be here is on the disk.
 * Of a *kept* file it says so already, or says only that it is being written: then both are synced at once, each on its own way to the disk.
 */
export class Durability {
  constructor(private readonly deps: FsDeps, private readonly passthrough: Passthrough) {}

  /** fsync(2) of one file; of a directory where `inode` has no content. *Journaled* when it resolves, with `--fsync remote` *uploaded*. */
  async journaled(inode: Inode, signal: AbortSignal): Promise<void> {
    const { db, tree, contents, config } = this.deps;
    this.passthrough.refresh(inode);
    db.tx(() => tree.inodes.settle(inode));
    const content = isRegular(inode) ? inode.content : null;
    const synced = content === null ? undefined : contents.sync([content]);
    if (content !== null && !contents.isKept(content)) await synced; // what of it is present is recorded once it is synced
    await Promise.all([synced, db.durable()]);
    this.vouchedFor(inode);
    if (config.fsync === 'remote' && inode.nlink > 0) await this.uploaded(inode, signal);
  }

  /** S6: what a power cut left in doubt goes to S3 once an application says by fsync that it is what it wants. */
  private vouchedFor(inode: Inode): void {
    const { db, tree, journal, config } = this.deps;
    for (const key of tree.keysOf(inode)) if (journal.get(key)?.parked === 'recovered-unsynced') db.tx(() => journal.mark(key, config.uploadDelayMs));
  }

  /** Resolves once S3 has the inode as it is now. */
  async uploaded(inode: Inode, signal: AbortSignal): Promise<void> {
    const { db, tree, journal, uploads } = this.deps;
    this.passthrough.refresh(inode);
    db.tx(() => {
      tree.inodes.settle(inode);
      for (const key of tree.keysOf(inode)) if (journal.has(key)) journal.hasten(key);
    });
    const away = this.whenAway();
    try {
      await waitFor(signal, uploads.waitUploaded(inode.ino, AbortSignal.any([signal, away.signal])));
    } catch (error) {
      if (away.signal.aborted) throw new FsError(Errno.EIO, `Cannot upload inode ${inode.ino}: S3 has not answered for ${this.deps.config.deadlineMs} ms; it is kept and uploaded later`, { cause: error });
      if (error instanceof FsError) throw error;
      throw new FsError(Errno.EIO, `Cannot upload inode ${inode.ino}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    } finally {
      away.stop();
    }
  }

  /** An upload may take as long as it takes, but who waits for one does not wait out an outage: fires once S3 was away for the deadline. */
  private whenAway(): { signal: AbortSignal; stop(): void } {
    const { clock, health, config } = this.deps;
    const controller = new AbortController();
    let since: number | undefined;
    const timer = setInterval(() => {
      since = health.isOffline ? since ?? clock.monotonic() : undefined;
      if (since !== undefined && clock.monotonic() - since >= config.deadlineMs) controller.abort();
    }, 200);
    return { signal: controller.signal, stop: () => clearInterval(timer) };
  }

  /** Everything accepted so far, journaled: the journal interval, and shutdown. */
  async all(): Promise<void> {
    const { db, tree, contents } = this.deps;
    const written = this.passthrough.refreshAll();
    const volatile = [...tree.inodes.volatileInodes];
    if (volatile.length > 0) db.tx(() => volatile.forEach((inode) => tree.inodes.settle(inode)));
    const unsynced = [...new Set([...contents.unsynced(), ...written])];
    if (unsynced.length > 0) await contents.sync(unsynced);
    await db.durable();
  }
}
