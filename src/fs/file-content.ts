import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { ContentLostError } from '../cache/cache-error.js';
import type { ContentFile } from '../cache/content-file.js';
import { isRegular, type Inode } from '../meta/inode.js';
import type { ReadSource } from '../prefetch/object-reader.js';
import type { FsDeps } from './deps.js';
import { OnRecord } from './on-record.js';

/** The mtime and ctime rule of a change to content. */
const metadataDelayMs = 1000;
/** Changing only the metadata of a big object costs a copy of it: wait longer for more changes (J11). */
const bigMetadataDelayMs = 60_000;
const bigObjectBytes = 100 * 2 ** 20;
/** From here on it is noted where a file is changed: S3 copies no part smaller than this. */
const loggedBytesMin = 5 * 2 ** 20;

/**
 * Content files of inodes: where they come from, where their missing bytes are, and the step from clean to dirty.
 *
 * Invariants: 1. `beginChange` has committed before the first byte of a new generation is written by the kernel, and is durable before we write it: the
 * disk may get bytes before the log, and after a power cut they would be in a file that counts as unchanged. 2. The content file is as long as the
 * inode. 3. While bytes are missing, exactly one generation holds them: `baseGen ?? gen`.
 */
export class FileContents {
  /** gen an inode had at its last open: equal means the kernel's pages are still right (K10). Bounded. */
  private readonly openedGen = new Map<number, number>();

  private readonly holds = new Map<number, Promise<void>>();
  private readonly beginning: OnRecord;

  constructor(private readonly deps: FsDeps) {
    this.beginning = new OnRecord(deps.db);
  }

  /** The inode's content file if anything is local. */
  existing(inode: Inode): ContentFile | undefined {
    if (inode.content === null) return undefined;
    return this.deps.contents.find(inode.content);
  }

  /** For who needs no bytes: a lost file still has a name and attributes, and can be removed. */
  existingIfThere(inode: Inode): ContentFile | undefined {
    try {
      return this.existing(inode);
    } catch (error) {
      if (error instanceof ContentLostError) return undefined;
      throw error;
    }
  }

  /** The inode's content file, made (sparse, everything missing) if there is none. In a transaction of its own or the caller's. */
  file(inode: Inode): ContentFile {
    const existing = this.existing(inode);
    if (existing) return existing;
    if (!isRegular(inode)) throw new FsError(Errno.EINVAL, `inode ${inode.ino} is no regular file`);
    const { db, contents, tree } = this.deps;
    return db.tx(() => {
      const file = contents.create(inode.sizeBytes, inode.sizeBytes > 0 ? 'all' : 'none');
      inode.content = file.id;
      tree.inodes.save(inode);
      return file;
    });
  }

  source(inode: Inode, file: ContentFile): ReadSource {
    const { tree } = this.deps;
    return {
      file,
      locate: (gone) => {
        const now = tree.inodes.get(inode.ino);
        if (!now || now.content !== file.id) return null;
        const row = tree.objects.holding(now.ino, now.baseGen ?? now.gen).find(({ key }) => !(gone?.has(key) ?? false));
        if (!row || row.etag === null) return null;
        return { key: row.key, etag: row.etag, ...(row.versionId !== null && { versionId: row.versionId }) };
      },
      settled: (key) => this.deps.uploads.sending(key),
    };
  }

  /**
   * Acts on the inode's content file once nothing is being fetched into it, bytes that land after a truncation would make the file
   * longer again, and `begin` has nothing to wait for. `act` runs in the same stretch as the last look.
   */
  async atRest<T>(inode: () => Inode, begin: (inode: Inode, file: ContentFile) => Promise<void> | undefined, act: (inode: Inode, file: ContentFile) => T): Promise<T> {
    for (;;) {
      const now = inode();
      const held = this.held(now.ino);
      if (held) {
        await held;
        continue;
      }
      const file = this.file(now);
      if (this.deps.reader.inFlight(file.id, 0, Number.MAX_SAFE_INTEGER)) {
        await this.deps.reader.cancel(file.id);
        continue;
      }
      const begun = begin(now, file);
      if (!begun) return act(now, file);
      await begun;
    }
  }

