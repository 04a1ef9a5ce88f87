/**
 * Backing files (K5 to K7): the kernel reads and writes the registered file itself. Register once per inode, answer every open of
 * that inode with that id, close it after the last RELEASE. Root only, kernel 6.9 or later, and only if INIT took PASSTHROUGH.
 */
import { ioctl } from '../base/libc.js';
import { DeviceIoctl } from './abi.js';

/**
 * @param file descriptor of the content file; the kernel keeps its own reference, so it may be closed afterwards. Open it O_RDONLY
 *   (S2): the kernel uses the file, not the descriptor's mode, and no writer of ours stays behind.
 * @returns the backing id, a small positive number, valid for the connection (a next daemon may still answer with it: K12).
 * @throws SystemError EPERM without privilege, ELOOP if the file lies deeper in stacked file systems than max_stack_depth allows,
 *   EINVAL or EOPNOTSUPP where the file cannot serve: then open without passthrough (K7)
 */
export function openBacking(device: number, file: number): number {
  const map = Buffer.alloc(16); // struct fuse_backing_map { i32 fd; u32 flags; u64 padding }
  map.writeInt32LE(file, 0);
  return ioctl(device, DeviceIoctl.BACKING_OPEN, map);
}

/** @throws SystemError ENOENT for an id the kernel does not know */
export function closeBacking(device: number, backingId: number): void {
  const id = Buffer.alloc(4);
  id.writeUInt32LE(backingId, 0);
  ioctl(device, DeviceIoctl.BACKING_CLOSE, id);
}
