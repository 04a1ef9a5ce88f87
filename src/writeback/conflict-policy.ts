import { nameBytesMax, nameToBytes } from '../base/file-name.js';
import type { Dentry } from '../meta/dentry-table.js';
import type { Seen } from '../meta/discovery.js';
import { isDirectory, type Inode } from '../meta/inode.js';
import type { ObjectRow } from '../meta/object-table.js';
import type { Key, ObjectHead } from '../s3/object-store.js';
import { nameOf, parentOf, scratchPrefix } from './desired.js';
import type { Ledger } from './ledger.js';
import type { WritebackDeps } from './ports.js';
import { wantMarker } from './walks.js';

export type ConflictReason = 'changed-by-others' | 'metadata-changed-by-others' | 'deleted-by-others';

/**
 * What happens when S3 holds something else than this mount last saw (promise 2). Nothing of others is ever overwritten or
 * deleted; of ours, bytes are kept beside it under `NAME.conflict-HOST-TIME`, a mere change of metadata gives way, and both are recorded.
 *
 * All methods run in the caller's transaction and leave the key's journal row right.
 */
export class ConflictPolicy {
  constructor(
    private readonly deps: WritebackDeps,
    private readonly ledger: Ledger,
    /** The inode lost `key`; whoever waits for its upload must hear of it. */
    private readonly lost: (ino: number, reason: ConflictReason) => void,
  ) {}

  /** S3 holds an object under `key` that this mount neither made nor has seen. */
  learn(key: Key, head: ObjectHead): void {
    const { tree, discovery } = this.deps;
    const seen = seenOf(head);
    const found = tree.resolve(key);
    if (found === undefined) return this.newcomer(key, seen);
    const { inode, dentry } = found;
    if (isDirectory(inode)) {
      // A marker is a marker: whoever made it, the directory is there. Its attributes are theirs.
      inode.marker = true;
      inode.attrsComplete = false;
      tree.inodes.save(inode);
      discovery.recordObject(inode, seen);
      return this.ledger.touched(key);
    }
    const row = tree.objects.get(key);
    const holdsContent = row !== undefined && row.etag !== null && row.ino === inode.ino && row.gen === inode.gen && !inode.unsealed;
    if (!holdsContent) return this.keepBeside(key, inode, dentry!, seen);
    const reason = row.mgen === inode.mgen ? null : 'metadata-changed-by-others';
    if (reason !== null) this.record(key, null, reason);
    this.supersede(key, dentry!, seen, inode.linkId);
    this.losesName(inode);
    if (reason !== null) this.lost(inode.ino, reason);
  }

  private losesName(inode: Inode): void {
    inode.nlink--;
    inode.opens = this.deps.hooks.openCount?.(inode.ino) ?? 0;
    this.deps.tree.inodes.save(inode);
    if (inode.nlink === 0) this.deps.hooks.orphaned?.(inode.ino);
  }

  /** The object that was under `key` is gone, and not by us. */
  learnAbsent(key: Key): void {
    const { tree } = this.deps;
    const row = tree.objects.get(key);
    tree.objects.setAbsent(key);
    const found = tree.resolve(key);
    if (found === undefined || isDirectory(found.inode) || row === undefined || row.etag === null) return this.ledger.touched(key);
    const { inode, dentry } = found;
    this.record(key, null, 'deleted-by-others');
    if (this.contentIsLost(inode, row)) {
      // No byte was changed here and none is left: the deletion stands.
      tree.dentries.remove(dentry!);
      this.losesName(inode);
      this.lost(inode.ino, 'deleted-by-others');
      this.announce(dentry!.parent, dentry!.name);
    }
    this.ledger.touched(key);
  }

  private contentIsLost(inode: Inode, row: ObjectRow): boolean {
    if (row.ino !== inode.ino || row.gen !== inode.gen || inode.unsealed || inode.target !== null) return false;
    const file = inode.content === null ? undefined : this.deps.contents.find(inode.content);
    const isHere = file?.isComplete ?? inode.sizeBytes === 0;
    return !isHere && this.deps.tree.objects.holding(inode.ino, inode.gen).length === 0;
  }

