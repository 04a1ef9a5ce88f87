/**
 * The parent of the daemon. It owns the mount and the connection's descriptor and does nothing else, so that there is nothing in it
 * to die of; a daemon that dies is replaced under the same mount and its callers only wait (promise 4).
 *
 * 1. The device outlives every daemon; RESEND happens after the old one is reaped, as the next is started on its 'exit' (K11).
 * 2. No descriptor and no working directory in the mount (K15, K17). It never waits for the mount: umount2 runs in a thread.
 * 3. Unmounting happens while a daemon serves: ENODEV tells it to drain and exit 0, then the device is closed.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { compiledEntry } from '../base/entry-url.js';
import { Errno, errnoName, errorCode } from '../base/errno.js';
import { hasPollError, loadLibc, SystemError } from '../base/libc.js';
import { createLog, toStandardError, type Log } from '../base/log.js';
import { makeDirectories } from '../base/make-directories.js';
import { UserError } from '../base/user-error.js';
import { readBytesMax } from '../fuse/negotiate.js';
import { isRoot, mountDevice, mountWithFusermount, openDevice, setReadAhead, unmount } from '../fuse/mount.js';
import { fsType, mountAt, readMountinfo } from '../fuse/mountinfo.js';
import { environmentConfig } from '../s3/environment-config.js';
import type { MountConfig } from './config.js';
import { prepareMountpoint } from './prepare-mountpoint.js';
import { configVariable, generationVariable, type FromDaemon, type ToDaemon } from './supervisor-link.js';

export type SupervisorReport =
  | { readonly type: 'serving'; readonly supervisorPid: number; readonly daemonPid: number }
  | { readonly type: 'failed'; readonly message: string; readonly exitCode: number };

export const supervisorConfigVariable = 'HEARTHFS_SUPERVISOR_CONFIG';
/** The module a daemon runs; default `daemon-main.js`. For tests. */
export const daemonEntryVariable = 'HEARTHFS_DAEMON_ENTRY';
/** NODE_EXTRA_CA_CERTS for a daemon: Node 20 reads what that names before anything else, 50 ms for a distribution's bundle, and a supervisor talks to nobody. */
export const certificatesVariable = 'HEARTHFS_EXTRA_CA_CERTS';

/** A daemon that served this long was healthy: the next death is a first one again. Loading takes a quarter of it, so who dies as often as this cannot keep a processor busy. */
const healthyMs = 2_000;
const quickDeathsMax = 10;
/** Callers wait meanwhile, and what made the daemon die may pass (a full disk). */
const restartDelayMaxMs = 2_000;
/** As large as a request can be: sequential reads then come in few, large requests. Passthrough files have the cache disk's own readahead. */
const readAheadKib = readBytesMax / 1024;

/**
 * Of V8. What a file system does leaves little behind, and 48 MB of it, the default, is a sixth of what all of the daemon may use. A heap that may
 * grow to gigabytes is also let grow to a multiple of what lives in it before anyone looks: ours has tens of megabytes of caches, and bounds for all else.
 */
const daemonFlags = ['--max-semi-space-size=4', '--max-old-space-size=1024'];
/**
 * What whoever mounts may set otherwise. Threads of the pool, where the daemon waits for the disk: enough that a burst of fdatasyncs does not hold up the
 * rest. Arenas of glibc: with one per thread it holds on to much more than is used. Its threshold of what gets pages of its own, which go back when it is
 * freed, rises by itself to 32 MiB with the first large buffer that is freed: then hundreds of megabytes of buffers of uploads stay where they were.
 */
const daemonEnv = { UV_THREADPOOL_SIZE: '16', MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: String(256 << 10) };

/** Credentials from elsewhere and proxies may want it where the endpoint does not. */
export function maySpeakTls(config: MountConfig, env: NodeJS.ProcessEnv): boolean {
  return config.endpoint?.startsWith('http:') !== true || environmentConfig(config, env) === undefined || Object.keys(env).some((name) => /_proxy$/i.test(name));
}

/** Nothing for a first death, then doubling from 100 ms to 2 s. */
export function restartDelayMs(quickDeaths: number): number {
  return quickDeaths <= 1 ? 0 : Math.min(restartDelayMaxMs, 50 * 2 ** (quickDeaths - 1));
}

