/** Everything a mount is started with, resolved and validated by `cli/options.ts`; travels to the supervisor and the daemon as JSON. */
export interface MountConfig {
  readonly bucket: string;
  /** `''`, or ends in `/`. */
  readonly prefix: string;
  /** Absolute. */
  readonly mountpoint: string;
  readonly endpoint?: string;
  readonly region?: string;
  readonly profile?: string;
  readonly pathStyle: boolean;
  /** Absolute; this mount's own directory (the user's --cache-dir, or a per-bucket default below it). */
  readonly cacheDir: string;
  readonly cacheSizeBytes: number;
  readonly minFree: { readonly percent: number } | { readonly bytes: number };
  readonly writeMode: 'back' | 'through';
  readonly fsync: 'local' | 'remote';
  readonly readMode: 'stream' | 'store';
  /** Milliseconds S3 is trusted not to have changed; `null` is exclusive: nobody else writes. */
  readonly ttlMs: number | null;
  readonly attributes: 'full' | 'listing';
  readonly readOnly: boolean;
  /** Owner and permission bits of objects that carry no metadata. */
  readonly uid: number;
  readonly gid: number;
  readonly umask: number;
  readonly allowOther: boolean;
  /** setuid programs and device nodes of the mount work; else it is nosuid, nodev. */
  readonly suid: boolean;
  readonly dev: boolean;
  /** When reading a file moves its atime. */
  readonly atime: 'relatime' | 'noatime' | 'strictatime';
  readonly transport: 'kernel';
  /** `auto`: wherever the kernel allows it. */
  readonly passthrough: 'auto' | 'off';
  /** host:port of the Prometheus endpoint. */
  readonly metrics?: string;
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug' | 'trace';
  /** Absolute path; undefined: standard error when in the foreground, else `<cacheDir>/hearthfs.log`. */
  readonly logFile?: string;
  readonly foreground: boolean;
  /** Seconds a metadata request may wait for S3 before it fails with EIO (promise 5). */
  readonly deadlineMs: number;
  /** How long after the last change an object is uploaded (J11). */
  readonly uploadDelayMs: number;
  /** How often accepted changes become journaled by themselves. */
  readonly journalIntervalMs: number;
  readonly transferWorkers: number;
  readonly uploadsMax: number;
  readonly downloadsMax: number;
}
