/**
 * Whether to look for the next request a little longer before going to sleep. A program that waits for each answer asks again some ten microseconds after it
 * (`stat` of many files, `tar x`); a processor that has gone to sleep meanwhile takes several times that to come back, more on a virtual machine.
 *
 * It costs processor time that nobody else gets, so only while it pays: after two times in vain it is left alone for a while, longer each time.
 */
const lingerMs = 0.06;
const missesMax = 2;
const restMin = 8;
const restMax = 512;

export class Linger {
  private untilMs = 0;
  private isLingering = false;
  private misses = 0;
  /** So many times the device was found empty before it is tried again. */
  private rest = 0;
  private restNext = restMin;

  constructor(private readonly nowMs: () => number) {}

  /** The device has no request. True: look again at once. */
  again(): boolean {
    if (this.isLingering) {
      if (this.nowMs() < this.untilMs) return true;
      this.isLingering = false;
      if (++this.misses < missesMax) return false;
      this.misses = 0;
      this.rest = this.restNext;
      this.restNext = Math.min(restMax, this.restNext * 2);
      return false;
    }
    if (this.rest > 0) {
      this.rest--;
      return false;
    }
    this.isLingering = true;
    this.untilMs = this.nowMs() + lingerMs;
    return true;
  }

  /** A request has come. */
  came(): void {
    if (!this.isLingering) return;
    this.isLingering = false;
    this.misses = 0;
    this.restNext = restMin;
  }

  /** The look ends for another reason. */
  stop(): void {
    this.isLingering = false;
  }
}
