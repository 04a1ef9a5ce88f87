/**
 * What has to be sent for one key: a pure function of what the tree wants there, what S3 holds there, and who else needs what S3 holds there.
 * It is asked again after every step, so it never plans more than one request ahead.
 *
 * Order (J4), all by waiting, never by sequencing:
 * 1. Before an object is overwritten or deleted, every other name of its inode has an acknowledged object at least as new, or (for an overwrite)
 *    the bytes are *held*: complete here, synced, never evicted. An object that is the only other place of bytes goes only once they are *kept*
 *    here: what only memory knows to be present would be missing again after a crash.
 * 2. Overwrites that wait for each other in a ring (swaps, J9) are broken at one member, the same one whoever asks: its bytes are
 *    made local, or, too large, stashed under a scratch key.
 * 3. A directory's marker is there before the last child's delete; all child deletes before the marker's.
 *    So is the marker of a directory in whose long area a new object is to lie (`s3/long-keys`): nothing else leads there.
 * 4. An object with a request in flight (`sending`) is nobody's source and nobody's safe copy: it may be gone the next moment.
 */
import type { Inode } from '../meta/inode.js';
import { isDirectory, isRegular } from '../meta/inode.js';
import type { ObjectRow } from '../meta/object-table.js';
import type { CopySource, ETag, Key } from '../s3/object-store.js';

export type Action =
  | { readonly do: 'none' }
  | { readonly do: 'delete'; readonly etag: ETag }
  /** The whole content in one request: regular files up to the limit, symlinks, special files. `metadataOnly`: the content is there already. */
  | { readonly do: 'put'; readonly inode: Inode; readonly expected: ETag | null; readonly metadataOnly: boolean }
  | { readonly do: 'multipart'; readonly inode: Inode; readonly expected: ETag | null }
  /** A new version of a big object whose unchanged ranges are copied inside S3 from the version it was changed from. */
  | { readonly do: 'compose'; readonly inode: Inode; readonly source: CopySource; readonly baseGen: number; readonly expected: ETag | null }
  /** From another key, or from the key itself to replace its metadata. `byParts`: larger than one copy may be. */
  | { readonly do: 'copy'; readonly inode: Inode; readonly source: CopySource; readonly expected: ETag | null; readonly byParts: boolean; readonly metadataOnly: boolean }
  | { readonly do: 'marker'; readonly inode: Inode; readonly expected: ETag | null }
  /** Bytes that are only in S3 must come first: the file is uploaded whole. */
  | { readonly do: 'fill'; readonly inode: Inode }
  /** Make the bytes of `inode` complete, synced and unevictable, so that the object that holds them may be overwritten. */
  | { readonly do: 'hold'; readonly inode: Inode }
  /** Copy what lies under the key to a scratch key (J9's last resort). `byParts` as above. */
  | { readonly do: 'stash'; readonly row: ObjectRow; readonly byParts: boolean }
  /** S3 holds something under the key that this mount never looked at: HEAD, then decide. */
  | { readonly do: 'look' }
  | { readonly do: 'wait'; readonly forKey: Key | null; readonly why: WaitReason }
  | { readonly do: 'park'; readonly reason: ParkReason; readonly why: string };

export type WaitReason = 'copy-first' | 'children-first' | 'marker-first' | 'source-busy' | 'open-unlinked';
export type ParkReason = 'base-lost' | 'content-lost' | 'access-denied' | 'locked' | 'archived' | 'too-large' | 'too-large-for-metadata-copy' | 'invalid' | 'recovered-unsynced' | 'metadata-too-large';

export interface Limits {
  /** Largest object of one PUT that is read to memory (S4). */
  readonly singlePutBytesMax: number;
  /** Largest object of one server-side copy; 5 GiB on AWS. */
  readonly copyBytesMax: number;
  /** Up to here a metadata change is a PUT if the bytes are here: conditions on PUT are honoured by more servers than those on copies (O2). */
  readonly metadataPutBytesMax: number;
  /** Up to here bytes are fetched to break a ring; above, they are stashed. */
  readonly holdBytesMax: number;
}

