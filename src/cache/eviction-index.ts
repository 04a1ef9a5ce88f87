/**
 * What may be evicted, in which order: S3-FIFO (Yang et al., SOSP 2023). New files enter a small queue; those opened again
 * before they reach its end move to the main queue, the others go first. So a scan of many files passes through the small queue
 * and leaves the main one alone. Ids of inodes evicted lately (the ghosts) enter the main queue at once when they come back.
 *
 * Sized for a million files: typed arrays and an open-addressing table, about 55 bytes a file, no object per file.
 *
 * Invariants
 *  1. A file is in a queue exactly if it may be evicted now: not dirty, not pinned, not held.
 *  2. `bytes`, `dirtyBytes`, `evictableBytes` are the sums over all files, the dirty ones, those in a queue.
 */
import { assert } from '../base/assert.js';
import { IdTable } from './id-table.js';

export const Flag = { dirty: 1, pinned: 2, held: 4 } as const;
export type Flag = (typeof Flag)[keyof typeof Flag];
const anyFlag = 7;
const mainBit = 8;
const queuedBit = 16;
const seenBit = 32;

const small = 0;
const main = 1;
const nil = -1;

/** Share of evictable bytes the small queue may keep (the paper's 10 %). */
const smallShare = 0.1;
/** Accesses this close together are one: a file read in a hundred requests, or stat'ed, opened and read by one tool, was used once. */
const correlatedMs = 1000;
/** But a file in use all the time is used again after this long. */
const sessionMs = 60_000;
const hitsMax = 3;
const ghostsMax = 65_536;
const unit = 4096;

export interface EntryState {
  readonly bytes: number;
  readonly hits: number;
  readonly queue: 0 | 1;
  readonly usedAtMs: number;
}

export class EvictionIndex {
  bytes = 0;
  dirtyBytes = 0;
  evictableBytes = 0;
  private smallBytes = 0;
  private used = 0;
  private free = nil;
  private ids = new Float64Array(64);
  private owners = new Float64Array(64);
  private usedAtMs = new Float64Array(64);
  /** When the use that was last counted began. */
  private countedAtMs = new Float64Array(64);
  /** Units of 4 KiB: up to 16 TiB a file. */
  private units = new Uint32Array(64);
  private flags = new Uint8Array(64);
  private hits = new Uint8Array(64);
  private next = new Int32Array(64);
  private previous = new Int32Array(64);
  private readonly head = [nil, nil];
  private readonly tail = [nil, nil];
  private readonly table = new IdTable((slot) => this.ids[slot]!);
  private readonly ghosts = new Set<number>();

  /** Room for so many files: a hint, which spares a big cache the copying of all its arrays in one stretch as they grow. */
  expect(count: number): void {
    if (count > this.ids.length) this.grow(count);
    this.table.expect(count);
  }

  get count(): number { return this.table.size; }
  has(id: number): boolean { return this.table.get(id) !== nil; }

  /** @param owner something that outlives the content file and returns with its successor (the inode), 0 if unknown. */
  add(id: number, state: EntryState & { readonly dirty: boolean; readonly pinned: boolean; readonly owner?: number }): void {
    assert(!this.has(id), `content ${id} is in the index already`);
    const slot = this.take();
    const owner = state.owner ?? 0;
    const isMain = state.queue === main || (owner !== 0 && this.ghosts.delete(owner));
    this.ids[slot] = id;
    this.owners[slot] = owner;
    this.usedAtMs[slot] = this.countedAtMs[slot] = state.usedAtMs;
    this.units[slot] = Math.ceil(state.bytes / unit);
    this.hits[slot] = Math.min(hitsMax, state.hits);
    this.flags[slot] = (state.dirty ? Flag.dirty : 0) | (state.pinned ? Flag.pinned : 0) | (isMain ? mainBit : 0);
    this.table.set(id, slot);
    this.count_(slot, 1);
    this.requeue(slot);
  }

  remove(id: number): void {
    const slot = this.table.get(id);
    if (slot === nil) return;
    this.unlink(slot);
    this.count_(slot, -1);
    this.table.delete(id);
    this.next[slot] = this.free;
    this.free = slot;
    this.ids[slot] = -1;
  }

  state(id: number): EntryState | undefined {
    const slot = this.table.get(id);
    if (slot === nil) return undefined;
    return { bytes: this.units[slot]! * unit, hits: this.hits[slot]!, queue: this.flags[slot]! & mainBit ? main : small, usedAtMs: this.usedAtMs[slot]! };
  }

  bytesOf(id: number): number {
    const slot = this.table.get(id);
    return slot === nil ? 0 : this.units[slot]! * unit;
  }

  setBytes(id: number, bytes: number): void {
    const slot = this.table.get(id);
    if (slot === nil) return;
    const units = Math.ceil(bytes / unit);
    if (units === this.units[slot]) return;
    this.count_(slot, -1);
    this.units[slot] = units;
    this.count_(slot, 1);
  }

  isSet(id: number, flag: Flag): boolean {
    const slot = this.table.get(id);
    return slot !== nil && (this.flags[slot]! & flag) !== 0;
  }

