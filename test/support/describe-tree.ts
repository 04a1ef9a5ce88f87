/**
 * A program: prints what lies below a directory as JSON lines, sorted by path. Content as SHA-256, times in nanoseconds, directories without size.
 *
 *   node describe-tree.js DIR [--no-content] [--no-dir-times]
 */
import { createHash } from 'node:crypto';
import { createReadStream, lstatSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import path from 'node:path';

export interface TreeEntry {
  readonly path: string;
  readonly type: 'file' | 'dir' | 'link' | 'other';
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: string;
  readonly size: number;
  readonly target?: string;
  readonly sha256?: string;
}

async function describe(root: string, withContent: boolean): Promise<void> {
  const pending: string[] = [''];
  const entries: TreeEntry[] = [];
  for (let relative = pending.pop(); relative !== undefined; relative = pending.pop()) {
    for (const name of readdirSync(path.join(root, relative), 'utf8')) {
      const below = path.join(relative, name);
      const full = path.join(root, below);
      const stat = lstatSync(full, { bigint: true });
      const type = stat.isDirectory() ? 'dir' : stat.isFile() ? 'file' : stat.isSymbolicLink() ? 'link' : 'other';
      if (type === 'dir') pending.push(below);
      entries.push({
        path: below, type, mode: (Number(stat.mode) & 0o7777).toString(8), uid: Number(stat.uid), gid: Number(stat.gid), mtimeNs: String(stat.mtimeNs),
        size: type === 'file' || type === 'link' ? Number(stat.size) : 0,
        ...(type === 'link' && { target: readlinkSync(full) }), ...(type === 'file' && withContent && { sha256: await digest(full) }),
      });
    }
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  process.stdout.write(entries.map((entry) => JSON.stringify(entry)).join('\n'));
}

async function digest(file: string): Promise<string> {
  const hash = createHash('sha256');
  if (statSync(file).size > 0) for await (const piece of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}

const root = process.argv[2];
if (root !== undefined && process.argv[1]?.endsWith('describe-tree.js')) await describe(root, !process.argv.includes('--no-content'));
