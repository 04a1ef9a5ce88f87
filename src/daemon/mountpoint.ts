/** Where a mount is and is talked to. Judged by the mount table and path text; a mount itself is never touched from here (K17). For every command: light to load. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { makeDirectories } from '../base/make-directories.js';
import { UserError } from '../base/user-error.js';
import { fsType, mountContaining, readMountinfo, type MountEntry } from '../fuse/mountinfo.js';

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
  makeDirectories(dir, 0o700);
  const stat = fs.lstatSync(dir);
  if (!stat.isDirectory() || stat.uid !== process.getuid!()) throw new UserError(`${dir} belongs to someone else: set XDG_RUNTIME_DIR to a directory of your own`);
  if ((stat.mode & 0o077) !== 0) fs.chmodSync(dir, 0o700);
  return dir;
}
