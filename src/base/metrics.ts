/**
 * Counters, gauges and latency histograms in one registry. Names are `room.what_unit` and are declared in `metric-names.ts`.
 * Histograms keep powers-of-two microsecond buckets: cheap to record, good to a factor of two.
 */
export class Metrics {
  private readonly counters = new Map<string, Counter>();
  private readonly gauges = new Map<string, () => number>();
  private readonly histograms = new Map<string, Histogram>();

  add(name: string, by = 1): void {
    this.counter(name).count += by;
  }

  /** For who counts often: it is looked for by its name once, and shown from then on. */
  counter(name: string): Counter {
    let counter = this.counters.get(name);
    if (!counter) this.counters.set(name, (counter = { count: 0 }));
    return counter;
  }

  gauge(name: string, read: () => number): void {
    this.gauges.set(name, read);
  }

  observeUs(name: string, us: number): void {
    this.latency(name).observe(us);
  }

  /** As `counter`. */
  latency(name: string): Histogram {
    let histogram = this.histograms.get(name);
    if (!histogram) this.histograms.set(name, (histogram = new Histogram()));
    return histogram;
  }

  get(name: string): number {
    return this.counters.get(name)?.count ?? this.gauges.get(name)?.() ?? 0;
  }

  histogram(name: string): Histogram | undefined {
    return this.histograms.get(name);
  }

  /** Plain numbers: counters and gauges by name, histograms as `{count, sumUs, p50Us, p99Us, maxUs}`. */
  snapshot(): { counters: Record<string, number>; gauges: Record<string, number>; latencies: Record<string, LatencySummary> } {
    const latencies: Record<string, LatencySummary> = {};
    for (const [name, histogram] of this.histograms) latencies[name] = histogram.summary();
    return {
      counters: Object.fromEntries([...this.counters].map(([name, { count }]) => [name, count] as const).sort()),
      gauges: Object.fromEntries([...this.gauges].map(([name, read]) => [name, read()] as const).sort()),
      latencies,
    };
  }
}

export interface Counter { count: number }

export interface LatencySummary { count: number; sumUs: number; p50Us: number; p99Us: number; maxUs: number }

export class Histogram {
  /** bucket i counts values in [2^(i-1), 2^i) microseconds; bucket 0 those below 1. */
  readonly buckets = new Array<number>(40).fill(0);
  count = 0;
  sumUs = 0;
  maxUs = 0;

  observe(us: number): void {
    const bucket = us < 1 ? 0 : us < 0x8000_0000 ? 32 - Math.clz32(us) : Math.min(39, Math.floor(Math.log2(us)) + 1);
    this.buckets[bucket]!++;
    this.count++;
    this.sumUs += us;
    if (us > this.maxUs) this.maxUs = us;
  }

  /** Upper bound of the bucket that holds the given fraction of values. */
  quantileUs(fraction: number): number {
    let seen = 0;
    for (let i = 0; i < this.buckets.length; i++) {
      seen += this.buckets[i]!;
      if (seen >= this.count * fraction) return Math.min(this.maxUs, 2 ** i);
    }
    return this.maxUs;
  }

  summary(): LatencySummary {
    return { count: this.count, sumUs: Math.round(this.sumUs), p50Us: this.quantileUs(0.5), p99Us: this.quantileUs(0.99), maxUs: Math.round(this.maxUs) };
  }
}
