/**
 * Room in the cache (D5): every GET and every write reserves first. With room the answer is immediate; else clean files are
 * evicted; else the caller waits, which is how writers are throttled to the speed of uploads when dirty data fills the cache. Who
 * has waited `noProgressMs` without any room having been made gets `CacheFullError`.
 *
 * Room is the smaller of what the limit leaves and what the file system has above the free space to keep. `hold` counts a
 * reservation until it is released; waiters are served in order.
 */
import fs from 'node:fs';
import type { Clock } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { CacheFullError } from './cache-error.js';

export type MinFree = { readonly percent: number } | { readonly bytes: number };

/** Free space is asked of the file system at most this often, or when this much was granted since. */
const freeAgeMs = 250;
const freeGrantBytes = 8 * 1024 * 1024;
/** Where background eviction starts and stops, as shares of the limit, so that most reservations find room. */
const highWater = 0.95;
const lowWater = 0.9;

export interface SpaceHost {
  /** Bytes on disk now, files being unlinked included. */
  usedBytes(): number;
  evictableBytes(): number;
  /** Evicts about this much; answers the bytes freed. */
  evict(bytes: number): Promise<number>;
  /** Why nothing can be evicted, for the error. */
  explain(): string;
}

interface Waiter {
  readonly bytes: number;
  readonly since: number;
  readonly grant: (release: () => void) => void;
  readonly refuse: (error: Error) => void;
}

export class Space {
  heldBytes = 0;
  private readonly waiters: Waiter[] = [];
  private pumping: Promise<void> | undefined;
  private background: Promise<void> | undefined;
  private wake: (() => void) | undefined;
  private free = { bytes: 0, minBytes: 0, at: -Infinity, granted: 0 };
  private lastProgress = -Infinity;
  private lastUsed = 0;
  /** Something changed while the pump was busy evicting. */
  private poked = false;
  private closed = false;

  constructor(
    private readonly host: SpaceHost,
    private readonly dir: string,
    public limitBytes: number,
    private readonly minFree: MinFree,
    private readonly noProgressMs: number,
    private readonly clock: Clock,
    private readonly statfs: (dir: string) => { bsize: number; bavail: number; blocks: number } = fs.statfsSync,
  ) {}

  get waiting(): number { return this.waiters.length; }

  /** D5: from here on a file opened for writing must not be in passthrough, where nothing throttles it. */
  get isAboveHighWater(): boolean {
    return this.host.usedBytes() + this.heldBytes >= this.limitBytes * highWater || this.freeRoom() <= 0;
  }

  room(): number {
    return Math.min(this.limitBytes - this.host.usedBytes(), this.freeRoom()) - this.heldBytes;
  }

  /**
   * Resolves to a function that ends the reservation (idempotent), to be called once the bytes are on disk or will not come.
   * @param signal one that is costly to make is made only for a wait.
   */
  hold(bytes: number, signal?: AbortSignal | (() => AbortSignal)): MaybePromise<() => void> {
    if (this.waiters.length === 0 && this.room() >= bytes) return this.granted(bytes);
    return this.wait(bytes, typeof signal === 'function' ? signal() : signal);
  }

  /** Bytes were freed, or may now be: waiters look again. */
  changed(): void {
    if (this.wake) this.wake();
    else this.poked = true;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.changed();
    await this.pumping;
    await this.background;
  }

  private freeRoom(): number {
    const now = this.clock.monotonic();
    if (now - this.free.at >= freeAgeMs || this.free.granted >= freeGrantBytes) {
      const { bsize, bavail, blocks } = this.statfs(this.dir);
      const minBytes = 'bytes' in this.minFree ? this.minFree.bytes : (blocks * bsize * this.minFree.percent) / 100;
      this.free = { bytes: bavail * bsize, minBytes, at: now, granted: 0 };
    }
    return this.free.bytes - this.free.minBytes;
  }

  private granted(bytes: number): () => void {
    this.heldBytes += bytes;
    this.free.granted += bytes;
    this.relieveIfFull();
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.heldBytes -= bytes;
      if (this.waiters.length > 0) this.changed();
    };
  }

  /** Also for what took room without a reservation (passthrough), or can be evicted only now that it is uploaded. */
  relieveIfFull(): void {
    if (this.background || this.closed || !this.isAboveHighWater || this.host.evictableBytes() === 0) return;
    const excess = this.host.usedBytes() + this.heldBytes - this.limitBytes * lowWater;
    this.background = this.host
      .evict(Math.max(excess, -this.freeRoom(), 1))
      .then(() => undefined, () => undefined) // counted and logged by the store; waiters will see there is no room
      .finally(() => (this.background = undefined));
  }

  private wait(bytes: number, signal?: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(abortReason(signal));
      const leave = (): void => {
        const at = this.waiters.indexOf(waiter);
        if (at >= 0) this.waiters.splice(at, 1);
        reject(abortReason(signal!));
        this.changed();
      };
      const waiter: Waiter = {
        bytes,
        since: this.clock.monotonic(),
        grant: (release) => {
          signal?.removeEventListener('abort', leave);
          resolve(release);
        },
        refuse: (error) => {
          signal?.removeEventListener('abort', leave);
          reject(error);
        },
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.waiters.push(waiter);
      this.startPump();
    });
  }

  private startPump(): void {
    this.pumping ??= this.pump().finally(() => {
      this.pumping = undefined;
      if (this.waiters.length > 0) this.startPump(); // came while the last pump was ending
    });
  }

  private async pump(): Promise<void> {
    this.lastUsed = this.host.usedBytes();
    while (this.waiters.length > 0) {
      const head = this.waiters[0]!;
      this.free.at = -Infinity;
      this.poked = false;
      const room = this.room();
      if (room >= head.bytes) {
        this.waiters.shift();
        head.grant(this.granted(head.bytes));
        continue;
      }
      if (this.closed) {
        this.waiters.shift();
        head.refuse(this.full(head.bytes, 'and is closing'));
        continue;
      }
      const freed = await this.host.evict(Math.max(head.bytes - room, Math.min(this.limitBytes / 100, 64 * 1024 * 1024))).catch(() => 0);
      const used = this.host.usedBytes();
      const now = this.clock.monotonic();
      if (freed > 0 || used < this.lastUsed) this.lastProgress = now;
      this.lastUsed = used;
      if (freed > 0) continue;
      const patience = Math.max(head.since, this.lastProgress) + this.noProgressMs - now;
      if (patience <= 0 && this.waiters[0] === head) {
        this.waiters.shift();
        head.refuse(this.full(head.bytes, this.host.explain()));
        continue;
      }
      if (!this.poked) await this.pause(Math.min(1000, patience));
    }
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.wake?.(), ms);
      this.wake = () => {
        clearTimeout(timer);
        this.wake = undefined;
        resolve();
      };
    });
  }

  private full(bytes: number, reason: string): CacheFullError {
    return new CacheFullError(bytes, this.host.usedBytes() + this.heldBytes, this.limitBytes, reason);
  }
}

function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new DOMException('aborted', 'AbortError');
}
