/**
 * One download in the making: a range of one content file, queued or under way. It writes only bytes that are missing when its
 * request leaves, and `writing` says which: local writers keep out of those until it has landed.
 */
import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { ContentFile } from '../cache/content-file.js';
import type { ContentStore } from '../cache/content-store.js';
import type { ETag, Key, ObjectHead, ObjectStore } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import type { Job } from './download-queue.js';
import { SourceLostError } from './source-lost-error.js';

export interface Location { readonly key: Key; readonly etag: ETag; readonly versionId?: string }

export interface ReadSource {
  readonly file: ContentFile;
  /** Where the missing bytes are now, under another key than those `gone`; null: nowhere. */
  locate(gone?: ReadonlySet<Key>): Location | null;
  /** An upload of our own that may be replacing what is under the key: resolves when it is known what became of it (O3). */
  settled?(key: Key): Promise<void> | undefined;
  /** Wants to know what the answer says about the object's attributes. */
  onHead?(head: ObjectHead): void;
}

/** Somebody who wants a range to be present. */
export interface Waiter {
  readonly start: number;
  readonly end: number;
  /** Can wait: nobody is kept from going on. */
  readonly isBulk: boolean;
  /** Something landed or settled: look again. */
  wake(error?: unknown): void;
}

export interface FlightHost {
  readonly store: ObjectStore;
  readonly contents: ContentStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Makes room inside the file itself where nothing else can be evicted. */
  makeRoom(flight: Flight): Promise<void>;
  landed(flight: Flight): void;
  /** Bytes arrived from S3. */
  fetched(bytes: number): void;
  /** A request for so many bytes took so long. */
  took(bytes: number, ms: number): void;
  settled(flight: Flight, error?: unknown): void;
}

/** Moves of an object (renames by us) that one fetch follows before it gives up. */
const movesMax = 5;

export class Flight implements Job {
  readonly waiters = new Set<Waiter>();
  readonly abort = new AbortController();
  /** The part a request may be writing right now. */
  writing: { readonly start: number; readonly end: number; readonly done: Promise<void> } | undefined;
  /** Settled, one way or the other. */
  over = false;
  /** Resolves then. */
  readonly done: Promise<void>;
  readonly finish: () => void;
  private landedBytes = 0;
  /** It waits for nothing but S3 any more. */
  private hasRoom = false;

  constructor(private readonly host: FlightHost, readonly source: ReadSource, readonly start: number, readonly end: number, readonly isPrefetch: boolean) {
    let finish!: () => void;
    this.done = new Promise((resolve) => (finish = resolve));
    this.finish = finish;
  }

  get isUrgent(): boolean {
    for (const waiter of this.waiters) if (!waiter.isBulk) return true;
    return false;
  }
  get file(): ContentFile { return this.source.file; }
  /** Its request is at S3, or was, or leaves now. */
  get isSent(): boolean { return this.over || this.hasRoom; }
  /** Worth finishing though nobody waits: somebody foresaw it, or most of it is here. */
  get isUseful(): boolean { return this.isPrefetch || this.landedBytes * 2 >= this.end - this.start; }

  async run(): Promise<void> {
    const release = this.host.contents.acquire(this.file);
    try {
      await this.fetch();
      this.host.settled(this);
    } catch (error) {
      this.host.settled(this, error);
    } finally {
      release();
    }
  }

  private async fetch(): Promise<void> {
    const bytes = this.file.missing.intersection(this.start, this.end).reduce((sum, part) => sum + part.end - part.start, 0);
    const held = this.host.contents.hold(bytes, this.abort.signal);
    if (held instanceof Promise) void this.host.makeRoom(this);
    else this.hasRoom = true;
    const release = await held;
    this.hasRoom = true;
    try {
      for (;;) {
        if (this.abort.signal.aborted || this.file.removed) throw new StoreError('aborted', 'the fetch was cancelled');
        // Looked up anew for each request: bytes may have been written here or fetched meanwhile.
        const part = this.file.missing.intersection(this.start, this.end)[0];
        if (!part) return;
        await this.fetchPart(part.start, part.end);
      }
    } finally {
      release();
    }
  }

  private async fetchPart(start: number, end: number): Promise<void> {
    let failure: unknown;
    let last: Location | undefined;
    const gone = new Set<Key>();
    for (let moves = 0; moves <= movesMax; moves++) {
      const where = this.source.locate(gone);
      if (where === null) throw new SourceLostError(this.file.id, `The bytes of content ${this.file.id} are nowhere any more`, { cause: failure });
      if (last && where.key === last.key && where.etag === last.etag && where.versionId === last.versionId) {
        // O3: nobody here moved it, but for an upload whose answer is still to come
        const settled = this.source.settled?.(where.key);
        last = undefined;
        if (!settled) {
          // Two keys may hold the bytes, and a power cut have taken the note that one of them was deleted
          gone.add(where.key);
          const other = this.source.locate(gone);
          if (other === null || other.key === where.key) return this.lost(where.key, failure);
          continue;
        }
        await settled;
        continue;
      }
      last = where;
      try {
        return await this.request(where, start, end);
      } catch (error) {
        if (!(error instanceof StoreError) || (error.kind !== 'not-found' && error.kind !== 'precondition-failed')) throw error;
        failure = error;
        this.host.metrics.add('prefetch.source_moves');
      }
    }
    this.lost(last?.key ?? '', failure);
  }

  private lost(key: Key | '', cause: unknown): never {
    throw new SourceLostError(this.file.id, `The object ${key} is gone or was replaced`, { cause });
  }

  private async request(where: Location, start: number, end: number): Promise<void> {
    const begun = this.host.clock.monotonic();
    const timesKept = this.host.contents.isDirty(this.file.id) ? this.file.keepTimes() : undefined;
    let done!: () => void;
    this.writing = { start, end, done: new Promise((resolve) => (done = resolve)) };
    try {
      const result = await this.host.store.getToFile(
        where.key,
        { start, end, etag: where.etag, ...(where.versionId !== undefined && { versionId: where.versionId }), ...(this.source.onHead && { withHead: true }) },
        this.file.path,
        { signal: this.abort.signal, onRange: (from, to) => this.land(from, to) },
      );
      if (result.lengthBytes < end - start) throw new SourceLostError(this.file.id, `The object ${where.key} ends at ${start + result.lengthBytes}, before ${end}`);
      this.land(start, end);
      if (result.head) this.source.onHead?.(result.head);
      const ms = this.host.clock.monotonic() - begun;
      this.host.took(end - start, ms);
      this.host.metrics.observeUs('prefetch.get_us', ms * 1000);
    } finally {
      timesKept?.();
      this.writing = undefined;
      done();
    }
  }

  private land(start: number, end: number): void {
    const bytes = this.file.missing.intersection(start, end).reduce((sum, part) => sum + part.end - part.start, 0);
    if (bytes === 0 || this.file.removed || !this.writing) return;
    this.landedBytes += bytes;
    this.host.metrics.add('prefetch.fetched_bytes', bytes);
    this.host.fetched(bytes);
    this.file.markPresent(start, end);
    this.host.landed(this);
  }
}
