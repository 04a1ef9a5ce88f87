import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { Semaphore } from '../base/semaphore.js';
import type { ConflictItem, ControlTarget, DoctorCheck, DoctorFacts, EvictResult, MountState, PendingItem, Progress, Stats, Status, SyncResult, UnmountResult, WarmResult } from '../control/api.js';
import { hitRatio } from '../control/api.js';
import type { Parts } from './compose.js';
import { version } from './version.js';
import { filesBelow, resolvePath } from './walk-tree.js';

const warmParallel = 16;
const failuresShown = 100;
const hiddenShown = 50;

export interface ControlDeps extends Parts {
  readonly log: Log;
  readonly metrics: Metrics;
  readonly supervisorPid: number;
  readonly startedAtMs: number;
  /** Has the supervisor unmount; answers undefined on success, else the reason. */
  readonly unmount: (lazy: boolean) => Promise<string | undefined>;
}

/** What the command line asks of a running daemon. */
export class DaemonControl implements ControlTarget {
  private draining = false;
  private unmounting: Promise<unknown> | undefined;
  private state: { value: MountState; since: number };

  constructor(private readonly deps: ControlDeps) {
    this.state = { value: 'ok', since: deps.startedAtMs };
  }

  status(): Status {
    const { config, contents, journal, conflicts, health, clock } = this.deps;
    const stats = contents.stats();
    const value = this.currentState();
    // Seen only now, but S3's health knows since when; a change that is not its own (parked, draining) began after it
    if (value !== this.state.value) this.state = { value, since: health.status.sinceMs > this.state.since ? health.status.sinceMs : clock.now() };
    const { lastError } = health.status;
    return {
      mountpoint: config.mountpoint, bucket: config.bucket, prefix: config.prefix, endpoint: config.endpoint ?? null, state: value,
      since: new Date(this.state.since).toISOString(), supervisorPid: this.deps.supervisorPid, daemonPid: process.pid, transport: 'kernel', passthrough: this.deps.fs.passthrough.enabled,
      pending: journal.count() + journal.walks().length, dirtyBytes: stats.dirtyBytes, cacheBytes: stats.cacheBytes, cacheLimitBytes: stats.limitBytes,
      parked: journal.parkedCount(), conflicts: conflicts.count(), version, uptimeMs: clock.now() - this.deps.startedAtMs, readOnly: config.readOnly,
      lastError: lastError === undefined ? null : { message: lastError, at: new Date(health.status.sinceMs).toISOString() },
    };
  }

  private currentState(): MountState {
    if (this.draining) return 'draining';
    const { health, journal } = this.deps;
    if (health.isOffline) return 'offline';
    return health.status.state === 'ok' && journal.parkedCount() === 0 ? 'ok' : 'degraded';
  }

  stats(): Stats {
    const { metrics, clock } = this.deps;
    const snapshot = metrics.snapshot();
    return {
      uptimeMs: clock.now() - this.deps.startedAtMs, ...snapshot, hitRatio: hitRatio(metrics.get('cache.hit_files'), metrics.get('cache.miss_files')),
      hitRatioBytes: hitRatio(metrics.get('cache.hit_bytes'), metrics.get('cache.miss_bytes')),
    };
  }

  pending(limit: number): PendingItem[] {
    const now = this.deps.clock.now();
    return this.deps.writeback.pending(limit).map((item) => ({ ...item, path: item.path ?? null, sinceMs: now - item.sinceMs }));
  }

  conflicts(): ConflictItem[] {
    return this.deps.conflicts.list(1000).map((row) => ({ id: row.id, key: row.key, keptAs: row.keptAs, reason: row.reason, at: new Date(row.atMs).toISOString() }));
  }

  async sync(o: { wait: boolean; path?: string; signal: AbortSignal; onProgress(progress: Progress): void }): Promise<SyncResult> {
    const { db, journal, writeback, fs } = this.deps;
    await fs.durability.all();
    db.tx(() => {
      journal.unparkAll();
      journal.hastenAll();
    });
    writeback.wake();
    if (o.wait) await this.drain(Infinity, o.signal, o.onProgress);
    return { remaining: journal.count() + journal.walks().length, parked: this.pending(1000).filter((item) => item.parkedReason !== null) };
  }

  private async drain(deadlineMs: number, signal: AbortSignal | undefined, onProgress: (progress: Progress) => void): Promise<void> {
    const { journal, writeback } = this.deps;
    let total = 0;
    const report = (): void => {
      const left = journal.count() - journal.parkedCount();
      total = Math.max(total, left);
      onProgress({ doneItems: total - left, totalItems: total, doneBytes: 0, totalBytes: null, current: null });
    };
    const timer = setInterval(report, 200);
    try {
      await writeback.drain({ deadlineMs, ...(signal && { signal }) });
    } finally {
      clearInterval(timer);
      report();
    }
  }