/** Runs until the mount is gone. @returns the exit code. Start-up failures are reported, not thrown. */
export function runSupervisor(config: MountConfig, report: (message: SupervisorReport) => void, options: { log?: Log; daemonEntry?: string } = {}): Promise<number> {
  return new Supervisor(config, report, options.log ?? createLog(config.logLevel, toStandardError), options.daemonEntry).run();
}

class Supervisor {
  private readonly log: Log;
  private device = -1;
  /** `major:minor` of our superblock, ours for as long as the connection lives: how our mount is told from one that someone puts over it. */
  private superblock: string | undefined;
  private child: ChildProcess | undefined;
  private generation = 0;
  /** When the present daemon began to serve. */
  private servingSince: number | undefined;
  private quickDeaths = 0;
  private hasServed = false;
  private failure: SupervisorReport & { type: 'failed' } | undefined;
  private terminations = 0;
  private restartTimer: NodeJS.Timeout | undefined;
  private finish!: (code: number) => void;

  constructor(private readonly config: MountConfig, private readonly report: (message: SupervisorReport) => void, log: Log, private readonly daemonEntry: string | undefined) {
    this.log = log.child({ room: 'supervisor' });
  }

  async run(): Promise<number> {
    process.chdir('/');
    setOomScore(process.pid, '-900');
    const ended = new Promise<number>((resolve) => { this.finish = resolve; });
    const onHangup = (): void => undefined;
    const onTerminate = (): void => { void this.terminate(); };
    process.on('SIGHUP', onHangup).on('SIGTERM', onTerminate).on('SIGINT', onTerminate);
    try {
      if (isRoot()) this.device = openDevice();
      else {
        this.device = await mountWithFusermount(this.mountOptions());
        this.noteMounted();
      }
      this.spawn();
      loadLibc(); // while the daemon starts
      return await ended;
    } catch (error) {
      this.child?.kill('SIGKILL');
      const message = error instanceof UserError ? error.message : `Cannot start the mount: ${String(error)}`;
      this.report({ type: 'failed', message, exitCode: error instanceof UserError ? error.exitCode : 1 });
      return 1;
    } finally {
      process.off('SIGHUP', onHangup).off('SIGTERM', onTerminate).off('SIGINT', onTerminate);
      clearTimeout(this.restartTimer);
      if (this.device >= 0) fs.closeSync(this.device);
    }
  }

  private mountOptions(): Parameters<typeof mountDevice>[1] {
    const { bucket, prefix, mountpoint, allowOther, readOnly, suid, dev } = this.config;
    return { mountpoint, source: `s3://${bucket}/${prefix}`.replace(/\/$/, ''), allowOther, readOnly, suid, dev };
  }

  private noteMounted(): void {
    this.superblock = mountAt(readMountinfo(), this.config.mountpoint)?.device;
    if (isRoot() && !setReadAhead(this.config.mountpoint, readAheadKib)) this.log.warn('cannot set read_ahead_kb: sequential reads come in requests of 128 KiB');
  }

  /** The kernel still has requests to send: the mount is there, or detached but in use. */
  private get isConnected(): boolean {
    return this.superblock !== undefined && !hasPollError(this.device);
  }

  /** Ours is the topmost mount at the mountpoint: umount2 would hit no other. */
  private get isMounted(): boolean {
    if (!this.isConnected) return false;
    const entry = mountAt(readMountinfo(), this.config.mountpoint);
    return entry?.type === fsType && entry.device === this.superblock;
  }

  private spawn(): void {
    const entry = this.daemonEntry ?? compiledEntry(import.meta.url, './daemon-main.js').pathname;
    // a session of its own: Ctrl-C at a foreground mount reaches the supervisor only, which unmounts in order
    const child = spawn(process.execPath, [...daemonFlags, ...process.execArgv, entry], {
      cwd: '/', detached: true, stdio: ['ignore', 'inherit', 'inherit', this.device, 'ipc'],
      env: { ...daemonEnv, ...process.env, ...(!maySpeakTls(this.config, process.env) && { NODE_EXTRA_CA_CERTS: undefined }), [configVariable]: JSON.stringify(this.config), [generationVariable]: String(this.generation) },
    });
    this.child = child;
    this.servingSince = undefined;
    this.generation++;
    child.on('message', (message: FromDaemon) => this.onMessage(child, message));
    child.on('error', (error) => this.log.error('cannot start a daemon', { error }));
    child.on('exit', (code, signal) => {
      // what it said last may still be in the channel; the timer is for a helper of its own that holds the other end
      const proceed = (): void => {
        clearTimeout(timer);
        this.onExit(child, code, signal);
      };
      const timer = setTimeout(proceed, 1000);
      if (child.connected) child.once('disconnect', proceed);
      else proceed();
    });
    // the pid is undefined if spawn itself failed: then there is no 'exit'
    if (child.pid === undefined) this.onExit(child, 1, null);
    else setOomScore(child.pid, '0'); // inherited otherwise: under memory pressure the daemon is to go, it is replaced
  }

