/**
 * A mount as its users start it: `node bin/hearthfs.js mount ... --foreground` in a child process. Everything about it can be killed by pid, and `close`
 * leaves nothing behind whatever state it is in. The mount is never touched synchronously from here.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { ControlClient } from '../../src/control/client.js';
import type { Command, RequestOf, ResultOf, Status, Stats } from '../../src/control/api.js';
import { controlSocketPath } from '../../src/daemon/mountpoint.js';
import { delay, dyingWithUs, isAlive, kill9, run, until, type RunOptions, type RunResult } from './child.js';
import { patience } from './scale.js';
import type { TestBucket } from './s3.js';

export const program = new URL('../../bin/hearthfs.js', import.meta.url).pathname;

export interface MountOptions {
  readonly bucket: TestBucket;
  /** Where the mount thinks S3 is; the server itself by default. */
  readonly endpoint?: string;
  readonly cacheDir?: string;
  readonly mountpoint?: string;
  /** More flags. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly readyMs?: number;
}

export class TestMount {
  private static count = 0;
  private exited = false;
  private pids = { supervisorPid: 0, daemonPid: 0 };

  private constructor(
    readonly path: string, readonly cacheDir: string, readonly bucket: TestBucket, private readonly child: ChildProcess, private readonly logFile: string,
    private readonly client: ControlClient,
  ) {
    child.once('exit', () => (this.exited = true));
  }

  /** Below `directory` if the options name no places. */
  static async start(directory: string, options: MountOptions): Promise<TestMount> {
    const number = ++TestMount.count;
    const mountpoint = options.mountpoint ?? path.join(directory, `mnt${number}`);
    const cacheDir = options.cacheDir ?? path.join(directory, `cache${number}`);
    if (options.mountpoint === undefined) await mkdir(mountpoint, { recursive: true });
    const logFile = path.join(directory, `mount${number}.log`);
    const log = openSync(logFile, 'a');
    const { bucket, args = [] } = options;
    const orDefault = (flag: string, value: string): string[] => (args.includes(flag) ? [] : [flag, value]);
    const child = spawn(...dyingWithUs('TERM', [
      process.execPath, program, 'mount', bucket.url, mountpoint, '--endpoint', options.endpoint ?? bucket.s3.endpoint, '--path-style', '--cache-dir', cacheDir, ...orDefault('--cache-size', '8GiB'), ...orDefault('--min-free', '1%'),
      '--foreground', ...args,
    ]), { env: { ...process.env, ...bucket.s3.environment, ...options.env }, stdio: ['ignore', log, log], cwd: '/' });
    closeSync(log);
    const client = new ControlClient(controlSocketPath(mountpoint), mountpoint, { connectTimeoutMs: 0 });
    const mount = new TestMount(mountpoint, cacheDir, bucket, child, logFile, client);
    try {
      await until('the mount serves', async () => {
        return mount.exited || (mountedAt(mountpoint) && (await mount.status()));
      }, options.readyMs ?? 20_000).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${mount.log()}`);
      });
      if (mount.exited) throw new Error(`The mount ended with ${child.exitCode ?? child.signalCode}\n${mount.log()}`);
    } catch (error) {
      await mount.close();
      throw error;
    }
    return mount;
  }

  in(...names: string[]): string {
    return path.join(this.path, ...names);
  }

  async status(): Promise<Status> {
    const status = await this.client.call('status', {});
    this.pids = { supervisorPid: status.supervisorPid, daemonPid: status.daemonPid };
    return status;
  }

  stats(): Promise<Stats> {
    return this.client.call('stats', {});
  }

  /** A command without the command line. Waits for a daemon that is being replaced. */
  ask<C extends Command>(command: C, request: RequestOf<C>): Promise<ResultOf<C>> {
    return new ControlClient(controlSocketPath(this.path), this.path, { connectTimeoutMs: 20_000 * patience }).call(command, request);
  }

  get supervisorPid(): number {
    return this.pids.supervisorPid;
  }
  get daemonPid(): number {
    return this.pids.daemonPid;
  }

  /** A command of the command line about this mount. */
  cli(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
    return run(process.execPath, [program, command, this.path, ...args], { cwd: '/', ...options, env: { ...this.bucket.s3.environment, ...options.env } });
  }

  async cliJson<T>(command: string, args: readonly string[] = []): Promise<T> {
    return JSON.parse((await this.cli(command, ['--json', ...args])).stdout) as T;
  }

  /** S3 has everything afterwards. */
  async sync(timeoutMs = 60_000): Promise<void> {
    await this.cli('sync', ['--wait'], { timeoutMs });
  }

  /** As a user would, expecting success. */
  async unmount(timeoutMs = 60_000): Promise<void> {
    await this.cli('unmount', ['--drain-timeout', `${Math.ceil(timeoutMs / 1000)}s`], { timeoutMs: timeoutMs + 10_000 });
    await until('the mount process ended', () => this.exited, 10_000);
    if (this.child.exitCode !== 0) throw new Error(`The mount process ended with ${this.child.exitCode ?? this.child.signalCode}\n${this.log()}`);
  }

  /** @returns the pid of the daemon that died. Does not wait for the next one. */
  async kill9Daemon(): Promise<number> {
    // between two daemons the supervisor waits longer with every quick death
    const pid = await until('a daemon is there', () => childrenOf(this.supervisorPid)[0], 15_000, 10);
    kill9(pid);
    return pid;
  }

  /** Until another daemon than `pid` serves. */
  async nextDaemon(pid: number, timeoutMs = 20_000): Promise<void> {
    await until('the next daemon serves', async () => (await this.status()).daemonPid !== pid, timeoutMs);
  }

  /** Supervisor and daemon at once, as a machine's OOM killer or a lost container would; then the dead mount is detached. */
  async kill9All(): Promise<void> {
    const supervisor = this.supervisorPid;
    const daemons = childrenOf(supervisor);
    for (const pid of [supervisor, ...daemons, this.child.pid!]) kill9(pid);
    await until('they are gone', () => this.exited && ![supervisor, ...daemons].some(isAlive), 10_000);
    if (mountedAt(this.path)) await run('umount', ['-l', this.path], { check: false, timeoutMs: 10_000 });
  }

  log(bytes = 6000): string {
    const text = readFileSync(this.logFile, 'utf8');
    return `--- log of ${this.path}\n${text.slice(-bytes)}`;
  }

  /** In any state. What the mount had not uploaded stays in its cache directory. */
  async close(): Promise<void> {
    if (!this.exited && mountedAt(this.path)) {
      await run(process.execPath, [program, 'unmount', this.path, '--lazy', '--drain-timeout', '0'], { check: false, timeoutMs: 10_000, cwd: '/' }).catch(() => undefined);
      for (let i = 0; i < 60 && !this.exited; i++) await delay(50);
    }
    const pids = [this.child.pid ?? 0, this.supervisorPid, this.daemonPid, ...(this.supervisorPid ? childrenOf(this.supervisorPid) : [])].filter((pid) => pid > 0 && isOurs(pid));
    for (const pid of pids) kill9(pid);
    if (mountedAt(this.path)) await run('umount', ['-l', this.path], { check: false, timeoutMs: 10_000 }).catch(() => undefined);
    for (let i = 0; i < 60 && !this.exited; i++) await delay(50);
  }
}

/** By the mount table alone: a dead mount must not be touched. */
export function mountedAt(mountpoint: string): boolean {
  return mountsBelow(mountpoint).includes(mountpoint);
}

export function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))))
    .filter((where) => where === directory || where.startsWith(`${directory}/`));
}

export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** A pid may have been used again since. */
function isOurs(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('node');
  } catch {
    return false;
  }
}
