/**
 * What the command line and a running daemon say to each other: all requests and answers, and the interface the daemon
 * implements (`daemon/control-target.ts`). Everything here travels as JSON over the unix socket and is printed by `--json`, so names
 * are a contract with scripts: add fields, never rename or drop one.
 *
 * 1. Paths are relative to the mountpoint, `/`-separated, without a leading or trailing slash; `''` is the whole mount.
 * 2. An absent value is `null`, never a missing field.
 * 3. Durations are milliseconds (`...Ms`), sizes bytes (`...Bytes`), moments ISO 8601 in UTC.
 */
import type { LatencySummary } from '../base/metrics.js';

/** `degraded`: works, but something needs attention (parked, S3 slow); `offline`: S3 does not answer; `draining`: unmounting. */
export type MountState = 'ok' | 'degraded' | 'offline' | 'draining';

export interface Status {
  readonly mountpoint: string;
  readonly bucket: string;
  /** `''`, or ends in `/`. */
  readonly prefix: string;
  /** null: AWS. */
  readonly endpoint: string | null;
  readonly state: MountState;
  /** When `state` became what it is. */
  readonly since: string;
  readonly supervisorPid: number;
  readonly daemonPid: number;
  readonly transport: 'kernel' | 'fuse-native';
  readonly passthrough: boolean;
  /** Things S3 does not know yet. */
  readonly pending: number;
  /** Bytes of content S3 does not hold yet. */
  readonly dirtyBytes: number;
  readonly cacheBytes: number;
  readonly cacheLimitBytes: number;
  /** Things among `pending` that will not be tried again without a change or a person. */
  readonly parked: number;
  readonly conflicts: number;
  readonly version: string;
  readonly uptimeMs: number;
  readonly readOnly: boolean;
  readonly lastError: { readonly message: string; readonly at: string } | null;
}

/** `Metrics.snapshot()` and what people derive from it. */
export interface Stats {
  readonly uptimeMs: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly gauges: Readonly<Record<string, number>>;
  readonly latencies: Readonly<Record<string, LatencySummary>>;
  /** Of the files opened for reading, the share that was here whole, 0 to 1; null before the first. The only ratio that covers reads in passthrough. */
  readonly hitRatio: number | null;
  /** Of the bytes read through the daemon, the share that had not to come from S3 since the file was opened; null before the first. Kernel caches and passthrough are not in it. */
  readonly hitRatioBytes: number | null;
}

export interface PendingItem {
  /** Relative to the mount's prefix. */
  readonly key: string;
  /** Where the file is in the mount now; null for a key that has no file any more (a delete). */
  readonly path: string | null;
  readonly what: 'upload' | 'metadata' | 'copy' | 'delete';
  readonly sizeBytes: number;
  /** For how long S3 has been lacking this. */
  readonly sinceMs: number;
  readonly tries: number;
  /** Why it will not be tried again by itself; null: it will. */
  readonly parkedReason: string | null;
  /** The last failure, for people. */
  readonly error: string | null;
  /** What it waits for now: another key, a writer, a connection; null: nothing, its turn comes. */
  readonly waitsFor: string | null;
}

export interface ConflictItem {
  readonly id: number;
  readonly key: string;
  /** The key (or path) under which the loser was kept; null: nothing had to be kept. */
  readonly keptAs: string | null;
  readonly reason: string;
  readonly at: string;
}

/** How far a long command is. Totals may grow while it runs; null: not known yet. */
export interface Progress {
  readonly doneItems: number;
  readonly totalItems: number | null;
  readonly doneBytes: number;
  readonly totalBytes: number | null;
  /** The path being worked on, or a word such as `uploading`. */
  readonly current: string | null;
}

export interface SyncResult {
  /** Things S3 still lacks; 0 after a successful `sync --wait`. */
  readonly remaining: number;
  readonly parked: readonly PendingItem[];
}

export interface WarmResult {
  readonly files: number;
  readonly bytes: number;
  /** Files that could not be read, with the reason; at most 100. */
  readonly failed: readonly { readonly path: string; readonly reason: string }[];
}

export interface EvictResult {
  readonly files: number;
  readonly bytes: number;
  /** Files left alone because they are dirty, pinned or open. */
  readonly skipped: number;
}

export interface UnmountResult {
  readonly unmounted: boolean;
  /** What S3 lacks at the end; kept in the cache directory for the next mount. */
  readonly remaining: readonly PendingItem[];
  readonly reason: string | null;
}

export interface DoctorCheck {
  readonly name: string;
  readonly ok: 'ok' | 'warn' | 'fail';
  readonly detail: string;
  /** What to do about it; null where nothing needs doing. */
  readonly advice: string | null;
}

export interface DoctorFacts {
  readonly checks: readonly DoctorCheck[];
}

export interface SyncRequest { readonly wait: boolean; readonly path: string | null }
export interface WarmRequest { readonly path: string }
/** A path (and everything below it), or as many bytes as asked, coldest first; both null: everything clean. */
export interface EvictRequest { readonly path: string | null; readonly bytes: number | null }
export interface UnmountRequest { readonly drainTimeoutMs: number; readonly lazy: boolean }
export interface PendingRequest { readonly limit: number }

/** Command name on the wire -> [request, answer]. */
export interface Api {
  status: [Record<string, never>, Status];
  stats: [Record<string, never>, Stats];
  pending: [PendingRequest, { readonly items: readonly PendingItem[] }];
  conflicts: [Record<string, never>, { readonly items: readonly ConflictItem[] }];
  sync: [SyncRequest, SyncResult];
  warm: [WarmRequest, WarmResult];
  evict: [EvictRequest, EvictResult];
  doctor: [Record<string, never>, DoctorFacts];
  unmount: [UnmountRequest, UnmountResult];
}
export type Command = keyof Api;
export type RequestOf<C extends Command> = Api[C][0];
export type ResultOf<C extends Command> = Api[C][1];

interface Running {
  /** Fires when the command line goes away (Ctrl-C): stop, nothing is owed. */
  readonly signal: AbortSignal;
  onProgress(progress: Progress): void;
}

/**
 * What the daemon does for the control server. A `UserError` thrown here is shown as its sentence; any other error is a bug in the daemon: logged
 * there, and shown with its message.
 */
export interface ControlTarget {
  status(): Status;
  stats(): Stats;
  /** Oldest first, parked ones before all others; at most `limit`. */
  pending(limit: number): PendingItem[];
  conflicts(): ConflictItem[];
  sync(o: { wait: boolean; path?: string } & Running): Promise<SyncResult>;
  warm(o: { path: string } & Running): Promise<WarmResult>;
  evict(o: { path?: string; bytes?: number } & Running): Promise<EvictResult>;
  doctor(): Promise<DoctorFacts>;
  /**
   * Drains for at most `drainTimeoutMs` (0: not at all) and then has the mount detached. `unmounted: false` with a reason if it is busy and not `lazy`.
   * The caller learns the answer before the daemon exits. A caller that goes away does not stop it.
   */
  unmount(o: { drainTimeoutMs: number; lazy: boolean; onProgress(progress: Progress): void }): Promise<UnmountResult>;
}

/** The share of hits. Nothing counted yet: null. */
export function hitRatio(hits: number, misses: number): number | null {
  const all = hits + misses;
  return all === 0 ? null : hits / all;
}
