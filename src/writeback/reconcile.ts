import { AssertionError } from '../base/assert.js';
import { backoffMs } from '../base/backoff.js';
import { ContentLostError } from '../cache/cache-error.js';
import { debounceMsMax, type JournalRow } from '../journal/journal.js';
import { isRegular, type Inode } from '../meta/inode.js';
import { SourceLostError } from '../prefetch/source-lost-error.js';
import { MetadataTooLarge } from '../s3/metadata-codec.js';
import type { Key } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import type { Composer } from './compose.js';
import { completeAttributes, isContentUseless, isUnreadSymlink } from './attributes.js';
import { desired, type Action, type ParkReason } from './desired.js';
import type { Filler } from './fill.js';
import type { Ledger } from './ledger.js';
import type { MultipartSender } from './multipart.js';
import type { WritebackDeps } from './ports.js';
import type { Resolver } from './resolver.js';
import { isRefusal, type Sender, type Sent } from './upload.js';
import type { TreeWorld } from './world.js';

/** What the loop around must know of one visit to a key. */
export interface VisitEvents {
  /** S3 answered a request. */
  answered(): void;
  /** S3 did not answer at all. */
  unanswered(): void;
  /** `key` cannot go on before `forKey` did. */
  waits(key: Key, forKey: Key): void;
  parked(key: Key, reason: ParkReason, error: string): void;
  /** Takes a key out of everybody else's hands (J1). */
  claim(key: Key): () => void;
}

/** Requests of one visit, before the key goes to the back of the queue. */
const stepsMax = 12;
const movedMsDelay = 1000;
/** A wait ends by a nudge when the other key is done; this is for a nudge that got lost. */
const waitMs = 30_000;
const openUnlinkedMs = 60_000;
const metadataCoalesceMs = 60_000;
const retryMs = { base: 1000, max: 60_000 } as const;

/** Something outside this key is wrong (credentials, the bucket, the disk): no use in asking often. */
const environmentRetryMs = 30_000;

/** One visit to one key: settle what was sent before, derive what is to do, do it, until the key is clean, waits, or fails. */
export class Reconciler {
  constructor(
    private readonly deps: WritebackDeps,
    private readonly world: TreeWorld,
    private readonly ledger: Ledger,
    private readonly resolver: Resolver,
    private readonly sender: Sender,
    private readonly multipart: MultipartSender,
    private readonly composer: Composer,
    private readonly filler: Filler,
    private readonly events: VisitEvents,
  ) {}

  /**
   * @param isUrgent no waiting for silence, for company or for writers.
   * @returns false if nothing came of it but the wait for another key.
   */
  async visit(key: Key, isUrgent: () => boolean, signal: AbortSignal): Promise<boolean> {
    for (let step = 0; step < stepsMax; step++) {
      if (signal.aborted) return false;
      let action: Action | undefined;
      try {
        const attempt = this.deps.attempts.get(key);
        if (attempt !== undefined && attempt.outcome !== 'tombstone') {
          await this.resolver.resolve(attempt, signal);
          this.events.answered();
          continue;
        }
        action = desired(key, this.world);
        const row = this.deps.journal.get(key);
        if (row === undefined && action.do === 'none') return true;
        if (this.rests(key, action, row, isUrgent())) return step > 0 || action.do !== 'wait';
        await this.dropStrayUpload(key, action, signal);
        if ((await this.perform(key, action, signal)) === 'moved') {
          this.deps.db.tx(() => this.deps.journal.defer(key, this.deps.clock.now() + movedMsDelay, null, row?.tries ?? 0));
          if (!isUrgent()) return true;
        }
        this.events.answered();
        const left = this.deps.journal.get(key);
        if (left === undefined || (left.dueMs > this.deps.clock.now() && !isUrgent())) return true; // clean, or changed anew: after some silence
      } catch (error) {
        if (!(await this.failed(key, action, error, signal))) return true;
      }
    }
    this.deps.db.tx(() => this.deps.journal.defer(key, this.deps.clock.now() + movedMsDelay, null, 0));
    return true;
  }

