/**
 * What is measured side by side: ext4 itself, hearthfs, and the peers with the options their own documentation recommends for use as a POSIX directory.
 * Every mount starts with an empty cache.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ControlClient } from '../../src/control/client.js';
import { controlSocketPath } from '../../src/daemon/mountpoint.js';
import { delay, hasProgram, kill9, run, until } from '../../test/support/child.js';
import { mountedAt } from '../../test/support/mount.js';
import { bucket, type S3Side } from './s3-side.js';

export type SystemName = 'ext4' | 'hearthfs' | 's3fs' | 'rclone' | 'client';

export interface Mounted {
  /** The directory; '' for the client, which has none. */
  readonly path: string;
  readonly pids: readonly number[];
  /** Resolves once S3 holds `count` files below the prefix. */
  uploaded(count: number): Promise<void>;
  unmount(): Promise<void>;
}

export interface Place { readonly dir: string; readonly prefix: string; readonly s3: S3Side; readonly profile: string | undefined }

export interface System {
  readonly name: SystemName;
  /** Why it cannot run here. */
  missing(): string | undefined;
  mount(place: Place): Promise<Mounted>;
}

/** From `dist/scripts/bench`. */
const program = path.resolve(import.meta.dirname, '../../../bin/hearthfs.js');
const uploadTimeoutMs = 900_000;

async function untilUploaded(place: Place, count: number): Promise<void> {
  await until(`${count} files are in S3`, async () => (await place.s3.list(place.prefix)).filter(({ key }) => key !== '' && !key.endsWith('/')).length >= count, uploadTimeoutMs, 20);
}

function start(command: string, args: readonly string[], place: Place, options: { env?: Record<string, string>; without?: readonly string[] } = {}): ChildProcess {
  const log = openSync(path.join(place.dir, 'log'), 'a');
  const env: NodeJS.ProcessEnv = { ...process.env, ...options.env };
  for (const name of options.without ?? []) delete env[name];
  const child = spawn(command, args, { env, stdio: ['ignore', log, log], cwd: '/' });
  closeSync(log);
  return child;
}

async function ready(child: ChildProcess, mountpoint: string, place: Place): Promise<void> {
  await until(`${mountpoint} is mounted`, () => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: see ${place.dir}/log`);
    return mountedAt(mountpoint);
  }, 30_000, 10);
}

async function detach(child: ChildProcess, mountpoint: string): Promise<void> {
  for (let i = 0; i < 50 && mountedAt(mountpoint); i++) {
    if ((await run('umount', [mountpoint], { check: false, timeoutMs: 60_000 })).code === 0) break;
    await delay(200);
  }
  if (mountedAt(mountpoint)) await run('umount', ['-l', mountpoint], { check: false });
  for (let i = 0; i < 100 && child.exitCode === null && child.signalCode === null; i++) await delay(50);
  if (child.exitCode === null && child.pid !== undefined) kill9(child.pid);
}

const ext4: System = {
  name: 'ext4',
  missing: () => undefined,
  async mount({ dir }) {
    const where = path.join(dir, 'files');
    await mkdir(where, { recursive: true });
    return { path: where, pids: [], uploaded: () => Promise.resolve(), unmount: () => rm(where, { recursive: true }) };
  },
};

const client: System = {
  name: 'client',
  missing: () => undefined,
  mount: () => Promise.resolve({ path: '', pids: [], uploaded: () => Promise.resolve(), unmount: () => Promise.resolve() }),
};

const hearthfs: System = {
  name: 'hearthfs',
  missing: () => undefined,
  async mount(place) {
    const mountpoint = path.join(place.dir, 'mnt');
    const cacheDir = path.join(place.dir, 'cache');
    await mkdir(mountpoint, { recursive: true });
    const { server } = place.s3;
    const flags = place.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${place.profile}`];
    const child = start(process.execPath, [
      ...flags, program, 'mount', `s3://${bucket}/${place.prefix}`, mountpoint, '--endpoint', server.endpoint, '--path-style', '--cache-dir', cacheDir, '--cache-size', '20GiB', '--min-free', '1%', '--foreground',
    ], place);
    const control = new ControlClient(controlSocketPath(mountpoint), mountpoint, { connectTimeoutMs: 0, silenceTimeoutMs: 120_000 });
    await ready(child, mountpoint, place);
    const status = await until('the mount serves', () => control.call('status', {}), 20_000, 10);
    return {
      path: mountpoint, pids: [status.supervisorPid, status.daemonPid],
      async uploaded() {
        const { remaining } = await control.call('sync', { wait: true, path: null });
        if (remaining > 0) throw new Error(`${remaining} changes could not be uploaded`);
      },
      async unmount() {
        await control.call('unmount', { drainTimeoutMs: 300_000, lazy: false });
        for (let i = 0; i < 100 && child.exitCode === null; i++) await delay(50);
        if (child.exitCode === null) await detach(child, mountpoint);
        await rm(cacheDir, { recursive: true, force: true });
      },
    };
  },
};

