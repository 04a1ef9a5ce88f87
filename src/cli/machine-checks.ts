/** What `doctor` can say about this machine without a mount and without S3. Reads only. */
import { accessSync, constants, existsSync, readFileSync, statfsSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { errorCode } from '../base/errno.js';
import type { DoctorCheck } from '../control/api.js';
import { bytes, duration } from './format.js';
import type { World } from './world.js';

export function machineChecks(world: Pick<World, 'uid' | 'env'>): DoctorCheck[] {
  return [deviceCheck(world.uid), kernelCheck(), privilegesCheck(world.uid), fusermountCheck(world), requestTimeoutCheck()];
}

export function ok(name: string, detail: string): DoctorCheck {
  return { name, ok: 'ok', detail, advice: null };
}
export function warn(name: string, detail: string, advice: string): DoctorCheck {
  return { name, ok: 'warn', detail, advice };
}
export function fail(name: string, detail: string, advice: string): DoctorCheck {
  return { name, ok: 'fail', detail, advice };
}

function deviceCheck(uid: number): DoctorCheck {
  const name = 'device';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return ok(name, '/dev/fuse can be opened');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return fail(name, '/dev/fuse does not exist', 'load the module with `modprobe fuse`; in a container, start it with `--device /dev/fuse --cap-add SYS_ADMIN`');
    }
    return fail(name, `/dev/fuse exists but cannot be opened: ${errorCode(error) ?? String(error)}`, uid === 0 ? 'the container forbids the device; start it with `--device /dev/fuse`' : 'ask for read and write permission on /dev/fuse');
  }
}

/** Features by the kernel version they came with (fs/fuse/ history). */
const kernelFeatures = [
  [[4, 20], 'required protocol 7.28'], [[5, 12], 'cheap suid handling (HANDLE_KILLPRIV_V2)'], [[6, 9], 'passthrough'], [[6, 9], 'resend after a daemon crash'], [[6, 13], 'fine-grained timestamps'],
] as const;

export function kernelCheck(release = os.release()): DoctorCheck {
  const [major = 0, minor = 0] = release.split('.').map((part) => parseInt(part, 10));
  const missing = kernelFeatures.filter(([[a, b]]) => major < a || (major === a && minor < b)).map(([, feature]) => feature);
  if (missing.length === 0) return ok('kernel', `Linux ${release} has everything hearthfs can use`);
  if (missing[0] === kernelFeatures[0][1]) return fail('kernel', `Linux ${release} is too old`, 'use Linux 5.12 or later, best 6.13 or later');
  return warn('kernel', `Linux ${release} lacks ${missing.join(', ')}`, 'everything works, slower or (resend) with errors for programs while a crashed daemon is replaced; Linux 6.13 or later has all');
}

function privilegesCheck(uid: number): DoctorCheck {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readText('/proc/self/status') ?? '')?.[1];
  const sysAdmin = effective !== undefined && (BigInt(`0x${effective}`) & (1n << 21n)) !== 0n;
  if (sysAdmin) return ok('privileges', `${uid === 0 ? 'root' : `uid ${uid}`} with CAP_SYS_ADMIN: mounts directly, passthrough possible`);
  if (uid === 0) return warn('privileges', 'root without CAP_SYS_ADMIN: mounts through fusermount3, no passthrough', 'start the container with `--cap-add SYS_ADMIN`');
  const others = /^\s*user_allow_other\b/m.test(readText('/etc/fuse.conf') ?? '') ? 'allow_other is permitted' : 'no --allow-other (user_allow_other is not set in /etc/fuse.conf)';
  return ok('privileges', `uid ${uid}: mounts through fusermount3, no passthrough, ${others}`);
}

