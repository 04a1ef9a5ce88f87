/**
 * Test and demo equipment, not product: what goes wrong on purpose.
 *
 * A rule picks requests by kind, bucket and key, and by probability (from a seed, so that a run can be repeated), count and skip.
 * For one request the latencies of all matching rules add up; of other faults the first matching rule wins.
 */
export const requestKinds = [
  'GET', 'HEAD', 'PUT', 'DELETE', 'LIST', 'COPY', 'CREATE_MPU', 'PART', 'PART_COPY', 'COMPLETE', 'ABORT',
  'LIST_PARTS', 'LIST_UPLOADS', 'DELETE_MANY', 'OBJECT_CONFIG', 'BUCKET',
] as const;
export type RequestKind = (typeof requestKinds)[number];

export type Fault =
  /** Waits before the request is looked at; a client that leaves meanwhile has sent nothing. */
  | { readonly type: 'latency'; readonly ms: number; readonly jitterMs?: number }
  /** Takes the whole request, waits, and executes it even if the client has left meanwhile (J6). */
  | { readonly type: 'late'; readonly ms: number }
  /** Answers this status; nothing is executed. */
  | { readonly type: 'status'; readonly status: number; readonly code?: string; readonly message?: string; readonly retryAfterS?: number }
  /** Executes, then answers this status instead of the result. */
  | { readonly type: 'status-after'; readonly status: number; readonly code?: string; readonly message?: string }
  /** Accepts the request and never answers; nothing is executed. */
  | { readonly type: 'hang' }
  /** Executes and never answers. */
  | { readonly type: 'hang-after' }
  /** Cuts the connection; nothing is executed. */
  | { readonly type: 'cut-before' }
  /** Executes and cuts the connection before a byte of the response: the lost response. */
  | { readonly type: 'cut-after' }
  /** Cuts the connection inside the response body, by default in its middle. */
  | { readonly type: 'cut-body'; readonly afterBytes?: number }
  /** Status 200 with an error document, as Copy and Complete can do; not executed unless asked. */
  | { readonly type: 'error-in-200'; readonly code?: string; readonly execute?: boolean }
  /** Flips one bit in this many bytes of the response body (1 by default). */
  | { readonly type: 'corrupt'; readonly bytes?: number }
  /** Sends the response body no faster than this. */
  | { readonly type: 'bandwidth'; readonly bytesPerS: number };

export interface FaultRule {
  readonly kinds?: readonly RequestKind[];
  readonly bucket?: string;
  /** Source of a regular expression that must match somewhere in the key. */
  readonly keyPattern?: string;
  /** 1 by default. */
  readonly probability?: number;
  /** How many requests it hits before it is used up; unlimited by default. */
  readonly count?: number;
  /** How many matching requests pass unharmed first. */
  readonly skip?: number;
  readonly fault: Fault;
}

/** What one request has to suffer. */
export interface FaultPlan { readonly latencyMs: number; readonly fault?: Exclude<Fault, { type: 'latency' }> }

export interface FaultHandle {
  /** Requests hit so far. */
  readonly hits: number;
  remove(): void;
}

interface ActiveRule { readonly rule: FaultRule; readonly pattern: RegExp | undefined; skip: number; left: number; hits: number }

export class Faults {
  private readonly rules: ActiveRule[] = [];
  private readonly hanging = new Set<() => void>();
  private randomState: number;

  /** `listener` starts and stops accepting connections. */
  constructor(private readonly listener: { down(): Promise<void>; up(): Promise<void> }, seed = 1) {
    this.randomState = seed;
  }

  add(rule: FaultRule): FaultHandle {
    const active: ActiveRule = {
      rule, pattern: rule.keyPattern === undefined ? undefined : new RegExp(rule.keyPattern, 'u'),
      skip: rule.skip ?? 0, left: rule.count ?? Infinity, hits: 0,
    };
    this.rules.push(active);
    return {
      get hits() { return active.hits; },
      remove: () => {
        const at = this.rules.indexOf(active);
        if (at >= 0) this.rules.splice(at, 1);
      },
    };
  }

  /** Replaces all rules; a seed starts the random numbers anew. */
  set(rules: readonly FaultRule[], seed?: number): void {
    this.clear();
    if (seed !== undefined) this.randomState = seed;
    for (const rule of rules) this.add(rule);
  }

  clear(): void {
    this.rules.length = 0;
  }

  describe(): { rule: FaultRule; hits: number }[] {
    return this.rules.map(({ rule, hits }) => ({ rule, hits }));
  }

  /** Refuses connections and cuts the existing ones. */
  down(): Promise<void> {
    this.releaseHung();
    return this.listener.down();
  }
  up(): Promise<void> {
    return this.listener.up();
  }

  get hungCount(): number { return this.hanging.size; }

  /** Cuts the connections of all requests that hang. */
  releaseHung(): void {
    for (const cut of [...this.hanging]) cut();
    this.hanging.clear();
  }

  hang(cut: () => void): () => void {
    this.hanging.add(cut);
    return () => this.hanging.delete(cut);
  }

  plan(kind: RequestKind, bucket: string, key: string): FaultPlan | undefined {
    if (this.rules.length === 0) return undefined;
    let latencyMs = 0;
    let chosen: FaultPlan['fault'];
    for (const active of this.rules) {
      const { rule } = active;
      if (active.left === 0) continue;
      if (rule.fault.type !== 'latency' && chosen) continue;
      if (rule.kinds && !rule.kinds.includes(kind)) continue;
      if (rule.bucket !== undefined && rule.bucket !== bucket) continue;
      if (active.pattern && !active.pattern.test(key)) continue;
      if (rule.probability !== undefined && this.random() >= rule.probability) continue;
      if (active.skip > 0) {
        active.skip--;
        continue;
      }
      active.left--;
      active.hits++;
      if (rule.fault.type === 'latency') latencyMs += rule.fault.ms + this.random() * (rule.fault.jitterMs ?? 0);
      else chosen = rule.fault;
    }
    return latencyMs === 0 && !chosen ? undefined : { latencyMs, ...(chosen && { fault: chosen }) };
  }

  /** Mulberry32: small, fast, the same everywhere. */
  private random(): number {
    this.randomState = (this.randomState + 0x6d2b79f5) | 0;
    let t = Math.imul(this.randomState ^ (this.randomState >>> 15), 1 | this.randomState);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
}
