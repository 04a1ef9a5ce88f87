/** Trees of files compared: content, mode, owner, symlinks and mtime to the nanosecond. */
import { compiledEntry } from '../../src/base/entry-url.js';
import { run } from './child.js';
import type { TreeEntry } from './describe-tree.js';

export type { TreeEntry };

/** What lies below `directory`, read by another program. */
export async function treeOf(directory: string, options: { readonly content?: boolean; readonly timeoutMs?: number } = {}): Promise<TreeEntry[]> {
  const program = compiledEntry(import.meta.url, './describe-tree.js').pathname;
  const { stdout } = await run(process.execPath, [program, directory, ...(options.content === false ? ['--no-content'] : [])], { timeoutMs: options.timeoutMs ?? 60_000 });
  return stdout === '' ? [] : stdout.split('\n').map((line) => JSON.parse(line) as TreeEntry);
}

/** For readable failures: the first differences of two trees, as text. */
export function treeDifferences(wanted: readonly TreeEntry[], found: readonly TreeEntry[], ignore: readonly (keyof TreeEntry)[] = []): string[] {
  const other = new Map(found.map((entry) => [entry.path, entry]));
  const differences: string[] = [];
  for (const entry of wanted) {
    const match = other.get(entry.path);
    other.delete(entry.path);
    if (!match) differences.push(`missing: ${entry.path}`);
    else {
      for (const field of ['type', 'mode', 'uid', 'gid', 'mtimeNs', 'size', 'target', 'sha256'] as const) {
        if (!ignore.includes(field) && entry[field] !== match[field]) differences.push(`${entry.path}: ${field} is ${String(match[field])}, not ${String(entry[field])}`);
      }
    }
  }
  for (const path of other.keys()) differences.push(`unexpected: ${path}`);
  return differences.slice(0, 30);
}
