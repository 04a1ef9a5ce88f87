/**
 * How much must be on its way so that the line to S3 is never idle: what it delivers per second, times how long a part takes when nothing is in its way
 * (the bandwidth-delay product, the part's own transfer included: one connection is slower than the line). Twice that is asked for, so that a faster
 * line is found out; where it does not get faster, the product stays.
 */
import type { Clock } from '../base/clock.js';

const slotMs = 200;
/** The best rate of the last 10 s counts: readers pause. */
const rateSlots = 50;
/** The least delay of the last 30 s counts, in slots of 5 s. */
const delaySlotMs = 5000;
const delaySlots = 6;
const samplesMin = 8;
const gain = 2;

export interface LinkLimits {
  /** Until enough is known. */
  readonly startBytes: number;
  readonly minBytes: number;
  readonly maxBytes: number;
}

export class LinkEstimate {
  private readonly rates = new Float64Array(rateSlots);
  private readonly delays = new Float64Array(delaySlots).fill(Infinity);
  private rateSlot = 0;
  private delaySlot = 0;
  private samples = 0;

  constructor(private readonly clock: Clock, private readonly limits: LinkLimits) {}

  landed(bytes: number): void {
    const slot = Math.floor(this.clock.monotonic() / slotMs);
    this.rateSlot = advance(this.rates, this.rateSlot, slot, 0);
    this.rates[slot % rateSlots]! += bytes;
  }

  /** A part of about the usual size took this long, from its request to its last byte. */
  took(ms: number): void {
    const slot = Math.floor(this.clock.monotonic() / delaySlotMs);
    this.delaySlot = advance(this.delays, this.delaySlot, slot, Infinity);
    this.delays[slot % delaySlots] = Math.min(this.delays[slot % delaySlots]!, ms);
    this.samples++;
  }

  get bytesPerSecond(): number {
    this.rateSlot = advance(this.rates, this.rateSlot, Math.floor(this.clock.monotonic() / slotMs), 0);
    return (Math.max(...this.rates) / slotMs) * 1000;
  }

  get delayMs(): number { return Math.min(...this.delays); }

  /** What may be on its way or ahead of its reader: whole bytes. */
  get windowBytes(): number {
    const { startBytes, minBytes, maxBytes } = this.limits;
    const { delayMs } = this;
    if (this.samples < samplesMin || delayMs === Infinity) return startBytes;
    return Math.floor(Math.max(minBytes, Math.min(maxBytes, (gain * this.bytesPerSecond * delayMs) / 1000)));
  }
}

/** Empties the slots that time has passed over. @returns `to` */
function advance(slots: Float64Array, from: number, to: number, empty: number): number {
  for (let slot = Math.max(from + 1, to - slots.length + 1); slot <= to; slot++) slots[slot % slots.length] = empty;
  return to;
}
