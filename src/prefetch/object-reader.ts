/**
 * Brings bytes from S3 into content files: one download per byte, whoever asks.
 *
 * Invariants
 *  1. At most one flight covers a missing byte of a file; whoever wants it joins.
 *  2. A flight writes only bytes that were missing when its request left, and nobody else writes those before it is over:
 *     writers wait for `inFlight`, and truncation, replacement and removal for `cancel`.
 *  3. No flight of a file begins between the end of a `cancel` and the code that waited for it.
 *  4. `downloadsMax` requests at once; `windowBytesMax` bytes of prefetch queued or under way, what exceeds it is not begun.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { Range } from '../base/range-set.js';
import type { ContentFile } from '../cache/content-file.js';
import type { ContentStore } from '../cache/content-store.js';
import type { ObjectHead, ObjectStore } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import { DownloadQueue } from './download-queue.js';
import { Flight, type FlightHost, type ReadSource, type Waiter } from './flight.js';
import { LinkEstimate } from './link-estimate.js';
import { ScanRoom } from './scan-room.js';
import type { StreamState } from './stream-state.js';

export type { ReadSource } from './flight.js';

export interface ObjectReaderConfig {
  /** Largest single request. */
  readonly partBytes: number;
  /** Files up to this size are fetched whole at the first read. */
  readonly smallFileBytes: number;
  readonly downloadsMax: number;
  /** Bytes of prefetch queued or under way over all files. */
  readonly windowBytesMax: number;
  /** stream: readers get bytes as they land; store: when the whole part has. Read anew each time: it may be switched. */
  readonly readMode: 'stream' | 'store';
}

export interface ObjectReaderOptions {
  readonly store: ObjectStore;
  readonly contents: ContentStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly config: ObjectReaderConfig;
}

export interface EnsureOptions { readonly signal?: AbortSignal }

/** What a prefetch began, and as far as it is here or on its way. */
interface Begun { readonly flights: readonly Pick<Flight, 'done' | 'isSent'>[]; readonly coveredTo: number }

/** The attributes that come with the bytes of a file. */
export interface ComingHead {
  /** Undefined if it did not come to that. Never rejects. */
  readonly answer: Promise<ObjectHead | undefined>;
  /** S3 was asked: it will not be long. False while it waits for its turn, or for room. */
  readonly isSent: () => boolean;
}

/** A short read is rounded to this: the round trip costs more than the bytes. */
const alignBytes = 128 * 1024;
/** One that is longer than that anyway, to this: what is asked, plus little. */
const alignBytesLong = 16 * 1024;
/** Prefetch is cut into pieces no smaller than this, so that several connections share it. */
const pieceBytesMin = 1024 * 1024;
/**
 * A reader's window before the line is known, and the least of it: 8 parts of 8 MiB fill 6 Gbit/s at 80 ms. Less would do on a short line, but what the line
 * delivers is measured on a machine that has other things to do: with a window of 16 MiB a read of 1 GiB took a third longer on two busy cores.
 */
const windowBytesMin = 64 * 1024 * 1024;

interface FileFlights {
  /** Ascending, disjoint. */
  flights: Flight[];
  /** While set, nothing new begins (invariant 3). */
  barrier: Promise<void> | undefined;
  cancels: number;
}

export class ObjectReader implements FlightHost {
  readonly store: ObjectStore;
  readonly contents: ContentStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  private readonly config: ObjectReaderConfig;
  private readonly queue: DownloadQueue;
  private readonly files = new Map<number, FileFlights>();
  private readonly link: LinkEstimate;
  private readonly room: ScanRoom;
  private prefetchBytes = 0;
  private closed = false;

  constructor(options: ObjectReaderOptions) {
    ({ store: this.store, contents: this.contents, clock: this.clock, log: this.log, metrics: this.metrics, config: this.config } = options);
    this.queue = new DownloadQueue(options.config.downloadsMax);
    this.link = new LinkEstimate(this.clock, { startBytes: windowBytesMin, minBytes: windowBytesMin, maxBytes: this.config.windowBytesMax });
    this.room = new ScanRoom(this.contents, this.clock, this.log);
    this.metrics.gauge('prefetch.stream_window_bytes', () => this.windowBytes);
    this.metrics.gauge('prefetch.window_bytes', () => this.prefetchBytes);
    this.metrics.gauge('prefetch.flights', () => this.queue.size);
  }

