import { describe, expect, test } from 'vitest';
import { StreamState } from './stream-state.js';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Reads [start, end) in requests of 128 KiB; answers the ranges to prefetch. */
function readAll(state: StreamState, start: number, end: number): { start: number; end: number }[] {
  const ranges = [];
  for (let at = start; at < end; at += 128 * KiB) ranges.push(...state.onRead(at, 128 * KiB).prefetch);
  return ranges;
}

describe('what is fetched ahead', () => {
  test('a sequential reader gets a window that starts small, doubles, and is bounded', () => {
    const ranges = readAll(new StreamState(() => 64 * MiB), 0, 512 * MiB);
    const sizes = ranges.map((range) => range.end - range.start);
    expect(sizes[0]).toBe(512 * KiB);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(64 * MiB);
    expect(Math.max(...sizes)).toBeGreaterThanOrEqual(32 * MiB);
    // Every byte once, in order, without gaps.
    ranges.slice(1).forEach((range, i) => expect(range.start).toBe(ranges[i]!.end));
  });

  test('the window doubles at first, and grows fourfold once the reader has gone on for a while: few round trips to its full size', () => {
    const windows = [0.5, 1, 2, 8, 32, 64];
    const state = new StreamState(() => 64 * MiB);
    const seen: number[] = [];
    for (let at = 0; at < 64 * MiB; at += 128 * KiB) for (const { end } of state.onRead(at, 128 * KiB).prefetch) seen.push((end - at - 128 * KiB) / MiB);
    expect(seen.slice(0, 6)).toEqual(windows);
  });

  test('random reads get nothing ahead', () => {
    const state = new StreamState(() => 64 * MiB);
    let at = 12345;
    for (let i = 0; i < 200; i++) {
      at = (at * 48271) % 2147483647;
      expect(state.onRead(at * 64 + 16 * MiB, 4096).prefetch).toEqual([]);
    }
  });

  test('a seek starts over with a small window', () => {
    const state = new StreamState(() => 64 * MiB);
    readAll(state, 0, 64 * MiB);
    expect(state.onRead(1024 * MiB, 128 * KiB).prefetch).toEqual([]);
    const next = state.onRead(1024 * MiB + 128 * KiB, 128 * KiB).prefetch;
    expect(next).toEqual([{ start: 1024 * MiB + 256 * KiB, end: 1024 * MiB + 768 * KiB }]);
  });

  test('several places read in turn each keep their window', () => {
    const state = new StreamState(() => 64 * MiB);
    const bases = [0, 1024 * MiB, 2048 * MiB];
    const last = new Map<number, number>();
    for (let i = 0; i < 100; i++) {
      for (const base of bases) for (const range of state.onRead(base + i * 128 * KiB, 128 * KiB).prefetch) last.set(base, range.end);
    }
    for (const base of bases) expect(last.get(base)! - base).toBeGreaterThan(14 * MiB);
  });

  test('requests slightly out of order belong to the same sequence', () => {
    const state = new StreamState(() => 64 * MiB);
    state.onRead(0, 128 * KiB);
    state.onRead(256 * KiB, 128 * KiB);
    state.onRead(128 * KiB, 128 * KiB);
    const ranges = readAll(state, 384 * KiB, 16 * MiB);
    expect(Math.max(...ranges.map((range) => range.end - range.start))).toBeGreaterThanOrEqual(4 * MiB);
  });

  test('reading the same bytes again asks for nothing', () => {
    const state = new StreamState(() => 64 * MiB);
    readAll(state, 0, 4 * MiB);
    expect(state.onRead(3 * MiB, 128 * KiB).prefetch).toEqual([]);
    expect(state.onRead(0, 128 * KiB).prefetch.every((range) => range.end - range.start <= MiB)).toBe(true);
  });

  test('what could not be begun is asked for again by the next read', () => {
    const state = new StreamState(() => 64 * MiB);
    expect(state.onRead(0, 128 * KiB).prefetch).toEqual([{ start: 128 * KiB, end: 640 * KiB }]);
    state.fetchedOnlyTo(256 * KiB);
    expect(state.onRead(128 * KiB, 128 * KiB).prefetch[0]!.start).toBe(256 * KiB);
  });

  test('the window follows what the line can carry, down, too', () => {
    let max = 64 * MiB;
    const state = new StreamState(() => max);
    const ahead = (): number => {
      let end = 0;
      for (let i = 0; i < 256; i++, at += MiB) for (const range of state.onRead(at, MiB).prefetch) end = range.end - at - MiB;
      return end;
    };
    let at = 0;
    expect(ahead()).toBe(64 * MiB);
    max = 4 * MiB;
    expect(ahead()).toBe(4 * MiB);
    expect(state.runBytes).toBe(512 * MiB);
  });
});
