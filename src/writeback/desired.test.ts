import { expect, test } from 'vitest';
import { FileType, type Inode } from '../meta/inode.js';
import type { ObjectRow } from '../meta/object-table.js';
import type { Key } from '../s3/object-store.js';
import { desired, nameOf, parentOf, type World } from './desired.js';

/** A world in a few words: names, objects, and what is here, being sent, parked or held. */
interface Given {
  /** key -> inode */
  tree?: Record<Key, Inode>;
  objects?: ObjectRow[];
  /** Inodes that have no name. */
  orphans?: Inode[];
  /** Numbers of inodes with bytes missing. */
  partial?: number[];
  /** Those whose presence only memory knows. */
  unrecorded?: number[];
  held?: number[];
  /** Clean: their content may be evicted. */
  evictable?: number[];
  unstashable?: Key[];
  sending?: Key[];
  parked?: Key[];
  deletes?: Key[];
  /** ino -> key of the object its new version can be made from. */
  bases?: Record<number, Key>;
  /** key -> the directory in whose long area it lies */
  owners?: Record<Key, Key>;
}

function inode(ino: number, fields: Partial<Inode> = {}): Inode {
  const time = { sec: 0, nsec: 0 };
  return {
    ino, mode: FileType.REG | 0o644, uid: 0, gid: 0, rdev: 0, sizeBytes: 10, atime: time, mtime: time, ctime: time, nlink: 1, gen: 1, mgen: 1, baseGen: null,
    unsealed: false, sealedUnsynced: false, attrsComplete: true, content: ino, target: null, xattrs: null, foreign: null, linkId: null, linkOffset: 0, lastModifiedMs: null, marker: false, complete: true, listedAtMs: 0, opens: 0, ...fields,
  };
}
const dir = (ino: number, fields: Partial<Inode> = {}): Inode => inode(ino, { mode: FileType.DIR | 0o755, marker: true, ...fields });
function row(key: Key, ino: number | null, gen = 1, mgen = 1, fields: Partial<ObjectRow> = {}): ObjectRow {
  return { key, etag: `e-${key}`, sizeBytes: 10, lastModifiedMs: null, versionId: null, ino, gen: ino === null ? null : gen, mgen: ino === null ? null : mgen, ...fields };
}
const absent = (key: Key): ObjectRow => row(key, null, 1, 1, { etag: null });

function world(given: Given): World {
  const tree = new Map(Object.entries(given.tree ?? {}));
  const inodes = new Map([...tree.values(), ...(given.orphans ?? [])].map((node) => [node.ino, node]));
  const objects = given.objects ?? [];
  return {
    limits: { singlePutBytesMax: 100, copyBytesMax: 1000, metadataPutBytesMax: 20, holdBytesMax: 50 },
    wants: (key) => tree.get(key),
    object: (key) => objects.find((object) => object.key === key),
    holding: (ino, gen) => objects.filter((object) => object.etag !== null && object.ino === ino && object.gen === gen),
    inode: (ino) => inodes.get(ino),
    keysOf: (node) => [...tree].filter(([, other]) => other.ino === node.ino).map(([key]) => key),
    base: (_key, node) => objects.find((object) => object.key === given.bases?.[node.ino]),
    isComplete: (node) => !(given.partial ?? []).includes(node.ino),
    isKept: (node) => ![...(given.partial ?? []), ...(given.unrecorded ?? [])].includes(node.ino),
    isPermanent: (node) => !(given.evictable ?? []).includes(node.ino),
    canStash: ({ key }) => !(given.unstashable ?? []).includes(key),
    isHeld: (ino) => (given.held ?? []).includes(ino),
    sending: (key) => (given.sending ?? []).includes(key),
    ownerOf: (key) => (given.owners ?? {})[key],
    isParked: (key) => (given.parked ?? []).includes(key),
    deleteBelow: (prefix) => (given.deletes ?? []).find((key) => key.startsWith(prefix)),
  };
}

const swap = { tree: { a: inode(2), b: inode(1) }, objects: [row('a', 1), row('b', 2)] };
const changedBig = inode(1, { gen: 2, unsealed: true, sizeBytes: 500 });

