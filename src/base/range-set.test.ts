import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RangeSet } from './range-set.js';

const size = 64;
const range = fc.tuple(fc.nat(size), fc.nat(size)).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));
const step = fc.record({ op: fc.constantFrom('add' as const, 'remove' as const), range });

function apply(steps: readonly { op: 'add' | 'remove'; range: { start: number; end: number } }[]): { set: RangeSet; model: boolean[] } {
  const set = new RangeSet();
  const model = new Array<boolean>(size).fill(false);
  for (const { op, range: { start, end } } of steps) {
    set[op](start, end);
    model.fill(op === 'add', start, end);
  }
  return { set, model };
}

describe('RangeSet', () => {
  test('holds exactly the bytes that were added and not removed', () => {
    fc.assert(fc.property(fc.array(step), range, (steps, probe) => {
      const { set, model } = apply(steps);
      const bytes = model.flatMap((present, at) => (present ? [at] : []));
      expect([...set].flatMap(({ start, end }) => Array.from({ length: end - start }, (_, i) => start + i))).toEqual(bytes);
      expect(set.sizeBytes).toBe(bytes.length);
      const slice = model.slice(probe.start, probe.end);
      expect(set.covers(probe.start, probe.end)).toBe(slice.every(Boolean));
      expect(set.intersects(probe.start, probe.end)).toBe(slice.some(Boolean));
      const cut = set.intersection(probe.start, probe.end).reduce((sum, part) => sum + part.end - part.start, 0);
      expect(cut).toBe(slice.filter(Boolean).length);
    }));
  });

  test('keeps ranges sorted, disjoint and not adjacent', () => {
    fc.assert(fc.property(fc.array(step), (steps) => {
      const ranges = [...apply(steps).set];
      for (let i = 1; i < ranges.length; i++) expect(ranges[i]!.start).toBeGreaterThan(ranges[i - 1]!.end);
    }));
  });

  test('comes back from its stored form, also with offsets beyond 32 bits', () => {
    fc.assert(fc.property(fc.array(range), fc.nat(2 ** 42), (ranges, base) => {
      const set = RangeSet.of(...ranges.map(({ start, end }) => ({ start: start + base, end: end + base })));
      expect([...RangeSet.decode(set.encode())]).toEqual([...set]);
    }));
  });

  test('refuses a truncated stored form', () => {
    expect(() => RangeSet.decode(RangeSet.of({ start: 1, end: 5000 }).encode().subarray(0, 2))).toThrow(/truncated/);
  });
});
