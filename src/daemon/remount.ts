import { Errno } from '../base/errno.js';
import { mount, MountFlag, SystemError } from '../base/libc.js';
import { UserError } from '../base/user-error.js';
import { fsType, mountAt, readMountinfo } from '../fuse/mountinfo.js';

const lastingFlags: Readonly<Record<string, number>> = { nosuid: MountFlag.NOSUID, nodev: MountFlag.NODEV, noexec: MountFlag.NOEXEC, nosymfollow: MountFlag.NOSYMFOLLOW };

/** Makes what is mounted at `mountpoint` read-only, or writable again; its other flags stay. The daemon need not know: the kernel sends it no more changes. */
export function remount(mountpoint: string, readOnly: boolean): void {
  const entry = mountAt(readMountinfo(), mountpoint);
  if (entry?.type !== fsType) throw new UserError(`Nothing of hearthfs is mounted on ${mountpoint}`);
  const flags = entry.options.split(',').reduce((sum, option) => sum | (lastingFlags[option] ?? 0), MountFlag.REMOUNT | (readOnly ? MountFlag.RDONLY : 0));
  try {
    mount(entry.source, mountpoint, fsType, flags, '');
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    switch (error.errno) {
      case Errno.EPERM: throw new UserError('Only root can change a mount', 1, { cause: error });
      case Errno.EBUSY: throw new UserError(`${mountpoint} is in use: something has a file open for writing; close it (see \`fuser -vm\`)`, 1, { cause: error });
      default: throw new UserError(`Cannot change the mount ${mountpoint}: ${error.message}`, 1, { cause: error });
    }
  }
}
