/**
 * The one table of mount options. It yields the flags, the HEARTHFS_… environment variables, the keys of the configuration file, `--help` and the
 * table in README.md (a test compares them). Names are stable once released.
 *
 * Where the same option is given more than once: flag before environment before configuration file before default.
 */
import {
  nearest, parseBoolean, parseChoice, parseCount, parseDurationMs, parseEndpoint, parseHostPort, parseId, parseOctal, parsePathText, parseShareOrSize, parseSize, parseText, parseTtlMs,
} from './parse.js';

export interface OptionSpec<T> {
  /** The flag without `--`. The environment variable is HEARTHFS_ plus this in capitals with `_`; the configuration-file key is this. */
  readonly name: string;
  readonly kind: 'boolean' | 'text';
  /** What a value looks like, for help. */
  readonly unit: string;
  /** The default as a user would write it; undefined: none, explained by `why`. */
  readonly default: string | undefined;
  /** Why this default. */
  readonly why: string;
  readonly help: string;
  /** @throws UserError exit code 2. `label` names where the text came from: `--ttl`, `HEARTHFS_TTL`. */
  readonly parse: (text: string, label: string) => T;
}

function option<T>(spec: OptionSpec<T>): OptionSpec<T> {
  return Object.freeze(spec);
}

export const mountOptions = Object.freeze({
  endpoint: option({
    name: 'endpoint', kind: 'text', unit: 'URL', default: undefined, parse: parseEndpoint,
    why: 'AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else AWS', help: 'address of an S3-compatible server',
  }),
  region: option({
    name: 'region', kind: 'text', unit: 'NAME', default: undefined, parse: parseText,
    why: 'the SDK’s own chain (AWS_REGION, profile); us-east-1 with --endpoint', help: 'region of the bucket',
  }),
  profile: option({
    name: 'profile', kind: 'text', unit: 'NAME', default: undefined, parse: parseText,
    why: 'AWS_PROFILE or the default profile', help: 'profile in ~/.aws to take credentials from; secrets never come from flags',
  }),
  pathStyle: option({
    name: 'path-style', kind: 'boolean', unit: '', default: undefined, parse: parseBoolean,
    why: 'on with --endpoint, since most other servers know only that; off at AWS', help: 'put the bucket into the path of the URL instead of the host name',
  }),
  cacheDir: option({
    name: 'cache-dir', kind: 'text', unit: 'DIR', default: undefined, parse: parsePathText,
    why: 'a directory of its own per bucket, prefix and endpoint below /var/cache/hearthfs (root) or ~/.cache/hearthfs',
    help: 'local directory for cached files and the journal of what S3 lacks; must be a local disk',
  }),
  cacheSize: option({
    name: 'cache-size', kind: 'text', unit: 'SIZE', default: '20GiB', parse: parseSize,
    why: 'enough to keep a working set; unless given, never more than half of the disk', help: 'most bytes the cache may hold, not yet uploaded ones included',
  }),
  minFree: option({
    name: 'min-free', kind: 'text', unit: 'PERCENT|SIZE', default: '5%', parse: parseShareOrSize,
    why: 'other programs need the disk, too', help: 'space of the disk that the cache leaves free',
  }),
  writeMode: option({
    name: 'write-mode', kind: 'text', unit: 'back|through', default: 'back', parse: parseChoice('back', 'through'),
    why: 'an outage of S3 must not stop writers', help: 'back: close returns at once and the upload follows; through: close waits for the upload',
  }),
  fsync: option({
    name: 'fsync', kind: 'text', unit: 'local|remote', default: 'local', parse: parseChoice('local', 'remote'),
    why: 'what a local disk promises: it survives power loss', help: 'what fsync waits for: the local disk, or the upload to S3',
  }),
  readMode: option({
    name: 'read-mode', kind: 'text', unit: 'stream|store', default: 'stream', parse: parseChoice('stream', 'store'),
    why: 'first byte as early as possible', help: 'stream: answer reads while the file is still coming; store: fetch whole files first',
  }),
  ttl: option({
    name: 'ttl', kind: 'text', unit: 'DURATION|exclusive', default: '60s', parse: parseTtlMs,
    why: 'changes of other writers show within a minute at little cost', help: 'how long what S3 said is trusted; exclusive: nobody else writes to the bucket',
  }),
  attributes: option({
    name: 'attributes', kind: 'text', unit: 'full|listing', default: 'full', parse: parseChoice('full', 'listing'),
    why: 'mode, owner and exact times are right', help: 'full: one HEAD per file for mode, owner, nanoseconds; listing: only size and date, faster',
  }),
  readOnly: option({
    name: 'read-only', kind: 'boolean', unit: '', default: 'false', parse: parseBoolean, why: 'most mounts are written to', help: 'refuse all changes',
  }),
  uid: option({
    name: 'uid', kind: 'text', unit: 'NUMBER', default: undefined, parse: parseId, why: 'the user who mounts', help: 'owner of objects that carry none',
  }),
  gid: option({
    name: 'gid', kind: 'text', unit: 'NUMBER', default: undefined, parse: parseId, why: 'the group of the user who mounts', help: 'group of objects that carry none',
  }),
  umask: option({
    name: 'umask', kind: 'text', unit: 'OCTAL', default: '022', parse: parseOctal, why: 'files 644, directories 755', help: 'permission bits taken from objects that carry none',
  }),
  allowOther: option({
    name: 'allow-other', kind: 'boolean', unit: '', default: undefined, parse: parseBoolean,
    why: 'on for root, whose mounts serve other users’ programs; off else', help: 'let other users in, subject to permissions; needs user_allow_other in /etc/fuse.conf unless root',
  }),
  allowSuid: option({
    name: 'allow-suid', kind: 'boolean', unit: '', default: 'false', parse: parseBoolean,
    why: 'whoever can write to the bucket could become root here', help: 'let setuid and setgid programs run as who they belong to (root only)',
  }),
  allowDev: option({
    name: 'allow-dev', kind: 'boolean', unit: '', default: 'false', parse: parseBoolean,
    why: 'whoever can write to the bucket could reach every device here', help: 'let device nodes be opened (root only)',
  }),
  atime: option({
    name: 'atime', kind: 'text', unit: 'relatime|noatime|strictatime', default: 'relatime', parse: parseChoice('relatime', 'noatime', 'strictatime'),
    why: 'what local disks do', help: 'when reading a file moves its access time: if it says something new, never, or always',
  }),
  transport: option({
    name: 'transport', kind: 'text', unit: 'kernel', default: 'kernel', parse: parseChoice('kernel'), why: 'the only one in this version', help: 'how to talk to the kernel',
  }),
  passthrough: option({
    name: 'passthrough', kind: 'text', unit: 'auto|off', default: 'auto', parse: parseChoice('auto', 'off'), why: 'hot files at the speed of the local disk',
    help: 'let the kernel read and write cached files itself (root, Linux 6.9 or later)',
  }),
  metrics: option({
    name: 'metrics', kind: 'text', unit: 'HOST:PORT', default: undefined, parse: parseHostPort, why: 'off', help: 'serve Prometheus metrics at http://HOST:PORT/metrics',
  }),
  logLevel: option({
    name: 'log-level', kind: 'text', unit: 'LEVEL', default: 'info', parse: parseChoice('error', 'warn', 'info', 'debug', 'trace'),
    why: 'one line per event worth knowing', help: 'error, warn, info, debug or trace',
  }),
  logFile: option({
    name: 'log-file', kind: 'text', unit: 'FILE', default: undefined, parse: parsePathText, why: 'standard error with --foreground, else hearthfs.log in the cache directory', help: 'where to log',
  }),
  foreground: option({
    name: 'foreground', kind: 'boolean', unit: '', default: 'false', parse: parseBoolean, why: 'the command returns once the mount serves', help: 'stay, log to standard error, unmount at Ctrl-C; for systemd and containers',
  }),
  deadline: option({
    name: 'deadline', kind: 'text', unit: 'DURATION', default: '10s', parse: parseDurationMs(100),
    why: 'longer than a retry, shorter than patience', help: 'how long an operation may wait for S3 before it fails with EIO',
  }),
  uploadDelay: option({
    name: 'upload-delay', kind: 'text', unit: 'DURATION', default: '1s', parse: parseDurationMs(0),
    why: 'write, rename, chmod become one upload', help: 'how long after its last change a file is uploaded',
  }),
  journalInterval: option({
    name: 'journal-interval', kind: 'text', unit: 'DURATION', default: '1s', parse: parseDurationMs(10),
    why: 'what a power cut can cost without fsync', help: 'how often accepted changes become journaled by themselves',
  }),
  workers: option({
    name: 'workers', kind: 'text', unit: 'NUMBER', default: '2', parse: parseCount(1, 64), why: 'saturates 10 Gbit/s; each costs about 40 MB', help: 'threads that talk to S3',
  }),
  uploads: option({
    name: 'uploads', kind: 'text', unit: 'NUMBER', default: '64', parse: parseCount(1, 1024), why: 'hides 50 ms per small file; what is in memory at once is bounded apart from it', help: 'most uploads at the same time',
  }),
  downloads: option({
    name: 'downloads', kind: 'text', unit: 'NUMBER', default: '64', parse: parseCount(1, 4096), why: 'AWS gives 40 to 90 MB/s per connection', help: 'most downloads and listings at the same time',
  }),
} as const);

