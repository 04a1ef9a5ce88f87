/**
 * Test and demo equipment, not product: a bucket's keys in the order of their UTF-8 bytes.
 *
 * JavaScript compares strings by UTF-16 units, which differs from byte order only between surrogates (code points above U+FFFF)
 * and U+E000..U+FFFF. `sortForm` moves those two ranges past each other, unit by unit, so that the plain `<` of two sort forms is
 * byte order, and prefixes stay prefixes. Keys without such characters (nearly all) are their own sort form.
 *
 * The entries live in sorted chunks of at most 512: finding is two binary searches, inserting moves at most 512 pointers.
 */
export interface SortedEntry { readonly sort: string }

const needsMoving = /[\ud800-\uffff]/;

export function sortForm(key: string): string {
  if (!needsMoving.test(key)) return key;
  let out = '';
  for (let i = 0; i < key.length; i++) {
    const unit = key.charCodeAt(i);
    out += String.fromCharCode(unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800);
  }
  return out;
}

/** The smallest sort form greater than every one that starts with `prefix`; undefined if there is none. */
export function afterPrefix(prefix: string): string | undefined {
  for (let end = prefix.length; end > 0; end--) {
    const unit = prefix.charCodeAt(end - 1);
    if (unit < 0xffff) return prefix.slice(0, end - 1) + String.fromCharCode(unit + 1);
  }
  return undefined;
}

const chunkMax = 512;

export class SortedKeys<E extends SortedEntry> {
  private readonly chunks: E[][] = [];
  private count = 0;

  get size(): number { return this.count; }

  add(entry: E): void {
    const at = this.chunkFor(entry.sort);
    const chunk = this.chunks[at];
    if (!chunk) {
      this.chunks.push([entry]);
    } else {
      const index = lowerBound(chunk, entry.sort);
      if (chunk[index]?.sort === entry.sort) throw new Error(`Key is listed already: ${entry.sort}`);
      chunk.splice(index, 0, entry);
      if (chunk.length > chunkMax) this.chunks.splice(at + 1, 0, chunk.splice(chunkMax / 2));
    }
    this.count++;
  }

  delete(sort: string): void {
    const at = this.chunkFor(sort);
    const chunk = this.chunks[at];
    if (!chunk) return;
    const index = lowerBound(chunk, sort);
    if (chunk[index]?.sort !== sort) return;
    chunk.splice(index, 1);
    if (chunk.length === 0) this.chunks.splice(at, 1);
    this.count--;
  }

  /** Walks from the first entry >= `sort`. The bucket must not change while the cursor is in use. */
  cursor(sort: string): Cursor<E> {
    return new Cursor(this.chunks, (key) => this.position(key), sort);
  }

  *[Symbol.iterator](): Generator<E> {
    for (const chunk of this.chunks) yield* chunk;
  }

  /** The chunk that holds or would hold `sort`: the last one whose first key is <= it, else the first. */
  private chunkFor(sort: string): number {
    let low = 0;
    let high = this.chunks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.chunks[middle]![0]!.sort <= sort) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  private position(sort: string): [number, number] {
    const at = this.chunkFor(sort);
    const chunk = this.chunks[at];
    if (!chunk) return [0, 0];
    const index = lowerBound(chunk, sort);
    return index === chunk.length ? [at + 1, 0] : [at, index];
  }
}

export class Cursor<E extends SortedEntry> {
  private chunk = 0;
  private index = 0;
  constructor(private readonly chunks: readonly E[][], private readonly find: (sort: string) => [number, number], from: string) {
    this.seek(from);
  }
  get current(): E | undefined { return this.chunks[this.chunk]?.[this.index]; }
  next(): void {
    if (++this.index >= (this.chunks[this.chunk]?.length ?? 0)) {
      this.chunk++;
      this.index = 0;
    }
  }
  seek(sort: string): void {
    [this.chunk, this.index] = this.find(sort);
  }
}

function lowerBound(chunk: readonly SortedEntry[], sort: string): number {
  let low = 0;
  let high = chunk.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (chunk[middle]!.sort < sort) low = middle + 1;
    else high = middle;
  }
  return low;
}
