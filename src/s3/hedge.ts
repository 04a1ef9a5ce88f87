/**
 * Slow requests are asked a second time, on another connection; the first answer wins and the other request is given up. What counts is the
 * first byte: of many requests to S3 a few hang behind one bad disk or host, and asking again almost always meets a good one.
 *
 * 1. Only for requests that change nothing; the caller chooses them.
 * 2. At most `share` of all requests are asked again, so that a slow S3 is not made slower; `burst` of them at once.
 * 3. A request that fails fails; its second one, if there is one, may still answer.
 */
export interface HedgeOptions {
  readonly monotonic: () => number;
  /** Never asked again before. */
  readonly floorMs?: number;
  readonly share?: number;
  readonly burst?: number;
  readonly setTimer?: (run: () => void, ms: number) => { cancel(): void };
}

export interface Started<T> {
  readonly answer: Promise<T>;
  /** On its way; false while it waits for a connection, where a second one would wait, too. */
  readonly isSent: () => boolean;
  readonly cancel: () => void;
}

export type HedgeEvent = 'hedged' | 'hedge-won';

const slowest = 0.95;
const factor = 3;
/** Before that many answers nothing is known. */
const samplesMin = 20;
const samplesMax = 100;
const unknownMs = 1000;

export class Hedge {
  private readonly kinds = new Map<string, Latencies>();
  private readonly floorMs: number;
  private readonly share: number;
  private readonly burst: number;
  private readonly setTimer: NonNullable<HedgeOptions['setTimer']>;
  private tokens: number;

  constructor(private readonly options: HedgeOptions) {
    this.floorMs = options.floorMs ?? 200;
    this.share = options.share ?? 0.03;
    this.burst = options.burst ?? 4;
    this.tokens = this.burst;
    this.setTimer = options.setTimer ?? ((run, ms) => {
      const timer = setTimeout(run, ms);
      return { cancel: () => clearTimeout(timer) };
    });
  }

  /** How long the first byte of such a request may take before it is asked again. */
  delayMs(kind: string): number {
    const usualMs = this.kinds.get(kind)?.slowMs;
    return usualMs === undefined ? unknownMs : Math.max(this.floorMs, usualMs * factor);
  }

  /** @param kind requests that take about the same time to the first byte. */
  run<T>(kind: string, start: () => Started<T>, note: (event: HedgeEvent) => void): Promise<T> {
    this.tokens = Math.min(this.burst, this.tokens + this.share);
    const startedMs = this.options.monotonic();
    return new Promise((resolve, reject) => {
      const running = new Set<Started<T>>();
      let over = false;
      const launch = (isSecond: boolean): void => {
        const started = start();
        const sentMs = this.options.monotonic();
        running.add(started);
        started.answer.then(
          (value) => {
            running.delete(started);
            if (over) return started.cancel(); // nobody will read it
            over = true;
            timer.cancel();
            for (const other of running) other.cancel();
            if (isSecond) note('hedge-won');
            this.observe(kind, this.options.monotonic() - sentMs);
            resolve(value);
          },
          (error: Error) => {
            running.delete(started);
            if (over || running.size > 0) return;
            over = true;
            timer.cancel();
            reject(error);
          },
        );
      };
      const timer = this.setTimer(() => {
        const [first] = running;
        if (over || !first?.isSent() || this.tokens < 1) return;
        this.tokens--;
        note('hedged');
        // It took at least this long: without that the slow ones, being overtaken, would never count
        this.observe(kind, this.options.monotonic() - startedMs);
        launch(true);
      }, this.delayMs(kind));
      launch(false);
    });
  }

  private observe(kind: string, ms: number): void {
    let latencies = this.kinds.get(kind);
    if (!latencies) this.kinds.set(kind, (latencies = new Latencies()));
    latencies.add(ms);
  }
}

/** The last so many, and what most of them stay below. */
class Latencies {
  private readonly ring = new Float64Array(samplesMax);
  private count = 0;
  private known: number | undefined;

  add(ms: number): void {
    this.ring[this.count++ % samplesMax] = ms;
    if (this.count >= samplesMin && this.count % samplesMin === 0) this.known = this.quantile();
  }

  get slowMs(): number | undefined { return this.known; }

  private quantile(): number {
    const sorted = this.ring.slice(0, Math.min(this.count, samplesMax)).sort();
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * slowest))]!;
  }
}