  /** True if there is nothing to send now; the row says so afterwards. */
  private rests(key: Key, action: Action, row: JournalRow | undefined, isUrgent: boolean): boolean {
    const { db, journal, clock } = this.deps;
    const now = clock.now();
    switch (action.do) {
      case 'none':
        db.tx(() => this.ledger.clear(key));
        return true;
      case 'wait':
        if (action.forKey !== null) this.events.waits(key, action.forKey);
        db.tx(() => journal.defer(key, now + (action.forKey === null ? openUnlinkedMs : waitMs), null, 0));
        return true;
      case 'park':
        this.park(key, action.reason, action.why);
        return true;
      default: {
        if (isUrgent || row === undefined) return false;
        const notBeforeMs = this.notBefore(action, row);
        if (notBeforeMs <= now) return false;
        db.tx(() => journal.defer(key, notBeforeMs, null, 0));
        return true;
      }
    }
  }

  private notBefore(action: Action, row: JournalRow): number {
    const { config, hooks } = this.deps;
    if (action.do === 'copy' && action.metadataOnly && action.inode.sizeBytes > config.coalesceAboveBytes) return row.sinceMs + metadataCoalesceMs;
    const reads = (action.do === 'put' && !action.metadataOnly && isRegular(action.inode)) || action.do === 'multipart' || action.do === 'compose' || action.do === 'fill';
    // A file is uploaded when its writers are gone; one that is never closed, all the same now and then (S3).
    return reads && hooks.isBusy(action.inode.ino) ? row.sinceMs + debounceMsMax : 0;
  }

  private async perform(key: Key, action: Action, signal: AbortSignal): Promise<Sent> {
    switch (action.do) {
      case 'put':
      case 'marker':
        await this.complete(action.inode, signal);
        return this.sender.put(key, action, signal);
      case 'copy':
        await this.complete(action.inode, signal);
        return action.byParts ? this.multipart.copy(key, action, signal) : this.sender.copy(key, action, signal);
      case 'multipart':
        await this.complete(action.inode, signal);
        return this.multipart.upload(key, action, signal);
      case 'compose':
        await this.complete(action.inode, signal);
        return this.composer.upload(key, action, signal);
      case 'delete':
        return this.sender.delete(key, action, signal);
      case 'fill':
        await this.filler.fill(action.inode, signal);
        return 'sent';
      case 'hold':
        await this.filler.hold(action.inode, signal);
        return 'sent';
      case 'stash':
        return this.sender.stash(key, action, (scratch) => this.events.claim(scratch), (scratch, owner, source) => this.multipart.stash(scratch, key, action, owner, source, signal), signal);
      case 'look':
        await this.resolver.look(key, signal);
        return 'sent';
      case 'none': case 'wait': case 'park':
        return 'sent';
      default:
        action satisfies never;
        throw new AssertionError('unknown action');
    }
  }

  /** What a listing did not say about the object must be known before it is replaced (J12). */
  private async complete(inode: Inode, signal: AbortSignal): Promise<void> {
    const { tree, store, db } = this.deps;
    if (inode.attrsComplete) return;
    for (const row of tree.objects.madeFrom(inode.ino)) { // what was moved is still under its old key
      const { key } = row;
      const head = await store.head(key, { signal });
      if (head === null || head.etag !== row.etag) continue;
      const target = isUnreadSymlink(inode, head) ? Buffer.from((await store.getBytes(key, { start: 0, end: head.sizeBytes, etag: head.etag }, { signal })).bytes) : null;
      const now = tree.inodes.get(inode.ino);
      if (now === undefined || now.attrsComplete) return;
      db.tx(() => {
        const isAsFound = !now.unsealed && now.gen === row.gen && !(this.deps.hooks.isOpenAsListed?.(now.ino) ?? false);
        const attributes = completeAttributes(now, head, target, isAsFound);
        if (isAsFound && isContentUseless(now, attributes)) {
          this.deps.contents.remove(now.content!);
          now.content = null;
        }
        tree.inodes.save(now);
        this.deps.links.completed(now, { key, head, attributes, isUnseen: false });
      });
      return;
    }
  }

  private async dropStrayUpload(key: Key, action: Action, signal: AbortSignal): Promise<void> {
    if (action.do === 'multipart' || action.do === 'fill' || (action.do === 'copy' && action.byParts)) return;
    await this.multipart.dropStray(key, signal);
  }

