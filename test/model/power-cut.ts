/**
 * A power cut: what was *journaled* is there, what was only *accepted* may be or not, and nothing torn gets into S3 by itself (promise 1, S6).
 *
 * The database is a prefix of what happened, so the tree is one that was there at some moment since the last transaction known to be journaled. A
 * file that was journaled and not changed since is as it was; of one that was changed each byte is one that the file held there since.
 */
import { expect } from 'vitest';
import { OpenFlag } from '../../src/fuse/ops.js';
import type { FsHarness } from '../support/fs-harness.js';
import type { Moment } from '../support/fs-life.js';
import { foreignDirectory, foreignNames, join, type Model } from './model.js';
import { journal, PlainTree, type DirNode, type FifoNode, type FileNode, type LinkNode, type Node } from './plain-tree.js';

/** A node as it was: a file is the file that is, with the attributes it had. */
type Past =
  | { readonly kind: 'dir'; readonly mode: number; readonly children: ReadonlyMap<string, Past> }
  | { readonly kind: 'file'; readonly of: FileNode; readonly mode: number; readonly xattrs: ReadonlyMap<string, string> }
  | LinkNode | FifoNode;
interface Snapshot { readonly moment: Moment; readonly root: Past }

const isBefore = (a: Moment, b: Moment): boolean => a.life < b.life || (a.life === b.life && a.seq <= b.seq);

/** Trees that were, each with the moment after it. */
export class History {
  private readonly snapshots: Snapshot[] = [];

  note(model: Model, real: FsHarness): void {
    this.snapshots.push({ moment: real.moment, root: pastOf(model.tree.root) });
    if (this.snapshots.length > 400) this.snapshots.shift();
  }

  /** Latest first, those that may be what is left if everything up to `journaled` is. */
  since(journaled: Moment): Past[] {
    const last = this.snapshots.findLastIndex(({ moment }) => isBefore(moment, journaled));
    return this.snapshots.slice(Math.max(0, last)).reverse().map(({ root }) => root);
  }

  clear(): void { this.snapshots.length = 0; }
}

function pastOf(node: Node): Past {
  switch (node.kind) {
    case 'dir': return { kind: 'dir', mode: node.mode, children: new Map([...node.children].map(([name, child]) => [name, pastOf(child)])) };
    case 'file': return { kind: 'file', of: node, mode: node.mode, xattrs: new Map(node.xattrs) };
    case 'symlink': case 'fifo': return node;
  }
}

/** It is so again. */
function present(past: Past): Node {
  switch (past.kind) {
    case 'dir': return { kind: 'dir', mode: past.mode, children: new Map([...past.children].map(([name, child]) => [name, present(child)])) };
    case 'file': return Object.assign(past.of, { mode: past.mode, xattrs: new Map(past.xattrs) });
    case 'symlink': case 'fifo': return past;
  }
}

export async function cutPower(model: Model, real: FsHarness, left?: Parameters<FsHarness['cutPower']>[0]): Promise<void> {
  real.faulty.clear();
  const stored = real.memory.snapshot();
  const journaled = await real.cutPower(left);
  model.handles.length = 0; // who had them is gone
  const shown = await shapeOf(real);
  const bytes = new Map<string, Buffer>();
  for (const path of filesIn(shown)) bytes.set(path, await real.readBytes(path));
  const candidates = model.history.since(journaled);
  const complaints = candidates.map((each) => complaintAbout(each, shown, bytes));
  const found = complaints.indexOf(undefined);
  if (found < 0) expect.fail(`the tree after the power cut is none that was there since what was journaled:\n${complaints.join('\n')}`);
  model.tree = new PlainTree(present(candidates[found]!) as DirNode);
  const unsure = new Map<string, FileNode>();
  for (const path of model.tree.paths((node) => node.kind === 'file')) {
    const node = model.tree.file(path);
    if (node.since.length > 1) unsure.set(path, node);
    node.content = bytes.get(path)!;
  }
  await real.uploadDue();
  for (const [path, node] of unsure) {
    const [before, after] = [stored.get(path), real.memory.snapshot().get(path)];
    const isWhole = after === undefined || before === undefined || after.bytes.equals(before.bytes) || node.since.some((each) => each.equals(after.bytes));
    if (!isWhole) expect.fail(`${path} in S3 was replaced by what a power cut left of it`);
  }
  for (const path of model.tree.paths((node) => node.kind === 'file')) {
    await real.using(path, OpenFlag.RDWR, (handle) => real.fsync(handle));
    journal(model.tree.file(path));
  }
  model.history.clear();
}

