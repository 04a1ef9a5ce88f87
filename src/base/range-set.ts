import { assert } from './assert.js';

/** Half-open byte range [start, end). */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/**
 * A set of bytes kept as sorted, disjoint, non-adjacent half-open ranges. Operations cost O(log n + ranges touched).
 * Used for the bytes of a content file that are still only in S3 ("missing") and for bytes written since the last seal.
 */
export class RangeSet {
  private ranges: { start: number; end: number }[] = [];

  static of(...ranges: Range[]): RangeSet {
    const set = new RangeSet();
    for (const range of ranges) set.add(range.start, range.end);
    return set;
  }

  get isEmpty(): boolean { return this.ranges.length === 0; }
  get count(): number { return this.ranges.length; }
  get sizeBytes(): number { return this.ranges.reduce((sum, range) => sum + range.end - range.start, 0); }
  [Symbol.iterator](): IterableIterator<Range> { return this.ranges[Symbol.iterator](); }

  clone(): RangeSet {
    const set = new RangeSet();
    set.ranges = this.ranges.map((range) => ({ ...range }));
    return set;
  }

  add(start: number, end: number): void {
    if (start >= end) return;
    const first = this.lowerBound(start); // first range with range.end >= start
    let last = first;
    while (last < this.ranges.length && this.ranges[last]!.start <= end) {
      start = Math.min(start, this.ranges[last]!.start);
      end = Math.max(end, this.ranges[last]!.end);
      last++;
    }
    this.ranges.splice(first, last - first, { start, end });
  }

  remove(start: number, end: number): void {
    if (start >= end) return;
    const kept: { start: number; end: number }[] = [];
    const first = this.lowerBound(start);
    let last = first;
    while (last < this.ranges.length && this.ranges[last]!.start < end) {
      const range = this.ranges[last]!;
      if (range.start < start) kept.push({ start: range.start, end: start });
      if (range.end > end) kept.push({ start: end, end: range.end });
      last++;
    }
    if (last > first || kept.length > 0) this.ranges.splice(first, last - first, ...kept);
  }

  /** True if every byte of [start, end) is in the set; the empty range always is. */
  covers(start: number, end: number): boolean {
    if (start >= end) return true;
    const range = this.ranges[this.lowerBound(start + 1)];
    return range !== undefined && range.start <= start && range.end >= end;
  }

  /** True if any byte of [start, end) is in the set. */
  intersects(start: number, end: number): boolean {
    if (start >= end) return false;
    const range = this.ranges[this.lowerBound(start + 1)];
    return range !== undefined && range.start < end;
  }

  /** The parts of [start, end) that are in the set, ascending. */
  intersection(start: number, end: number): Range[] {
    const parts: Range[] = [];
    for (let i = this.lowerBound(start + 1); i < this.ranges.length && this.ranges[i]!.start < end; i++) {
      const range = this.ranges[i]!;
      parts.push({ start: Math.max(start, range.start), end: Math.min(end, range.end) });
    }
    return parts;
  }

  /** Index of the first range whose end is >= `at`. */
  private lowerBound(at: number): number {
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ranges[middle]!.end < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Compact storable form: delta-coded unsigned LEB128, empty buffer for the empty set. */
  encode(): Buffer {
    const out: number[] = [];
    let previous = 0;
    for (const { start, end } of this.ranges) {
      pushVarint(out, start - previous);
      pushVarint(out, end - start);
      previous = end;
    }
    return Buffer.from(out);
  }

  static decode(bytes: Uint8Array): RangeSet {
    const set = new RangeSet();
    let position = 0;
    let previous = 0;
    const next = (): number => {
      let value = 0;
      let scale = 1;
      for (;;) {
        const byte = bytes[position++];
        assert(byte !== undefined, 'truncated range set');
        value += (byte & 0x7f) * scale;
        if (byte < 0x80) return value;
        scale *= 128;
      }
    };
    while (position < bytes.length) {
      const start = previous + next();
      const end = start + next();
      assert(end > start && Number.isSafeInteger(end), 'damaged range set');
      set.ranges.push({ start, end });
      previous = end;
    }
    return set;
  }
}

function pushVarint(out: number[], value: number): void {
  while (value >= 128) {
    out.push((value % 128) | 0x80);
    value = Math.floor(value / 128);
  }
  out.push(value);
}