  setFlag(id: number, flag: Flag, on: boolean): void {
    const slot = this.table.get(id);
    if (slot === nil || ((this.flags[slot]! & flag) !== 0) === on) return;
    this.unlink(slot);
    this.count_(slot, -1);
    this.flags[slot]! ^= flag;
    this.count_(slot, 1);
    this.requeue(slot);
  }

  isEvictable(id: number): boolean {
    const slot = this.table.get(id);
    return slot !== nil && (this.flags[slot]! & queuedBit) !== 0;
  }

  /** An access. Answers true if it changed anything worth storing. */
  touch(id: number, nowMs: number): boolean {
    const slot = this.table.get(id);
    if (slot === nil) return false;
    const since = nowMs - this.usedAtMs[slot]!;
    this.usedAtMs[slot] = nowMs;
    if (since >= 0 && since < correlatedMs && nowMs - this.countedAtMs[slot]! < sessionMs) return false;
    this.countedAtMs[slot] = nowMs;
    this.hits[slot] = Math.min(hitsMax, this.hits[slot]! + 1);
    return true;
  }

  /** The next file to evict; it stays in the index, at the end it came from, until the caller removes it. Undefined: nothing can go. */
  victim(): number | undefined {
    for (;;) {
      const fromSmall = this.tail[small] !== nil && (this.tail[main] === nil || this.smallBytes > this.evictableBytes * smallShare);
      const slot = this.tail[fromSmall ? small : main]!;
      if (slot === nil) return undefined;
      if (this.hits[slot] === 0) return this.ids[slot]!;
      this.unlink(slot);
      // Out of the small queue its hits have earned the move; in the main queue each one buys another round.
      if (fromSmall) {
        this.hits[slot] = 0;
        this.flags[slot]! |= mainBit;
      } else {
        this.hits[slot]!--;
      }
      this.requeue(slot);
    }
  }

  /** Remembers a file that is about to be evicted by policy. */
  bury(id: number): void {
    const slot = this.table.get(id);
    const owner = slot === nil ? 0 : this.owners[slot]!;
    if (owner === 0 || this.flags[slot]! & mainBit) return;
    this.ghosts.add(owner);
    if (this.ghosts.size > ghostsMax) this.ghosts.delete(this.ghosts.values().next().value!);
  }

  /** Marks a file as found on disk (recovery). */
  see(id: number): void {
    const slot = this.table.get(id);
    if (slot !== nil) this.flags[slot]! |= seenBit;
  }

  /** Ids that were not seen, clearing the marks. */
  *unseen(): Generator<number> {
    for (let slot = 0; slot < this.used; slot++) {
      const id = this.ids[slot]!;
      const seen = (this.flags[slot]! & seenBit) !== 0;
      this.flags[slot]! &= ~seenBit;
      if (id > 0 && !seen) yield id;
    }
  }

  private count_(slot: number, sign: 1 | -1): void {
    const bytes = sign * this.units[slot]! * unit;
    const flags = this.flags[slot]!;
    this.bytes += bytes;
    if (flags & Flag.dirty) this.dirtyBytes += bytes;
    if (flags & queuedBit) {
      this.evictableBytes += bytes;
      if (!(flags & mainBit)) this.smallBytes += bytes;
    }
  }

  /** Puts a file that may be evicted at the head of its queue. */
  private requeue(slot: number): void {
    const flags = this.flags[slot]!;
    if (flags & anyFlag) return;
    const queue = flags & mainBit ? main : small;
    this.flags[slot]! |= queuedBit;
    const bytes = this.units[slot]! * unit;
    this.evictableBytes += bytes;
    if (queue === small) this.smallBytes += bytes;
    const head = this.head[queue]!;
    this.next[slot] = head;
    this.previous[slot] = nil;
    if (head !== nil) this.previous[head] = slot;
    else this.tail[queue] = slot;
    this.head[queue] = slot;
  }

  private unlink(slot: number): void {
    const flags = this.flags[slot]!;
    if (!(flags & queuedBit)) return;
    const queue = flags & mainBit ? main : small;
    const bytes = this.units[slot]! * unit;
    this.evictableBytes -= bytes;
    if (queue === small) this.smallBytes -= bytes;
    this.flags[slot]! &= ~queuedBit;
    const next = this.next[slot]!;
    const previous = this.previous[slot]!;
    if (previous !== nil) this.next[previous] = next;
    else this.head[queue] = next;
    if (next !== nil) this.previous[next] = previous;
    else this.tail[queue] = previous;
  }

  private take(): number {
    if (this.free !== nil) {
      const slot = this.free;
      this.free = this.next[slot]!;
      return slot;
    }
    if (this.used === this.ids.length) this.grow(this.ids.length * 2);
    return this.used++;
  }

  private grow(size: number): void {
    const copy = <T extends Float64Array | Uint32Array | Uint8Array | Int32Array>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.ids = copy(new Float64Array(size), this.ids);
    this.owners = copy(new Float64Array(size), this.owners);
    this.usedAtMs = copy(new Float64Array(size), this.usedAtMs);
    this.countedAtMs = copy(new Float64Array(size), this.countedAtMs);
    this.units = copy(new Uint32Array(size), this.units);
    this.flags = copy(new Uint8Array(size), this.flags);
    this.hits = copy(new Uint8Array(size), this.hits);
    this.next = copy(new Int32Array(size), this.next);
    this.previous = copy(new Int32Array(size), this.previous);
  }
}
