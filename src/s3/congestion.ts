/**
 * How many requests may be at S3 at once: as many as callers like (or `limitMax`) until one fails for being too many, then half of what was in flight, and
 * one more for every round of answers without complaint, until what it stood before is reached again. Who has to wait does so in order of arrival.
 */
import { StoreError } from './store-error.js';

const limitMin = 1;

/** `leave` exactly once, whatever came of it. */
export interface Pass {
  succeeded(): void;
  failed(error: unknown): void;
  leave(): void;
}

/** S3 says SlowDown. */
function isThrottled(error: unknown): boolean {
  return error instanceof StoreError && error.kind === 'throttled';
}

export class Congestion {
  private limit: number;
  /** Where the last cut began: recovered once the limit is back there. */
  private peak = 0;
  private active = 0;
  private readonly waiters: { go(): void }[] = [];
  /** Counts cuts: answers to requests sent before the last one are about the load of then. */
  private cuts = 0;

  /** @param isCrowded the failure of a request that may come of there being too many. */
  constructor(private readonly limitMax = Infinity, private readonly isCrowded: (error: unknown) => boolean = isThrottled) {
    this.limit = limitMax;
  }

  get inFlight(): number { return this.active; }
  /** Infinity: unlimited. */
  get limitNow(): number { return this.limit; }
  get waiting(): number { return this.waiters.length; }

  /** @throws StoreError while it waits: `throttled` after `patienceMs`, `aborted` for the caller's signal. */
  async run<T>(work: () => Promise<T>, patienceMs: number, signal?: AbortSignal): Promise<T> {
    if (this.isFull) await this.turn(patienceMs, signal);
    else this.active++;
    const pass = this.pass();
    try {
      const value = await work();
      pass.succeeded();
      return value;
    } catch (error) {
      pass.failed(error);
      throw error;
    } finally {
      pass.leave();
    }
  }

  /** As `run`, for who has something to look at between its turn and the request. Without `patienceMs` it waits as long as it takes. */
  async enter(patienceMs?: number, signal?: AbortSignal): Promise<Pass> {
    if (this.isFull) await this.turn(patienceMs, signal);
    else this.active++;
    return this.pass();
  }

  private get isFull(): boolean { return this.active >= Math.floor(this.limit) || this.waiters.length > 0; }

  private pass(): Pass {
    const { cuts } = this;
    return {
      succeeded: () => this.succeeded(),
      failed: (error) => { if (cuts === this.cuts && this.isCrowded(error)) this.cut(); },
      leave: () => {
        this.active--;
        this.admit();
      },
    };
  }

  private turn(patienceMs: number | undefined, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settled = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const leave = (error: StoreError): void => {
        settled();
        this.waiters.splice(this.waiters.indexOf(waiter), 1);
        reject(error);
      };
      const onAbort = (): void => leave(new StoreError('aborted', 'The request was aborted'));
      const timer = patienceMs === undefined ? undefined : setTimeout(() => leave(new StoreError('throttled', `S3 asks for fewer requests, and ${this.waiters.length} wait`)), patienceMs);
      const waiter = {
        go: () => {
          settled();
          resolve();
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.waiters.push(waiter);
    });
  }

  private admit(): void {
    const free = Math.max(0, Math.floor(this.limit) - this.active);
    for (const waiter of this.waiters.splice(0, free)) {
      this.active++; // here, or the next look would let in one too many
      waiter.go();
    }
  }

  private cut(): void {
    this.cuts++;
    this.peak = Math.max(this.peak, this.active);
    this.limit = Math.max(limitMin, Math.floor(this.active / 2));
  }

  private succeeded(): void {
    if (this.limit === this.limitMax) return;
    this.limit += 1 / this.limit;
    if (this.limit < this.peak) return;
    this.limit = this.limitMax;
    this.peak = 0;
  }
}
