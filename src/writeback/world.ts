import { isRegular, type Inode } from '../meta/inode.js';
import type { ObjectRow } from '../meta/object-table.js';
import type { Key } from '../s3/object-store.js';
import { scratchPrefix, type Limits, type World } from './desired.js';
import type { LocalFile, WritebackDeps } from './ports.js';

const wholesMax = 10_000;

/** The tables as `desired` sees them. */
export class TreeWorld implements World {
  readonly limits: Limits;
  /** ino -> generation whose bytes were synced for the sake of an overwrite. In memory: after a crash it is simply done again. */
  private readonly held = new Map<number, number>();
  /** ino -> generation that is sent whole. In memory: after a crash it is tried once more. */
  private readonly wholes = new Map<number, number>();
  /** key -> etag of an object the server would not copy aside. */
  private readonly unstashable = new Map<Key, string>();
  private canNotCompose = false;

  constructor(private readonly deps: Pick<WritebackDeps, 'tree' | 'journal' | 'attempts' | 'contents' | 'digests' | 'keys' | 'config'>) {
    this.limits = deps.config;
  }

  wants(key: Key): Inode | undefined {
    return key.startsWith(scratchPrefix) ? undefined : this.deps.tree.resolve(key)?.inode;
  }

  object(key: Key): ObjectRow | undefined { return this.deps.tree.objects.get(key); }
  holding(ino: number, gen: number): ObjectRow[] { return this.deps.tree.objects.holding(ino, gen); }
  inode(ino: number): Inode | undefined { return this.deps.tree.inodes.get(ino); }
  keysOf(inode: Inode): Key[] { return this.deps.tree.keysOf(inode); }
  ownerOf(key: Key): Key | undefined { return this.deps.keys.owner(key); }
  isParked(key: Key): boolean { return (this.deps.journal.get(key)?.parked ?? null) !== null; }

  base(key: Key, inode: Inode): ObjectRow | undefined {
    const { tree, contents, digests, config } = this.deps;
    const file = this.file(inode);
    if (file === undefined || this.canNotCompose || this.wholes.get(inode.ino) === inode.gen) return undefined;
    const isUsable = (row: ObjectRow): boolean => {
      if (row.gen === null || row.gen >= inode.gen || (row.sizeBytes ?? 0) < 2 * config.reusePartBytesMin) return false;
      if (row.key !== key && this.sending(row.key)) return false;
      if (!file.isComplete) return row.gen === inode.baseGen; // what is missing is unchanged
      return contents.changesSince(file.id, row.gen) !== undefined || digests.has(inode.ino, row.gen);
    };
    if (file.isComplete && inode.sizeBytes < config.reuseAboveBytes) return undefined;
    const own = this.object(key);
    if (own?.ino === inode.ino && own.etag !== null && isUsable(own)) return own;
    return tree.objects.madeFrom(inode.ino).find(isUsable);
  }

  /** Nothing of this generation can be copied, or too little: it is sent whole. */
  sendWhole(ino: number, gen: number): void {
    if (this.wholes.size > wholesMax) this.wholes.clear(); // only spares a try
    this.wholes.set(ino, gen);
  }

  /** The server does not make objects from parts of others. */
  neverCompose(): void { this.canNotCompose = true; }

  isComplete(inode: Inode): boolean {
    if (!isRegular(inode)) return true;
    return this.file(inode)?.isComplete ?? inode.sizeBytes === 0;
  }

  isKept(inode: Inode): boolean {
    if (!isRegular(inode)) return true;
    return this.file(inode)?.isKept ?? inode.sizeBytes === 0;
  }

  isPermanent(inode: Inode): boolean {
    const file = this.file(inode);
    return file ? this.deps.contents.isDirty(file.id) : inode.sizeBytes === 0;
  }

  /** What is here of the inode; undefined: nothing, or it was evicted. An empty file needs nothing. */
  private file(inode: Inode): LocalFile | undefined {
    return inode.content === null ? undefined : this.deps.contents.find(inode.content);
  }

  canStash(row: ObjectRow): boolean { return this.unstashable.get(row.key) !== row.etag; }

  /** The server refused to copy the object aside. */
  cannotStash(row: ObjectRow): void {
    if (this.unstashable.size > wholesMax) this.unstashable.clear(); // only spares a try
    this.unstashable.set(row.key, row.etag!);
  }

  isHeld(ino: number): boolean {
    const gen = this.held.get(ino);
    if (gen === undefined) return false;
    const inode = this.inode(ino);
    return inode !== undefined && inode.gen >= gen && this.isComplete(inode);
  }

  hold(inode: Inode): void { this.held.set(inode.ino, inode.gen); }
  letGo(ino: number): void { this.held.delete(ino); }

  sending(key: Key): boolean {
    const attempt = this.deps.attempts.get(key);
    if (attempt === undefined) return false;
    if (attempt.outcome !== 'tombstone') return true;
    // A delete whose answer was lost may still take this very version away (J6).
    return attempt.op === 'delete' && attempt.expected !== null && attempt.expected === this.object(key)?.etag;
  }

  deleteBelow(prefix: Key): Key | undefined {
    const { journal } = this.deps;
    for (const walk of journal.walks()) if (prefix.startsWith(walk.oldPrefix) || walk.oldPrefix.startsWith(prefix)) return walk.oldPrefix;
    let after: Key | undefined;
    for (;;) {
      const keys: Key[] = journal.under(prefix, 200, after);
      for (const key of keys) {
        const row = this.object(key);
        if (row !== undefined && row.etag !== null && row.ino !== null && this.wants(key) === undefined) return key;
      }
      after = keys.at(-1);
      if (keys.length < 200) return undefined;
    }
  }

  /** S3 holds exactly this content under every name, so nothing here is needed for S3's sake. */
  isUploaded(inode: Inode): boolean {
    if (inode.unsealed) return false;
    const names = this.keysOf(inode);
    return names.length > 0 && names.every((key) => {
      const row = this.object(key);
      return row !== undefined && row.etag !== null && row.ino === inode.ino && row.gen === inode.gen;
    });
  }
}