/** Everything the derivation may look at. All answers are those of one moment. */
export interface World {
  readonly limits: Limits;
  wants(key: Key): Inode | undefined;
  object(key: Key): ObjectRow | undefined;
  /** Objects that hold exactly this content. */
  holding(ino: number, gen: number): readonly ObjectRow[];
  inode(ino: number): Inode | undefined;
  keysOf(inode: Inode): readonly Key[];
  /**
   * The object that bytes of the inode's content can be copied from: big enough, an earlier generation, and it can be told which bytes are still
   * the same. undefined: there is none, or it was tried for this generation and was of no use.
   */
  base(key: Key, inode: Inode): ObjectRow | undefined;
  /** Every byte of the inode's content is here. */
  isComplete(inode: Inode): boolean;
  /** And it is on record and synced that it is: a crash does not change it. */
  isKept(inode: Inode): boolean;
  /** Its bytes cannot be evicted. */
  isPermanent(inode: Inode): boolean;
  /** The server has not refused to copy the object aside. */
  canStash(row: ObjectRow): boolean;
  /** A `hold` was done for it and still stands. */
  isHeld(ino: number): boolean;
  /** A request for the key is in flight or its answer is lost. */
  sending(key: Key): boolean;
  isParked(key: Key): boolean;
  /** The directory without whose marker an object under this key would not be found. */
  ownerOf(key: Key): Key | undefined;
  /** A key strictly below the directory key whose object still has to be deleted. */
  deleteBelow(prefix: Key): Key | undefined;
}

/** Scratch keys: direct children of the mount's root, so that no prefix shows up for them. Never wanted by the tree, so they are deleted once nobody needs them. */
export const scratchPrefix = '.hearthfs-scratch-';

const none: Action = { do: 'none' };
/** Longer chains of waiting are walked link by link as each is done; a ring longer than this is not expected to exist. */
const chainMax = 1000;

export function desired(key: Key, world: World): Action {
  const inode = world.wants(key);
  const row = world.object(key);
  if (inode === undefined) return absent(key, row, world);
  const action = isDirectory(inode) ? marker(key, inode, row, world) : file(key, inode, row, world);
  if (!('expected' in action) || action.expected !== null) return action;
  const owner = world.ownerOf(key);
  return owner !== undefined && lacksMarker(owner, world) ? { do: 'wait', forKey: owner, why: 'marker-first' } : action;
}

/** The directory is to have a marker, and S3 is about to get it. */
function lacksMarker(key: Key, world: World): boolean {
  return world.wants(key)?.marker === true && !world.isParked(key) && (world.object(key)?.etag ?? null) === null;
}

function absent(key: Key, row: ObjectRow | undefined, world: World): Action {
  if (row === undefined || row.etag === null) return none; // unknown: never delete what was not seen (J7)
  if (row.ino === null) return none; // somebody's new object; a listing will show it
  const needed = neededBy(key, row, world);
  if (needed !== undefined) {
    const owner = world.inode(row.ino)!;
    if (needed.forBytes && world.isComplete(owner)) return { do: 'hold', inode: owner };
    return needed.key === null ? { do: 'wait', forKey: null, why: 'open-unlinked' } : { do: 'wait', forKey: needed.key, why: 'copy-first' };
  }
  return deletion(key, row.etag, world);
}

function deletion(key: Key, etag: ETag, world: World): Action {
  if (key.endsWith('/')) {
    const child = world.deleteBelow(key);
    if (child !== undefined) return { do: 'wait', forKey: child, why: 'children-first' };
  }
  const parentKey = parentOf(key);
  if (parentKey !== '' && lacksMarker(parentKey, world)) return { do: 'wait', forKey: parentKey, why: 'marker-first' };
  return { do: 'delete', etag };
}

function marker(key: Key, inode: Inode, row: ObjectRow | undefined, world: World): Action {
  const etag = row?.etag ?? null;
  if (!inode.marker) return etag === null || row?.ino === null ? none : deletion(key, etag, world);
  if (etag !== null && row?.ino === null) return { do: 'look' };
  if (etag !== null && row?.ino === inode.ino && row.mgen === inode.mgen) return none;
  return { do: 'marker', inode, expected: etag };
}

