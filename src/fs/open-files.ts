import type { RangeSet } from '../base/range-set.js';
import { opensUnknown } from '../meta/inode.js';
import type { StreamState } from '../prefetch/stream-state.js';
import type { KernelInodes } from './kernel-inodes.js';

export interface OpenFile {
  readonly fh: number;
  readonly ino: number;
  readonly writable: boolean;
  readonly stream: StreamState;
  /** What was not here when it was opened and has not been read since; undefined: nothing was missing, or nobody has looked yet. */
  absent?: RangeSet;
}

/**
 * Open files of this daemon. Handles are numbers that no earlier daemon of the same connection gave out (they start at
 * generation * 2^32), so a request with a handle from before a crash finds nothing here and is served by inode alone (K12).
 */
export class OpenFiles {
  private readonly byHandle = new Map<number, OpenFile>();
  private readonly counts = new Map<number, { open: number; writers: number }>();
  private next: number;

  constructor(generation: number, private readonly kernel: KernelInodes) {
    this.next = generation * 2 ** 32 + 1;
  }

  open(ino: number, writable: boolean, stream: StreamState): OpenFile {
    const file: OpenFile = { fh: this.next++, ino, writable, stream };
    this.byHandle.set(file.fh, file);
    const count = this.counts.get(ino) ?? { open: 0, writers: 0 };
    count.open++;
    if (writable) count.writers++;
    this.counts.set(ino, count);
    return file;
  }

  get(fh: number | undefined): OpenFile | undefined {
    return fh === undefined ? undefined : this.byHandle.get(fh);
  }

  /** @returns the handle closed, undefined if this daemon did not open it. */
  release(fh: number): OpenFile | undefined {
    const file = this.byHandle.get(fh);
    if (!file) return undefined;
    this.byHandle.delete(fh);
    const count = this.counts.get(file.ino)!;
    count.open--;
    if (file.writable) count.writers--;
    if (count.open === 0) this.counts.delete(file.ino);
    return file;
  }

  /** Handles this daemon gave out and has not seen released. */
  ownCount(ino: number): number { return this.counts.get(ino)?.open ?? 0; }

  /** Handles anybody may have: those of an earlier daemon are not counted, but `opensUnknown` until the kernel forgets the inode. */
  openCount(ino: number): number { return this.ownCount(ino) + (this.kernel.mayBeOpenFromBefore(ino) ? opensUnknown : 0); }
  writerCount(ino: number): number { return this.counts.get(ino)?.writers ?? 0; }
  get size(): number { return this.byHandle.size; }
}
