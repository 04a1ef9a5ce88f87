/**
 * Where an object lies in the bucket if its path is longer than a key may be.
 *
 * Everything above the `ObjectStore` calls an object by its *path*: the names below the mount joined by `/`. A key has at most 1,024 bytes,
 * a path four times as many, and more where names are not UTF-8. So, from the root down, for each name in a directory whose own key is DIR:
 *
 *   1. `DIR name` if that fits. All of a path that fits is therefore its own key, as if this file were not there.
 *   2. `DIR U+10FF80 base64url(bytes of the name)` if the name is not UTF-8 (four bytes of a key for each such byte), this is shorter, and fits.
 *   3. else the same two below the *long area* of the directory, `ANCHOR .hearthfs-long/ HASH /`, where what lies below can be long again.
 *      ANCHOR is the deepest directory above with a key of at most 256 bytes, but never above the mount's prefix; HASH is 32 hexadecimal digits of the SHA-256 of
 *      DIR below ANCHOR. Beside each area the object `HASH.path` says in plain text which directory it belongs to.
 *
 * Invariants: 1. a function of the path alone: no state, the same on every mount (with a prefix of more than 256 bytes: on every mount of
 * that prefix). 2. Two paths never share a key: no name holds U+10FF80, and none is `.hearthfs-long`. 3. A file and a directory of the same name are placed by the
 * same rules, one byte apart for the slash. 4. Only a *deep* directory, one with a key of more than 679 bytes, has an area: all others have their names in one place.
 * 5. A directory with names in an area is in S3 by its marker, or nothing would lead there: `owner` says which, and `writeback/` waits for it.
 *
 * The anchor keeps what belongs together together: a recursive copy or removal of ANCHOR by any S3 tool takes the area along.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { nameBytesMax, nameFromBytes, nameToBytes, noNameMark } from '../base/file-name.js';
import type { Key } from './object-store.js';

/** A directory of this name is no one's: below it are long areas. */
export const longAreaName = '.hearthfs-long';

const keyBytesMax = 1024;
const anchorBytesMax = 256;
const hashDigits = 32;
/** The longest that a name can be in a key, if it has to be: the mark and base64 of 255 bytes. */
const nameInKeyBytesMax = Buffer.byteLength(noNameMark) + Math.ceil((nameBytesMax * 8) / 6);
/** In a directory with a key up to here every name fits. */
const deepBytes = keyBytesMax - nameInKeyBytesMax - 1;
/** With a mount's prefix up to here every name fits into an area. */
const areaRoomBytes = deepBytes - longAreaName.length - 1 - hashDigits - 1;
const cachedMax = 500;

interface Area {
  readonly anchor: Key;
  /** The directory whose names are there, by its path. */
  readonly owner: Key;
}

/** Where a directory is. */
interface Place {
  /** Relative to the mount's prefix, as all keys are. */
  readonly key: Key;
  /** Of the whole key, prefix included. */
  readonly bytes: number;
  /** The innermost it lies in. */
  readonly area: Area | undefined;
}

export class LongKeys {
  private readonly prefixBytes: number;
  /** Paths of directories that are not their own keys. */
  private readonly places = new LRUCache<Key, Place>({ max: cachedMax });

  /** @param prefix of the mount: what stands before every key in the bucket. */
  constructor(readonly prefix: string) {
    this.prefixBytes = Buffer.byteLength(prefix);
  }

  /** The key of a path; undefined if it has none: below a very long prefix, or one of our own names. */
  physical(path: Key): Key | undefined {
    if (hasAreaName(path)) return undefined;
    return this.isItsOwnKey(path) ? path : this.locate(path)?.key;
  }

  /** The directory, by its path, that must have a marker in S3 for this path to be found; undefined where the key itself shows all directories above. */
  owner(path: Key): Key | undefined {
    return this.isItsOwnKey(path) ? undefined : this.locate(path)?.area?.owner;
  }

  /** True if the directory may have names that do not lie below its own key. */
  isDeep(directory: Key): boolean {
    if (this.prefixBytes + directory.length * 3 <= deepBytes) return false; // UTF-8 takes at most three bytes per unit
    const place = this.place(directory);
    return place !== undefined && place.bytes > deepBytes;
  }