  async warm(o: { path: string; signal: AbortSignal; onProgress(progress: Progress): void }): Promise<WarmResult> {
    const { tree, fs, reader } = this.deps;
    const start = await resolvePath(tree, fs, o.path, o.signal);
    const parallel = new Semaphore(warmParallel);
    const failed: { path: string; reason: string }[] = [];
    const running = new Set<Promise<void>>();
    let files = 0, bytes = 0, seen = 0, seenBytes = 0;
    for await (const inode of filesBelow(tree, fs, start, o.signal, true)) {
      seen++;
      seenBytes += inode.sizeBytes;
      const release = await parallel.acquire();
      const path = tree.pathOf(inode.ino) ?? `inode ${inode.ino}`;
      const job = (async () => {
        try {
          if (inode.sizeBytes > 0) await reader.fetchWhole(fs.contents.source(inode, fs.contents.file(inode)), o.signal);
          files++;
          bytes += inode.sizeBytes;
        } catch (error) {
          if (failed.length < failuresShown) failed.push({ path, reason: error instanceof Error ? error.message : String(error) });
        } finally {
          release();
          o.onProgress({ doneItems: files + failed.length, totalItems: seen, doneBytes: bytes, totalBytes: seenBytes, current: path });
        }
      })();
      running.add(job);
      void job.then(() => running.delete(job));
    }
    await Promise.all(running);
    return { files, bytes, failed };
  }

  async evict(o: { path?: string; bytes?: number; signal: AbortSignal; onProgress(progress: Progress): void }): Promise<EvictResult> {
    const { tree, fs, contents } = this.deps;
    if (o.path === undefined) {
      const all = o.bytes === undefined;
      const done = await contents.evict({ bytes: o.bytes ?? Number.MAX_SAFE_INTEGER });
      return { ...done, skipped: all ? contents.stats().files : 0 };
    }
    const start = await resolvePath(tree, fs, o.path, o.signal);
    const ids: number[] = [];
    for await (const inode of filesBelow(tree, fs, start, o.signal, false)) if (inode.content !== null && fs.contents.existing(inode)) ids.push(inode.content);
    const done = await contents.evict({ ids });
    o.onProgress({ doneItems: done.files, totalItems: ids.length, doneBytes: done.bytes, totalBytes: null, current: null });
    return { ...done, skipped: ids.length - done.files };
  }

  doctor(): Promise<DoctorFacts> {
    const { capabilities, fs, journal, conflicts, config } = this.deps;
    const checks: DoctorCheck[] = [];
    const ignored = (['putIfNoneMatch', 'putIfMatch', 'deleteIfMatch', 'copyIfMatch', 'completeIfMatch'] as const).filter((name) => !capabilities[name]);
    checks.push(capabilities.readOnly || config.readOnly
      ? { name: 'write access', ok: capabilities.readOnly && !config.readOnly ? 'warn' : 'ok', detail: 'mounted read-only', advice: null }
      : ignored.length === 0
        ? { name: 'conditional writes', ok: 'ok', detail: 'the server honours every condition: lost updates are prevented', advice: null }
        : { name: 'conditional writes', ok: 'warn', detail: `the server ignores ${ignored.join(', ')}: lost updates there are detected, not prevented`, advice: 'Let no other client write the same objects, or use a server that honours conditions.' });
    checks.push(fs.hidden.count === 0
      ? { name: 'hidden keys', ok: 'ok', detail: 'every key seen so far is a path', advice: null }
      : {
        name: 'hidden keys', ok: 'warn', detail: `${fs.hidden.count} keys (or all that begins with them) are no paths and are not shown: ${fs.hidden.samples(hiddenShown).map((key) => JSON.stringify(key)).join(', ')}${fs.hidden.count > hiddenShown ? ', ...' : ''}`,
        advice: 'Rename them with another S3 tool; names such as "a//b", "." or "..", names over 255 bytes, and an object "a" beside "a/..." cannot be shown.',
      });
    checks.push(journal.parkedCount() === 0
      ? { name: 'parked changes', ok: 'ok', detail: 'nothing needs help', advice: null }
      : { name: 'parked changes', ok: 'fail', detail: `${journal.parkedCount()} changes cannot be uploaded`, advice: 'See `hearthfs pending` for the reasons; after fixing them run `hearthfs sync`.' });
    if (conflicts.count() > 0) checks.push({ name: 'conflicts', ok: 'warn', detail: `${conflicts.count()} lost races were kept beside the winners`, advice: 'See `hearthfs conflicts`.' });
    return Promise.resolve({ checks });
  }

  /** Has an `unmount` command begun? Then when it has its answer: it comes after the mount is gone, and the daemon must not leave before. */
  get unmounted(): Promise<unknown> | undefined { return this.unmounting; }

  unmount(o: { drainTimeoutMs: number; lazy: boolean; onProgress(progress: Progress): void }): Promise<UnmountResult> {
    const work = this.unmountAndDrain(o);
    this.unmounting = work.catch(() => undefined); // told to who asked
    return work;
  }

  private async unmountAndDrain(o: { drainTimeoutMs: number; lazy: boolean; onProgress(progress: Progress): void }): Promise<UnmountResult> {
    const { fs, journal, db, writeback, log } = this.deps;
    this.draining = true;
    const reason = await this.deps.unmount(o.lazy);
    if (reason !== undefined) {
      this.draining = false;
      return { unmounted: false, remaining: [], reason };
    }
    await fs.durability.all();
    if (o.drainTimeoutMs > 0) {
      db.tx(() => journal.hastenAll());
      writeback.wake();
      await this.drain(o.drainTimeoutMs, undefined, o.onProgress);
    }
    const remaining = this.pending(1000);
    if (remaining.length > 0) log.warn('unmounted with changes that S3 does not have yet; they stay in the cache directory', { room: 'daemon', pending: journal.count() });
    return { unmounted: true, remaining, reason: null };
  }
}
