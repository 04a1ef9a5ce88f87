/**
 * A real mount of the toy file system, served by a daemon child under the real supervisor. Everything that touches it runs in child
 * processes with a deadline, so that a hung mount fails a test and nothing more. `close` leaves nothing behind, whatever happened.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { compiledEntry } from '../../src/base/entry-url.js';
import type { MountConfig } from '../../src/daemon/config.js';
import { mountAt, readMountinfo } from '../../src/fuse/mountinfo.js';
import type { ToyOptions } from './toy-fs.js';

export const canMount = process.getuid!() === 0 && fs.existsSync('/dev/fuse');
if (!canMount) process.stderr.write('\n*** mount tests are skipped: they need root and /dev/fuse ***\n\n');

export interface Result { readonly code: number; readonly out: string; readonly err: string }

/** Runs a shell script with a deadline; code 124 is the deadline. */
export function shell(script: string, options: { cwd?: string; seconds?: number; user?: string } = {}): Promise<Result> {
  const as = options.user === undefined ? [] : ['setpriv', `--reuid=${options.user}`, `--regid=${options.user === 'nobody' ? 'nogroup' : options.user}`, '--clear-groups'];
  const [program, ...args] = [...as, 'timeout', '-k', '1', String(options.seconds ?? 20), 'bash', '--norc', '-c', script];
  return new Promise((resolve) => {
    execFile(program!, args, { cwd: options.cwd ?? '/', maxBuffer: 64 << 20, env: { PATH: process.env['PATH'] } }, (error, out, err) => {
      resolve({ code: error ? (typeof error.code === 'number' ? error.code : 124) : 0, out: out.trimEnd(), err: err.trimEnd() });
    });
  });
}

export class ToyMount {
  private constructor(readonly mountpoint: string, readonly dir: string, readonly supervisorPid: number) {}

  /** `transient`: nothing is stored for a next daemon, which makes changes cheap. */
  static async start(options: { toy?: ToyOptions & { failWith?: string }; transient?: boolean; user?: string; config?: Partial<MountConfig> } = {}): Promise<ToyMount> {
    const dir = fs.mkdtempSync('/tmp/hearthfs-toy-');
    fs.chmodSync(dir, 0o755);
    const [mountpoint, stateDir, cacheDir] = ['mnt', 'state', 'cache'].map((name) => `${dir}/${name}`) as [string, string, string];
    const uid = options.user === undefined ? 0 : Number((await shell(`id -u ${options.user}`)).out);
    for (const path of [mountpoint, stateDir, cacheDir]) {
      fs.mkdirSync(path);
      fs.chownSync(path, uid, uid === 0 ? 0 : 65534);
    }
    const config: Partial<MountConfig> = {
      bucket: 'toy', prefix: 'p/', mountpoint, cacheDir, allowOther: options.user === undefined, readOnly: false, suid: false, dev: false, logLevel: 'info', foreground: false, ...options.config,
    };
    const toy = { ...(options.transient !== true && { stateDir }), pidFile: `${stateDir}/pid`, uid, gid: uid === 0 ? 0 : 65534, ...options.toy };
    const script = compiledEntry(import.meta.url, './start-toy-mount.js').pathname;
    const result = await shell(`TOY_OPTIONS='${JSON.stringify(toy)}' exec '${process.execPath}' '${script}' '${JSON.stringify(config)}'`, options.user === undefined ? {} : { user: options.user });
    const mount = new ToyMount(mountpoint, dir, Number(result.out));
    if (result.code !== 0) {
      const leftMounted = mount.isMounted;
      await mount.close();
      throw Object.assign(new Error(result.err || `exit ${result.code}`), { leftMounted });
    }
    return mount;
  }

  /** 0 in the moment in which the next daemon writes its own. Never to be killed: pid 0 is our own process group. */
  private get writtenPid(): number { return Number(fs.readFileSync(`${this.dir}/state/pid`, 'utf8')); }
  get daemonPid(): number {
    const pid = this.writtenPid;
    if (!(pid > 1)) throw new Error('the daemon is being replaced: its pid is not known yet');
    return pid;
  }
  get log(): string { return fs.readFileSync(`${this.dir}/cache/hearthfs.log`, 'utf8'); }
  get isMounted(): boolean { return mountAt(readMountinfo(), this.mountpoint) !== undefined; }

  /** Runs in the mount's root directory. */
  run(script: string, options: { seconds?: number; user?: string } = {}): Promise<Result> {
    return shell(`cd '${this.mountpoint}' && { ${script}\n}`, options);
  }

  /** SIGKILLs the daemon once the condition holds, and waits for the next one. */
  async killDaemon(): Promise<void> {
    const pid = this.daemonPid;
    process.kill(pid, 'SIGKILL');
    await until(() => this.writtenPid > 1 && this.writtenPid !== pid, 30_000);
  }

  async supervisorGone(): Promise<void> {
    await until(() => !isAlive(this.supervisorPid));
  }

  async close(): Promise<void> {
    if (this.isMounted) await shell(`umount -l '${this.mountpoint}'`);
    if (this.supervisorPid > 0) {
      try {
        await until(() => !isAlive(this.supervisorPid), 5000);
      } catch {
        process.kill(this.supervisorPid, 'SIGKILL');
        if (fs.existsSync(`${this.dir}/state/pid`) && this.writtenPid > 1 && isAlive(this.writtenPid)) process.kill(this.writtenPid, 'SIGKILL');
      }
    }
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** Polls a fact about other processes, which nothing can await. @throws after `ms` */
export async function until(condition: () => boolean, ms = 30_000): Promise<void> {
  for (const end = performance.now() + ms; !condition();) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
