import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareKeys, expectedEnd, keyBetween, probesBeyond } from './key-split.js';

test('keys are ordered by their UTF-8 bytes, not by UTF-16 units', () => {
  expect(compareKeys('\uff5e', '\u{1f600}')).toBeLessThan(0);
  expect('\uff5e' < '\u{1f600}').toBe(false);
  fc.assert(fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
    expect(Math.sign(compareKeys(a, b))).toBe(Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b))));
  }), { numRuns: 50 });
});

test('a cut lies strictly between, whatever the keys are', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
    const [low, high] = compareKeys(a, b) < 0 ? [a, b] : [b, a];
    const cut = keyBetween(low, high);
    if (cut === undefined) return;
    expect(compareKeys(low, cut)).toBeLessThan(0);
    expect(compareKeys(cut, high)).toBeLessThan(0);
  }), { numRuns: 500 });
});

test('numbered names are cut in the middle of the numbers', () => {
  expect(keyBetween('file-000999.dat', 'file-0:')).toBe('file-050');
  expect(keyBetween('img_2024', 'img_2026')).toBe('img_20250');
  expect(keyBetween('a1', 'z9')).toMatch(/^[mn]/);
});

test('probes ask at each place whether there is more, and a hit bounds the guesses', () => {
  const probes = probesBeyond('f-019');
  expect(probes).toEqual([[0, 'g'], [1, 'f.'], [2, 'f-1'], [3, 'f-02'], [4, 'f-01:']]);
  for (const [, after] of probes) expect(compareKeys('f-019', after)).toBeLessThan(0);
  expect(expectedEnd('f-019', 3)).toBe('f-0:');
  expect(expectedEnd('f-019', 1)).toBe('f~');
  expect(probesBeyond('x'.repeat(200)).length).toBeLessThanOrEqual(24);
});
