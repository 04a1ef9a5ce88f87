import { sharedAbort } from '../base/shared-abort.js';
import { backoffMs } from '../base/backoff.js';
import { tombstoneMs } from '../journal/attempts.js';
import { TxGroup } from '../db/tx-group.js';
import type { JournalRow } from '../journal/journal.js';
import { rootIno } from '../meta/inode.js';
import type { Key } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import { Composer } from './compose.js';
import { ConflictPolicy, type ConflictReason } from './conflict-policy.js';
import { DueQueue } from './due-queue.js';
import { Filler } from './fill.js';
import { Ledger } from './ledger.js';
import { MultipartSender } from './multipart.js';
import { pendingItem, type PendingRow } from './pending.js';
import type { WritebackDeps } from './ports.js';
import { Reconciler } from './reconcile.js';
import { abortStrays, recoverLocal } from './recovery.js';
import { Resolver } from './resolver.js';
import { PassthroughSealer } from './passthrough-seal.js';
import { PlainSealer, type Sealer } from './seal.js';
import { Sender } from './upload.js';
import { UploadWaiters } from './upload-waiters.js';
import { Walker } from './walks.js';
import { TreeWorld } from './world.js';

export { UploadFailed } from './upload-waiters.js';

/** Tombstones are looked at again this long after they were sent (J6): soon, for the likely case, and until the end. */
const recheckMs = [5_000, 30_000, 120_000, 300_000, tombstoneMs - 60_000];
/** How many who wait for one another's keys are told at once; others look again by themselves. */
const waitersMax = 10_000;
const timerMsMax = 60_000;
const crowd = 4;
const drainHastenMs = 3000;
const drainCountMs = 100;
/** While programs make many changes only so many visits run, unless something has waited so long already. */
const courtesyUploads = 1;
const courtesyMsMax = 15_000;
/** Answers missing in a row before requests are rationed. */
const offlineAfter = 3;

/**
 * The loop that makes S3 hold what the tree says. It owns no state: journal, attempts and object rows are all it needs, so starting is recovering,
 * and stopping anywhere is safe.
 *
 * Invariants: 1. at most one visit, so at most one mutating request, per key (J1). 2. At most `uploadsMax` visits. 3. While S3 does not answer, one
 * visit at a time asks whether it does again, less and less often: an outage costs no CPU and loses nothing.
 */
export class Writeback {
  // dependencies
  private readonly world: TreeWorld;
  private readonly ledger: Ledger;
  private readonly resolver: Resolver;
  private readonly reconciler: Reconciler;
  private readonly multipart: MultipartSender;
  private readonly walker: Walker;
  private readonly uploads: UploadWaiters;
  // state
  private readonly inFlight = new Map<Key, Promise<void>>();
  private readonly due: DueQueue;
  /** key -> keys that wait for it. */
  private readonly waiting = new Map<Key, Set<Key>>();
  private waitingCount = 0;
  /** No debounce, coalescing or courtesy to writers while anybody drains. */
  private drainers = 0;
  private readonly urgent = new Set<Key>();
  private walking: Promise<void> | undefined;
  private rechecking: Promise<void> | undefined;
  private nextRecheckMs = 0;
  /** nonce -> age at which its tombstone is due. Bounded by the attempt table. */
  private readonly rechecked = new Map<string, number>();
  private strays: Promise<void> | undefined;
  private unansweredCount = 0;
  private pausedUntilMs = 0;
  private isRunning = false;
  private timer: NodeJS.Timeout | undefined;
  private pumpQueued = false;
  /** When the timer looks again by itself, monotonic. */
  private nextPumpMs = 0;
  private readonly stopping = sharedAbort();
  private readonly idleListeners = new Set<() => void>();
  private stopMarked: (() => void) | undefined;

  private readonly deps: WritebackDeps;

