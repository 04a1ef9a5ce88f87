/** Which room may import which, and which may touch the world. One table; `rooms.test.ts` holds the source against it. */
export const mayImport = {
  base: [],
  db: ['base'], s3: ['base'], cache: ['base', 'db'], fuse: ['base'], control: ['base'],
  transfer: ['base', 's3'],
  meta: ['base', 'db', 's3'], // s3: types of object-store.ts (keys, etags, attributes)
  journal: ['base', 'db', 's3'], // the same
  prefetch: ['base', 'cache', 'transfer', 's3'],
  writeback: ['base', 'db', 'meta', 'journal', 'cache', 'prefetch', 'transfer', 's3'],
  fs: ['base', 'db', 'meta', 'journal', 'cache', 'prefetch', 'writeback', 'fuse', 's3'], // fuse: ops.ts, types only
  http: ['base', 'control'],
  daemon: ['base', 'db', 's3', 'transfer', 'meta', 'journal', 'cache', 'prefetch', 'writeback', 'fs', 'fuse', 'control', 'http'],
  cli: ['base', 'control', 'daemon'],
} as const satisfies Record<string, readonly string[]>;

export type Room = keyof typeof mayImport;

/**
 * The ambient world: time, chance, environment and files come as arguments, except where a room's whole purpose is the thing itself. `base` and
 * `daemon` may all. Measuring how long something took (performance.now) is free. A file or room here has a reason beside it.
 */
export const mayTouch: Readonly<Record<'time' | 'chance' | 'environment' | 'files', readonly string[]>> = {
  time: [
    'base', 'daemon',
    's3/s3-context.ts', // Retry-After may be a date
  ],
  chance: [
    'base', 'daemon',
    's3/retry-store.ts', // jitter, replaceable
  ],
  environment: [
    'base', 'daemon',
    'cli/main.ts', // makes the World every command gets
    's3/aws-config.ts', // AWS_REGION and friends, as the SDK's own chain reads them
    's3/s3-store.ts', // AWS_CA_BUNDLE, the same
    'fuse/mount.ts', // fusermount3 inherits it
  ],
  files: [
    'base', 'daemon',
    'cli', // configuration files, mountpoints
    'cache', // content files are its purpose
    'db', // the database's files: locks, WAL
    'fuse', // /dev/fuse, mount table
    'transfer', // workers read and write content files
    's3', // a body may be a file
    'writeback', // seals content files (S2, S3)
    'control', // its socket file
  ],
};