/** Why what is shown cannot be that tree; undefined: it can. */
function complaintAbout(past: Past, shown: Shape, bytes: ReadonlyMap<string, Buffer>, prefix = ''): string | undefined {
  if (prefix === '' && JSON.stringify(shapeOfPast(past)) !== JSON.stringify(shown)) return `${JSON.stringify(shown)} instead of ${JSON.stringify(shapeOfPast(past))}`;
  if (past.kind === 'file') return complaintAboutBytes(bytes.get(prefix)!, past.of.since, prefix);
  if (past.kind !== 'dir') return undefined;
  for (const [name, child] of past.children) {
    const complaint = complaintAbout(child, shown, bytes, join(prefix, name));
    if (complaint !== undefined) return complaint;
  }
  return undefined;
}

/** Each byte is one that a version had there; beyond the end of a version there were zeros. */
function complaintAboutBytes(bytes: Buffer, versions: readonly Buffer[], path: string): string | undefined {
  if (versions.some((each) => each.equals(bytes))) return undefined;
  if (versions.length === 1) return `${path} was journaled with ${versions[0]!.length} bytes and not changed, and has other ${bytes.length}`;
  if (!versions.some((each) => each.length === bytes.length)) return `${path} has ${bytes.length} bytes, and never had`;
  for (let at = 0; at < bytes.length; at++) {
    if (!versions.some((each) => (each[at] ?? 0) === bytes[at])) return `${path} holds a byte at ${at} that it never held there since it was journaled`;
  }
  return undefined;
}

function filesIn(shape: Shape, prefix = ''): string[] {
  return shape.flatMap(([name, what, more]) => (what.startsWith('file') ? [join(prefix, name)] : what.startsWith('dir') ? filesIn(more as Shape, join(prefix, name)) : []));
}

type Shape = readonly [name: string, what: string, more: unknown][];

function shapeOfPast(dir: Past): Shape {
  if (dir.kind !== 'dir') return [];
  return [...dir.children].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, node]) => {
    switch (node.kind) {
      case 'dir': return [name, `dir ${node.mode.toString(8)}`, shapeOfPast(node)];
      case 'symlink': return [name, 'symlink', node.target];
      case 'fifo': return [name, `fifo ${node.mode.toString(8)}`, null];
      case 'file': return [name, `file ${node.mode.toString(8)}`, [...node.xattrs].sort()];
    }
  });
}

async function shapeOf(real: FsHarness, path = ''): Promise<Shape> {
  const shape: [string, string, unknown][] = [];
  for (const name of await real.readdir(path)) {
    if (path === '' && (name === foreignDirectory || foreignNames.includes(name))) continue;
    const full = join(path, name);
    const { mode } = await real.getattr(full);
    const bits = (mode & 0o7777).toString(8);
    switch (mode >> 12) {
      case 0o04: shape.push([name, `dir ${bits}`, await shapeOf(real, full)]); break;
      case 0o12: shape.push([name, 'symlink', await real.readlink(full)]); break;
      case 0o01: shape.push([name, `fifo ${bits}`, null]); break;
      default: {
        const xattrs: [string, string][] = [];
        for (const xattr of (await real.listxattr(full)).sort()) xattrs.push([xattr, await real.getxattr(full, xattr)]);
        shape.push([name, `file ${bits}`, xattrs]);
      }
    }
  }
  return shape;
}