  /** Where names of the deep directory lie that do not fit below its own key: a prefix. */
  area(directory: Key): Key {
    const { key, area } = this.place(directory)!;
    return areaKey(key, area?.anchor ?? this.anchorOf(key));
  }

  /** The object beside the area that says whose it is. */
  note(directory: Key): Key {
    return `${this.area(directory).slice(0, -1)}.path`;
  }

  /** True if any name can be made in the directory; cheap. */
  get isRoomy(): boolean { return this.prefixBytes <= areaRoomBytes; }

  /**
   * The name that a key has in `directory`, read from what a listing shows behind the directory's own key or its area.
   * @returns undefined if the entry is not where its name would be put: it is no file of ours.
   */
  nameOf(directory: Key, key: Key, entry: string): string | undefined {
    const slash = entry.endsWith('/') ? '/' : '';
    const text = slash ? entry.slice(0, -1) : entry;
    const name = text.startsWith(noNameMark) ? nameFromBytes(Buffer.from(text.slice(noNameMark.length), 'base64url')) : text;
    if (name === '' || name.includes('/') || name.includes('\0')) return undefined;
    return this.physical(directory + name + slash) === key ? name + slash : undefined;
  }

  private isItsOwnKey(path: Key): boolean {
    return this.prefixBytes + path.length * 3 <= keyBytesMax || this.prefixBytes + Buffer.byteLength(path) <= keyBytesMax;
  }

  private locate(path: Key): Place | undefined {
    if (path.endsWith('/')) return this.place(path);
    const cut = path.lastIndexOf('/') + 1;
    const directory = path.slice(0, cut);
    const at = this.place(directory);
    return at && this.child(at, directory, path.slice(cut), '');
  }

  /** Of a directory: from the deepest one above whose place is known, down. */
  private place(directory: Key): Place | undefined {
    const below: Key[] = [];
    let at: Place | undefined;
    for (let path = directory; at === undefined; path = path.slice(0, path.lastIndexOf('/', path.length - 2) + 1)) {
      at = this.isItsOwnKey(path) ? { key: path, bytes: this.prefixBytes + Buffer.byteLength(path), area: undefined } : this.places.get(path);
      if (at === undefined) below.push(path);
    }
    for (const path of below.reverse()) {
      const cut = path.lastIndexOf('/', path.length - 2) + 1;
      at = this.child(at, path.slice(0, cut), path.slice(cut, -1), '/');
      if (at === undefined) return undefined;
      this.places.set(path, at);
    }
    return at;
  }

  private child(at: Place, directory: Key, name: string, slash: '' | '/'): Place | undefined {
    const here = fitted(at.key, at.bytes, name, slash);
    if (here) return { ...here, area: at.area };
    const anchor = at.area?.anchor ?? this.anchorOf(at.key);
    const area = areaKey(at.key, anchor);
    const there = fitted(area, this.prefixBytes + Buffer.byteLength(area), name, slash);
    return there && { ...there, area: { anchor, owner: directory } };
  }

  private anchorOf(key: Key): Key {
    let bytes = this.prefixBytes;
    let end = 0;
    for (let next = key.indexOf('/') + 1; next > 0; next = key.indexOf('/', next) + 1) {
      bytes += Buffer.byteLength(key.slice(end, next));
      if (bytes > anchorBytesMax) break;
      end = next;
    }
    return key.slice(0, end);
  }
}

function fitted(directory: Key, bytes: number, name: string, slash: '' | '/'): { key: Key; bytes: number } | undefined {
  const room = keyBytesMax - bytes - slash.length;
  const plain = Buffer.byteLength(name);
  if (plain <= room) return { key: directory + name + slash, bytes: bytes + plain + slash.length };
  if (plain <= nameBytesMax) return undefined;
  const text = noNameMark + nameToBytes(name).toString('base64url');
  const short = Buffer.byteLength(text);
  return short < plain && short <= room ? { key: directory + text + slash, bytes: bytes + short + slash.length } : undefined;
}

function areaKey(directory: Key, anchor: Key): Key {
  const hash = createHash('sha256').update(directory.slice(anchor.length)).digest('hex').slice(0, hashDigits);
  return `${anchor}${longAreaName}/${hash}/`;
}

function hasAreaName(path: Key): boolean {
  return path.includes(longAreaName) && path.split('/').includes(longAreaName);
}
