/** A `ControlTarget` without a mount behind it, for tests of the socket and of the command line. */
import type { ControlTarget, EvictResult, PendingItem, Progress, Stats, Status, SyncResult, UnmountResult, WarmResult } from './api.js';

export class FakeTarget implements ControlTarget {
  failWith: Error | undefined;
  /** Settles when a `sync` that waits was given up by its caller. */
  readonly syncAborted: Promise<void>;
  private aborted!: () => void;
  readonly requests: unknown[] = [];
  pendingItems: PendingItem[] = [
    { key: 'a.txt', path: 'a.txt', what: 'upload', sizeBytes: 1536, sinceMs: 65_000, tries: 3, parkedReason: 'access-denied', error: 'AccessDenied', waitsFor: null },
    { key: 'b/c.txt', path: null, what: 'delete', sizeBytes: 0, sinceMs: 1_000, tries: 0, parkedReason: null, error: null, waitsFor: null },
  ];

  constructor(public over: Partial<Status> = {}) {
    this.syncAborted = new Promise((resolve) => (this.aborted = resolve));
  }

  status(): Status {
    return {
      mountpoint: '/mnt/x', bucket: 'bucket', prefix: 'photos/', endpoint: null, state: 'ok', since: '2025-01-02T03:04:05.000Z', supervisorPid: 10, daemonPid: 11,
      transport: 'kernel', passthrough: true, pending: 2, dirtyBytes: 1536, cacheBytes: 5 * 2 ** 30, cacheLimitBytes: 20 * 2 ** 30, parked: 1, conflicts: 1,
      version: '0.1.0', uptimeMs: 3_723_000, readOnly: false, lastError: null, ...this.over,
    };
  }

  stats(): Stats {
    return {
      uptimeMs: 3_723_000, hitRatio: 0.875, hitRatioBytes: 0.5, gauges: { 'cache.used_bytes': 1234 }, counters: { 's3.requests_get': 12, 'cache.hit_bytes': 7000 },
      latencies: { 'fuse.request_latency_us': { count: 4, sumUs: 100, p50Us: 16, p99Us: 64, maxUs: 70 } },
    };
  }

  pending(limit: number): PendingItem[] { return this.pendingItems.slice(0, limit); }

  conflicts() {
    return [{ id: 1, key: 'a.txt', keptAs: 'a.hearthfs-conflict-1.txt', reason: 'replaced by another writer', at: '2025-01-02T03:04:05.000Z' }];
  }

  async sync(o: { wait: boolean; path?: string; signal: AbortSignal; onProgress(p: Progress): void }): Promise<SyncResult> {
    this.requests.push({ wait: o.wait, path: o.path });
    if (!o.wait || this.pendingItems.length === 0) return { remaining: this.pendingItems.length, parked: this.pendingItems.filter((item) => item.parkedReason) };
    o.onProgress(step(1));
    await new Promise<void>((resolve) => o.signal.addEventListener('abort', () => resolve(), { once: true }));
    this.aborted();
    return { remaining: 2, parked: [] };
  }

  async warm(o: { path: string; onProgress(p: Progress): void }): Promise<WarmResult> {
    this.requests.push({ path: o.path });
    for (const n of [1, 2, 3]) o.onProgress(step(n));
    return { files: 3, bytes: 300, failed: [] };
  }

  async evict(o: { path?: string; bytes?: number }): Promise<EvictResult> {
    this.requests.push({ path: o.path, bytes: o.bytes });
    if (this.failWith) throw this.failWith;
    return { files: 2, bytes: 2048, skipped: 1 };
  }

  async doctor() {
    return { checks: [{ name: 'hidden keys', ok: 'warn' as const, detail: '2 keys are no paths: a//b, ..', advice: 'rename them with an S3 tool' }] };
  }

  async unmount(o: { drainTimeoutMs: number; lazy: boolean }): Promise<UnmountResult> {
    this.requests.push({ drainTimeoutMs: o.drainTimeoutMs, lazy: o.lazy });
    return { unmounted: true, remaining: [], reason: null };
  }
}

function step(n: number): Progress {
  return { doneItems: n, totalItems: 3, doneBytes: n * 100, totalBytes: 300, current: `file-${n}` };
}
