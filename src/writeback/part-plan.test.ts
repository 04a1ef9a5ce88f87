import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RangeSet } from '../base/range-set.js';
import { planParts } from './part-plan.js';

const limits = { partBytesMin: 5, partBytes: 8, copyPartBytes: 64 };
const plan = (sizeBytes: number, ...unchanged: [number, number][]): string => (planParts(sizeBytes, unchanged.map(([start, end]) => ({ start, end })), limits) ?? [])
  .map(({ start, end, isCopy }) => `${isCopy ? 'copy' : 'send'} ${start}-${end}`).join(', ');

test.each([
  ['an append copies what was there and sends the rest, however short', 101, [[0, 100]], 'copy 0-50, copy 50-100, send 100-101'],
  ['a change in the middle takes unchanged bytes along until it is a part', 100, [[0, 50], [51, 100]], 'copy 0-50, send 50-55, copy 55-100'],
  ['a change at the start', 60, [[1, 60]], 'send 0-5, copy 5-60'],
  ['too short a stretch between two changes is sent', 60, [[0, 20], [28, 32], [40, 60]], 'copy 0-20, send 20-32, send 32-40, copy 40-60'],
  ['nothing unchanged', 20, [], 'send 0-8, send 8-16, send 16-20'],
  ['a file cut short', 30, [[0, 30]], 'copy 0-30'],
  ['sent parts are cut at multiples of their size', 64, [[0, 20]], 'copy 0-20, send 20-32, send 32-40, send 40-48, send 48-56, send 56-64'],
] as const)('%s', (_what, size, unchanged, expected) => {
  expect(plan(size, ...unchanged.map(([a, b]) => [a, b] as [number, number]))).toBe(expected);
});

test('parts cover the object, copies are unchanged, and every part but the last is large enough', () => {
  const ranges = fc.array(fc.tuple(fc.nat(400), fc.nat(120)), { maxLength: 8 });
  fc.assert(fc.property(fc.integer({ min: 1, max: 400 }), ranges, (size, list) => {
    const unchanged = new RangeSet();
    for (const [start, length] of list) unchanged.add(Math.min(start, size), Math.min(size, start + length));
    const parts = planParts(size, unchanged, limits)!;
    let at = 0;
    for (const [index, { start, end, isCopy }] of parts.entries()) {
      expect(start).toBe(at);
      expect(end).toBeGreaterThan(start);
      if (index < parts.length - 1) expect(end - start).toBeGreaterThanOrEqual(limits.partBytesMin);
      expect(end - start).toBeLessThanOrEqual(isCopy ? limits.copyPartBytes : limits.partBytes + limits.partBytesMin);
      if (isCopy) expect(unchanged.covers(start, end)).toBe(true);
      at = end;
    }
    expect(at).toBe(size);
  }));
});

test('an object that would need more than 10,000 parts is not planned', () => {
  expect(planParts(1_000_000, [{ start: 0, end: 10 }], limits)).toBeNull();
});
