import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NumberSet } from './number-set.js';

test('behaves like a Set, across chunks and beyond 32 bits', () => {
  const number = fc.oneof(fc.nat({ max: 100 }), fc.integer({ min: 32_700, max: 32_800 }), fc.integer({ min: 2 ** 40, max: 2 ** 40 + 70 }));
  fc.assert(fc.property(fc.array(fc.tuple(fc.constantFrom('add', 'delete'), number), { maxLength: 200 }), (steps) => {
    const real = new NumberSet();
    const plain = new Set<number>();
    for (const [what, value] of steps) {
      if (what === 'add') {
        real.add(value);
        plain.add(value);
      } else {
        real.delete(value);
        plain.delete(value);
      }
      expect(real.has(value)).toBe(plain.has(value));
    }
    for (const [, value] of steps) expect(real.has(value)).toBe(plain.has(value));
    expect(real.chunkCount).toBe(new Set([...plain].map((value) => Math.floor(value / 32_768))).size);
  }));
});
