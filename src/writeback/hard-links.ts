/**
 * Hard links in S3 (J10). Every name of a linked inode is a whole plain object; what ties the names together is one metadata value:
 *
 *     hearthfs-link = <link generation>:<link id>.<tag of the key>
 *
 * The id is drawn at the first link(2). The link generation moves with the content, the same in all mounts (`gen + linkOffset`). The tag is a hash of the
 * object's own key: another tool that copies an object copies its metadata too, and a copy is no hard link.
 *
 * After a listing each name is an inode of its own. When the attributes of one are completed (HEAD) and another inode has the same id, the two become
 * one (`completed`):
 * 1. Same generation, same size, and same etag or mtime: the same content.
 * 2. A higher generation wins; the other names show its content. The object behind is brought up to date once it is clear that nobody
 *    else is about to (a mount that died between two PUTs; one that is still at work would be raced).
 * 3. Whatever else differs was written by others through one name: that link is broken. The name becomes a file of its own, its metadata lose the id, and
 *    it is reported. So is an object that had the id and no longer has it.
 *
 * Nothing here sends a request, and nothing is overwritten unseen: the journal's uploads are conditional as always.
 */
import { createHash } from 'node:crypto';
import type { Clock, Time } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { randomId } from '../base/random-id.js';
import type { AttemptTable } from '../journal/attempts.js';
import type { ConflictTable } from '../journal/conflicts.js';
import type { Journal } from '../journal/journal.js';
import { fileType, isDirectory, type Inode } from '../meta/inode.js';
import type { Tree } from '../meta/tree.js';
import type { DecodedAttributes, FileAttributes } from '../s3/metadata-codec.js';
import type { Key, ObjectHead } from '../s3/object-store.js';

/** An object this old that is behind will not be brought up to date by whoever wrote the newer one: longer than any request lives (J6). */
const settledMs = 15 * 60_000;
/** LastModified has whole seconds. */
const lastModifiedSlackMs = 1000;

export interface HardLinksDeps {
  readonly tree: Tree;
  readonly journal: Journal;
  readonly attempts: AttemptTable;
  readonly conflicts: ConflictTable;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly kernel: { nameChanged(parent: number, name: string): void; contentChanged(ino: number): void };
  readonly openCount: (ino: number) => number;
  /** The inode lost its last name. */
  readonly orphaned: (ino: number) => void;
  readonly config: {
    /** What stands before every key in the bucket. */
    readonly keyPrefix: string;
    readonly uploadDelayMs: number;
    readonly readOnly: boolean;
  };
}

/** What was seen of a name whose attributes have just been completed. */
export interface Completed {
  /** Where its object lies; for a name that was moved not yet its own key. */
  readonly key: Key;
  readonly head: ObjectHead;
  readonly attributes: DecodedAttributes;
  /** Nobody, the kernel included, knows the inode's number yet. */
  readonly isUnseen: boolean;
}

type Verdict = 'same' | 'behind' | 'ahead' | 'other';

/** All methods run in the caller's transaction. */
export class HardLinks {
  constructor(private readonly deps: HardLinksDeps) {}

  /** Before an inode gets its second name. */
  ensureId(inode: Inode): void {
    if (inode.linkId !== null) return;
    inode.linkId = randomId();
    inode.linkOffset = 0;
  }

  /**
   * The inode lost a name to a version of others, or got one beside it: from here on its names are a link of their own, or those of the winner, which
   * say the same id, would be taken for it.
   */
  separate(inode: Inode): void {
    if (inode.linkId === null) return;
    inode.linkId = inode.nlink > 1 ? randomId() : null;
    inode.linkOffset = 0;
    inode.mgen++;
    this.deps.tree.inodes.save(inode);
    for (const key of this.deps.tree.keysOf(inode)) this.deps.journal.mark(key, this.deps.config.uploadDelayMs);
  }

  /** What the metadata of `key` say about the link; for `gen` of the inode's content. */
  field(inode: Inode, key: Key, gen: number): Pick<FileAttributes, 'linkId' | 'linkGeneration'> {
    return linkField(inode, key, gen, this.deps.config.keyPrefix);
  }

