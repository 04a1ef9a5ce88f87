/** Where a mount is, may be, and is talked to. Judged by the mount table and path text; a mount itself is never touched from here (K17). */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { errorCode } from '../base/errno.js';
import { UserError } from '../base/user-error.js';
import { detachDeadMount, probeOwnMount } from '../fuse/mount.js';
import { fsType, isInside, mountAt, mountContaining, readMountinfo, type MountEntry } from '../fuse/mountinfo.js';

/** The mountpoint of the hearthfs mount that `where` (absolute, normal, real) lies in, by the mount table alone. */
export function findMount(where: string, entries: readonly MountEntry[] = readMountinfo()): string | undefined {
  const entry = mountContaining(entries, where);
  return entry?.type === fsType ? entry.mountpoint : undefined;
}

/**
 * The unix socket of the mount's daemon: below /run/hearthfs for root, $XDG_RUNTIME_DIR/hearthfs for others, /tmp/hearthfs-UID where
 * there is no such directory. The name is a hash of the mountpoint, since a socket's path may have 107 bytes only.
 */
export function controlSocketPath(mountpoint: string): string {
  return path.join(runtimeDir(), `${createHash('sha256').update(mountpoint).digest('hex').slice(0, 24)}.sock`);
}

function runtimeDir(): string {
  const uid = process.getuid!();
  if (uid === 0) return '/run/hearthfs';
  const xdg = process.env['XDG_RUNTIME_DIR'];
  return xdg !== undefined && path.isAbsolute(xdg) ? path.join(xdg, 'hearthfs') : `/tmp/hearthfs-${uid}`;
}

/**
 * Creates the directory of `controlSocketPath`, 0700. In /tmp anybody may have made that name first: one that is not a directory of
 * our own is refused.
 */
export function makeRuntimeDir(): string {
  const dir = runtimeDir();
  fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
  const stat = fs.lstatSync(dir);
  if (!stat.isDirectory() || stat.uid !== process.getuid!()) throw new UserError(`${dir} belongs to someone else: set XDG_RUNTIME_DIR to a directory of your own`);
  if ((stat.mode & 0o077) !== 0) fs.chmodSync(dir, 0o700);
  return dir;
}

/**
 * Makes sure a mount may be made: detaches a dead mount of ours first (K17), then wants an empty directory that nothing of ours
 * serves already, and no `inside` paths (cache, log) below it: the daemon would wait for itself.
 * @param mountpoint absolute, without symbolic links
 * @throws UserError
 */
export async function prepareMountpoint(mountpoint: string, options: { nonempty?: boolean; inside?: readonly string[] } = {}): Promise<void> {
  if (mountpoint === '/') throw new UserError('Cannot mount on /: give a directory');
  for (const inner of options.inside ?? []) {
    if (isInside(mountpoint, inner)) throw new UserError(`${inner} lies inside the mount point ${mountpoint}: give a directory outside of it`);
    if (findMount(inner) !== undefined) throw new UserError(`${inner} lies inside a hearthfs mount: give a directory on a local disk`);
  }
  await detachDeadMount(mountpoint);
  switch (await probeOwnMount(mountpoint)) {
    case 'alive': throw new UserError(`${mountpoint} is already mounted (${mountAt(readMountinfo(), mountpoint)?.source ?? 'hearthfs'}): unmount it first with \`hearthfs unmount ${mountpoint}\``);
    case 'silent': throw new UserError(`${mountpoint} is already mounted and does not answer: look at its log, or detach it with \`umount -l ${mountpoint}\``);
    case 'dead': throw new UserError(`${mountpoint} is a dead mount that cannot be detached: try \`umount -l ${mountpoint}\``);
    case 'none': checkDirectory(mountpoint, options.nonempty ?? false);
  }
}

function checkDirectory(mountpoint: string, nonempty: boolean): void {
  try {
    if (!fs.lstatSync(mountpoint).isDirectory()) throw new UserError(`Mount point ${mountpoint} is not a directory: give a directory`);
    if (!nonempty && fs.readdirSync(mountpoint).length > 0) throw new UserError(`Mount point ${mountpoint} is not empty: its files would be hidden; give an empty directory`);
  } catch (error) {
    switch (errorCode(error)) {
      case 'ENOENT': case 'ENOTDIR': throw new UserError(`Mount point ${mountpoint} does not exist: create it with \`mkdir -p ${mountpoint}\``, 1, { cause: error });
      case 'EACCES': case 'EPERM': throw new UserError(`No permission to use the mount point ${mountpoint}: give a directory this user may read and write`, 1, { cause: error });
      case 'ENOTCONN': throw new UserError(`${mountpoint} is a dead mount of another file system: detach it with \`umount -l ${mountpoint}\``, 1, { cause: error });
      default: throw error;
    }
  }
}
