import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNameText, nameFromBytes, nameToBytes, noNameMark } from './file-name.js';

describe('file names', () => {
  test('any bytes become valid Unicode and come back unchanged', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 255 }), (bytes) => {
      const name = nameFromBytes(bytes);
      expect(Buffer.from(name, 'utf8').toString('utf8')).toBe(name);
      expect([...nameToBytes(name)]).toEqual([...bytes]);
    }), { numRuns: 2000 });
  });

  test('text is itself', () => {
    for (const name of ['a', 'naïve', '日本', '💾', 'with\nnewline', '\u{10ffff}']) expect(nameFromBytes(Buffer.from(name))).toBe(name);
  });

  test('a name that really holds an escape code point is told apart from the byte it stands for', () => {
    const real = Buffer.from('\u{10ff00}', 'utf8');
    expect(nameFromBytes(real)).not.toBe(nameFromBytes(Buffer.from([0x80])));
    expect(nameToBytes(nameFromBytes(real)).equals(real)).toBe(true);
  });

  test('the mark for what is no name is in none, and a name that really holds it comes back', () => {
    const real = Buffer.from(`a${noNameMark}b`, 'utf8');
    expect(nameFromBytes(real)).not.toContain(noNameMark);
    expect(nameToBytes(nameFromBytes(real)).equals(real)).toBe(true);
  });

  test('text that no name becomes is told from text that one does', () => {
    for (const text of ['a', '日本', '\u{10ffff}', nameFromBytes(Buffer.from([0xff])), nameFromBytes(Buffer.from('\u{10ff00}'))]) expect(isNameText(text)).toBe(true);
    // valid UTF-8 in escapes is that text; the mark is nothing
    const spelt = [...Buffer.from('é')].map((byte) => String.fromCodePoint(0x10ff00 + byte - 0x80)).join('');
    for (const text of [spelt, noNameMark, `${noNameMark}YQ`]) expect(isNameText(text)).toBe(false);
  });

  test('the replacement character is a character like any other', () => {
    const bytes = Buffer.from('a\ufffdb');
    expect(nameFromBytes(bytes)).toBe('a\ufffdb');
    expect(nameToBytes('a\ufffdb').equals(bytes)).toBe(true);
  });
});
