import type { FsHarness, Handle } from '../support/fs-harness.js';
import { History } from './power-cut.js';
import { PlainTree, type FileNode } from './plain-tree.js';

/** Names that only the other client of the bucket uses; commands of ours stay away from them. */
export const foreignDirectory = 'z';
export const foreignNames = ['s0', 's1'];

export class Model {
  tree = new PlainTree();
  readonly history = new History();
  /** What a stranger put, by key. */
  readonly foreign = new Map<string, string>();
  readonly handles: { readonly node: FileNode; readonly handle: Handle; readonly writable: boolean }[] = [];
  offline = false;
  private deaths = 0;

  /** After a step: what was being written when a daemon died has the time of its content file now. */
  noteDeaths(real: FsHarness): void {
    if (real.deaths === this.deaths) return;
    this.deaths = real.deaths;
    for (const path of files(this)) this.tree.file(path).mtimeSec = undefined;
    for (const { node } of this.handles) node.mtimeSec = undefined;
  }
}

export function files(model: Model): string[] { return model.tree.paths((node) => node.kind === 'file'); }
export function directories(model: Model): string[] { return ['', ...model.tree.paths((node) => node.kind === 'dir')]; }
export function join(dir: string, name: string): string { return dir === '' ? name : `${dir}/${name}`; }
