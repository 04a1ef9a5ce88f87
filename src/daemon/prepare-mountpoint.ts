/** Where a mount may be made. What lies at the mountpoint is judged by the mount table and with a deadline: it may be a mount that hangs (K17). */
import fs from 'node:fs';
import { errorCode } from '../base/errno.js';
import { UserError } from '../base/user-error.js';
import { detachDeadMount, probeOwnMount } from '../fuse/mount.js';
import { isInside, mountAt, readMountinfo } from '../fuse/mountinfo.js';
import { findMount } from './mountpoint.js';

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