  constructor(given: Omit<WritebackDeps, 'group'>, sealer?: Sealer) {
    const deps = (this.deps = { ...given, group: new TxGroup(given.db, () => (this.isCrowded ? given.config.groupMs : 0)) });
    this.due = new DueQueue(deps.journal, (key) => this.inFlight.has(key));
    this.world = new TreeWorld(deps);
    this.ledger = new Ledger(deps, this.world);
    this.uploads = new UploadWaiters(deps);
    const policy = new ConflictPolicy(deps, this.ledger, (ino, reason) => this.lost(ino, reason));
    this.resolver = new Resolver(deps, this.ledger, policy);
    const sender = new Sender(deps, this.ledger, sealer ?? new PassthroughSealer(deps, new PlainSealer(deps)));
    this.multipart = new MultipartSender(deps, this.ledger, sender);
    this.walker = new Walker(deps);
    const filler = new Filler(deps, this.world);
    const composer = new Composer(deps, this.world, sender, this.multipart, filler);
    this.reconciler = new Reconciler(deps, this.world, this.ledger, this.resolver, sender, this.multipart, composer, filler, {
      answered: () => this.answered(),
      unanswered: () => this.unanswered(),
      waits: (key, forKey) => this.waits(key, forKey),
      parked: (key, reason, error) => this.uploads.parked(key, reason, error),
      claim: (key) => this.claim(key),
    });
    deps.metrics.gauge('writeback.in_flight', () => this.inFlight.size);
    deps.metrics.gauge('writeback.pending', () => deps.journal.count());
    deps.metrics.gauge('writeback.parked_now', () => deps.journal.parkedCount());
  }

  /** Local part of recovery; to be called before the file system serves. */
  recover(): Promise<void> {
    recoverLocal(this.deps);
    return Promise.resolve();
  }

  start(): void {
    if (this.isRunning) return;
    this.isRunning = true;
    this.stopMarked = this.deps.journal.onMarked((dueMs) => this.marked(dueMs));
    this.strays = abortStrays(this.deps, this.multipart, (key) => this.claim(key), this.stopping.signal);
    this.strays.catch((error: unknown) => this.deps.log.error('looking for stray uploads failed', { room: 'writeback', error }));
    this.wake();
  }

  /** Stops asking, and aborts what is under way: the next start takes it up again. Idempotent. */
  async stop(): Promise<void> {
    this.isRunning = false;
    this.stopMarked?.();
    clearTimeout(this.timer);
    this.stopping.abort();
    await Promise.allSettled([...this.inFlight.values(), this.walking, this.rechecking, this.strays]);
    this.uploads.close();
    this.tellIdle();
  }

  /** Looks for work soon; cheap, from anywhere. */
  wake(): void {
    if (this.pumpQueued || !this.isRunning) return;
    this.pumpQueued = true;
    const pump = (): void => {
      this.pumpQueued = false;
      this.pump();
    };
    if (this.isCrowded) setTimeout(pump, this.deps.config.groupMs);
    else setImmediate(pump);
  }

  /** So many visits end one after the other that those of a few milliseconds are worth putting together. */
  private get isCrowded(): boolean { return this.inFlight.size >= crowd; }

  /** What is due only after the timer's next look needs no look now: a file written all the time costs no queries per write. */
  private marked(dueMs: number): void {
    const { clock } = this.deps;
    if (clock.monotonic() + dueMs - clock.now() < this.nextPumpMs) this.wake();
  }

  /** Works until nothing is due any more at this moment; for tests and for who drives the loop by hand. */
  async runDue(): Promise<void> {
    for (;;) {
      this.pumpOnce();
      const work = [...this.inFlight.values(), ...(this.walking ? [this.walking] : []), ...(this.rechecking ? [this.rechecking] : [])];
      if (work.length === 0) return;
      await Promise.race(work);
    }
  }

  /**
   * Makes everything due and waits until S3 has it, but for what is parked. Resolves at the deadline (milliseconds from now, may be Infinity) all
   * the same. Needs a started loop.
   */
  async drain(options: { readonly signal?: AbortSignal; readonly deadlineMs: number; readonly onProgress?: (remaining: number) => void }): Promise<{ remaining: number }> {
    const { db, journal, clock } = this.deps;
    const end = Number.isFinite(options.deadlineMs) ? AbortSignal.timeout(Math.min(options.deadlineMs, 2 ** 31 - 1)) : undefined;
    const signals = [this.stopping.signal, ...(options.signal ? [options.signal] : []), ...(end ? [end] : [])];
    const signal = AbortSignal.any(signals);
    this.drainers++;
    let hastenAtMs = -Infinity;
    try {
      while (!signal.aborted) {
        const open = journal.count() - journal.parkedCount();
        options.onProgress?.(open);
        if (open === 0 && journal.walks().length === 0 && this.inFlight.size === 0) break;
        // Now and then again, for what was marked meanwhile; not all the time, or who waits for another key would spin.
        if (clock.monotonic() >= hastenAtMs) {
          hastenAtMs = clock.monotonic() + drainHastenMs;
          db.tx(() => journal.hastenWaiting());
        }
        this.wake();
        await this.changed(signal);
        // Counting costs a scan: not after each of ten thousand visits
        const untilMs = clock.monotonic() + drainCountMs;
        while (this.inFlight.size > 0 && clock.monotonic() < untilMs && !signal.aborted) await this.changed(signal);
      }
    } finally {
      this.drainers--;
    }
    return { remaining: journal.count() };
  }

