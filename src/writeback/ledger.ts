import type { Inode } from '../meta/inode.js';
import { tombstoneMs, type Attempt, type AttemptOp } from '../journal/attempts.js';
import type { CopySource, ETag, Key, Stored } from '../s3/object-store.js';
import { desired, type Action } from './desired.js';
import { formatNonce, newStem, parseNonce } from './nonce.js';
import type { WritebackDeps } from './ports.js';
import type { TreeWorld } from './world.js';

/** What an object is made from. */
export interface Made { readonly ino: number; readonly gen: number; readonly mgen: number }

/** An attempt that was recorded, and the earlier one of its series that may still arrive. */
export interface Begun { readonly attempt: Attempt; readonly ghost: Attempt | null }

/**
 * The transactions around a request: the attempt before it leaves (J2), and what S3 acknowledged after. Every method but `begin` runs in the
 * caller's transaction.
 *
 * Completion is credited to the key and the content the attempt names, never to what the inode is called or holds by then.
 */
export class Ledger {
  constructor(private readonly deps: WritebackDeps, private readonly world: TreeWorld) {}

  /**
   * Records what is about to be sent, if it is still what should be sent: everything `action` relied on was read before an await.
   * @param more `actionKey`: whose action it is, if not the key's own (stash).
   * @param prepare builds what depends on the nonce, in the same stretch as the check; what it throws undoes the attempt.
   */
  begin<T>(key: Key, action: Action, op: AttemptOp, made: Made | null, more: { source?: CopySource; upload?: Attempt | undefined; partSizeBytes?: number; actionKey?: Key },
    prepare: (nonce: string) => T): { begun: Begun; prepared: T } | undefined {
    const { db, attempts, clock, random } = this.deps;
    return db.tx(() => {
      if (!sameAction(desired(more.actionKey ?? key, this.world), action)) return undefined;
      const earlier = attempts.get(key);
      const ghost = earlier !== undefined && earlier.outcome === 'tombstone' && clock.now() < earlier.sentAtMs + tombstoneMs ? earlier : null;
      const stem = (ghost && parseNonce(ghost.nonce)?.stem) ?? newStem(random);
      const upload = more.upload;
      const nonce = upload?.nonce ?? formatNonce({ stem, ...(made ?? { ino: 0, gen: 0, mgen: 0 }) });
      const from = upload && upload.ino !== null && upload.gen !== null && upload.mgen !== null ? { ino: upload.ino, gen: upload.gen, mgen: upload.mgen } : made;
      const prepared = prepare(nonce);
      const attempt: Attempt = {
        key, op, nonce, expected: expectedOf(action), sourceKey: more.source?.key ?? null, sourceEtag: more.source?.etag ?? null,
        ino: from?.ino ?? null, gen: from?.gen ?? null, mgen: from?.mgen ?? null,
        uploadId: upload?.uploadId ?? null, partSizeBytes: upload?.partSizeBytes ?? more.partSizeBytes ?? null, parts: upload?.parts ?? [],
        sentAtMs: clock.now(), outcome: 'sent',
      };
      attempts.put(attempt);
      // A resumed upload's own row is no ghost: its Complete was looked for, and it will be sent again under the same nonce.
      return { begun: { attempt, ghost }, prepared };
    });
  }

  /** S3 acknowledged it. */
  finish(begun: Begun, stored: Stored, sizeBytes: number): void {
    const { attempt } = begun;
    this.endAttempt(begun);
    this.credit(attempt.key, { ...stored, sizeBytes }, { ino: attempt.ino!, gen: attempt.gen!, mgen: attempt.mgen! });
  }

  /** S3 acknowledged that there is nothing any more. */
  finishDelete(begun: Begun): void {
    this.endAttempt(begun);
    this.deps.tree.objects.setAbsent(begun.attempt.key);
    this.touched(begun.attempt.key);
  }

  /** It is certain that the request was not executed and never will be; what came before it still may be. */
  endAttempt({ attempt, ghost }: Begun): void {
    if (ghost === null) this.deps.attempts.remove(attempt.key);
    else this.deps.attempts.put({ ...ghost, op: ghost.op === 'multipart' ? 'put' : ghost.op, uploadId: null, partSizeBytes: null, parts: [] });
  }

  /** `key` holds an object made from `made`. */
  credit(key: Key, stored: Stored & { readonly sizeBytes: number }, made: Made): void {
    const { tree } = this.deps;
    tree.objects.put({
      key, etag: stored.etag, sizeBytes: stored.sizeBytes, lastModifiedMs: stored.lastModifiedMs ?? null, versionId: stored.versionId ?? null, ...made,
    });
    const inode = tree.inodes.get(made.ino);
    if (inode) {
      this.rebase(inode, made.gen);
      this.settle(inode);
    }
    this.touched(key);
  }

  /** What is still missing here was copied into the new object, so it is there now, and nowhere else perhaps. */
  private rebase(inode: Inode, gen: number): void {
    const { baseGen } = inode;
    if (baseGen === null || baseGen >= gen || gen > inode.gen) return;
    this.deps.db.onRollback(() => (inode.baseGen = baseGen));
    inode.baseGen = gen === inode.gen ? null : gen;
    this.deps.tree.inodes.save(inode);
  }

  /** After anything about `key` became known: its row goes if there is nothing left to do, else it is due anew. */
  touched(key: Key): void {
    const { journal } = this.deps;
    if (desired(key, this.world).do === 'none') this.clear(key);
    else if (journal.has(key)) journal.restart(key, this.deps.config.uploadDelayMs);
    else journal.mark(key, 0);
  }

  /** `key` is clean. */
  clear(key: Key): void {
    this.deps.journal.clear(key);
    const inode = this.world.wants(key);
    if (inode) this.settle(inode);
  }

  /** S3 may now hold all of the inode's content: then the local file may be evicted. */
  settle(inode: Inode): void {
    const { contents, tree, db } = this.deps;
    if (inode.baseGen !== null && !inode.unsealed && this.world.isKept(inode)) {
      const baseGen = inode.baseGen;
      db.onRollback(() => (inode.baseGen = baseGen));
      inode.baseGen = null;
      tree.inodes.save(inode);
    }
    if (!this.world.isUploaded(inode)) return;
    if (inode.content !== null) contents.setDirty(inode.content, false);
    this.world.letGo(inode.ino);
  }
}

function expectedOf(action: Action): ETag | null {
  return action.do === 'delete' ? action.etag : 'expected' in action ? action.expected : null;
}

/** The same request in all that S3 will see but the attributes, which are read afterwards. */
function sameAction(a: Action, b: Action): boolean {
  if (a.do !== b.do) return false;
  if (a.do === 'stash' && b.do === 'stash') return a.row.key === b.row.key && a.row.etag === b.row.etag;
  if (expectedOf(a) !== expectedOf(b)) return false;
  if ('metadataOnly' in a && 'metadataOnly' in b && a.metadataOnly !== b.metadataOnly) return false;
  if ('inode' in a && 'inode' in b && a.inode.ino !== b.inode.ino) return false;
  if ('source' in a && 'source' in b && (a.source.key !== b.source.key || a.source.etag !== b.source.etag)) return false;
  return true;
}
