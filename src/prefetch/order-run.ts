/**
 * Who goes through numbered things in ascending order (the names of a directory by dentry id: readdir order), and how much should
 * be made ready ahead of them. The first visits only show the order; then a window that doubles as long as it goes on, and is
 * refilled when half of it was used. A visit elsewhere starts over; a walker that leaves out more than it takes gets half the
 * window. A few cursors, since several programs may walk one directory at once.
 *
 * Invariants: 1. nothing is wanted twice by one cursor. 2. Never more than `windowMax` things and `bytesMax` bytes ahead of a cursor.
 */
export interface OrderRunOptions {
  /** Things ahead at first. */
  readonly windowMin: number;
  readonly windowMax: number;
  readonly bytesMax: number;
  /** This many in order are a pattern. */
  readonly visitsMin: number;
  /** Ids a known walker may leave out (things of another kind, or filtered) and still be in order. */
  readonly gapMax: number;
}

/** Something that was begun ahead; `ref` is the caller's. */
export interface Ahead { readonly id: number; readonly bytes: number; readonly ref: number }

/** Look at things with ids above `after`, in order: at most `count` of at most `bytes`; then tell `began`. */
export interface Want { readonly after: number; readonly count: number; readonly bytes: number }

interface Cursor {
  last: number;
  visits: number;
  window: number;
  /** Begun and not yet passed, ascending. */
  ahead: Ahead[];
  aheadBytes: number;
  /** Everything up to this id was looked at. */
  lookedTo: number;
  exhausted: boolean;
}

const cursorsMax = 4;
/** The same, of one who has yet to show that it walks. */
const firstGapMax = 4;

export class OrderRun {
  /** Most recently used last. */
  private readonly cursors: Cursor[] = [];

  /** @param onPassed how many of the things made ready the walker took, and left out. */
  constructor(private readonly options: OrderRunOptions, private readonly onPassed: (used: number, wasted: number) => void = () => undefined) {}

  /** True while some walker is in the middle of it. */
  get isActive(): boolean { return this.cursors.some((cursor) => cursor.window > 0 && !(cursor.exhausted && cursor.ahead.length === 0)); }

  /** What is ahead of the walker that came by last, nearest first. */
  get ahead(): readonly Ahead[] { return this.cursors.at(-1)?.ahead ?? []; }

  get window(): number { return this.cursors.at(-1)?.window ?? 0; }

  /** Call once per visit. @param isSure the visitor is known to walk: no need to show it. */
  visit(id: number, isSure = false): Want | undefined {
    const at = this.cursors.findLastIndex((cursor) => {
      const gap = cursor.window > 0 ? this.options.gapMax : firstGapMax;
      return id >= cursor.last - gap && id <= Math.max(cursor.last, cursor.ahead.at(-1)?.id ?? 0) + gap;
    });
    if (at < 0) {
      this.begin(id);
      return isSure ? this.want() : undefined;
    }
    const cursor = this.cursors.splice(at, 1)[0]!;
    this.cursors.push(cursor);
    if (id <= cursor.last) return undefined; // again, or slightly out of order
    cursor.visits++;
    cursor.last = id;
    this.pass(cursor, id);
    return cursor.visits >= this.options.visitsMin || isSure ? this.want() : undefined;
  }

  /** Somebody is about to come by from the first thing after `after` on: the window starts without waiting to be shown. */
  expect(after: number, window = this.options.windowMin): Want | undefined {
    if (this.cursors.length > 0) return undefined;
    const cursor = this.begin(after);
    cursor.visits = this.options.visitsMin;
    cursor.window = window / 2;
    return this.want();
  }

  /** Answer to the last `Want`: what was begun; `lookedTo` the last id looked at, `exhausted` if nothing comes after it. */
  began(things: readonly Ahead[], lookedTo: number, exhausted: boolean): void {
    const cursor = this.cursors.at(-1);
    if (!cursor) return;
    for (const thing of things) {
      cursor.ahead.push(thing);
      cursor.aheadBytes += thing.bytes;
    }
    cursor.lookedTo = Math.max(cursor.lookedTo, lookedTo);
    cursor.exhausted = exhausted;
  }

  private want(): Want | undefined {
    const cursor = this.cursors.at(-1)!;
    if (cursor.exhausted || cursor.ahead.length > cursor.window / 2) return undefined;
    cursor.window = Math.min(this.options.windowMax, cursor.window === 0 ? this.options.windowMin : cursor.window * 2);
    const bytes = this.options.bytesMax - cursor.aheadBytes;
    if (bytes <= 0) return undefined;
    return { after: Math.max(cursor.lookedTo, cursor.last), count: cursor.window - cursor.ahead.length, bytes };
  }

  private begin(id: number): Cursor {
    const cursor: Cursor = { last: id, visits: 1, window: 0, ahead: [], aheadBytes: 0, lookedTo: id, exhausted: false };
    this.cursors.push(cursor);
    if (this.cursors.length > cursorsMax) this.onPassed(0, this.cursors.shift()!.ahead.length);
    return cursor;
  }

  private pass(cursor: Cursor, id: number): void {
    let used = 0;
    let wasted = 0;
    while (cursor.ahead.length > 0 && cursor.ahead[0]!.id <= id) {
      const thing = cursor.ahead.shift()!;
      cursor.aheadBytes -= thing.bytes;
      if (thing.id === id) used++;
      else wasted++;
    }
    if (wasted > used * 2) cursor.window = Math.max(this.options.windowMin, Math.floor(cursor.window / 2));
    if (used + wasted > 0) this.onPassed(used, wasted);
  }
}
