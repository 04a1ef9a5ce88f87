import type { Attempt } from '../journal/attempts.js';
import { decodeAttributes } from '../s3/metadata-codec.js';
import type { Key, ObjectHead } from '../s3/object-store.js';
import type { ConflictPolicy } from './conflict-policy.js';
import { parseNonce } from './nonce.js';
import type { Ledger } from './ledger.js';
import type { WritebackDeps } from './ports.js';

/** How an attempt turned out. `waiting`: not there, which does not prove it dead. */
export type Verdict = 'arrived' | 'waiting' | 'overtaken';

/**
 * One HEAD tells how a request ended whose answer was lost, or was a 412, 404 or 409 that its own lost first try may have caused (J5).
 * What it finds missing stays a tombstone (J6): the request may still be on its way.
 */
export class Resolver {
  constructor(private readonly deps: WritebackDeps, private readonly ledger: Ledger, private readonly policy: ConflictPolicy) {}

  async resolve(attempt: Attempt, signal: AbortSignal): Promise<Verdict> {
    const head = await this.deps.store.head(attempt.key, { signal });
    return this.deps.db.tx(() => this.judge(attempt, head));
  }

  /** A tombstone is looked at again: did the request arrive after all? */
  async recheck(attempt: Attempt, signal: AbortSignal): Promise<void> {
    const head = await this.deps.store.head(attempt.key, { signal });
    this.deps.db.tx(() => {
      const now = this.deps.attempts.get(attempt.key);
      if (now?.outcome !== 'tombstone' || now.nonce !== attempt.nonce) return; // something was sent meanwhile
      const row = this.deps.tree.objects.get(attempt.key);
      if (head === null) {
        // An old delete came through after all: what it took away is put again, if anything should be there.
        if (attempt.op === 'delete' && row?.etag != null) {
          this.deps.tree.objects.setAbsent(attempt.key);
          this.ledger.touched(attempt.key);
        }
        return;
      }
      const ours = this.ours(attempt, head);
      if (ours && (row?.etag !== head.etag || row.ino !== ours.ino || row.gen !== ours.gen || row.mgen !== ours.mgen)) this.ledger.credit(attempt.key, head, ours);
    });
  }

  private judge(attempt: Attempt, head: ObjectHead | null): Verdict {
    const { attempts } = this.deps;
    const { key } = attempt;
    if (head === null) return this.judgeAbsent(attempt);
    const ours = this.ours(attempt, head);
    if (attempt.op !== 'delete' && ours && decodeAttributes(head).nonce === attempt.nonce) {
      attempts.remove(key);
      this.ledger.credit(key, head, ours);
      return 'arrived';
    }
    attempts.put({ ...attempt, outcome: 'tombstone' });
    const row = this.deps.tree.objects.get(key);
    // Etags of equal bytes may be equal: what was made from something else is another object all the same.
    const isOther = ours !== undefined && attempt.op !== 'delete' && (row?.ino !== ours.ino || row.gen !== ours.gen || row.mgen !== ours.mgen);
    if (head.etag === attempt.expected && !isOther) return 'waiting'; // as before: the request has done nothing yet
    if (ours) {
      this.ledger.credit(key, head, ours); // an earlier request of this series came through late
      return 'arrived';
    }
    this.policy.learn(key, head);
    return 'overtaken';
  }

  private judgeAbsent(attempt: Attempt): Verdict {
    const { attempts, tree } = this.deps;
    const { key } = attempt;
    if (attempt.op === 'delete') {
      attempts.remove(key);
      tree.objects.setAbsent(key);
      this.ledger.touched(key);
      return 'arrived';
    }
    attempts.put({ ...attempt, outcome: 'tombstone' });
    if (attempt.expected === null) {
      tree.objects.setAbsent(key);
      return 'waiting';
    }
    this.policy.learnAbsent(key);
    return 'overtaken';
  }

  private ours(attempt: Attempt, head: ObjectHead): { ino: number; gen: number; mgen: number } | undefined {
    const found = parseNonce(decodeAttributes(head).nonce);
    return found !== undefined && found.stem === parseNonce(attempt.nonce)?.stem && found.ino !== 0 ? found : undefined;
  }

  /** The table knows that something is there, but not what it is. */
  async look(key: Key, signal: AbortSignal): Promise<void> {
    const head = await this.deps.store.head(key, { signal });
    this.deps.db.tx(() => {
      if (head === null) this.policy.learnAbsent(key);
      else this.policy.learn(key, head);
    });
  }

  /** A copy was refused though its destination is as expected: then the source is not. True if something new was learnt about it. */
  async lookAtSource(key: Key, etag: string, signal: AbortSignal): Promise<boolean> {
    const head = await this.deps.store.head(key, { signal });
    if (head?.etag === etag) return false;
    return this.deps.db.tx(() => {
      if (this.deps.attempts.get(key)?.outcome === 'sent' || this.deps.tree.objects.get(key)?.etag !== etag) return true; // it moved on by itself
      if (head === null) this.policy.learnAbsent(key);
      else this.policy.learn(key, head);
      return true;
    });
  }
}