function fusermountCheck(world: Pick<World, 'uid' | 'env'>): DoctorCheck {
  const found = (world.env['PATH'] ?? '/usr/bin:/bin').split(':').map((dir) => path.join(dir, 'fusermount3')).find((file) => existsSync(file));
  if (!found) {
    return world.uid === 0
      ? ok('fusermount3', 'not installed, and not needed by root')
      : fail('fusermount3', 'not installed, and needed to mount without root', 'install the package fuse3');
  }
  if (world.uid !== 0 && (statSync(found).mode & 0o4000) === 0) return fail('fusermount3', `${found} is not setuid root`, 'reinstall the package fuse3, or `chmod u+s` it');
  return ok('fusermount3', found);
}

/** K1: a kernel-wide request timeout aborts the whole connection when one request takes longer, for example while a daemon is replaced. */
export function requestTimeoutCheck(read: (file: string) => string | undefined = readText): DoctorCheck {
  const name = 'request timeout';
  const set = (['default_request_timeout', 'max_request_timeout'] as const).map((key) => [key, Number(read(`/proc/sys/fs/fuse/${key}`)?.trim() ?? 0)] as const).filter(([, s]) => s > 0);
  if (set.length === 0) return ok(name, 'none is set by the kernel');
  const text = set.map(([key, s]) => `fs.fuse.${key} is ${s} s`).join(', ');
  return fail(name, `${text}: a request that takes longer aborts the mount`, `set it to 0: \`sysctl ${set.map(([key]) => `fs.fuse.${key}=0`).join(' ')}\``);
}

export function clockCheck(offsetMs: number): DoctorCheck {
  const text = `this machine is ${duration(Math.abs(offsetMs))} ${offsetMs < 0 ? 'behind' : 'ahead of'} the server`;
  // S3 refuses signatures more than 15 minutes off.
  if (Math.abs(offsetMs) >= 14 * 60_000) return fail('clock', text, 'set the clock (NTP); S3 refuses requests that are 15 minutes off');
  if (Math.abs(offsetMs) >= 60_000) return warn('clock', text, 'set the clock (NTP); S3 refuses requests that are 15 minutes off');
  return ok('clock', Math.abs(offsetMs) < 2_000 ? 'agrees with the server' : text);
}

/** Magic numbers of statfs(2) for file systems that need a word. */
const fileSystems: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext4'], [0x58465342, 'xfs'], [0x9123683e, 'btrfs'], [0x01021994, 'tmpfs'], [0x794c7630, 'overlayfs'], [0x65735546, 'fuse'], [0x6969, 'nfs'], [0xff534d42, 'cifs'], [0xfe534d42, 'smb2'], [0x2fc12fc1, 'zfs'], [0xf2f52010, 'f2fs'],
]);

export function cacheDirCheck(dir: string, limitBytes: number): DoctorCheck {
  const name = 'cache directory';
  let existing = dir;
  while (!existsSync(existing) && path.dirname(existing) !== existing) existing = path.dirname(existing);
  try {
    accessSync(existing, constants.W_OK | constants.X_OK);
  } catch {
    return fail(name, `${dir} cannot be written`, 'choose another with --cache-dir, or change its permissions');
  }
  const info = statfsSync(existing);
  const free = info.bavail * info.bsize;
  const type = fileSystems.get(info.type) ?? `file system 0x${info.type.toString(16)}`;
  const text = `${dir} on ${type}, ${bytes(free)} free of ${bytes(info.blocks * info.bsize)}, limit ${bytes(limitBytes)}`;
  if (type === 'fuse') return fail(name, `${text}: a cache inside a FUSE mount is refused`, 'choose a local disk with --cache-dir');
  if (type === 'nfs' || type === 'cifs' || type === 'smb2') return warn(name, `${text}: the journal needs a local disk to be safe`, 'choose a local disk with --cache-dir');
  if (type === 'tmpfs') return warn(name, `${text}: nothing in it survives a reboot, what S3 lacks included`, 'choose a disk with --cache-dir');
  if (type === 'overlayfs') return warn(name, `${text}: passthrough may not be possible there`, 'mount a volume for the cache directory');
  if (free < 2 ** 30) return warn(name, `${text}: little space`, 'free some, or choose another disk with --cache-dir');
  return ok(name, text);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
