/**
 * Making and ending mounts: mount(2) and umount2(2) as root, fusermount3 (setuid, hands the descriptor back by SCM_RIGHTS) for
 * everyone else (K18). Nothing here touches the inside of a mount from this process; what must be asked of one is asked by a child
 * that can be killed (K17). Failures are `UserError`s: there is nobody between these calls and the person who typed `mount`.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { Errno, errorCode } from '../base/errno.js';
import { mount, MountFlag, receiveDescriptor, socketPair, SocketType, SystemError, umount2Async, UmountFlag } from '../base/libc.js';
import { UserError } from '../base/user-error.js';
import { readBytesMax } from './negotiate.js';
import { fsType, mountAt, readMountinfo } from './mountinfo.js';

export interface MountOptions {
  /** Absolute, without symbolic links: mountinfo must show the same. */
  readonly mountpoint: string;
  /** What `df` and mountinfo show, such as `s3://bucket/prefix`. */
  readonly source: string;
  readonly allowOther: boolean;
  readonly readOnly: boolean;
  /** setuid and setgid programs run as who they belong to. For root only. */
  readonly suid: boolean;
  /** Device nodes can be opened. For root only. */
  readonly dev: boolean;
}

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** A connection of its own, not yet mounted. Closed on exec. */
export function openDevice(): number {
  try {
    return fs.openSync('/dev/fuse', 'r+');
  } catch (error) {
    switch (errorCode(error)) {
      case 'ENOENT': case 'ENODEV': case 'ENXIO':
        throw new UserError('There is no /dev/fuse: load the kernel module with `modprobe fuse`, or give the container `--device /dev/fuse --cap-add SYS_ADMIN`', 1, { cause: error });
      case 'EACCES': case 'EPERM':
        throw new UserError('No permission to open /dev/fuse: run as root, or allow this user to read and write the device', 1, { cause: error });
      default: throw error;
    }
  }
}

/** Mounts an opened device as root: access control is the kernel's. */
export function mountDevice(device: number, options: MountOptions): void {
  const data = `fd=${device},rootmode=40000,user_id=${process.geteuid?.() ?? 0},group_id=${process.getegid?.() ?? 0},default_permissions,max_read=${readBytesMax}${options.allowOther ? ',allow_other' : ''}`;
  try {
    mount(options.source, options.mountpoint, fsType, (options.suid ? 0 : MountFlag.NOSUID) | (options.dev ? 0 : MountFlag.NODEV) | (options.readOnly ? MountFlag.RDONLY : 0), data);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    switch (error.errno) {
      case Errno.EPERM: throw new UserError('The kernel does not allow this process to mount: it lacks CAP_SYS_ADMIN (in a container, add `--cap-add SYS_ADMIN`)', 1, { cause: error });
      case Errno.ENODEV: throw new UserError('This kernel has no FUSE support: load it with `modprobe fuse`', 1, { cause: error });
      case Errno.ENOENT: case Errno.ENOTDIR: throw new UserError(`Mount point ${options.mountpoint} is not a directory: create it first`, 1, { cause: error });
      default: throw new UserError(`Cannot mount on ${options.mountpoint}: ${error.message}`, 1, { cause: error });
    }
  }
}

/** Mounts through fusermount3 and answers the descriptor of the mounted device, closed on exec. */
export async function mountWithFusermount(options: MountOptions): Promise<number> {
  const [ours, theirs] = socketPair(SocketType.STREAM | SocketType.CLOEXEC);
  try {
    const list = [
      `fsname=${options.source.replace(/[\\,]/g, '\\$&')}`, 'subtype=hearthfs', 'default_permissions', 'nosuid', 'nodev',
      ...(options.allowOther ? ['allow_other'] : []), ...(options.readOnly ? ['ro'] : ['rw']),
    ];
    const result = await run('fusermount3', ['-o', list.join(','), '--', options.mountpoint], theirs).finally(() => fs.closeSync(theirs));
    if (result.code !== 0) throw fusermountError(result.stderr, options);
    const device = receiveDescriptor(ours);
    if (device === undefined) throw new UserError('fusermount3 mounted but handed back no descriptor: is it the one of the fuse3 package?');
    return device;
  } finally {
    fs.closeSync(ours);
  }
}

