/** Time is injected, so that tests can move it. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. */
  now(): number;
  /** Monotonic, milliseconds, arbitrary origin. */
  monotonic(): number;
  /** Wall clock with nanoseconds, for file times. */
  time(): Time;
}

/** A file time: whole seconds (may be negative) and 0 <= nsec < 1e9. */
export interface Time {
  readonly sec: number;
  readonly nsec: number;
}

const originNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  time() {
    // Date.now() has milliseconds only; hrtime fills in the rest. Re-anchored whenever the two drift apart (NTP steps).
    let ns = originNs + process.hrtime.bigint();
    const wallMs = Date.now();
    const drift = Number(ns / 1_000_000n) - wallMs;
    if (drift > 2 || drift < -2) ns = BigInt(wallMs) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n);
    return timeFromNs(ns);
  },
};

/** A clock that stands still until told otherwise. */
export class ManualClock implements Clock {
  constructor(private ms = 1_700_000_000_000) {}
  now(): number { return this.ms; }
  monotonic(): number { return this.ms; }
  time(): Time { return timeFromMs(this.ms); }
  advance(ms: number): void { this.ms += ms; }
}

export function timeFromMs(ms: number): Time {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: Math.min(999_999_999, Math.round((ms - sec * 1000) * 1e6)) };
}

export function timeFromNs(ns: bigint): Time {
  const sec = ns / 1_000_000_000n;
  return { sec: Number(sec), nsec: Number(ns - sec * 1_000_000_000n) };
}

export function timeToMs(time: Time): number {
  return time.sec * 1000 + time.nsec / 1e6;
}