  /** Who changes the inode's bytes from now on waits until the answer is called: they are being copied. */
  holdWrites(ino: number): () => void {
    let release!: () => void;
    const before = this.holds.get(ino);
    const hold = Promise.all([before, new Promise<void>((resolve) => (release = resolve))]).then(() => undefined);
    this.holds.set(ino, hold);
    return () => {
      if (this.holds.get(ino) === hold) this.holds.delete(ino);
      release();
    };
  }

  /** Resolves when the copy is made; undefined if there is none under way. */
  held(ino: number): Promise<void> | undefined { return this.holds.get(ino); }

  /**
   * The content is about to change. If S3 holds, or may be receiving, the present generation, a new one begins: the inode is
   * unsealed, its content dirty and its keys in the journal, committed before this returns (accepted). Otherwise nothing to do.
   */
  beginChange(inode: Inode, file: ContentFile): void {
    if (inode.unsealed) return;
    const { db, tree, contents } = this.deps;
    db.tx(() => {
      const knownPages = this.openedGen.get(inode.ino) === inode.gen;
      // Presence in memory only is not there after a crash: then the bytes come from S3 once more
      if (!file.isKept) inode.baseGen ??= inode.gen;
      else inode.baseGen = null;
      inode.gen++;
      inode.mgen++;
      inode.unsealed = true;
      if (inode.xattrs && 'security.capability' in inode.xattrs) {
        const { 'security.capability': _gone, ...rest } = inode.xattrs;
        inode.xattrs = rest;
      }
      contents.setDirty(file.id, true);
      if (inode.sizeBytes >= loggedBytesMin) contents.changes.begin(file.id, inode.gen);
      else contents.changes.end(file.id);
      tree.inodes.save(inode);
      this.markKeys(inode, this.deps.config.uploadDelayMs);
      if (knownPages) this.openedGen.set(inode.ino, inode.gen);
      this.beginning.note(inode.ino);
    });
  }

  /** What to wait for before a byte of the inode is changed: that the change that began is on record, durably. undefined: nothing. */
  begun(inode: Inode): Promise<void> | undefined {
    return this.beginning.durable(inode.ino);
  }

  /** Content changed: size as given, mtime and ctime now. Only memory knows until the inode is settled; a crash reads the content file instead. */
  contentChanged(inode: Inode, sizeBytes: number): void {
    inode.sizeBytes = sizeBytes;
    inode.mtime = inode.ctime = this.deps.clock.time();
    this.deps.tree.inodes.keepVolatile(inode);
  }

  /** Metadata that S3 stores changed: in the caller's transaction. */
  metadataChanged(inode: Inode): void {
    inode.mgen++;
    this.deps.tree.inodes.save(inode);
    const big = inode.sizeBytes > bigObjectBytes && !inode.unsealed;
    this.markKeys(inode, big ? bigMetadataDelayMs : metadataDelayMs);
  }

  /** In a transaction: every key of the inode is to be looked at. */
  markKeys(inode: Inode, delayMs: number): void {
    for (const key of this.deps.tree.keysOf(inode)) if (key !== '') this.deps.journal.mark(key, delayMs);
  }

  /** @returns whether the kernel may keep its pages from the previous open of this inode (K10). */
  noteOpen(inode: Inode): boolean {
    const keep = this.openedGen.get(inode.ino) === inode.gen;
    this.openedGen.delete(inode.ino);
    this.openedGen.set(inode.ino, inode.gen);
    if (this.openedGen.size > 100_000) this.openedGen.delete(this.openedGen.keys().next().value!);
    return keep;
  }

  /** In a transaction: the inode is gone for good, or its content is replaced. */
  drop(inode: Inode): void {
    if (inode.content === null) return;
    const { contents } = this.deps;
    if (contents.isDirty(inode.content) || this.existing(inode)) contents.remove(inode.content); // a dirty one also if it is lost
    inode.content = null;
  }

  /** After a power cut, before anything is looked at: what was being written may not have reached the disk at all, not even its name. */
  restoreUnsynced(): void {
    const { contents, tree } = this.deps;
    contents.restore([...tree.inodes.unsealed(), ...tree.inodes.sealedUnsynced()].flatMap(({ content }) => content ?? []));
  }
}