  /**
   * Resolves when every byte of [start, end) is present; the caller reads before it yields again.
   * @throws StoreError what S3 or the network said, `aborted` for the caller's own signal; SourceLostError; CacheFullError.
   */
  ensure(source: ReadSource, start: number, end: number, options: EnsureOptions = {}): Promise<void> {
    return this.bring(source, start, end, options.signal, false);
  }

  /** The whole file, with as many requests at once as there may be, behind reads that somebody waits for. */
  async fetchWhole(source: ReadSource, signal?: AbortSignal): Promise<void> {
    const release = this.contents.acquire(source.file);
    const abort = new AbortController();
    const stop = signal ? AbortSignal.any([signal, abort.signal]) : abort.signal;
    let at = 0;
    const work = async (): Promise<void> => {
      for (;;) {
        const part = source.file.missing.intersection(at, Infinity)[0];
        if (!part) return;
        const end = Math.min(part.end, this.partEnd(part.start));
        at = end;
        await this.bring(source, part.start, end, stop, true);
      }
    };
    try {
      await Promise.all(Array.from({ length: this.config.downloadsMax }, () => work().catch((error: unknown) => {
        abort.abort();
        throw error;
      })));
    } finally {
      release();
    }
  }

  /** What one sequential reader may have ahead of it now: what fills the line, or its share of what all may have. */
  get windowBytes(): number {
    return Math.min(this.link.windowBytes, Math.max(pieceBytesMin, Math.floor(this.config.windowBytesMax / Math.max(1, this.files.size))));
  }

  /** Begins to fetch [start, end) as far as there is room for it; errors are only counted. */
  prefetch(source: ReadSource, start: number, end: number): Begun {
    if (this.closed || source.file.removed || this.files.get(source.file.id)?.barrier) return { flights: [], coveredTo: start };
    const flights: Flight[] = [];
    let coveredTo = end;
    const pieceBytes = Math.min(this.config.partBytes, Math.max(pieceBytesMin, Math.ceil((end - start) / 4 / pieceBytesMin) * pieceBytesMin));
    const pieces = this.uncovered(source.file, start, end).flatMap((gap) => cut(gap, pieceBytes));
    for (const piece of pieces) {
      if (this.prefetchBytes + piece.end - piece.start > this.config.windowBytesMax) {
        this.metrics.add('prefetch.dropped');
        coveredTo = piece.start;
        break;
      }
      flights.push(this.begin(source, piece.start, piece.end, true));
    }
    this.queue.changed();
    return { flights, coveredTo };
  }

  /** The same for a whole file; what is fetched says what the object's attributes are. */
  prefetchWithHead(source: ReadSource): ComingHead {
    let head: ObjectHead | undefined;
    const { flights } = this.prefetch({ ...source, onHead: (seen) => (head = seen) }, 0, source.file.sizeBytes);
    return { answer: Promise.all(flights.map(({ done }) => done)).then(() => head), isSent: () => flights.every((flight) => flight.isSent) };
  }

  /** A sequential reader has come to `at`: what a huge file takes of a full cache goes again behind it. */
  scanned(file: ContentFile, reader: StreamState, at: number): void {
    void this.room.advanced(file, reader, at, reader.runBytes, (range) => this.isBusy(file, range));
  }

  /** Resolves when no request that is under way now writes into [start, end) any more; undefined if none does. */
  inFlight(fileId: number, start: number, end: number): Promise<void> | undefined {
    const busy = this.files.get(fileId)?.flights.flatMap((flight) => (flight.writing && flight.writing.start < end && flight.writing.end > start ? [flight.writing.done] : [])) ?? [];
    return busy.length === 0 ? undefined : Promise.all(busy).then(() => undefined);
  }

  /** Ends all fetches of the file; resolves when none writes into it. What the caller does next without yielding comes before any new one. */
  async cancel(fileId: number): Promise<void> {
    const state = this.files.get(fileId);
    if (!state) return;
    let lift!: () => void;
    state.cancels++;
    const barrier = new Promise<void>((resolve) => (lift = resolve));
    state.barrier = Promise.all([state.barrier, barrier]).then(() => undefined);
    const writing = state.flights.flatMap((flight) => (flight.writing ? [flight.writing.done] : []));
    for (const flight of [...state.flights]) this.drop(flight);
    await Promise.all(writing);
    setImmediate(() => {
      if (--state.cancels === 0) state.barrier = undefined;
      this.forget(fileId, state);
      lift();
    });
  }