export type MountOptions = { [K in keyof typeof mountOptions]?: ReturnType<(typeof mountOptions)[K]['parse']> };

export function environmentName(option: { readonly name: string }): string {
  return `HEARTHFS_${option.name.toUpperCase().replaceAll('-', '_')}`;
}

/** Variables that are options of no release but look like a mistyped one, each as a sentence. */
export function mistypedVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const prefix = 'HEARTHFS_';
  const known = [...Object.values(mountOptions).map((option) => environmentName(option).slice(prefix.length)), 'CONFIG', 'DEBUG'];
  return Object.keys(env).filter((name) => name.startsWith(prefix) && !known.includes(name.slice(prefix.length))).flatMap((name) => {
    const guess = nearest(name.slice(prefix.length), known);
    return guess === undefined ? [] : [`${name} is no option and has no effect; did you mean ${prefix}${guess}?`];
  });
}

/** The Markdown table of README.md, between its two markers. */
export function optionsTable(): string {
  const rows = Object.values(mountOptions).map((spec) => {
    const flag = `\`--${spec.name}${spec.unit ? ` ${spec.unit.replaceAll('|', '\\|')}` : ''}\``;
    const value = spec.default === undefined ? '' : spec.kind === 'boolean' ? (spec.default === 'true' ? 'on' : 'off') : `\`${spec.default}\``;
    return `| ${flag} | ${value} | ${spec.help} (${value ? 'default because' : 'default:'} ${spec.why}) |`;
  });
  return ['| option | default | meaning |', '|---|---|---|', ...rows].join('\n');
}
