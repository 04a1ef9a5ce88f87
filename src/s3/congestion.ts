/**
 * How many requests may be at S3 at once: as many as callers like until S3 says SlowDown, then half of what was in flight, and one more for
 * every round of answers without complaint, until what it stood before is reached again. Who has to wait does so in order of arrival.
 */
import { StoreError } from './store-error.js';

const limitMin = 1;

export class Congestion {
  private limit = Infinity;
  /** Where the last cut began: recovered once the limit is back there. */
  private peak = 0;
  private active = 0;
  private readonly waiters: { go(): void }[] = [];
  /** Counts cuts: answers to requests sent before the last one are about the load of then. */
  private cuts = 0;

  get inFlight(): number { return this.active; }
  /** Infinity: unlimited. */
  get limitNow(): number { return this.limit; }
  get waiting(): number { return this.waiters.length; }

  /** @throws StoreError while it waits: `throttled` after `patienceMs`, `aborted` for the caller's signal. */
  async run<T>(work: () => Promise<T>, patienceMs: number, signal?: AbortSignal): Promise<T> {
    if (this.active >= Math.floor(this.limit) || this.waiters.length > 0) await this.turn(patienceMs, signal);
    else this.active++;
    const { cuts } = this;
    try {
      const value = await work();
      this.succeeded();
      return value;
    } catch (error) {
      if (error instanceof StoreError && error.kind === 'throttled' && cuts === this.cuts) this.cut();
      throw error;
    } finally {
      this.active--;
      this.admit();
    }
  }

  private turn(patienceMs: number, signal: AbortSignal | undefined): Promise<void> {
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
      const timer = setTimeout(() => leave(new StoreError('throttled', `S3 asks for fewer requests, and ${this.waiters.length} wait`)), patienceMs);
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
    if (this.limit === Infinity) return;
    this.limit += 1 / this.limit;
    if (this.limit < this.peak) return;
    this.limit = Infinity;
    this.peak = 0;
  }
}
