/**
 * The access pattern of one open file, and what should be fetched ahead of it. Sequential reads get a window that starts small, so
 * that the first byte is not kept waiting behind a big part, and doubles up to what the line can carry as long as the reader keeps going; a seek starts over;
 * random reads get nothing ahead. A few cursors at once, since programs read archives and databases at several places.
 */
import type { Range } from '../base/range-set.js';

const windowBytesMin = 512 * 1024;
/** Who has read so much in sequence is likely to go on: the window grows faster, for each step costs a round trip. */
const sureBytes = 1024 * 1024;
/** The kernel's readahead delivers requests slightly out of order; this far off still belongs to the cursor. */
const slackBytes = 1024 * 1024;
const cursorsMax = 4;

interface Cursor {
  /** End of the furthest read. */
  next: number;
  /** Everything before it was asked for already. */
  fetchedTo: number;
  windowBytes: number;
  /** Bytes read in sequence. */
  runBytes: number;
}

export class StreamState {
  /** Most recently used last. */
  private readonly cursors: Cursor[] = [];
  /** @param windowMax asked anew each time: it is measured. */
  constructor(private readonly windowMax: () => number) {}

  /** Bytes read in sequence up to the latest read; 0 before the first. */
  get runBytes(): number { return this.cursors.at(-1)?.runBytes ?? 0; }

  /** Of what `onRead` wanted last, only this much was begun: the next reads ask for the rest. */
  fetchedOnlyTo(offset: number): void {
    const cursor = this.cursors.at(-1);
    if (cursor) cursor.fetchedTo = Math.max(cursor.next, Math.min(cursor.fetchedTo, offset));
  }

  /** Call once per read, before it; the ranges may pass the end of the file. */
  onRead(offset: number, length: number): { prefetch: Range[] } {
    const end = offset + length;
    const at = this.cursors.findLastIndex((cursor) => offset <= cursor.next + slackBytes && end > cursor.next - slackBytes - length);
    if (at < 0) {
      // A read at the start usually goes on; one elsewhere has to show it.
      this.cursors.push({ next: end, fetchedTo: end, windowBytes: 0, runBytes: offset === 0 ? length : 0 });
      if (this.cursors.length > cursorsMax) this.cursors.shift();
      return offset === 0 ? this.advance(this.cursors.at(-1)!) : { prefetch: [] };
    }
    const cursor = this.cursors.splice(at, 1)[0]!;
    this.cursors.push(cursor);
    if (end <= cursor.next) return { prefetch: [] };
    cursor.runBytes += end - cursor.next;
    cursor.next = end;
    cursor.fetchedTo = Math.max(cursor.fetchedTo, end);
    return this.advance(cursor);
  }

  private advance(cursor: Cursor): { prefetch: Range[] } {
    // Refilled when half of it was read, so that requests are few and the far end stays ahead.
    if (cursor.fetchedTo - cursor.next > cursor.windowBytes / 2) return { prefetch: [] };
    cursor.windowBytes = Math.min(this.windowMax(), cursor.windowBytes === 0 ? windowBytesMin : cursor.windowBytes * (cursor.runBytes < sureBytes ? 2 : 4));
    const start = cursor.fetchedTo;
    const end = cursor.next + cursor.windowBytes;
    if (end <= start) return { prefetch: [] };
    cursor.fetchedTo = end;
    return { prefetch: [{ start, end }] };
  }
}