  /** The inode's attributes are those of `seen`. @returns the inode that its names mean from now on. */
  completed(inode: Inode, seen: Completed): Inode {
    const { tree } = this.deps;
    if (isDirectory(inode)) return inode;
    const before = inode.linkId;
    const found = this.tagOf(seen.key, seen.attributes);
    const row = tree.objects.get(seen.key);
    if (found === undefined || row?.ino !== inode.ino) {
      if (before !== null) this.forget(inode, seen.key, before);
      return inode;
    }
    inode.linkId = found.id;
    inode.linkOffset = found.generation - row.gen!;
    tree.inodes.save(inode);
    if (before !== null && before !== found.id && tree.inodes.byLink(before).length > 0) this.report(seen.key);
    const others = tree.inodes.byLink(found.id).filter((each) => each.ino !== inode.ino && each.attrsComplete && fileType(each) === fileType(inode));
    if (others.length === 0 || inode.unsealed || inode.content !== null) return inode; // with changes of its own it goes its own way: conditional uploads decide
    for (const other of others) {
      const verdict = this.compare(other, seen, found.generation, before === found.id);
      if (verdict === 'other') continue;
      return verdict === 'ahead' ? this.join(inode, other, seen, false) : this.join(other, inode, seen, verdict === 'same');
    }
    this.forget(inode, seen.key, found.id);
    inode.mgen++; // its metadata must not say so any more, or the next mount is misled
    tree.inodes.save(inode);
    if (!this.deps.config.readOnly) for (const key of tree.keysOf(inode)) this.deps.journal.mark(key, this.deps.config.uploadDelayMs);
    return inode;
  }

  private tagOf(key: Key, attributes: DecodedAttributes): { readonly id: string; readonly generation: number } | undefined {
    const match = /^([0-9a-z-]{8,28})\.([0-9a-f]{8})$/.exec(attributes.linkId ?? '');
    if (!match || match[2] !== keyTag(this.deps.config.keyPrefix + key)) return undefined;
    return { id: match[1]!, generation: attributes.linkGeneration! };
  }

  /** @param wasLinked this mount knew the name as one of the link before its object changed. */
  private compare(other: Inode, { head, attributes }: Completed, generation: number, wasLinked: boolean): Verdict {
    const { objects } = this.deps.tree;
    const isOurs = this.isOurs(other);
    const rows = [...objects.madeFrom(other.ino)].sort((a, b) => b.gen! - a.gen!);
    const newest = rows[0];
    const newestGeneration = newest === undefined ? undefined : newest.gen! + other.linkOffset;
    const current = other.gen + other.linkOffset;
    if (generation === newestGeneration && newest!.sizeBytes === head.sizeBytes) {
      const sameTime = attributes.mtime?.sec === other.mtime.sec && attributes.mtime.nsec === other.mtime.nsec;
      const mayBeEqual = rows.some((row) => row.gen === newest!.gen && (row.etag === head.etag || !isDigest(row.etag!) || !isDigest(head.etag)));
      if (!mayBeEqual && !sameTime) return 'other';
      return generation === current && !other.unsealed ? 'same' : 'behind';
    }
    if (newestGeneration !== undefined && generation > newestGeneration) return isOurs ? 'other' : 'ahead';
    if (generation >= current) return 'other'; // the same generation, but other bytes
    // A mount that died between two PUTs wrote the older object before the newer; what came later was put there on purpose
    const newestMs = newest?.lastModifiedMs ?? (wasLinked ? -Infinity : Infinity);
    return head.lastModifiedMs > newestMs + lastModifiedSlackMs ? 'other' : 'behind';
  }

  private isOurs(inode: Inode): boolean {
    const { journal, attempts, tree } = this.deps;
    return inode.unsealed || tree.keysOf(inode).some((key) => journal.has(key) || attempts.has(key));
  }