function fusermountError(stderr: string, options: MountOptions): UserError {
  const said = stderr.trim().replace(/^fusermount3: /, '');
  if (options.allowOther && said.includes('user_allow_other')) {
    return new UserError('--allow-other needs the line `user_allow_other` in /etc/fuse.conf, or mounting as root');
  }
  if (said.includes('/dev/fuse: Permission denied')) return new UserError('This user may not open /dev/fuse: allow it with `chmod 666 /dev/fuse`, or mount as root');
  return new UserError(`fusermount3 cannot mount on ${options.mountpoint}: ${said || 'it gave no reason'}`);
}

/**
 * Takes the mount out of the name space. `lazy` detaches it even if it is in use: what is open goes on until it is closed.
 * @throws SystemError EBUSY if in use, EINVAL if nothing is mounted there
 */
export async function unmount(mountpoint: string, options: { lazy: boolean }): Promise<void> {
  if (isRoot()) return umount2Async(mountpoint, UmountFlag.NOFOLLOW | (options.lazy ? UmountFlag.DETACH : 0));
  const result = await run('fusermount3', [options.lazy ? '-uz' : '-u', '--', mountpoint]);
  if (result.code === 0) return;
  // the tool answers in words only; what it was asked for is still visible in mountinfo
  const mounted = mountAt(readMountinfo(), mountpoint)?.type === fsType;
  throw new SystemError('fusermount3 -u', mounted ? Errno.EBUSY : Errno.EINVAL, ` ${mountpoint}: ${result.stderr.trim()}`);
}

/**
 * K4: whatever INIT says, readahead stays at 128 KiB until sysfs is told. Needs root; answers false where it cannot be set.
 * The device number comes from mountinfo, since a `stat` would go to the daemon.
 */
export function setReadAhead(mountpoint: string, kib: number): boolean {
  const entry = mountAt(readMountinfo(), mountpoint);
  if (!entry) return false;
  try {
    fs.writeFileSync(`/sys/class/bdi/${entry.device}/read_ahead_kb`, String(kib));
    return true;
  } catch {
    return false;
  }
}

/** What is mounted at `mountpoint`: nothing of ours; one that answers; one whose connection is dead (ENOTCONN); one that does not answer in time. */
export type OwnMount = 'none' | 'alive' | 'dead' | 'silent';

export async function probeOwnMount(mountpoint: string, timeoutMs = 3000): Promise<OwnMount> {
  if (mountAt(readMountinfo(), mountpoint)?.type !== fsType) return 'none';
  const result = await run(process.execPath, ['-e', 'try { require("fs").statfsSync(process.argv[1]) } catch (e) { process.exit(e.code === "ENOTCONN" || e.code === "ECONNABORTED" ? 42 : 0) }', mountpoint], undefined, timeoutMs);
  return result.code === 42 ? 'dead' : result.code === 0 ? 'alive' : 'silent';
}

/** K17: detaches a mount of ours whose daemon and supervisor are gone. @returns true if there was one. */
export async function detachDeadMount(mountpoint: string): Promise<boolean> {
  if ((await probeOwnMount(mountpoint)) !== 'dead') return false;
  await unmount(mountpoint, { lazy: true });
  return true;
}

interface RunResult { readonly code: number | null; readonly stderr: string }

/** Runs a helper program to its end, descriptor 3 being `extra`. A missing program is a `UserError`. */
function run(program: string, args: string[], extra?: number, timeoutMs?: number): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const env = extra === undefined ? process.env : { ...process.env, _FUSE_COMMFD: '3' };
    const child = spawn(program, args, { cwd: '/', env, stdio: ['ignore', 'ignore', 'pipe', ...(extra === undefined ? [] : [extra])] });
    let stderr = '';
    child.stderr!.on('data', (data: Buffer) => { if (stderr.length < 4096) stderr += data.toString(); });
    // a child stuck in the kernel may not die of SIGKILL: it is left behind, and the answer does not wait for it
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => {
      child.kill('SIGKILL');
      child.unref();
      child.stderr!.destroy();
      resolve({ code: null, stderr });
    }, timeoutMs);
    child.on('error', (error) => {
      clearTimeout(timer);
      if (errorCode(error) === 'ENOENT') reject(new UserError(`${program} is not installed: install the fuse3 package, or mount as root`, 1, { cause: error }));
      else reject(error);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stderr });
    });
  });
}
