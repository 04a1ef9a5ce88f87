import fs from 'node:fs';
import { AtimeAttribute, cloneMount } from '../base/libc.js';

/** When reading a file moves its atime: if it says something new, as ext4 does by default; never; always. */
export type AtimeMode = 'relatime' | 'noatime' | 'strictatime';

const attributes = { relatime: AtimeAttribute.RELATIME, noatime: AtimeAttribute.NOATIME, strictatime: AtimeAttribute.STRICTATIME } as const;

/**
 * The directory of the content files as the kernel is to see it when it reads files by itself. In passthrough it keeps atime as the mount says through which the backing
 * file was opened: so that is a mount of our own, whatever the disk is mounted with. Opened files keep it alive, beyond this daemon, too (K12, K13).
 */
export class BackingView {
  private constructor(private readonly directory: string, private readonly tree: number) {}

  /** @throws SystemError where the kernel or a container does not let us. */
  static open(directory: string, atime: AtimeMode): BackingView {
    return new BackingView(directory, cloneMount(directory, attributes[atime]));
  }

  /** @param path in the directory. @returns a descriptor that was opened read-only, as the proof that nobody writes wants it (S2); the caller's to close. */
  openFile(path: string): number {
    return fs.openSync(this.pathOf(path), 'r');
  }

  /** The same in libuv's pool. */
  openFileLater(path: string): Promise<number> {
    return new Promise((resolve, reject) => fs.open(this.pathOf(path), 'r', (error, fd) => (error ? reject(error) : resolve(fd))));
  }

  private pathOf(path: string): string { return `/proc/self/fd/${this.tree}${path.slice(this.directory.length)}`; }

  close(): void { fs.closeSync(this.tree); }
}