  private onMessage(child: ChildProcess, message: FromDaemon): void {
    switch (message.type) {
      case 'prepared': return this.onPrepared(child);
      case 'serving':
        if (!this.hasServed) this.report({ type: 'serving', supervisorPid: process.pid, daemonPid: child.pid! });
        this.hasServed = true;
        if (child === this.child) this.servingSince = performance.now();
        return this.log.info('serving', { pid: child.pid, generation: this.generation - 1 });
      case 'failed':
        this.failure = message;
        return;
      case 'unmount':
        void this.tryUnmount(message.lazy).then((errno) => this.tell(child, { type: 'unmount-result', id: message.id, ...(errno !== undefined && { errno }) }));
        return;
      default: message satisfies never;
    }
  }

  private onPrepared(child: ChildProcess): void {
    try {
      if (this.superblock === undefined) {
        mountDevice(this.device, this.mountOptions());
        this.noteMounted();
      }
      this.tell(child, { type: 'mounted' });
    } catch (error) {
      this.failure = { type: 'failed', message: error instanceof Error ? error.message : String(error), exitCode: 1 };
      child.kill('SIGKILL');
    }
  }

  private tell(child: ChildProcess, message: ToDaemon): void {
    if (child.connected) child.send(message);
  }

  private onExit(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): void {
    if (this.child !== child) return;
    this.child = undefined;
    if (!this.hasServed) return void this.giveUp(this.failure ?? { type: 'failed', message: `The daemon ended (${signal ?? `exit ${code}`}) before it served: see its log`, exitCode: 1 });
    if (!this.isConnected) {
      // dead or alive, its successor would have nothing to serve; what it did not commit the next mount recovers
      this.log.info('unmounted', { cause: signal ?? `exit ${code}` });
      return this.finish(code === 0 ? 0 : 1);
    }
    const wasHealthy = this.servingSince !== undefined && performance.now() - this.servingSince >= healthyMs;
    this.quickDeaths = wasHealthy ? 1 : this.quickDeaths + 1;
    const delayMs = restartDelayMs(this.quickDeaths);
    this.log.error('the daemon died; starting the next', { pid: child.pid, cause: signal ?? `exit ${code}`, detail: this.failure?.message, delayMs });
    if (this.quickDeaths === quickDeathsMax) this.log.error('the daemon dies again and again: callers wait; unmount with `hearthfs unmount --lazy`, or look at the log above');
    this.failure = undefined;
    if (delayMs === 0) this.spawn();
    else this.restartTimer = setTimeout(() => this.spawn(), delayMs);
  }

  /** The mount never served: take it away again, whoever may wait in it. */
  private async giveUp(failure: SupervisorReport & { type: 'failed' }): Promise<void> {
    if (this.isMounted) await this.tryUnmount(true);
    this.report(failure);
    this.finish(failure.exitCode || 1);
  }

  /** SIGTERM, SIGINT: unmount in order; a second one: detach even if busy. */
  private async terminate(): Promise<void> {
    const lazy = ++this.terminations > 1;
    if (!this.hasServed) {
      // nothing was promised yet: the daemon goes first, then what it may have had mounted (giveUp)
      this.failure = { type: 'failed', message: 'Interrupted before the mount served', exitCode: 1 };
      this.child?.kill('SIGKILL');
      return;
    }
    const errno = await this.tryUnmount(lazy);
    if (errno === Errno.EBUSY) this.log.warn('the mount is in use; once more detaches it all the same', { mountpoint: this.config.mountpoint });
  }

