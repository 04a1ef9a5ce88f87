/**
 * Which bytes of a content file were changed in which generation: what a small change to a big object need not upload again. In memory only:
 * what is not known here counts as changed, so a forgotten log costs bandwidth and nothing else.
 *
 * Invariants
 *  1. `since(id, gen)` covers every byte that differs from what the file held at the end of generation `gen`, or is undefined.
 *  2. While the kernel may write the file itself, nothing is known of the generations it may write in (S).
 */
import { RangeSet } from '../base/range-set.js';

/** Ranges are rounded outwards to this: far below what is uploaded at once, and it bounds their number. */
const grainBytes = 64 * 1024;
/** A file changed in more places than this is as good as rewritten. */
const rangesMax = 4096;
/** Files that are changed at the same time and remembered; the oldest is forgotten first. */
const filesMax = 1024;
/** Generations of one file told apart; older ones are merged, which only makes them larger. */
const generationsMax = 4;

/** null: anything may have changed. */
type Changes = RangeSet | null;

interface FileLog {
  /** Ascending by generation, without gaps. */
  readonly generations: { readonly gen: number; changes: Changes }[];
  /** The first generation that is known of. */
  firstGen: number;
}

export class ChangeLog {
  private readonly files = new Map<number, FileLog>();
  private readonly kernelWritten = new Set<number>();

  /** Changes from now on belong to generation `gen`, which begins. Idempotent. */
  begin(id: number, gen: number): void {
    let file = this.files.get(id);
    const last = file?.generations.at(-1);
    if (last?.gen === gen) return;
    if (file === undefined || last === undefined || last.gen !== gen - 1) {
      this.files.delete(id);
      if (this.files.size >= filesMax) this.files.delete(this.files.keys().next().value!);
      this.files.set(id, (file = { generations: [], firstGen: gen }));
    }
    file.generations.push({ gen, changes: this.kernelWritten.has(id) ? null : new RangeSet() });
    if (file.generations.length > generationsMax) {
      const [oldest, next] = file.generations.splice(0, 2) as [{ gen: number; changes: Changes }, { gen: number; changes: Changes }];
      if (oldest.changes !== null && next.changes !== null) for (const { start, end } of oldest.changes) next.changes.add(start, end);
      else next.changes = null;
      file.generations.unshift(next);
    }
  }

  /** A generation begins of which nothing is noted. */
  end(id: number): void {
    this.files.delete(id);
  }

  /** Bytes of [start, end) change; `end` may be Infinity. */
  changed(id: number, start: number, end: number): void {
    const last = this.files.get(id)?.generations.at(-1);
    if (!last?.changes) return;
    last.changes.add(Math.floor(start / grainBytes) * grainBytes, Number.isFinite(end) ? Math.ceil(end / grainBytes) * grainBytes : Number.MAX_SAFE_INTEGER);
    if (last.changes.count > rangesMax) last.changes = null;
  }

  /** From now on, until it is taken back, the kernel may write the file without telling. */
  kernelWrites(id: number, may: boolean): void {
    if (!may) {
      this.kernelWritten.delete(id);
      return;
    }
    this.kernelWritten.add(id);
    const last = this.files.get(id)?.generations.at(-1);
    if (last) last.changes = null;
  }

  /** What may differ now from what the file held at the end of generation `gen`; undefined: nobody knows. */
  since(id: number, gen: number): RangeSet | undefined {
    const file = this.files.get(id);
    if (file === undefined || file.firstGen > gen + 1 || this.kernelWritten.has(id)) return undefined;
    const all = new RangeSet();
    for (const { gen: of, changes } of file.generations) {
      if (of <= gen) continue;
      if (changes === null) return undefined;
      for (const { start, end } of changes) all.add(start, end);
    }
    return all;
  }

  forget(id: number): void {
    this.files.delete(id);
    this.kernelWritten.delete(id);
  }
}