  /**
   * Resolves once S3 holds the inode, content and metadata, at least as new as now, under all its names.
   * @throws UploadFailed if one of them is parked or lost a race; the signal's reason if it aborts.
   */
  waitUploaded(ino: number, signal?: AbortSignal): Promise<void> {
    const waited = this.uploads.wait(ino, signal);
    const inode = this.deps.tree.inodes.get(ino);
    if (inode && ino !== rootIno) {
      this.deps.db.tx(() => {
        for (const key of this.deps.tree.keysOf(inode)) {
          if (!this.deps.journal.has(key)) continue;
          if (this.urgent.size < waitersMax) this.urgent.add(key);
          this.deps.journal.hasten(key);
        }
      });
    }
    this.wake();
    return waited;
  }

  /** Resolves when a request for the key that left, and the visit it belongs to, is over; undefined if there is none. Such a visit waits for no reader. */
  sending(key: Key): Promise<void> | undefined {
    const outcome = this.deps.attempts.get(key)?.outcome;
    return outcome === undefined || outcome === 'tombstone' ? undefined : this.inFlight.get(key);
  }

  /** What S3 lacks, parked first, then oldest first. */
  pending(limit: number): PendingRow[] {
    return this.deps.journal.oldest(limit).map((row) => pendingItem(row, this.world, (ino) => this.deps.hooks.isBusy(ino)));
  }

  private pump(): void {
    if (!this.isRunning) return;
    this.pumpOnce();
    clearTimeout(this.timer);
    const now = this.deps.clock.now();
    const times = [this.deps.journal.nextDueMs(now), this.nextRecheckMs > now ? this.nextRecheckMs : undefined, this.pausedUntilMs > now ? this.pausedUntilMs : undefined]
      .filter((time) => time !== undefined);
    const delayMs = times.length === 0 ? timerMsMax : Math.min(timerMsMax, Math.max(1, Math.min(...times) - now));
    this.nextPumpMs = this.deps.clock.monotonic() + delayMs;
    this.timer = setTimeout(() => this.pump(), delayMs);
    this.timer.unref();
  }

  private pumpOnce(): void {
    if (this.stopping.signal.aborted) return;
    const { journal, clock, config, log } = this.deps;
    this.walking ??= journal.walks().length === 0 ? undefined : this.tracked(this.walker.run(this.stopping.signal), () => {
      this.walking = undefined;
      this.uploads.check();
    });
    const now = clock.now();
    if (now < this.pausedUntilMs) return;
    if (now >= this.nextRecheckMs) this.rechecking ??= this.tracked(this.recheck(), () => (this.rechecking = undefined));
    const slots = (this.unansweredCount >= offlineAfter ? 1 : config.uploadsMax) - this.inFlight.size;
    if (slots <= 0) return;
    let started = 0;
    const limit = this.isForegroundBusy && !isOverdue(this.due.first(now, this.inFlight.size), now) ? Math.min(slots, courtesyUploads - this.inFlight.size) : slots;
    for (let row: JournalRow | undefined; started < limit && (row = this.due.first(now, this.inFlight.size)) !== undefined; started++) {
      const { key } = row;
      let isProgress = false;
      const visit = this.reconciler.visit(key, () => this.drainers > 0 || this.urgent.has(key), this.stopping.signal).then((progress) => void (isProgress = progress));
      this.inFlight.set(key, this.tracked(visit, () => {
        this.inFlight.delete(key);
        if (isProgress) this.visited(key);
      }));
    }
    if (started > 0) log.trace('visiting', { room: 'writeback', started, inFlight: this.inFlight.size });
  }

  /** An untar and its own uploads would share one thread: the program comes first, for a while. Visits that end look again, so one always runs. */
  private get isForegroundBusy(): boolean {
    return this.drainers === 0 && this.urgent.size === 0 && (this.deps.hooks.isForegroundBusy?.() ?? false);
  }