  /** @returns the errno if it did not work; EBUSY is the ordinary one. */
  private async tryUnmount(lazy: boolean): Promise<number | undefined> {
    if (!this.isMounted) return undefined;
    try {
      await unmount(this.config.mountpoint, { lazy });
      if (!this.child && !this.isConnected) this.finish(0); // between two daemons: nobody else would notice
      return undefined;
    } catch (error) {
      const errno = error instanceof SystemError ? error.errno : Errno.EIO;
      this.log.warn('cannot unmount', { mountpoint: this.config.mountpoint, error: errnoName(errno) });
      return errno;
    }
  }
}

/** Best effort: lowering needs root. */
function setOomScore(pid: number, score: string): void {
  try {
    fs.writeFileSync(`/proc/${pid}/oom_score_adj`, score);
  } catch {
    // not root: stays as it is
  }
}

/**
 * Starts a mount. In the background: a detached supervisor, and the answer comes once it serves. In the foreground: this process is
 * the supervisor, and the answer comes when the mount is gone.
 * @throws UserError with what went wrong
 */
export async function startSupervisor(config: MountConfig, options: { foreground: boolean; daemonEntry?: string; onServing?: (report: SupervisorReport & { type: 'serving' }) => void }): Promise<{ supervisorPid: number }> {
  const logFile = config.logFile ?? path.join(config.cacheDir, 'hearthfs.log');
  await prepareMountpoint(config.mountpoint, { inside: [config.cacheDir, logFile] });
  return options.foreground ? runInForeground(config, options) : runInBackground(config, logFile, options);
}

async function runInForeground(config: MountConfig, options: { daemonEntry?: string; onServing?: (report: SupervisorReport & { type: 'serving' }) => void }): Promise<{ supervisorPid: number }> {
  let failure: UserError | undefined;
  const code = await runSupervisor(config, (report) => {
    if (report.type === 'serving') options.onServing?.(report);
    else failure = new UserError(report.message, report.exitCode === 2 ? 2 : 1);
  }, options.daemonEntry === undefined ? {} : { daemonEntry: options.daemonEntry });
  if (failure) throw failure;
  if (code !== 0) throw new UserError(`The mount ended with exit code ${code}: see its log`);
  return { supervisorPid: process.pid };
}

function openLog(config: MountConfig, logFile: string): number {
  try {
    makeDirectories(path.dirname(logFile), config.logFile === undefined ? 0o700 : 0o777);
    return fs.openSync(logFile, 'a', 0o600);
  } catch (error) {
    const code = errorCode(error);
    const why = code === 'EEXIST' || code === 'ENOTDIR' ? 'a part of its path is a file' : code === 'EACCES' ? 'no permission' : code === 'ENOENT' ? 'nothing can be created there' : code === 'ENOSPC' ? 'its disk is full' : code === 'EROFS' ? 'its disk is read-only' : code ?? String(error);
    const what = config.logFile === undefined ? `the cache directory ${config.cacheDir}` : `the log file ${logFile}`;
    throw new UserError(`Cannot use ${what}: ${why}; choose another with ${config.logFile === undefined ? '--cache-dir' : '--log-file'}`, 1, { cause: error });
  }
}

function runInBackground(config: MountConfig, logFile: string, options: { daemonEntry?: string; onServing?: (report: SupervisorReport & { type: 'serving' }) => void }): Promise<{ supervisorPid: number }> {
  const log = openLog(config, logFile);
  const { NODE_EXTRA_CA_CERTS: certificates, ...env } = process.env;
  const child = spawn(process.execPath, [compiledEntry(import.meta.url, './supervisor-main.js').pathname], {
    cwd: '/', detached: true, stdio: ['ignore', log, log, 'ipc'],
    env: {
      ...env, [supervisorConfigVariable]: JSON.stringify(config), ...(certificates !== undefined && { [certificatesVariable]: certificates }),
      ...(options.daemonEntry !== undefined && { [daemonEntryVariable]: options.daemonEntry }),
    },
  });
  fs.closeSync(log);
  return new Promise((resolve, reject) => {
    const release = (): void => {
      child.removeAllListeners();
      if (child.connected) child.disconnect();
      child.unref();
    };
    child.on('message', (report: SupervisorReport) => {
      release();
      if (report.type === 'failed') return reject(new UserError(report.message, report.exitCode === 2 ? 2 : 1));
      options.onServing?.(report);
      resolve({ supervisorPid: report.supervisorPid });
    });
    child.on('error', (error) => reject(error));
    child.on('exit', (code, signal) => reject(new UserError(`The mount ended (${signal ?? `exit ${code}`}) before it served: see ${logFile}`)));
  });
}
