/** The peers, with the options their own documentation recommends for speed and for use as a POSIX directory; the results name them. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { delay, dyingWithUs, hasProgram, isAlive, kill9, run, until } from '../../test/support/child.js';
import { mountedAt } from '../../test/support/mount.js';
import { bucket } from './s3-side.js';
import type { Mounted, Place, System } from './systems.js';

const uploadTimeoutMs = 900_000;

/** A daemon that unmounts and ends when the benchmark does, however that ends. */
export function start(command: string, args: readonly string[], place: Place, options: { env?: Record<string, string>; without?: readonly string[] } = {}): ChildProcess {
  const log = openSync(path.join(place.dir, 'log'), 'a');
  const env: NodeJS.ProcessEnv = { ...process.env, ...options.env };
  for (const name of options.without ?? []) delete env[name];
  const child = spawn(...dyingWithUs('TERM', [command, ...args]), { env, stdio: ['ignore', log, log], cwd: '/' });
  closeSync(log);
  return child;
}

export async function ready(child: ChildProcess, mountpoint: string, place: Place): Promise<void> {
  await until(`${mountpoint} is mounted`, () => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: see ${place.dir}/log`);
    return mountedAt(mountpoint);
  }, 30_000, 10);
}

/** Whatever state it is in: nothing is mounted and none of its processes is left afterwards. @param pids more of them than the child. */
export async function detach(child: ChildProcess, mountpoint: string, pids: readonly number[] = []): Promise<void> {
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  for (let i = 0; i < 50 && mountedAt(mountpoint); i++) {
    if ((await run('umount', [mountpoint], { check: false, timeoutMs: 60_000 })).code === 0) break;
    await delay(200);
  }
  if (mountedAt(mountpoint)) await run('umount', ['-l', mountpoint], { check: false });
  for (let i = 0; i < 100 && !(hasEnded() && !pids.some(isAlive)); i++) await delay(50);
  if (!hasEnded() && child.pid !== undefined) kill9(child.pid);
  for (const pid of pids) if (isAlive(pid)) kill9(pid);
}

/** `wait`, which is for the mount to serve; if it fails, the mount does not stay. */
export async function orDetach<T>(child: ChildProcess, mountpoint: string, wait: () => Promise<T>): Promise<T> {
  try {
    return await wait();
  } catch (error) {
    await detach(child, mountpoint);
    throw error;
  }
}

interface Peer {
  readonly name: 's3fs' | 'rclone';
  /** Those of its choice that bear on speed, as a user would write them. */
  readonly options: readonly string[];
  /** The mount helper in the foreground. */
  start(place: Place, mountpoint: string, cacheDir: string): Promise<ChildProcess>;
}

function peer({ name, options, start: startPeer }: Peer): System {
  return {
    name,
    options: options.join(' '),
    missing: () => (hasProgram(name) ? undefined : `not installed (apt-get install ${name})`),
    async mount(place): Promise<Mounted> {
      const [mountpoint, cacheDir] = ['mnt', 'cache'].map((dir) => path.join(place.dir, dir)) as [string, string];
      await mkdir(mountpoint, { recursive: true });
      await mkdir(cacheDir, { recursive: true });
      const child = await startPeer(place, mountpoint, cacheDir);
      await orDetach(child, mountpoint, () => ready(child, mountpoint, place));
      return { path: mountpoint, pids: [child.pid!], mountMs: 0, uploaded: (count) => untilUploaded(place, count), unmount: () => detach(child, mountpoint) };
    },
  };
}

async function untilUploaded(place: Place, count: number): Promise<void> {
  await until(`${count} files are in S3`, async () => (await place.s3.list(place.prefix)).filter(({ key }) => key !== '' && !key.endsWith('/')).length >= count, uploadTimeoutMs, 20);
}

const prefixOf = (place: Place): string => place.prefix.replace(/\/$/, '');

/** The performance advice of its wiki and manual. */
const s3fsOptions = [
  'use_cache=DIR', 'kernel_cache', 'max_background=1000', 'max_stat_cache_size=200000', 'enable_noobj_cache', 'multipart_size=52', 'parallel_count=30', 'multireq_max=30',
];

export const s3fs = peer({
  name: 's3fs',
  options: s3fsOptions.map((option) => `-o ${option}`),
  async start(place, mountpoint, cacheDir) {
    const { server } = place.s3;
    const passwords = path.join(place.dir, 'passwd');
    await writeFile(passwords, `${server.accessKeyId}:${server.secretAccessKey}`, { mode: 0o600 });
    const speed = s3fsOptions.map((option) => option.replace('=DIR', `=${cacheDir}`));
    return start('s3fs', [
      `${bucket}:/${prefixOf(place)}`, mountpoint, '-f', '-o', ['allow_other', `url=${server.endpoint}`, 'use_path_request_style', `passwd_file=${passwords}`, 'endpoint=us-east-1', ...speed].join(','),
    ], place, { without: ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'] });
  },
});

/** `--vfs-cache-mode full` is what it asks for in POSIX use, `--vfs-fast-fingerprint` its advice for S3; write-back after one second, as hearthfs does. */
const rcloneOptions = ['--vfs-cache-mode full', '--vfs-fast-fingerprint', '--vfs-write-back 1s', '--vfs-read-ahead 128M', '--buffer-size 32M', '--transfers 16'];

export const rclone = peer({
  name: 'rclone',
  options: rcloneOptions,
  start(place, mountpoint, cacheDir) {
    const { server } = place.s3;
    return Promise.resolve(start('rclone', [
      'mount', `:s3:${bucket}/${prefixOf(place)}`, mountpoint, '--s3-provider', 'Other', '--s3-env-auth', '--s3-endpoint', server.endpoint, '--s3-force-path-style', '--s3-region', 'us-east-1', '--allow-other',
      '--cache-dir', cacheDir, ...rcloneOptions.flatMap((option) => option.split(' ')),
    ], place, { env: { RCLONE_CONFIG: path.join(place.dir, 'none.conf') }, without: ['AWS_CA_BUNDLE'] })); // 1.60 aborts while it is set
  },
});