function file(key: Key, inode: Inode, row: ObjectRow | undefined, world: World): Action {
  const { limits } = world;
  const expected = row?.etag ?? null; // unknown: demand that there is nothing, and learn otherwise
  if (row !== undefined && expected !== null) {
    if (row.ino === null) return { do: 'look' };
    if (row.ino === inode.ino && row.gen === inode.gen && !inode.unsealed) {
      if (row.mgen === inode.mgen) return none;
      const small = !isRegular(inode) || (inode.sizeBytes <= limits.metadataPutBytesMax && world.isComplete(inode));
      if (small) return { do: 'put', inode, expected, metadataOnly: true };
      return { do: 'copy', inode, source: sourceOf(row), expected, byParts: inode.sizeBytes > limits.copyBytesMax, metadataOnly: true };
    }
    const blocked = guard(key, row, world);
    if (blocked !== undefined) return blocked;
  }
  if (!isRegular(inode)) return { do: 'put', inode, expected, metadataOnly: false };

  let busySource: Key | undefined;
  if (!inode.unsealed) {
    for (const holder of world.holding(inode.ino, inode.gen)) {
      if (holder.key === key) continue;
      if (!world.sending(holder.key)) return { do: 'copy', inode, source: sourceOf(holder), expected, byParts: inode.sizeBytes > limits.copyBytesMax, metadataOnly: false };
      busySource = holder.key;
    }
  }
  if (inode.sizeBytes > limits.singlePutBytesMax) {
    const base = world.base(key, inode);
    if (base !== undefined) return { do: 'compose', inode, source: sourceOf(base), baseGen: base.gen!, expected };
  }
  if (world.isComplete(inode)) {
    if (inode.sizeBytes <= limits.singlePutBytesMax) return { do: 'put', inode, expected, metadataOnly: false };
    return { do: 'multipart', inode, expected };
  }
  if (busySource !== undefined) return { do: 'wait', forKey: busySource, why: 'source-busy' };
  if (world.holding(inode.ino, inode.baseGen ?? inode.gen).length > 0) return { do: 'fill', inode };
  return { do: 'park', reason: 'base-lost', why: `Cannot upload "${key}": ${inode.baseGen === null ? 'its bytes are' : 'the version it was changed from is'} neither here nor in S3` };
}

/** What must happen before the object `row` under `key` may be overwritten; undefined: nothing. */
function guard(key: Key, row: ObjectRow, world: World): Action | undefined {
  const needed = neededBy(key, row, world);
  if (needed === undefined) return undefined;
  const owner = world.inode(row.ino!)!;
  if (world.isHeld(owner.ino)) return undefined;
  if (needed.forBytes && world.isComplete(owner)) return { do: 'hold', inode: owner };
  if (needed.key === null) {
    const action = holdOrStash(owner, row, world);
    return action.do === 'stash' && !world.canStash(row) ? undefined : action; // its readers get ESTALE
  }
  if (world.isParked(needed.key)) return isLocalOrSmall(owner, row, world) ? { do: 'hold', inode: owner } : { do: 'wait', forKey: needed.key, why: 'copy-first' };
  const ring = ringFrom(key, world);
  if (ring === undefined || cheapestToHold(ring, world) !== key) return { do: 'wait', forKey: needed.key, why: 'copy-first' };
  return holdOrStash(owner, row, world);
}

/** Keeps the bytes of the object for their owner: here, or, if they are too many to fetch, under a scratch key. */
function holdOrStash(owner: Inode, row: ObjectRow, world: World): Action {
  if (isLocalOrSmall(owner, row, world)) return { do: 'hold', inode: owner };
  return { do: 'stash', row, byParts: (row.sizeBytes ?? owner.sizeBytes) > world.limits.copyBytesMax };
}

function isLocalOrSmall(owner: Inode, row: ObjectRow, world: World): boolean {
  return world.isComplete(owner) || (row.sizeBytes ?? owner.sizeBytes) <= world.limits.holdBytesMax;
}