  /** Ends all fetches; whoever waits gets `aborted`. Idempotent. */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([...this.files.keys()].map((id) => this.cancel(id)));
  }

  // ---- FlightHost

  fetched(bytes: number): void {
    this.link.landed(bytes);
  }

  took(bytes: number, ms: number): void {
    if (bytes >= this.config.partBytes / 2) this.link.took(ms);
  }

  landed(flight: Flight): void {
    for (const waiter of [...flight.waiters]) waiter.wake();
  }

  settled(flight: Flight, error?: unknown): void {
    this.detach(flight);
    if (error !== undefined && !flight.abort.signal.aborted) {
      this.metrics.add(flight.waiters.size === 0 ? 'prefetch.failures' : 'prefetch.read_failures');
      this.log.debug('a fetch failed', { room: 'prefetch', id: flight.file.id, error });
    }
    // Ended by us (cancel, or the last waiter left as another came): whoever waits asks again.
    for (const waiter of [...flight.waiters]) waiter.wake(flight.abort.signal.aborted ? undefined : error);
  }

  /** A file bigger than the cache: what is farthest from where it is being read now makes room, if nothing else can (D5, D6). */
  async makeRoom(flight: Flight): Promise<void> {
    const { file } = flight;
    await turn(); // whoever was just told that bytes are present has read them
    if (this.contents.stats().evictableBytes > 0 || this.closed) return;
    const near: Range = { start: flight.start - this.config.partBytes, end: flight.end + this.config.partBytes };
    const far = [{ start: 0, end: Math.max(0, near.start) }, { start: near.end, end: Infinity }];
    await this.contents.shed(file, far, (range) => this.isBusy(file, range)).catch((error: unknown) => {
      this.log.warn('cannot make room within a big file', { room: 'prefetch', id: file.id, error });
    });
  }

  // ---- private

  /** Somebody fetches or waits there. */
  private isBusy(file: ContentFile, range: Range): boolean {
    return (this.files.get(file.id)?.flights ?? []).some((flight) =>
      [flight.writing, ...flight.waiters].some((used) => used && used.start < range.end && used.end > range.start));
  }

  private async bring(source: ReadSource, start: number, end: number, signal: AbortSignal | undefined, isBulk: boolean): Promise<void> {
    const { file } = source;
    for (;;) {
      throwIfAborted(signal);
      if (this.closed) throw new StoreError('aborted', 'the mount is closing');
      const missing = file.missing.intersection(start, end);
      if (missing.length === 0) return;
      const barrier = this.files.get(file.id)?.barrier;
      if (barrier) {
        await barrier;
        continue;
      }
      const flights = this.cover(source, missing, isBulk);
      await this.wait(file, flights, { start, end, isBulk }, signal);
    }
  }

  /** Flights that cover these missing ranges, made where there are none. */
  private cover(source: ReadSource, missing: readonly Range[], isBulk: boolean): Flight[] {
    const { file } = source;
    const wanted: Flight[] = [];
    for (const range of missing) {
      for (const gap of this.uncovered(file, range.start, range.end)) {
        for (const piece of this.pieces(file, gap, isBulk)) this.begin(source, piece.start, piece.end, false);
      }
      for (const flight of this.files.get(file.id)?.flights ?? []) {
        if (flight.start < range.end && flight.end > range.start) wanted.push(flight);
      }
    }
    return wanted;
  }

  /** What to request for a gap: a small file whole, else rounded within what is missing and unasked, in parts. */
  private pieces(file: ContentFile, gap: Range, isBulk: boolean): Range[] {
    let { start, end } = gap;
    if (!isBulk) {
      const size = file.sizeBytes;
      const isSmall = size <= this.config.smallFileBytes;
      const align = end - start < alignBytes ? alignBytes : alignBytesLong;
      const around = isSmall
        ? { start: 0, end: size }
        : { start: Math.floor(start / align) * align, end: Math.min(size, Math.ceil(end / align) * align) };
      const whole = this.uncovered(file, around.start, around.end).find((range) => range.start <= start && range.end >= end);
      // In front of what is asked only a little: the reader waits for it to pass.
      if (whole) ({ start, end } = { start: Math.max(whole.start, start - pieceBytesMin), end: whole.end });
    }
    return cut({ start, end }, this.config.partBytes);
  }

  private partEnd(at: number): number {
    return (Math.floor(at / this.config.partBytes) + 1) * this.config.partBytes;
  }

  private begin(source: ReadSource, start: number, end: number, isPrefetch: boolean): Flight {
    const flight = new Flight(this, source, start, end, isPrefetch);
    let state = this.files.get(source.file.id);
    if (!state) this.files.set(source.file.id, (state = { flights: [], barrier: undefined, cancels: 0 }));
    const at = state.flights.findIndex((other) => other.start >= end);
    state.flights.splice(at < 0 ? state.flights.length : at, 0, flight);
    if (isPrefetch) this.prefetchBytes += end - start;
    // Queued now, begun by the caller's `changed()`, once whoever waits for it is known.
    this.queue.push(flight);
    return flight;
  }

  /** Waits until [start, end) is present, or one of the flights it needs has settled. */
  private wait(file: ContentFile, flights: readonly Flight[], what: Pick<Waiter, 'start' | 'end' | 'isBulk'>, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        signal?.removeEventListener('abort', onAbort);
        for (const flight of flights) flight.waiters.delete(waiter);
      };
      const onAbort = (): void => {
        leave();
        for (const flight of flights) if (flight.waiters.size === 0 && !flight.isUseful && !flight.over) this.drop(flight);
        reject(new StoreError('aborted', 'the read was interrupted', {}, { cause: signal?.reason }));
      };
      const waiter: Waiter = {
        ...what,
        wake: (error) => {
          const isPresent = !file.missing.intersects(what.start, what.end);
          if (error !== undefined && !isPresent) {
            leave();
            reject(error as Error);
          } else if ((isPresent && this.config.readMode === 'stream') || flights.every((flight) => flight.over)) {
            leave();
            resolve();
          }
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      for (const flight of flights) flight.waiters.add(waiter);
      this.queue.changed(); // they are urgent now
    });
  }

  /** The missing parts of [start, end) that no flight covers. */
  private uncovered(file: ContentFile, start: number, end: number): Range[] {
    const flights = this.files.get(file.id)?.flights ?? [];
    const gaps: Range[] = [];
    for (const range of file.missing.intersection(start, end)) {
      let at = range.start;
      for (const flight of flights) {
        if (flight.end <= at) continue;
        if (flight.start >= range.end) break;
        if (flight.start > at) gaps.push({ start: at, end: flight.start });
        at = Math.max(at, flight.end);
      }
      if (at < range.end) gaps.push({ start: at, end: range.end });
    }
    return gaps;
  }

  /** Ends a flight: at once if it has not begun, else when its request notices. */
  private drop(flight: Flight): void {
    flight.abort.abort();
    if (this.queue.remove(flight)) this.settled(flight, new StoreError('aborted', 'the fetch was cancelled'));
  }

  private detach(flight: Flight): void {
    const state = this.files.get(flight.file.id);
    const at = state?.flights.indexOf(flight) ?? -1;
    flight.over = true;
    flight.finish();
    if (!state || at < 0) return;
    state.flights.splice(at, 1);
    if (flight.isPrefetch) this.prefetchBytes -= flight.end - flight.start;
    this.forget(flight.file.id, state);
  }

  private forget(fileId: number, state: FileFlights): void {
    if (state.flights.length === 0 && state.cancels === 0 && this.files.get(fileId) === state) this.files.delete(fileId);
  }
}

/** A range in pieces that end at multiples of `pieceBytes`. */
function cut({ start, end }: Range, pieceBytes: number): Range[] {
  const pieces: Range[] = [];
  for (let at = start; at < end; ) {
    const next = Math.min(end, (Math.floor(at / pieceBytes) + 1) * pieceBytes);
    pieces.push({ start: at, end: next });
    at = next;
  }
  return pieces;
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new StoreError('aborted', 'the read was interrupted', {}, { cause: signal.reason });
}