  /** `loser` gives its names, and what is known of their objects, to `winner`; who has it open keeps it. */
  private join(winner: Inode, loser: Inode, seen: Completed, isSame: boolean): Inode {
    const { tree, journal, kernel, metrics, log, config } = this.deps;
    const isOurs = this.isOurs(winner);
    let mgen = winner.mgen - 1; // other metadata than the winner's: written the next time anything about it is
    if (isSame) {
      const later = compareTimes(seen.attributes.ctime ?? loser.mtime, winner.ctime);
      if (later === 0) mgen = winner.mgen;
      else if (later > 0 && !isOurs) {
        takeAttributes(winner, loser, seen.attributes.ctime ?? loser.mtime);
        mgen = ++winner.mgen;
      }
    }
    const keys: Key[] = [];
    for (const row of tree.objects.madeFrom(loser.ino)) {
      tree.objects.put({ ...row, ino: winner.ino, gen: row.gen! + loser.linkOffset - winner.linkOffset, mgen });
      keys.push(row.key);
    }
    for (const dentry of tree.dentries.ofInode(loser.ino)) {
      tree.dentries.repoint(dentry, winner.ino, dentry.checkedAtMs);
      winner.nlink++;
      kernel.nameChanged(dentry.parent, dentry.name);
    }
    tree.inodes.save(winner);
    if (seen.isUnseen && loser.content === null) tree.inodes.remove(loser.ino);
    else {
      loser.nlink = 0;
      loser.opens = this.deps.openCount(loser.ino);
      tree.inodes.save(loser);
      this.deps.orphaned(loser.ino);
    }
    kernel.contentChanged(winner.ino); // its nlink
    const isBehind = !isSame || mgen !== winner.mgen;
    if (isBehind && !config.readOnly && (isOurs || this.isSettled(winner, seen))) for (const key of keys) journal.mark(key, config.uploadDelayMs);
    metrics.add('writeback.links_joined');
    log.debug('one file by two names', { room: 'writeback', key: seen.key, ino: winner.ino });
    return winner;
  }

  /** Nobody is at work on the link any more: its newest object has not changed for long. */
  private isSettled(winner: Inode, { head }: Completed): boolean {
    if (head.serverDateMs === undefined) return false;
    const newest = Math.max(...this.deps.tree.objects.madeFrom(winner.ino).map((row) => row.lastModifiedMs ?? Infinity), head.lastModifiedMs);
    return head.serverDateMs - newest > settledMs;
  }

  private forget(inode: Inode, key: Key, linkId: string): void {
    inode.linkId = null;
    inode.linkOffset = 0;
    this.deps.tree.inodes.save(inode);
    if (this.deps.tree.inodes.byLink(linkId).length > 0) this.report(key);
  }

  private report(key: Key): void {
    this.deps.conflicts.add({ key, keptAs: null, reason: 'link-broken-by-others', atMs: this.deps.clock.now() });
    this.deps.metrics.add('writeback.links_broken');
    this.deps.log.warn('a hard link was broken: others wrote one of its names', { room: 'writeback', key });
  }
}

export function linkField(inode: Inode, key: Key, gen: number, keyPrefix: string): Pick<FileAttributes, 'linkId' | 'linkGeneration'> {
  if (inode.linkId === null || isDirectory(inode)) return {};
  return { linkId: `${inode.linkId}.${keyTag(keyPrefix + key)}`, linkGeneration: gen + inode.linkOffset };
}

function keyTag(absoluteKey: string): string {
  return createHash('sha256').update(absoluteKey).digest('hex').slice(0, 8);
}

/** Of a whole object that was put at once; etags of multipart uploads say nothing about equality. */
function isDigest(etag: string): boolean {
  return /^"?[0-9a-f]{32}"?$/.test(etag);
}

function compareTimes(a: Time, b: Time): number {
  return a.sec - b.sec || a.nsec - b.nsec;
}

function takeAttributes(to: Inode, from: Inode, ctime: Time): void {
  to.mode = from.mode;
  to.uid = from.uid;
  to.gid = from.gid;
  to.atime = from.atime;
  to.mtime = from.mtime;
  to.ctime = ctime;
  to.xattrs = from.xattrs;
  to.foreign = from.foreign;
}
