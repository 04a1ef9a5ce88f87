import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nameFromBytes } from '../base/file-name.js';
import { LongKeys, longAreaName } from './long-keys.js';

const bytesOf = (text: string): number => Buffer.byteLength(text);

/** Names of all lengths and alphabets, few enough different ones that paths share their beginnings. */
const name = fc.oneof(
  fc.constantFrom('a', 'b', 'node_modules', 'd'.repeat(255), 'e'.repeat(255), `${'d'.repeat(254)}e`, 'é'.repeat(127), '日'.repeat(85), '%20'.repeat(85), '💾'.repeat(63)),
  fc.integer({ min: 1, max: 255 }).map((length) => 'n'.repeat(length)),
  fc.tuple(fc.integer({ min: 1, max: 255 }), fc.constantFrom(0xff, 0x80, 0xc3)).map(([length, byte]) => nameFromBytes(Buffer.alloc(length, byte))),
  fc.uint8Array({ minLength: 1, maxLength: 255 }).map((bytes) => nameFromBytes(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x2e : byte)))),
).filter((text) => text !== '.' && text !== '..' && text !== longAreaName);
const names = fc.array(name, { minLength: 1, maxLength: 24 });
const prefix = fc.constantFrom('', 'p/', `${'team/'.repeat(40)}`, `${'x'.repeat(599)}/`);