  private newcomer(key: Key, seen: Seen): void {
    const { tree, discovery, clock } = this.deps;
    const parent = tree.resolve(parentOf(key))?.inode;
    const name = nameOf(key);
    const isFree = parent !== undefined && tree.dentries.get(parent.ino, name) === undefined && !key.startsWith(scratchPrefix);
    if (isFree && name !== '' && nameToBytes(name).length <= nameBytesMax) {
      if (key.endsWith('/')) discovery.addDirectory(parent.ino, name, seen, clock.now());
      else discovery.addObject(parent.ino, name, seen, clock.now());
      this.announce(parent.ino, name);
    } else {
      tree.objects.forget(key); // hidden, or not for us to show: as if never seen
    }
    this.ledger.touched(key);
  }

  private keepBeside(key: Key, inode: Inode, dentry: Dentry, seen: Seen): void {
    const { tree, journal, keys, clock } = this.deps;
    const name = this.freeName(dentry.parent, dentry.name);
    tree.dentries.insert(dentry.parent, name, inode.ino, clock.now());
    this.supersede(key, dentry, seen);
    const parentKey = parentOf(key);
    const keptAs = parentKey + name;
    if (keys.isDeep(parentKey)) {
      wantMarker(tree, tree.inodes.mustGet(dentry.parent));
      journal.mark(parentKey, 0);
    }
    this.record(key, keptAs, 'changed-by-others');
    journal.mark(keptAs, 0);
    this.deps.links.separate(inode);
    this.announce(dentry.parent, name);
    this.lost(inode.ino, 'changed-by-others');
  }

  /** The name means the remote version from now on; what is open goes on with the old inode. */
  private supersede(key: Key, dentry: Dentry, seen: Seen, linkId: string | null = null): void {
    this.deps.discovery.supersede(dentry, seen, this.deps.clock.now(), linkId);
    this.announce(dentry.parent, dentry.name);
    this.ledger.touched(key);
  }

  private freeName(parent: number, name: string): string {
    const suffix = `.conflict-${this.deps.hostname.replace(/[^A-Za-z0-9-]/g, '-').slice(0, 63)}-${stamp(this.deps.clock.now())}`;
    for (let n = 1; ; n++) {
      const end = n === 1 ? suffix : `${suffix}-${n}`;
      const candidate = cut(name, nameBytesMax - end.length) + end;
      if (this.deps.tree.dentries.get(parent, candidate) === undefined) return candidate;
    }
  }

  private announce(parent: number, name: string): void {
    this.deps.db.afterCommit(() => this.deps.hooks.nameChanged(parent, name));
  }

  private record(key: Key, keptAs: Key | null, reason: ConflictReason): void {
    this.deps.conflicts.add({ key, keptAs, reason, atMs: this.deps.clock.now() });
    this.deps.db.afterCommit(() => {
      this.deps.metrics.add('writeback.conflicts');
      this.deps.log.warn('conflict', { room: 'writeback', key, reason, keptAs });
    });
  }
}

function seenOf(head: ObjectHead): Seen {
  return {
    key: head.key, etag: head.etag, sizeBytes: head.sizeBytes, lastModifiedMs: head.lastModifiedMs, ...(head.versionId !== undefined && { versionId: head.versionId }),
  };
}

/** 20250131T235959, in UTC. */
function stamp(ms: number): string {
  return new Date(ms).toISOString().replace(/[-:]/g, '').slice(0, 15);
}

/** The start of `name`, at most `bytes` long, no character torn. */
function cut(name: string, bytes: number): string {
  let end = '';
  let used = 0;
  for (const char of name) {
    used += nameToBytes(char).length;
    if (used > bytes) break;
    end += char;
  }
  return end;
}