  /** A bug in a visit must not look like a busy one: durable state is involved, so the process stops. */
  private tracked(work: Promise<void>, done: () => void): Promise<void> {
    return work.catch((error: unknown) => {
      this.deps.log.error('write-back failed', { room: 'writeback', error });
      this.deps.db.fail(error instanceof Error ? error : new Error(String(error)));
    }).then(() => {
      done();
      this.wake();
      this.tellIdle();
    });
  }

  private visited(key: Key): void {
    const { db, journal } = this.deps;
    const row = journal.get(key);
    if (row === undefined || row.parked !== null) this.urgent.delete(key);
    this.uploads.check();
    const waiters = this.waiting.get(key);
    if (waiters === undefined || this.stopping.signal.aborted) return;
    this.waiting.delete(key);
    this.waitingCount -= waiters.size;
    db.tx(() => {
      for (const waiter of waiters) journal.hasten(waiter);
    });
  }

  private waits(key: Key, forKey: Key): void {
    if (this.waitingCount >= waitersMax) return;
    let waiters = this.waiting.get(forKey);
    if (!waiters) this.waiting.set(forKey, (waiters = new Set()));
    if (waiters.has(key)) return;
    waiters.add(key);
    this.waitingCount++;
    // Whoever is waited for must not wait for silence or for writers to leave when we may not.
    if (this.drainers > 0 || this.urgent.has(key)) {
      if (this.urgent.size < waitersMax) this.urgent.add(forKey);
      // Its backoff stays: only waits are cut short.
      if (this.deps.journal.get(forKey)?.tries === 0) this.deps.db.tx(() => this.deps.journal.hasten(forKey));
    }
  }

  private claim(key: Key): () => void {
    let release!: () => void;
    this.inFlight.set(key, new Promise((resolve) => (release = resolve)));
    return () => {
      this.inFlight.delete(key);
      release();
      this.wake();
    };
  }

  private async recheck(): Promise<void> {
    const { attempts, clock, db } = this.deps;
    const now = clock.now();
    let next = Infinity;
    for (const attempt of attempts.list('tombstone')) {
      if (this.stopping.signal.aborted) return;
      const ageMs = now - attempt.sentAtMs;
      const dueMs = this.rechecked.get(attempt.nonce) ?? recheckMs[0]!;
      try {
        if (ageMs >= dueMs && !this.inFlight.has(attempt.key)) {
          const release = this.claim(attempt.key);
          try {
            if (ageMs >= tombstoneMs) await this.multipart.dropStray(attempt.key, this.stopping.signal);
            await this.resolver.recheck(attempt, this.stopping.signal);
          } finally {
            release();
          }
          this.rechecked.set(attempt.nonce, recheckMs.find((ms) => ms > ageMs) ?? tombstoneMs);
          if (ageMs >= tombstoneMs) {
            this.rechecked.delete(attempt.nonce);
            db.tx(() => {
              const last = attempts.get(attempt.key);
              if (last?.outcome === 'tombstone' && last.nonce === attempt.nonce) attempts.remove(attempt.key);
            });
            continue;
          }
        }
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        this.rechecked.set(attempt.nonce, ageMs + recheckMs[1]!);
      }
      next = Math.min(next, attempt.sentAtMs + (this.rechecked.get(attempt.nonce) ?? recheckMs[0]!));
    }
    this.nextRecheckMs = Math.max(now + 1000, Math.min(next, now + recheckMs[1]!));
  }

  private answered(): void {
    if (this.unansweredCount >= offlineAfter) {
      this.pausedUntilMs = 0;
      this.deps.db.tx(() => this.deps.journal.hastenRetries()); // the outage is over: nobody sits out its backoff
    }
    this.unansweredCount = 0;
  }

  private unanswered(): void {
    const { clock, random } = this.deps;
    this.unansweredCount++;
    if (this.unansweredCount >= offlineAfter) this.pausedUntilMs = clock.now() + backoffMs(this.unansweredCount - offlineAfter, 500, 15_000, random);
  }

  private lost(ino: number, reason: ConflictReason): void {
    this.deps.db.afterCommit(() => this.uploads.lost(ino, reason));
  }

  /** Resolves when a visit ended or a second passed. */
  private changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.idleListeners.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, 1000);
      this.idleListeners.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  private tellIdle(): void {
    for (const listener of [...this.idleListeners]) listener();
  }
}

/** Courtesy to programs has an end. */
function isOverdue(oldest: JournalRow | undefined, now: number): boolean {
  return oldest !== undefined && oldest.dueMs < now - courtesyMsMax;
}