/** `key`: the name whose upload is waited for; null: none, somebody has the file open. `forBytes`: no other object has them, here they are not *kept* yet. */
interface Needed { readonly key: Key | null; readonly forBytes: boolean }

/** Who would lose bytes, or a name in S3, if the object `row` went away now. */
function neededBy(key: Key, row: ObjectRow, world: World): Needed | undefined {
  const inode = row.ino === null ? undefined : world.inode(row.ino);
  if (inode === undefined || isDirectory(inode)) return undefined;
  const isSource = row.gen === inode.gen || row.gen === inode.baseGen;
  const names = world.keysOf(inode);
  if (names.length === 0) {
    const isSafe = world.isKept(inode) && world.isPermanent(inode); // a handle of an earlier daemon does not hold its content
    return inode.opens > 0 && isSource && isRegular(inode) && !isSafe && !heldElsewhere(key, row, world) ? { key: null, forBytes: true } : undefined;
  }
  for (const name of names) {
    if (name === key) continue;
    const other = world.object(name);
    const acknowledged = other !== undefined && other.etag !== null && other.ino === inode.ino && other.gen! >= row.gen! && !world.sending(name);
    if (!acknowledged && !stashed(key, row, world)) return { key: name, forBytes: false };
  }
  // Every name has its object, but bytes still missing here may be found in this one only.
  if (row.gen === inode.baseGen && !world.isKept(inode) && !heldElsewhere(key, row, world)) {
    const name = names.find((other) => other !== key);
    if (name !== undefined) return { key: name, forBytes: true };
  }
  return undefined;
}

function heldElsewhere(key: Key, row: ObjectRow, world: World): boolean {
  return world.holding(row.ino!, row.gen!).some((holder) => holder.key !== key && !world.sending(holder.key));
}

function stashed(key: Key, row: ObjectRow, world: World): boolean {
  return !key.startsWith(scratchPrefix) && world.holding(row.ino!, row.gen!).some((holder) => holder.key.startsWith(scratchPrefix) && !world.sending(holder.key));
}

/** The name an overwrite of `key` waits for, rings not considered. */
function waitsFor(key: Key, world: World): Key | undefined {
  const inode = world.wants(key);
  const row = world.object(key);
  if (inode === undefined || isDirectory(inode) || row === undefined || row.etag === null || row.ino === null) return undefined;
  if (row.ino === inode.ino && row.gen === inode.gen && !inode.unsealed) return undefined;
  if (world.isHeld(row.ino)) return undefined;
  const needed = neededBy(key, row, world);
  return needed?.key ?? undefined;
}

/** The keys that wait for each other if `key` is one of them. */
function ringFrom(key: Key, world: World): Key[] | undefined {
  const ring = [key];
  for (let next = waitsFor(key, world); next !== undefined && ring.length < chainMax; next = waitsFor(next, world)) {
    if (next === key) return ring;
    if (ring.includes(next)) return undefined; // a ring further on; its members break it
    ring.push(next);
  }
  return undefined;
}

/** The same member whichever of them asks. */
function cheapestToHold(ring: readonly Key[], world: World): Key {
  const cost = (key: Key): number => {
    const row = world.object(key)!;
    const owner = world.inode(row.ino!)!;
    return world.isComplete(owner) ? -1 : row.sizeBytes ?? owner.sizeBytes;
  };
  return ring.reduce((best, key) => {
    const difference = cost(key) - cost(best);
    return difference < 0 || (difference === 0 && key < best) ? key : best;
  });
}

/** What lies under the row's key, on condition that it is that version. */
export function sourceOf(row: ObjectRow): CopySource {
  return { key: row.key, etag: row.etag!, ...(row.versionId !== null && { versionId: row.versionId }) };
}

/** The key of the directory that `key` lies in; `''` for the root. */
export function parentOf(key: Key): Key {
  const end = key.endsWith('/') ? key.length - 2 : key.length - 1;
  return key.slice(0, key.lastIndexOf('/', end) + 1);
}

export function nameOf(key: Key): string {
  return key.slice(parentOf(key).length).replace(/\/$/, '');
}