/** `use_cache`, `parallel_count`, `multireq_max`: the manual's advice for speed; the rest makes it work with a path-style server. */
const s3fs: System = {
  name: 's3fs',
  missing: () => (hasProgram('s3fs') ? undefined : 'not installed (apt-get install s3fs)'),
  async mount(place) {
    const mountpoint = path.join(place.dir, 'mnt');
    const cache = path.join(place.dir, 'cache');
    const passwords = path.join(place.dir, 'passwd');
    await mkdir(mountpoint, { recursive: true });
    await mkdir(cache, { recursive: true });
    const { server } = place.s3;
    await writeFile(passwords, `${server.accessKeyId}:${server.secretAccessKey}`, { mode: 0o600 });
    const child = start('s3fs', [
      `${bucket}:/${place.prefix.replace(/\/$/, '')}`, mountpoint, '-f', '-o',
      `url=${server.endpoint},use_path_request_style,passwd_file=${passwords},use_cache=${cache},endpoint=us-east-1,parallel_count=20,multireq_max=20,enable_noobj_cache,allow_other`,
    ], place, { without: ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'] });
    await ready(child, mountpoint, place);
    return {
      path: mountpoint, pids: [child.pid!], uploaded: (count) => untilUploaded(place, count),
      async unmount() {
        await detach(child, mountpoint);
        await rm(cache, { recursive: true, force: true });
      },
    };
  },
};

/** `--vfs-cache-mode full`: what its documentation demands for POSIX use; write-back after one second, as hearthfs does. */
const rclone: System = {
  name: 'rclone',
  missing: () => (hasProgram('rclone') ? undefined : 'not installed (apt-get install rclone)'),
  async mount(place) {
    const mountpoint = path.join(place.dir, 'mnt');
    const cache = path.join(place.dir, 'cache');
    await mkdir(mountpoint, { recursive: true });
    const { server } = place.s3;
    const child = start('rclone', [
      'mount', `:s3:${bucket}/${place.prefix.replace(/\/$/, '')}`, mountpoint, '--s3-provider', 'Other', '--s3-env-auth', '--s3-endpoint', server.endpoint, '--s3-force-path-style', '--s3-region', 'us-east-1',
      '--vfs-cache-mode', 'full', '--cache-dir', cache, '--vfs-write-back', '1s', '--transfers', '16', '--vfs-read-ahead', '128M', '--buffer-size', '32M', '--allow-other',
    ], place, { env: { RCLONE_CONFIG: path.join(place.dir, 'none.conf') }, without: ['AWS_CA_BUNDLE'] }); // 1.60 aborts while it is set
    await ready(child, mountpoint, place);
    return {
      path: mountpoint, pids: [child.pid!], uploaded: (count) => untilUploaded(place, count),
      async unmount() {
        await detach(child, mountpoint);
        await rm(cache, { recursive: true, force: true });
      },
    };
  },
};

export const systems: readonly System[] = [ext4, hearthfs, s3fs, rclone, client];
