import type { WalkRow } from '../journal/journal.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import type { Tree } from '../meta/tree.js';
import type { WritebackDeps } from './ports.js';

const rowsPerBatch = 200;
/** How long one batch may keep the main thread. */
const batchMs = 10;

type Step = 'more' | 'done';

/** In a transaction: the directory is to be in S3 by itself. */
export function wantMarker(tree: Tree, directory: Inode): void {
  if (directory.marker) return;
  directory.marker = true;
  directory.mgen++;
  tree.inodes.save(directory);
}

/**
 * Turns a renamed directory into journal rows (J8): one for every key below its new name, one for every object known under the old.
 * In short transactions; what is remembered between them is one place per level of the tree. A crash starts the walk over, which is
 * harmless since marking is idempotent. New keys are marked first: their copies come before the deletes that wait for them.
 */
export class Walker {
  constructor(private readonly deps: Pick<WritebackDeps, 'db' | 'tree' | 'journal' | 'keys' | 'clock' | 'metrics'>) {}

  /** Does all walks there are, yielding between batches. */
  async run(signal: AbortSignal): Promise<void> {
    for (let walk = this.deps.journal.walks()[0]; walk !== undefined && !signal.aborted; walk = this.deps.journal.walks()[0]) await this.walk(walk, signal);
  }

  private async walk(walk: WalkRow, signal: AbortSignal): Promise<void> {
    const { db, journal, metrics } = this.deps;
    for (const steps of [this.below(walk.ino), this.objects(walk.oldPrefix)]) {
      while (!signal.aborted && this.batch(steps) === 'more') await new Promise<void>((resolve) => setImmediate(resolve));
    }
    if (signal.aborted) return;
    db.tx(() => journal.removeWalk(walk.id));
    metrics.add('writeback.walks');
  }

  private batch(step: () => Step): Step {
    const { db, clock } = this.deps;
    const endMs = clock.monotonic() + batchMs;
    for (;;) {
      if (db.tx(step) === 'done') return 'done';
      if (clock.monotonic() >= endMs) return 'more';
    }
  }

  private below(root: number): () => Step {
    const { tree, journal, keys } = this.deps;
    const stack = [{ ino: root, after: 0 }];
    let isFirst = true;
    return () => {
      if (isFirst) {
        isFirst = false;
        const key = tree.directoryKey(root);
        if (key !== undefined && key !== '') journal.mark(key, 0);
      }
      const top = stack.at(-1);
      if (top === undefined) return 'done';
      const prefix = tree.directoryKey(top.ino); // moved meanwhile: its newer name is the one that counts
      const dentries = prefix === undefined ? [] : tree.dentries.list(top.ino, top.after, rowsPerBatch);
      for (const dentry of dentries) {
        top.after = dentry.id;
        const inode = tree.inodes.get(dentry.ino);
        if (inode === undefined) continue;
        if (!isDirectory(inode)) {
          journal.mark(prefix! + dentry.name, 0);
        } else {
          const key = `${prefix!}${dentry.name}/`;
          if (keys.isDeep(key)) wantMarker(tree, inode); // its new key may be too long to be shown by what lies below it
          if (inode.marker) journal.mark(key, 0);
          stack.push({ ino: inode.ino, after: 0 });
          return 'more';
        }
      }
      if (dentries.length < rowsPerBatch) stack.splice(stack.indexOf(top), 1);
      return 'more';
    };
  }

  private objects(oldPrefix: string): () => Step {
    const { tree, journal } = this.deps;
    let after = '';
    return () => {
      const rows = tree.objects.under(oldPrefix, rowsPerBatch, after);
      for (const row of rows) if (row.etag !== null) journal.mark(row.key, 0);
      after = rows.at(-1)?.key ?? after;
      return rows.length < rowsPerBatch ? 'done' : 'more';
    };
  }
}
