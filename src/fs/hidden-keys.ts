/** Keys in the bucket that are no paths (`a//b`, `.`, names over 255 bytes, an object `a` beside `a/…`): hidden, counted, and explained by `doctor`. */
export class HiddenKeys {
  private readonly byDirectory = new Map<number, Set<string>>();
  private static readonly samplesMax = 200;
  private static readonly directoriesMax = 10_000;

  add(directory: number, key: string): void {
    let keys = this.byDirectory.get(directory);
    if (!keys) {
      if (this.byDirectory.size >= HiddenKeys.directoriesMax) return;
      this.byDirectory.set(directory, (keys = new Set()));
    }
    if (keys.size < HiddenKeys.samplesMax) keys.add(key);
  }

  /** A new listing of the directory starts: what it hides is found anew. */
  reset(directory: number): void {
    this.byDirectory.delete(directory);
  }

  get count(): number {
    let count = 0;
    for (const keys of this.byDirectory.values()) count += keys.size;
    return count;
  }

  samples(limit: number): string[] {
    return [...this.byDirectory.values()].flatMap((keys) => [...keys]).slice(0, limit);
  }
}