const table: [string, Key, Given, object][] = [
  // nothing wanted
  ['unknown and unwanted is left alone (J7)', 'a', {}, { do: 'none' }],
  ['known absent and unwanted is clean', 'a', { objects: [absent('a')] }, { do: 'none' }],
  ['a stranger nobody wants is left alone', 'a', { objects: [row('a', null)] }, { do: 'none' }],
  ['an object of ours nobody wants is deleted with its etag', 'a', { objects: [row('a', 1)] }, { do: 'delete', etag: 'e-a' }],
  // plain content
  ['a new file is put where nothing may be', 'a', { tree: { a: inode(1) } }, { do: 'put', expected: null, metadataOnly: false }],
  ['a changed file is put over what was seen', 'a', { tree: { a: inode(1, { gen: 2 }) }, objects: [row('a', 1)] }, { do: 'put', expected: 'e-a' }],
  ['a large file goes in parts', 'a', { tree: { a: inode(1, { sizeBytes: 101 }) } }, { do: 'multipart', expected: null }],
  ['equal generations are clean', 'a', { tree: { a: inode(1) }, objects: [row('a', 1)] }, { do: 'none' }],
  ['an unsealed file is not clean even if generations agree', 'a', { tree: { a: inode(1, { unsealed: true }) }, objects: [row('a', 1)] }, { do: 'put' }],
  ['what is there but was never looked at is looked at', 'a', { tree: { a: inode(1) }, objects: [row('a', null)] }, { do: 'look' }],
  ['a symlink is put whole', 'a', { tree: { a: inode(1, { mode: FileType.LINK | 0o777 }) } }, { do: 'put', expected: null }],
  // metadata only
  ['small and here: put whole', 'a', { tree: { a: inode(1, { mgen: 2 }) }, objects: [row('a', 1)] }, { do: 'put', metadataOnly: true, expected: 'e-a' }],
  ['not here: copied onto itself', 'a', { tree: { a: inode(1, { mgen: 2 }) }, objects: [row('a', 1)], partial: [1] }, { do: 'copy', metadataOnly: true, source: { key: 'a', etag: 'e-a' }, expected: 'e-a', byParts: false }],
  ['larger than one copy: by parts', 'a', { tree: { a: inode(1, { mgen: 2, sizeBytes: 1001 }) }, objects: [row('a', 1)] }, { do: 'copy', byParts: true }],
  // renames
  ['J4: the new name copies from the old', 'b', { tree: { b: inode(1) }, objects: [row('a', 1)] }, { do: 'copy', source: { key: 'a' }, expected: null, metadataOnly: false }],
  ['J4: the old name waits for the new', 'a', { tree: { b: inode(1) }, objects: [row('a', 1)] }, { do: 'wait', forKey: 'b', why: 'copy-first' }],
  ['J4: the old name waits even if the bytes are here and changed since', 'a', { tree: { b: inode(1, { gen: 2, unsealed: true }) }, objects: [row('a', 1)] }, { do: 'wait', forKey: 'b' }],
  ['J4: once the new name is acknowledged the old one goes', 'a', { tree: { b: inode(1) }, objects: [row('a', 1), row('b', 1)] }, { do: 'delete', etag: 'e-a' }],
  ['J4: an acknowledged object that is being replaced protects nobody', 'a', { tree: { b: inode(1) }, objects: [row('a', 1), row('b', 1)], sending: ['b'] }, { do: 'wait', forKey: 'b' }],
  ['J4: a newer acknowledged generation is as good', 'a', { tree: { b: inode(1, { gen: 3, unsealed: true }) }, objects: [row('a', 1), row('b', 1, 2)] }, { do: 'delete' }],
  ['a source with a request in flight is no source: the bytes here are', 'b', { tree: { b: inode(1) }, objects: [row('a', 1)], sending: ['a'] }, { do: 'put' }],
  ['a source with a request in flight is waited for if the bytes are not here', 'b', { tree: { b: inode(1) }, objects: [row('a', 1)], sending: ['a'], partial: [1] }, { do: 'wait', forKey: 'a', why: 'source-busy' }],
  ['an unsealed file is never copied', 'b', { tree: { b: inode(1, { gen: 1, unsealed: true }) }, objects: [row('a', 1)] }, { do: 'put' }],
  ['J4: a reused old name is overwritten after the new name has its object', 'a', { tree: { a: inode(2), b: inode(1) }, objects: [row('a', 1)] }, { do: 'wait', forKey: 'b' }],
  ['J4: a chain of names is moved from its end', 'b', { tree: { b: inode(1), c: inode(2) }, objects: [row('a', 1), row('b', 2)] }, { do: 'wait', forKey: 'c' }],
  ['J4: a name whose new place is parked is overwritten once its bytes are held', 'a', { tree: { a: inode(2), b: inode(1) }, objects: [row('a', 1)], parked: ['b'] }, { do: 'hold', inode: { ino: 1 } }],
  ['J4: and then it is', 'a', { tree: { a: inode(2), b: inode(1) }, objects: [row('a', 1)], parked: ['b'], held: [1] }, { do: 'put', expected: 'e-a' }],
  ['an unlinked file still open keeps its object', 'a', { orphans: [inode(1, { nlink: 0, opens: 1 })], objects: [row('a', 1)], partial: [1] }, { do: 'wait', forKey: null, why: 'open-unlinked' }],
  ['an unlinked file still open with all bytes here does not', 'a', { orphans: [inode(1, { nlink: 0, opens: 1 })], objects: [row('a', 1)] }, { do: 'delete' }],
  ['J4: an unlinked file still open whose presence is not on record is put on record first', 'a', { orphans: [inode(1, { nlink: 0, opens: 1 })], objects: [row('a', 1)], unrecorded: [1] }, { do: 'hold', inode: { ino: 1 } }],
  ['J4: its object is not overwritten before either', 'a', { tree: { a: inode(2) }, orphans: [inode(1, { nlink: 0, opens: 1 })], objects: [row('a', 1)], unrecorded: [1] }, { do: 'hold', inode: { ino: 1 } }],
  ['an unlinked file still open and too large to fetch is stashed before its object is overwritten', 'a',
    { tree: { a: inode(2) }, orphans: [inode(1, { nlink: 0, opens: 1, sizeBytes: 60 })], objects: [row('a', 1, 1, 1, { sizeBytes: 60 })], partial: [1] }, { do: 'stash', row: { key: 'a' }, byParts: false }],
  ['one larger than one copy is stashed in parts', 'a',
    { tree: { a: inode(2) }, orphans: [inode(1, { nlink: 0, opens: 1, sizeBytes: 1001 })], objects: [row('a', 1, 1, 1, { sizeBytes: 1001 })], partial: [1] }, { do: 'stash', row: { key: 'a' }, byParts: true }],
  ['unless the server refuses that: then it is overwritten all the same', 'a',
    { tree: { a: inode(2) }, orphans: [inode(1, { nlink: 0, opens: 1, sizeBytes: 60 })], objects: [row('a', 1, 1, 1, { sizeBytes: 60 })], partial: [1], unstashable: ['a'] }, { do: 'put', expected: 'e-a' }],
  ['an unlinked file still open whose content could be evicted keeps it before its object goes: an earlier daemon may have opened it', 'a',
    { orphans: [inode(1, { nlink: 0, opens: 1 })], objects: [row('a', 1)], evictable: [1] }, { do: 'hold', inode: { ino: 1 } }],
  ['and then it is overwritten', 'a',
    { tree: { a: inode(2) }, orphans: [inode(1, { nlink: 0, opens: 1, sizeBytes: 60 })], objects: [row('a', 1, 1, 1, { sizeBytes: 60 }), row('.hearthfs-scratch-x', 1)], partial: [1] }, { do: 'put', expected: 'e-a' }],
  // long areas (J4)
  ['a new file in a long area waits for the marker that leads there', 'a', { tree: { a: inode(1), 'd/': dir(2) }, owners: { a: 'd/' } }, { do: 'wait', forKey: 'd/', why: 'marker-first' }],
  ['so does one that is copied there', 'a', { tree: { a: inode(1), 'd/': dir(2) }, objects: [row('b', 1)], owners: { a: 'd/' } }, { do: 'wait', forKey: 'd/' }],
  ['so does a marker', 'e/', { tree: { 'e/': dir(1), 'd/': dir(2) }, owners: { 'e/': 'd/' } }, { do: 'wait', forKey: 'd/' }],
  ['once the marker is there it is put', 'a', { tree: { a: inode(1), 'd/': dir(2) }, objects: [row('d/', 2)], owners: { a: 'd/' } }, { do: 'put' }],
  ['a parked marker holds nobody up', 'a', { tree: { a: inode(1), 'd/': dir(2) }, owners: { a: 'd/' }, parked: ['d/'] }, { do: 'put' }],
  ['what is there already is replaced without a wait', 'a', { tree: { a: inode(1, { gen: 2 }), 'd/': dir(2) }, objects: [row('a', 1)], owners: { a: 'd/' } }, { do: 'put', expected: 'e-a' }],
  // rings (J9)
  ['J9: the cheaper side of a swap is held', 'a', { ...swap, partial: [1] }, { do: 'wait', forKey: 'b' }],
  ['J9: the cheaper side of a swap is held, seen from there', 'b', { ...swap, partial: [1] }, { do: 'hold', inode: { ino: 2 } }],
  ['J9: of equals the first key', 'a', swap, { do: 'hold', inode: { ino: 1 } }],
  ['J9: once held its object is overwritten by a copy of the other', 'a', { ...swap, held: [1] }, { do: 'copy', source: { key: 'b' }, expected: 'e-a' }],
  ['J9: too large to fetch: stashed', 'a', { tree: { a: inode(2, { sizeBytes: 60 }), b: inode(1, { sizeBytes: 60 }) }, objects: [row('a', 1, 1, 1, { sizeBytes: 60 }), row('b', 2, 1, 1, { sizeBytes: 60 })], partial: [1, 2] }, { do: 'stash', row: { key: 'a' } }],
  ['J9: stashed: overwritten', 'a', { tree: { a: inode(2, { sizeBytes: 60 }), b: inode(1, { sizeBytes: 60 }) }, objects: [row('a', 1), row('b', 2), row('.hearthfs-scratch-x', 1)], partial: [1, 2] }, { do: 'copy', source: { key: 'b' } }],
  ['J9: a scratch object stays while it is the source', '.hearthfs-scratch-x', { tree: { b: inode(1) }, objects: [row('.hearthfs-scratch-x', 1)] }, { do: 'wait', forKey: 'b' }],
  ['J9: and goes afterwards', '.hearthfs-scratch-x', { tree: { b: inode(1) }, objects: [row('.hearthfs-scratch-x', 1), row('b', 1)] }, { do: 'delete' }],
  // missing bytes
  ['missing bytes are fetched before a changed file is sent', 'a', { tree: { a: inode(1, { gen: 2, baseGen: 1, unsealed: true }) }, objects: [row('a', 1)], partial: [1] }, { do: 'fill' }],
  ['J4: the base of a renamed, partly changed file stays', 'a', { tree: { b: inode(1, { gen: 2, baseGen: 1, unsealed: true }) }, objects: [row('a', 1)], partial: [1] }, { do: 'wait', forKey: 'b' }],
  ['J4: the base stays while its bytes are present in memory only, even if every name has a newer object', 'a',
    { tree: { b: inode(1, { gen: 3, baseGen: 1, unsealed: true }) }, objects: [row('a', 1), row('b', 1, 2)], unrecorded: [1] }, { do: 'hold', inode: { ino: 1 } }],
  ['a lost base is parked', 'a', { tree: { a: inode(1, { gen: 2, baseGen: 1, unsealed: true }) }, partial: [1] }, { do: 'park', reason: 'base-lost' }],
  ['a busy large file goes in parts as well', 'a', { tree: { a: changedBig }, objects: [row('a', 1)] }, { do: 'multipart', expected: 'e-a' }],
  // hard links
  ['J10: the second name is copied from the first', 'b', { tree: { a: inode(1, { gen: 2 }), b: inode(1, { gen: 2 }) }, objects: [row('a', 1, 2), row('b', 1, 1)] }, { do: 'copy', source: { key: 'a' }, expected: 'e-b' }],
  // directories
  ['a marker is put', 'd/', { tree: { 'd/': dir(1) } }, { do: 'marker', expected: null }],
  ['a marker with newer attributes is replaced', 'd/', { tree: { 'd/': dir(1, { mgen: 2 }) }, objects: [row('d/', 1)] }, { do: 'marker', expected: 'e-d/' }],
  ['an implied directory needs nothing', 'd/', { tree: { 'd/': dir(1, { marker: false }) } }, { do: 'none' }],
  ['J4: a marker goes after the children', 'd/', { objects: [row('d/', 1)], deletes: ['d/x'] }, { do: 'wait', forKey: 'd/x', why: 'children-first' }],
  ['J4: a marker is there before a child goes', 'd/x', { tree: { 'd/': dir(1) }, objects: [row('d/x', 2)] }, { do: 'wait', forKey: 'd/', why: 'marker-first' }],
  ['J4: with the marker there the child goes', 'd/x', { tree: { 'd/': dir(1) }, objects: [row('d/', 1), row('d/x', 2)] }, { do: 'delete' }],
];

test.each(table)('%s', (_name, key, given, expected) => {
  expect(desired(key, world(given))).toMatchObject(expected);
});

test('J9: whatever the ring, exactly one of its members breaks it', () => {
  for (let size = 2; size < 7; size++) {
    const names = Array.from({ length: size }, (_, i) => `k${i}`);
    const given: Given = { tree: {}, objects: [], partial: names.map((_, i) => i + 1) };
    names.forEach((name, i) => {
      given.tree![name] = inode(((i + 1) % size) + 1, { sizeBytes: 10 + ((i * 7) % 5) });
      given.objects!.push(row(name, i + 1));
    });
    const actions = names.map((name) => desired(name, world(given)).do);
    expect(actions.filter((action) => action === 'hold')).toHaveLength(1);
    expect(actions.filter((action) => action === 'wait')).toHaveLength(size - 1);
  }
});

test('parentOf() and nameOf() take keys apart', () => {
  expect(['a', 'a/', 'a/b', 'a/b/', 'a/b/c'].map((key) => [parentOf(key), nameOf(key)])).toEqual([['', 'a'], ['', 'a'], ['a/', 'b'], ['a/', 'b'], ['a/b/', 'c']]);
});
