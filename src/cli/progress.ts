/**
 * Progress of a long command on standard error: one line that is redrawn on a terminal, else a plain line every ten
 * seconds, so that a log stays short. Nothing is written for what ends within the first moment.
 */
import type { Clock } from '../base/clock.js';
import type { Progress } from '../control/api.js';
import { bytes, duration, integer, printable } from './format.js';
import type { Output } from './world.js';

const redrawMs = 100;
const plainMs = 10_000;
const rateWindowMs = 5_000;

export class ProgressBar {
  private readonly startedMs: number;
  private drawnMs = -Infinity;
  private drawnWidth = 0;
  private samples: { atMs: number; doneBytes: number }[] = [];

  constructor(private readonly verb: string, private readonly out: Output, private readonly clock: Clock) {
    this.startedMs = clock.monotonic();
    if (!out.isTty) this.drawnMs = this.startedMs; // the first plain line is due after a full interval
  }

  update(progress: Progress): void {
    const now = this.clock.monotonic();
    this.samples.push({ atMs: now, doneBytes: progress.doneBytes });
    while (this.samples.length > 2 && now - this.samples[0]!.atMs > rateWindowMs) this.samples.shift();
    if (now - this.drawnMs < (this.out.isTty ? redrawMs : plainMs)) return;
    this.drawnMs = now;
    const text = this.describe(progress, now);
    if (!this.out.isTty) {
      this.out.write(`${text}\n`);
      return;
    }
    const line = text.slice(0, Math.max(10, this.out.columns - 1));
    this.out.write(`\r${line.padEnd(this.drawnWidth)}`);
    this.drawnWidth = line.length;
  }

  /** Takes the line off the terminal, so that the result can be written. */
  finish(): void {
    if (this.drawnWidth > 0) this.out.write(`\r${' '.repeat(this.drawnWidth)}\r`);
    this.drawnWidth = 0;
  }

  private describe(p: Progress, now: number): string {
    const fraction = p.totalBytes ? p.doneBytes / p.totalBytes : p.totalItems ? p.doneItems / p.totalItems : undefined;
    const rate = this.bytesPerSecond();
    const parts = [
      this.verb,
      fraction === undefined ? undefined : `${bar(fraction)} ${String(Math.floor(Math.min(1, fraction) * 100)).padStart(3)} %`,
      p.totalItems === null ? integer(p.doneItems) : `${integer(p.doneItems)}/${integer(p.totalItems)}`,
      p.doneBytes > 0 || p.totalBytes ? `${bytes(p.doneBytes)}${p.totalBytes ? ` of ${bytes(p.totalBytes)}` : ''}` : undefined,
      rate > 0 ? `${bytes(rate)}/s` : undefined,
      rate > 0 && p.totalBytes && p.totalBytes > p.doneBytes && now - this.startedMs > 2_000 ? `${duration(((p.totalBytes - p.doneBytes) / rate) * 1000)} left` : undefined,
      p.current === null ? undefined : printable(p.current),
    ];
    return parts.filter((part) => part !== undefined).join('  ');
  }

  private bytesPerSecond(): number {
    const first = this.samples[0];
    const last = this.samples.at(-1);
    if (!first || !last || last.atMs <= first.atMs) return 0;
    return Math.max(0, ((last.doneBytes - first.doneBytes) / (last.atMs - first.atMs)) * 1000);
  }
}

function bar(fraction: number): string {
  const width = 24;
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * width);
  return `[${'#'.repeat(full)}${'.'.repeat(width - full)}]`;
}