  /** True if it makes sense to go on at once. */
  private async failed(key: Key, action: Action | undefined, error: unknown, signal: AbortSignal): Promise<boolean> {
    if (error instanceof AssertionError) throw error;
    if (error instanceof MetadataTooLarge) {
      this.park(key, 'metadata-too-large', error.message);
      return false;
    }
    if (error instanceof ContentLostError) {
      this.park(key, 'content-lost', error.message);
      return false;
    }
    // The reader asked everybody who might have them: what they hold must be looked at, and decided anew.
    if (error instanceof SourceLostError) return this.lookAgain(key, action, error, signal);
    if (!(error instanceof StoreError)) {
      this.retry(key, error, environmentRetryMs);
      return false;
    }
    const { db, attempts } = this.deps;
    const attempt = attempts.get(key);
    if (attempt?.outcome === 'sent') {
      // A refused part leaves its upload where it is: the next try goes on with it.
      db.tx(() => attempts.setOutcome(key, isRefusal(error.kind) ? 'tombstone' : 'ambiguous'));
    }
    switch (error.kind) {
      case 'aborted':
        if (!signal.aborted) this.retry(key, error, 0);
        return false;
      case 'unavailable':
        this.events.unanswered();
        this.retry(key, error, 0);
        return false;
      case 'throttled':
        this.retry(key, error, error.details.retryAfterMs ?? 0);
        return false;
      case 'precondition-failed': case 'conflict': case 'not-found': case 'no-such-upload':
        return this.lookAgain(key, action, error, signal);
      case 'access-denied': case 'locked': case 'archived': case 'too-large': case 'invalid': {
        if (action?.do === 'stash' && this.world.canStash(action.row)) {
          this.world.cannotStash(action.row);
          return true; // derive again
        }
        const isHugeMetadata = action?.do === 'copy' && action.metadataOnly && (error.kind === 'too-large' || (error.kind === 'invalid' && action.byParts));
        this.park(key, isHugeMetadata ? 'too-large-for-metadata-copy' : error.kind, error.message);
        return false;
      }
      case 'bad-credentials': case 'wrong-region': case 'clock-skew': case 'no-such-bucket': case 'local-io':
        this.retry(key, error, environmentRetryMs);
        return false;
      default:
        error.kind satisfies never;
        throw error;
    }
  }

  /** Someone else was there, or our own first try (J5): a HEAD tells. */
  private async lookAgain(key: Key, action: Action | undefined, error: StoreError | SourceLostError, signal: AbortSignal): Promise<boolean> {
    try {
      const attempt = this.deps.attempts.get(key);
      if (attempt !== undefined && attempt.outcome !== 'tombstone') {
        if ((await this.resolver.resolve(attempt, signal)) !== 'waiting') return true;
        if (error instanceof StoreError && error.kind === 'no-such-upload') return true;
        if (attempt.sourceKey !== null && attempt.sourceKey !== key && (await this.resolver.lookAtSource(attempt.sourceKey, attempt.sourceEtag!, signal))) return true;
      } else {
        // Bytes that were to be fetched or copied aside are not where they were.
        for (const row of this.sourcesOf(action)) if (await this.resolver.lookAtSource(row.key, row.etag!, signal)) return true;
      }
    } catch (lookError) {
      if (!(lookError instanceof StoreError)) throw lookError;
      if (lookError.kind === 'unavailable') this.events.unanswered();
      if (!signal.aborted) this.retry(key, lookError, 0);
      return false;
    }
    this.retry(key, error, 0);
    return false;
  }

  private sourcesOf(action: Action | undefined): readonly { readonly key: Key; readonly etag: string | null }[] {
    if (action?.do === 'stash') return [action.row];
    if (action?.do === 'compose') return [action.source];
    if (action?.do === 'fill' || action?.do === 'hold') return this.world.holding(action.inode.ino, action.inode.baseGen ?? action.inode.gen);
    return [];
  }

  private retry(key: Key, error: unknown, atLeastMs: number): void {
    const { db, journal, clock, random, metrics, log } = this.deps;
    const tries = (journal.get(key)?.tries ?? 0) + 1;
    const delayMs = Math.max(atLeastMs, backoffMs(tries - 1, retryMs.base, retryMs.max, random));
    db.tx(() => journal.defer(key, clock.now() + delayMs, error instanceof Error ? error.message : String(error), tries));
    metrics.add('writeback.retries');
    log.debug('will try again', { room: 'writeback', key, tries, delayMs, error });
  }

  private park(key: Key, reason: ParkReason, why: string): void {
    const { db, journal, metrics, log } = this.deps;
    db.tx(() => journal.park(key, reason, why));
    metrics.add('writeback.parked');
    log.warn('parked', { room: 'writeback', key, reason, why });
    this.events.parked(key, reason, why);
  }
}
