/**
 * One huge file read from end to end must not push everything else out of the cache: past its share it lives in a window that moves along
 * with its readers, and what lies behind them goes back to being in S3 only. While there is room it stays like any other file.
 */
import type { ContentFile } from '../cache/content-file.js';
import type { ContentStore } from '../cache/content-store.js';
import type { Range } from '../base/range-set.js';
import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';

/** Files above this share of the cache are meant. */
const fileShare = 1 / 4;
/** The cache is getting full: from here on a scan pays with its own bytes. */
const fullShare = 0.8;
/** Bytes read in sequence that make a scan; in a small cache less, as with the others. */
const scanBytes = 64 * 2 ** 20;
/** Left behind a reader: programs go back a little. */
const keepBytes = 32 * 2 ** 20;
/** Given up at once: seldom enough to cost nothing, little enough to stop nothing. */
const stepBytes = 32 * 2 ** 20;
const stepBytesMax = 128 * 2 ** 20;
const smallShare = 1 / 16;
/** Who has not read for so long no longer holds bytes back. */
const readerMs = 30_000;

interface Scan { readonly readers: Map<object, { at: number; ms: number }>; shedTo: number; busy: boolean }

export class ScanRoom {
  private readonly scans = new WeakMap<ContentFile, Scan>();

  constructor(private readonly contents: ContentStore, private readonly clock: Clock, private readonly log: Log) {}

  /**
   * A reader has come to `at`, after `runBytes` in sequence.
   * @param isBusy somebody fetches or waits there. @returns what is being given up, for tests; undefined: nothing.
   */
  advanced(file: ContentFile, reader: object, at: number, runBytes: number, isBusy: (range: Range) => boolean): Promise<number> | undefined {
    if (file.isComplete) return undefined;
    const { cacheBytes, limitBytes } = this.contents.stats();
    if (file.knownSizeBytes < limitBytes * fileShare) return undefined;
    const small = limitBytes * smallShare;
    let scan = this.scans.get(file);
    if (!scan) this.scans.set(file, (scan = { readers: new Map(), shedTo: 0, busy: false }));
    const ms = this.clock.monotonic();
    scan.readers.set(reader, { at, ms });
    if (scan.busy || runBytes < Math.min(scanBytes, small) || cacheBytes < limitBytes * fullShare) return undefined;
    let last = at;
    for (const [who, where] of scan.readers) {
      if (ms - where.ms > readerMs) scan.readers.delete(who);
      else last = Math.min(last, where.at);
    }
    if (last < scan.shedTo) scan.shedTo = 0; // somebody began again
    const start = scan.shedTo;
    const end = Math.min(last - Math.min(keepBytes, small), start + stepBytesMax);
    if (end - start < Math.min(stepBytes, small)) return undefined;
    scan.busy = true;
    const shed = scan;
    return this.contents.shed(file, [{ start, end }], isBusy)
      .then((bytes) => {
        shed.shedTo = end;
        return bytes;
      }, (error: unknown) => {
        this.log.warn('cannot make room behind a scan', { room: 'prefetch', id: file.id, error });
        return 0;
      })
      .finally(() => (shed.busy = false));
  }
}
