import fs from 'node:fs';
import { timeFromMs, timeToMs } from '../base/clock.js';
import { ContentLostError } from '../cache/cache-error.js';
import { powerCutFact, wasPowerCut } from '../db/previous-run.js';
import type { Key } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import type { MultipartSender } from './multipart.js';
import type { WritebackDeps } from './ports.js';

/** The kernel's file times are those of its last tick (up to 10 ms ago), ours those of the moment; far below what `make` or rsync tell apart. */
const clockTickMs = 20;

/**
 * What must be put right before the loop goes on; the loop itself is the rest of recovery. Local only, so that a mount without a network
 * starts.
 */
export function recoverLocal(deps: WritebackDeps): void {
  const { db, tree, journal, attempts, digests, config, log } = deps;
  fs.rmSync(config.scratchDir, { recursive: true, force: true });
  if (db.previous.first) return;
  const powerWasCut = wasPowerCut(db.previous);
  let recovered = 0;
  db.tx(() => {
    digests.sweep();
    for (const attempt of attempts.list()) {
      if (attempt.outcome === 'tombstone') continue;
      // The answer, if any, went to the process that died (J5).
      attempts.setOutcome(attempt.key, 'ambiguous');
      journal.mark(attempt.key, 0); // before anything is parked: a mark would release it
    }
    // Sealed, but the sync of what was sealed was still under way: as good as being written
    const sealed = new Set<number>();
    for (const inode of powerWasCut ? tree.inodes.sealedUnsynced() : []) {
      sealed.add(inode.ino);
      inode.unsealed = true;
      tree.inodes.save(inode);
    }
    for (const inode of tree.inodes.unsealed()) {
      // Size and mtime of a file that was being written were only in memory; the content file has both.
      const stat = statOf(deps, inode.content);
      if (stat && !db.previous.clean) {
        recovered++;
        // Times that programs set were given to the file, too, if it was not sealed; a write is noted by two clocks that differ by a tick
        const isWritten = !sealed.has(inode.ino) && Math.abs(stat.mtimeMs - timeToMs(inode.mtime)) > clockTickMs;
        if (isWritten) inode.mtime = inode.ctime = timeFromMs(stat.mtimeMs);
        if (isWritten || stat.size !== inode.sizeBytes) {
          inode.sizeBytes = stat.size;
          tree.inodes.save(inode);
        }
      }
      for (const key of tree.keysOf(inode)) {
        journal.mark(key, config.uploadDelayMs);
        // S6: what was not synced may be half there. It stays, but does not replace what S3 has by itself.
        const row = tree.objects.get(key);
        if (powerWasCut && row !== undefined && row.etag !== null) {
          journal.park(key, 'recovered-unsynced', `The power was cut while "${key}" was being written; what is here may lack its last changes`);
        }
      }
    }
    db.setFact(powerCutFact, '0');
  });
  if (recovered > 0) log.info('took over files that were being written', { room: 'writeback', count: recovered, powerWasCut });
}

/** undefined: nothing here, or lost; the cache has said so, and the key will be parked for it. */
function statOf(deps: WritebackDeps, content: number | null): fs.Stats | undefined {
  if (content === null) return undefined;
  try {
    const file = deps.contents.find(content);
    return file && fs.statSync(file.path, { throwIfNoEntry: false });
  } catch (error) {
    if (error instanceof ContentLostError) return undefined;
    throw error;
  }
}

/**
 * Uploads that a crash left half done. One whose id is on record goes on where it was, unless the power was cut: then its parts may have been read
 * from a file that came back different (S4). One begun without its id on record can only be found by key and time.
 */
export async function abortStrays(deps: WritebackDeps, multipart: MultipartSender, claim: (key: Key) => () => void, signal: AbortSignal): Promise<void> {
  const { db, attempts, log } = deps;
  const partsAreGood = !wasPowerCut(db.previous);
  const strays = attempts.list().filter((attempt) => attempt.op === 'multipart' && (attempt.uploadId === null || !partsAreGood));
  const releases = strays.map((attempt) => claim(attempt.key)); // before anything is awaited: nobody begins a new upload there meanwhile
  for (const [index, attempt] of strays.entries()) {
    try {
      await multipart.abortStrays(attempt, signal);
      db.tx(() => attempts.setParts(attempt.key, null, []));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      log.debug('could not abort stray uploads', { room: 'writeback', key: attempt.key, error });
    } finally {
      releases[index]!();
    }
  }
}
