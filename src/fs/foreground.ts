import type { Clock } from '../base/clock.js';

const windowMs = 50;
/** About 100 changes a second: a program makes or removes many files. */
const busyCount = 5;

/** How many changes programs make: while there are many, uploads should leave the processor to them. */
export class Foreground {
  private windowStartMs = -Infinity;
  private count = 0;
  private lastCount = 0;

  constructor(private readonly clock: Clock) {}

  note(): void {
    this.roll();
    this.count++;
  }

  get isBusy(): boolean {
    this.roll();
    return Math.max(this.count, this.lastCount) >= busyCount;
  }

  private roll(): void {
    const now = this.clock.monotonic();
    const elapsedMs = now - this.windowStartMs;
    if (elapsedMs < windowMs) return;
    this.lastCount = elapsedMs < 2 * windowMs ? this.count : 0;
    this.count = 0;
    this.windowStartMs = now;
  }
}
