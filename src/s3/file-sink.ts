/**
 * Bytes on their way from S3 into a local file, written at their offset. Synchronous on purpose: it runs in a transfer worker, a write into the page
 * cache takes less than a thread-pool hand-off, and the pool stays free for fdatasync. Large chunks are written as they come; small ones (TLS
 * records, slow networks) are gathered, but not beyond the turn of the event loop that brought them.
 *
 * `onRange` is called after the bytes are in the file: at once for the first ones, which somebody waits for, then for as many again as are reported,
 * up to 1 MiB; what waits to be reported waits `reportMs` at most.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { localIoError } from './body-source.js';

const gatherBytes = 64 << 10;
/** As much as a program that reads in order is given at once. */
const reportBytesMax = 1 << 20;
const reportMs = 5;

/** Gather buffers of sinks that are done, for the next ones. */
const spare: Buffer[] = [];
const sparesMax = 64;

/** Sinks with gathered bytes: written together at the end of the turn. */
const gathering = new Set<FileSink>();
let endOfTurn: NodeJS.Immediate | undefined;

function flushAll(): void {
  endOfTurn = undefined;
  for (const sink of gathering) sink.endTurn();
}

export class FileSink {
  private readonly fd: number;
  private readonly start: number;
  private reported: number;
  private gathered: Buffer | undefined;
  private gatheredBytes = 0;
  private late: NodeJS.Timeout | undefined;
  private closed = false;
  /** Met at the end of a turn, where nobody could be told. */
  private failure: unknown;

  /** @throws StoreError `local-io`; the file must exist. */
  constructor(private readonly path: string, private position: number, private readonly onRange: ((start: number, end: number) => void) | undefined) {
    this.start = this.reported = position;
    try {
      this.fd = openSync(path, 'r+');
    } catch (error) {
      throw localIoError(`open "${path}"`, error);
    }
  }

  /** @param chunk borrowed until this returns. */
  take(chunk: Buffer): void {
    if (this.failure !== undefined) throw this.failure;
    if (chunk.length >= gatherBytes || this.gatheredBytes + chunk.length > gatherBytes) this.writeGathered();
    if (chunk.length >= gatherBytes) {
      this.write(chunk);
      this.report();
      return;
    }
    this.gathered ??= spare.pop() ?? Buffer.allocUnsafeSlow(gatherBytes);
    chunk.copy(this.gathered, this.gatheredBytes);
    this.gatheredBytes += chunk.length;
    gathering.add(this);
    endOfTurn ??= setImmediate(flushAll);
  }

  /** Writes and reports all there is, also after an error: bytes that arrived are good (the etag was demanded). */
  flush(): void {
    if (this.failure !== undefined) throw this.failure;
    this.writeGathered();
    this.reportNow();
  }

  endTurn(): void {
    try {
      this.writeGathered();
      this.report();
    } catch (error) {
      this.failure = error;
    }
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.late);
    gathering.delete(this);
    if (this.gathered && spare.length < sparesMax) spare.push(this.gathered);
    this.gathered = undefined;
    closeSync(this.fd);
  }

  private writeGathered(): void {
    gathering.delete(this);
    const { gathered, gatheredBytes } = this;
    if (!gathered || gatheredBytes === 0) return;
    this.gatheredBytes = 0;
    this.write(gathered.subarray(0, gatheredBytes));
  }

  private write(bytes: Buffer): void {
    try {
      for (let at = 0; at < bytes.length;) {
        const count = writeSync(this.fd, bytes, at, bytes.length - at, this.position);
        at += count;
        this.position += count;
      }
    } catch (error) {
      throw localIoError(`write "${this.path}"`, error);
    }
  }

  private report(): void {
    const news = this.position - this.reported;
    if (news >= Math.min(reportBytesMax, this.reported - this.start)) this.reportNow();
    else if (news > 0) this.late ??= setTimeout(() => this.reportNow(), reportMs);
  }

  private reportNow(): void {
    clearTimeout(this.late);
    this.late = undefined;
    if (this.position === this.reported) return;
    const from = this.reported;
    this.reported = this.position;
    this.onRange?.(from, this.reported);
  }
}
