import { UserError } from '../base/user-error.js';
import type { HearthFs } from '../fs/file-system.js';
import { isDirectory, isRegular, rootIno, type Inode } from '../meta/inode.js';
import type { Tree } from '../meta/tree.js';

/** Finds what a command's path means, asking S3 where the tree does not know. `''` is the root. */
export async function resolvePath(tree: Tree, fs: HearthFs, path: string, signal: AbortSignal): Promise<Inode> {
  let inode = tree.inodes.mustGet(rootIno);
  const names = path.split('/').filter((name) => name !== '');
  for (const [index, name] of names.entries()) {
    const dentry = isDirectory(inode) ? await fs.remote.find(inode, name, () => signal) : undefined;
    if (!dentry) throw new UserError(`There is no "${names.slice(0, index + 1).join('/')}" in the mount.`);
    inode = tree.inodes.mustGet(dentry.ino);
  }
  return inode;
}

/** Every regular file at or below `start`, directories listed as they are met. One directory's names in memory at a time per level. */
export async function* filesBelow(tree: Tree, fs: HearthFs, start: Inode, signal: AbortSignal, listRemote: boolean): AsyncGenerator<Inode> {
  if (isRegular(start)) yield start;
  if (!isDirectory(start)) return;
  if (listRemote) await fs.remote.ensureComplete(start, signal);
  for (let after = 0; ; ) {
    const dentries = tree.dentries.list(start.ino, after, 1000);
    if (dentries.length === 0) return;
    for (const dentry of dentries) {
      after = dentry.id;
      if (signal.aborted) return;
      const inode = tree.inodes.get(dentry.ino);
      if (inode) yield* filesBelow(tree, fs, inode, signal, listRemote);
    }
  }
}