describe('paths longer than a key', () => {
  test('every path has a key of at most 1,024 bytes; one that fits is its own; asking again, or another time, says the same', () => {
    fc.assert(fc.property(prefix, names, fc.boolean(), (before, parts, isDirectory) => {
      const keys = new LongKeys(before);
      const path = parts.join('/') + (isDirectory ? '/' : '');
      const key = keys.physical(path)!;
      expect(bytesOf(before + key)).toBeLessThanOrEqual(1024);
      expect(key.endsWith('/')).toBe(isDirectory);
      if (bytesOf(before + path) <= 1024) expect(key).toBe(path);
      else expect(key).not.toBe(path);
      expect(keys.physical(path)).toBe(key);
      expect(new LongKeys(before).physical(path)).toBe(key);
    }), { numRuns: 300 });
  });

  test('two paths never share a key, and no key of a path lies in the way of another', () => {
    fc.assert(fc.property(prefix, fc.array(fc.tuple(names, fc.boolean()), { minLength: 2, maxLength: 12 }), (before, given) => {
      const keys = new LongKeys(before);
      const paths = new Set<string>();
      for (const [parts, isDirectory] of given) {
        for (let depth = 1; depth < parts.length; depth++) paths.add(`${parts.slice(0, depth).join('/')}/`);
        paths.add(parts.join('/') + (isDirectory ? '/' : ''));
      }
      const found = [...paths].map((path) => keys.physical(path)!);
      const notes = [...paths].filter((path) => path.endsWith('/') && keys.isDeep(path)).map((path) => keys.note(path));
      expect(new Set([...found, ...notes]).size).toBe(paths.size + notes.length);
      for (const note of notes) expect(bytesOf(before + note)).toBeLessThanOrEqual(1024);
    }), { numRuns: 150 });
  });

  test('each name is found where its directory is listed, its own key or its area, and reads back', () => {
    fc.assert(fc.property(prefix, names, fc.boolean(), (before, parts, isDirectory) => {
      const keys = new LongKeys(before);
      const directory = parts.length > 1 ? `${parts.slice(0, -1).join('/')}/` : '';
      const entry = parts.at(-1)! + (isDirectory ? '/' : '');
      const key = keys.physical(directory + entry)!;
      const places = [keys.physical(directory)!, ...(keys.isDeep(directory) ? [keys.area(directory)] : [])]
        .filter((place) => key.startsWith(place) && !key.slice(place.length).replace(/\/$/, '').includes('/'));
      expect(places).toHaveLength(1);
      expect(keys.nameOf(directory, key, key.slice(places[0]!.length))).toBe(entry);
    }), { numRuns: 300 });
  });

  test('whoever is needed to find a path is a directory above it whose own marker is found without the path', () => {
    fc.assert(fc.property(prefix, names, (before, parts) => {
      const keys = new LongKeys(before);
      const path = parts.join('/');
      const owner = keys.owner(path);
      expect(owner !== undefined).toBe(keys.physical(path)!.includes(`${longAreaName}/`));
      if (owner === undefined) return;
      expect(path.startsWith(owner)).toBe(true);
      expect(keys.isDeep(owner)).toBe(true);
      expect(keys.physical(path)!.startsWith(keys.area(owner))).toBe(true);
      expect(keys.owner(owner) ?? '').not.toBe(owner);
    }), { numRuns: 300 });
  });

  test('a mount of a directory and a mount of the bucket mean the same objects', () => {
    fc.assert(fc.property(fc.array(fc.constantFrom('team', 'a', 'projects-2024', 'é'), { maxLength: 12 }), names, fc.nat(12), (top, parts, cut) => {
      const path = [...top, ...parts].join('/');
      const inner = `${top.slice(0, cut).join('/')}/`;
      fc.pre(cut > 0 && cut <= top.length && bytesOf(inner) <= 256);
      expect(inner + new LongKeys(inner).physical(path.slice(inner.length))!).toBe(new LongKeys('').physical(path));
    }), { numRuns: 300 });
  });

  test('the rules in one example: what is stored must be found by every later version', () => {
    const keys = new LongKeys('pre/');
    const d = 'd'.repeat(255);
    const deep = `proj/${d}/${d}/${d}/`;
    expect(keys.physical(deep)).toBe(deep);
    expect(keys.owner(deep)).toBeUndefined();
    expect(keys.isDeep(deep)).toBe(true);
    expect(keys.physical(`${deep}${'f'.repeat(247)}`)).toBe(`${deep}${'f'.repeat(247)}`); // 1,024 bytes
    expect(keys.physical(`${deep}${'f'.repeat(248)}`)).toBe(`proj/.hearthfs-long/6a610e058df4a0c974241984d3cf8ba8/${'f'.repeat(248)}`);
    expect(keys.note(deep)).toBe('proj/.hearthfs-long/6a610e058df4a0c974241984d3cf8ba8.path');
    expect(keys.physical(`${deep}${d}/x/y/z`)).toBe(`proj/.hearthfs-long/6a610e058df4a0c974241984d3cf8ba8/${d}/x/y/z`);
    expect(keys.owner(`${deep}${d}/x/y/z`)).toBe(deep);
    const bytes = nameFromBytes(Buffer.alloc(255, 0xff));
    expect(keys.physical(bytes)).toBe(bytes); // 1,024 bytes with the prefix
    expect(keys.physical(`a/${bytes}`)).toBe(`a/\u{10ff80}${Buffer.alloc(255, 0xff).toString('base64url')}`);
    expect(keys.owner(`a/${bytes}`)).toBeUndefined();
  });

  test('names that are ours have no key, and a name that only looks like one has', () => {
    const keys = new LongKeys('');
    for (const path of ['.hearthfs-long', '.hearthfs-long/', 'a/.hearthfs-long/b', 'a/.hearthfs-long']) expect(keys.physical(path)).toBeUndefined();
    for (const path of ['.hearthfs-longer', 'x.hearthfs-long/a']) expect(keys.physical(path)).toBe(path);
  });

  test('what lies where its name would not be put is nobody\'s', () => {
    const keys = new LongKeys('');
    const d = 'd'.repeat(255);
    const deep = `${d}/${d}/${d}/`;
    const area = keys.area(deep);
    expect(keys.nameOf(deep, `${area}short`, 'short')).toBeUndefined();
    expect(keys.nameOf('', '\u{10ff80}YQ', '\u{10ff80}YQ')).toBeUndefined(); // "a" fits as it stands
    expect(keys.nameOf('', '\u{10ff80}%%', '\u{10ff80}%%')).toBeUndefined();
    const slash = Buffer.concat([Buffer.alloc(254, 0xff), Buffer.from('/')]).toString('base64url');
    expect(keys.nameOf('', `\u{10ff80}${slash}`, `\u{10ff80}${slash}`)).toBeUndefined();
  });

  test('below a prefix that leaves no room, a name that fits has a key and one that does not has none', () => {
    const keys = new LongKeys(`${'p'.repeat(899)}/`);
    expect(keys.isRoomy).toBe(false);
    expect(keys.physical('n'.repeat(124))).toBe('n'.repeat(124));
    expect(keys.physical('n'.repeat(125))).toBeUndefined();
    expect(keys.physical(`${'n'.repeat(120)}/x/`)).toBe(`${'n'.repeat(120)}/x/`);
    expect(keys.isDeep('a/')).toBe(true);
    for (const before of ['', `${'p'.repeat(599)}/`]) expect(new LongKeys(before).isRoomy).toBe(true);
  });
});
