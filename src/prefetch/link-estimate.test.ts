import { expect, test } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { LinkEstimate } from './link-estimate.js';

const MiB = 2 ** 20;
const limits = { startBytes: 64 * MiB, minBytes: 16 * MiB, maxBytes: 256 * MiB };

/** A line of `lineMBps` over connections of `eachMBps`, its first byte after `latencyMs`, on which `windowBytes` are always under way in parts of 8 MiB. */
function run(link: LinkEstimate, clock: ManualClock, line: { lineMBps: number; eachMBps: number; latencyMs: number }, seconds: number): void {
  const part = 8 * MiB;
  for (const end = clock.monotonic() + seconds * 1000; clock.monotonic() < end;) {
    const connections = Math.max(1, link.windowBytes / part);
    const each = Math.min(line.eachMBps, line.lineMBps / connections);
    const partMs = line.latencyMs + part / (each * 1000);
    for (let landed = 0; landed < 10; landed++) {
      clock.advance(partMs / 10);
      link.landed((connections * part) / 10);
    }
    link.took(partMs);
  }
}

test('before anything is known it is the start, and with little to measure the minimum', () => {
  const clock = new ManualClock();
  const link = new LinkEstimate(clock, limits);
  expect(link.windowBytes).toBe(limits.startBytes);
  for (let i = 0; i < 8; i++) link.took(30);
  expect(link.windowBytes).toBe(limits.minBytes);
});

test('slow connections on a fast line: the window grows until the line is full', () => {
  const clock = new ManualClock();
  const link = new LinkEstimate(clock, limits);
  run(link, clock, { lineMBps: 1000, eachMBps: 90, latencyMs: 30 }, 8);
  expect(Number.isInteger(link.windowBytes)).toBe(true);
  expect(link.bytesPerSecond).toBeGreaterThan(900e6);
  expect(link.windowBytes).toBeGreaterThan(1000e6 * 0.12);
});

test('a thin line does not get a big window, and an old fast hour is forgotten', () => {
  const clock = new ManualClock();
  const link = new LinkEstimate(clock, { ...limits, startBytes: 16 * MiB });
  run(link, clock, { lineMBps: 1000, eachMBps: 500, latencyMs: 20 }, 10);
  clock.advance(60_000);
  run(link, clock, { lineMBps: 5, eachMBps: 5, latencyMs: 20 }, 1);
  expect(link.bytesPerSecond).toBeLessThan(10e6);
});
