import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { afterPrefix, SortedKeys, sortForm } from './sorted-keys.js';

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
const key = fc.string({ unit: fc.oneof(fc.constantFrom('a', '/', '-', '\ud7ff', '\ue000', '\uffff', '\u{10000}', '\u{10ffff}', 'ä'), fc.string({ unit: 'binary', minLength: 1, maxLength: 1 })), maxLength: 12 });

describe('sorted keys', () => {
  test('sort forms compare as the UTF-8 bytes of the keys do', () => {
    fc.assert(fc.property(key, key, (a, b) => {
      const [x, y] = [sortForm(a), sortForm(b)];
      expect(Math.sign(byBytes(a, b))).toBe(x < y ? -1 : x > y ? 1 : 0);
    }));
  });

  test('a sort form starts with that of each of its prefixes, and afterPrefix skips exactly those keys', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 4 }), key, key, (prefix, tail, other) => {
      const whole = sortForm(prefix + tail);
      const next = afterPrefix(sortForm(prefix))!;
      expect(whole.startsWith(sortForm(prefix))).toBe(true);
      expect(whole < next).toBe(true);
      if (!other.startsWith(prefix) && byBytes(other, prefix) > 0) expect(sortForm(other) >= next).toBe(true);
    }));
  });

  test('after any adds and deletes a walk from anywhere gives the remaining keys in byte order', () => {
    fc.assert(fc.property(fc.uniqueArray(key, { maxLength: 60 }), fc.array(fc.nat(60)), key, (keys, gone, from) => {
      const sorted = new SortedKeys<{ sort: string; key: string }>();
      const model = new Set(keys);
      for (const one of keys) sorted.add({ sort: sortForm(one), key: one });
      for (const index of gone) {
        const one = keys[index];
        if (one === undefined) continue;
        model.delete(one);
        sorted.delete(sortForm(one));
      }
      const seen: string[] = [];
      for (const cursor = sorted.cursor(sortForm(from)); cursor.current; cursor.next()) seen.push(cursor.current.key);
      expect(seen).toEqual([...model].filter((one) => byBytes(one, from) >= 0).sort(byBytes));
      expect(sorted.size).toBe(model.size);
    }));
  });

  test('100,000 keys are inserted and found across chunks', () => {
    const sorted = new SortedKeys<{ sort: string }>();
    for (let i = 0; i < 100_000; i++) sorted.add({ sort: String((i * 7919) % 100_000).padStart(6, '0') });
    expect(sorted.size).toBe(100_000);
    const cursor = sorted.cursor('050000');
    for (let i = 50_000; i < 53_000; i++, cursor.next()) expect(cursor.current?.sort).toBe(String(i).padStart(6, '0'));
  });
});
