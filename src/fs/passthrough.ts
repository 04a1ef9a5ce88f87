import { assert } from '../base/assert.js';
import { timeFromNs } from '../base/clock.js';
import { SystemError } from '../base/libc.js';
import type { ContentFile, ContentStat } from '../cache/content-file.js';
import { DbError } from '../db/db-error.js';
import { wasPowerCut } from '../db/previous-run.js';
import { isRegular, type Inode } from '../meta/inode.js';
import { opensForReading, opensForWriting } from '../fuse/ops.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import type { KernelInodes } from './kernel-inodes.js';
import { OnRecord } from './on-record.js';
import type { OpenFiles } from './open-files.js';

/** The device's backing-file calls; bound to it by the daemon once INIT took PASSTHROUGH. */
export interface BackingDevice {
  /**
   * @param path of a content file. @param fd a descriptor of it that `openFile` opened; stays the caller's.
   * @throws SystemError where the kernel refuses this file (K7).
   */
  open(path: string, fd?: number): number;
  /** Opens a content file as the kernel is to see it, ahead of its registration. */
  openFile?(path: string): Promise<number>;
  close(backingId: number): void;
}

/** A content file as it was when its inode was last known to be sealed: another ctime or size means it was written (S5). */
interface Seen { readonly ctimeNs: bigint; readonly size: bigint }

interface Backing {
  readonly id: number;
  readonly file: ContentFile;
  readonly release: (stat?: ContentStat) => void;
  /** The kernel may be writing: a handle or a mapping for writing was given out and no lease has been granted since (S2). */
  writers: boolean;
  seen: Seen | null;
  /** Times of the content file when it was last looked at; only a change of them is news. */
  mtimeNs: bigint;
  atimeNs: bigint;
  /** Opened for reading and writing at once: a mapping may write it, and of such writes the kernel's attribute cache learns nothing. */
  mappable: boolean;
  /** It changed, and no reply has said so yet. */
  untold: boolean;
  /** What the content file looked like right before it was registered. */
  readonly registeredAs: ContentStat | undefined;
}

interface BackingRow { ino: number; backing_id: number; ctime_ns: string | null; size: number | null }

const saveRow = 'INSERT OR REPLACE INTO backing (ino, backing_id, ctime_ns, size) VALUES (?, ?, ?, ?)';

const lingerMs = 1000;
/** In place of a backing id: the inode is open, but through us. */
const ordinaryId = 0;
/** Without multigrain timestamps (before Linux 6.13) two changes within a tick share their ctime (S3). */
const ctimeGrainMs = 20;

/**
 * Files the kernel reads and writes without us. A content file that is complete is registered at the inode's first open; every open of the inode is
 * then answered with that id, until the last RELEASE (K5, K6).
 *
 * Invariants: 1. an inode is open either in passthrough or through us, never both. 2. A backing id is on record before the OPEN that
 * carries it is answered (K12). 3. While `writers`, the inode is unsealed, or `seen` is on record: no WRITE will tell us, but another
 * ctime or size does, at the next look, at the latest after a crash (S5, K9). 4. While a backing lives its content file is held: not evicted, not replaced.
 */
export class Passthrough {
  private device: BackingDevice | undefined;
  private readonly backings = new Map<number, Backing>();
  private timer: NodeJS.Timeout | undefined;
  /** Inodes whose backing an earlier daemon registered: handles of its may be open until the kernel forgets them. */
  private readonly inherited = new Set<number>();
  /** Inodes on record as open through us: this daemon's, and those that handles of an earlier one may still hold open so. Not to be mixed with passthrough (K6). */
  private readonly ordinary = new Set<number>();
  private readonly inheritedOrdinary = new Set<number>();
  /** Sealed files that were opened for writing, whose mark is not durable yet. */
  private readonly marking: OnRecord;

  constructor(private readonly deps: FsDeps, private readonly contents: FileContents, private readonly files: OpenFiles, private readonly kernel: KernelInodes) {
    this.marking = new OnRecord(deps.db);
    deps.metrics.gauge('fuse.passthrough_files', () => this.backings.size);
  }

  get enabled(): boolean { return this.device !== undefined; }

  /**
   * What an earlier daemon left, before anything may be evicted or uploaded: files that were written after their inode was last known to be
   * sealed are dirty (K9). `inherit`: the connection is still the same, so the ids are good and handles may be open.
   */
  recover(inherit: boolean): void {
    const { db, tree } = this.deps;
    const rows = db.prepare<[], BackingRow>('SELECT * FROM backing').all();
    if (inherit) this.kernel.inherit(db.prepare<[], { ino: number }>('SELECT max(ino) AS ino FROM inode').get()!.ino);
    for (const row of rows) {
      if (row.backing_id === ordinaryId) {
        if (inherit) this.inheritedOrdinary.add(row.ino);
        continue;
      }
      const inode = tree.inodes.get(row.ino);
      const file = inode && this.contents.existingIfThere(inode);
      if (!inode || !file) {
        db.tx(() => this.removeRow(row.ino));
        continue;
      }
      const backing = this.add(row.ino, row.backing_id, file);
      backing.writers = backing.mappable = row.ctime_ns !== null || inode.unsealed;
      if (backing.writers && inherit) this.deps.contents.changes.kernelWrites(file.id, true);
      backing.seen = row.ctime_ns === null ? null : { ctimeNs: BigInt(row.ctime_ns), size: BigInt(row.size!) };
      this.refresh(inode);
      if (inherit) this.inherited.add(row.ino);
      else {
        this.backings.delete(row.ino);
        backing.release();
        if (backing.writers) this.deps.contents.wrote(file); // who knows what of it is on the disk
        // It looks unchanged, which proves nothing after a power cut (S6): bytes may be on the disk, and the ctime they came with not
        if (wasPowerCut(db.previous) && backing.writers) this.begin(inode, file);
      }
    }
    if (!inherit) db.tx(() => db.prepare('DELETE FROM backing').run());
    else if (this.backings.size > 0) this.lingerOn();
  }

  /** The connection can do it. */
  enable(device: BackingDevice): void {
    this.device = device;
    if (device.openFile) this.deps.contents.openForKernel(device.openFile);
  }

  isHeld(ino: number): boolean { return this.backings.has(ino); }

  /** The kernel itself may be writing the inode's content file. */
  hasWriters(ino: number): boolean { return this.backings.get(ino)?.writers ?? false; }

  /**
   * The backing id to answer an OPEN with, or undefined for an ordinary open. Called before the handle is counted. For a writer the dirty mark
   * is committed when this returns: there will be no WRITE request.
   */
  openFor(inode: Inode, flags: number): number | undefined {
    if (!this.device || !isRegular(inode)) return undefined;
    const writable = opensForWriting(flags);
    const isMappable = writable && opensForReading(flags);
    const known = this.backings.get(inode.ino);
    if (known && isMappable) known.mappable = true;
    if (known && (!writable || known.writers)) return known.id;
    if (this.ordinary.has(inode.ino)) return undefined;
    // One transaction for all of it, or part of the caller's that makes the file
    return this.deps.db.tx(() => {
      const backing = known ?? this.registerNew(inode, writable);
      if (!backing) this.recordOrdinary(inode.ino);
      else if (writable) this.mayBeWritten(inode, backing, known ? backing.file.stat() : backing.registeredAs);
      if (backing && isMappable) backing.mappable = true;
      return backing?.id;
    });
  }

  private registerNew(inode: Inode, writable: boolean): Backing | undefined {
    if (this.files.ownCount(inode.ino) > 0 || this.inheritedOrdinary.has(inode.ino)) return undefined;
    if (writable && this.deps.contents.isAboveHighWater) return undefined;
    const file = this.contents.file(inode);
    return file.isComplete ? this.register(inode, file) : undefined;
  }

  /** So that the next daemon knows which inodes must not go to passthrough: all others may, at once. */
  private recordOrdinary(ino: number): void {
    this.ordinary.add(ino);
    this.deps.db.onRollback(() => this.ordinary.delete(ino));
    this.deps.db.prepare(saveRow).late(ino, ino, ordinaryId, null, null);
  }

  private ordinaryClosed(ino: number): void {
    if (this.ordinary.has(ino)) this.notOrdinary(ino, this.ordinary);
  }

  /** The row goes with the last who needs it. If it stays, so does what is known here: `register` relies on that. */
  private notOrdinary(ino: number, inodes: Set<number>): void {
    const { db } = this.deps;
    db.tx(() => {
      inodes.delete(ino);
      db.onRollback(() => inodes.add(ino));
      if (!this.ordinary.has(ino) && !this.inheritedOrdinary.has(ino)) this.removeRow(ino);
    });
  }

  /** A handle of this daemon is closed. */
  closed(inode: Inode): void {
    const isLast = this.files.ownCount(inode.ino) === 0;
    if (isLast) this.ordinaryClosed(inode.ino);
    const backing = this.backings.get(inode.ino);
    if (!backing) return;
    const isOver = isLast && !this.inherited.has(inode.ino);
    if (isOver) {
      this.deps.db.tx(() => {
        const { isGone, stat } = this.lastLook(inode, backing);
        if (isGone) this.remove(inode.ino, backing, stat);
        else this.lingerOn();
      });
    } else this.refresh(inode);
    this.tell(inode.ino, backing);
    if (!isOver) return;
    if (this.backings.has(inode.ino)) this.deps.contents.recount(backing.file); // before the next file is opened, which may already have to be throttled (D5)
  }

  /**
   * The kernel forgot the inode: nothing of it is open or mapped, whoever opened it. Not so if this daemon has it open: the kernel reads us FORGETs
   * after later requests, so this one is of an inode it dropped before it looked the file up and opened it again.
   */
  forgotten(ino: number): void {
    if (this.files.ownCount(ino) > 0) return;
    const backing = this.backings.get(ino);
    this.inherited.delete(ino);
    this.ordinaryClosed(ino);
    if (this.inheritedOrdinary.has(ino)) this.notOrdinary(ino, this.inheritedOrdinary);
    if (!backing) return;
    const inode = this.deps.tree.inodes.get(ino);
    if (inode && !this.lastLook(inode, backing).isGone) return this.lingerOn();
    this.remove(ino, backing);
  }

  /**
   * K8: size and times of a file the kernel may be writing come from the content file; the time of the last read, also of one it only reads.
   * @returns what that looks like, if it had to be looked at.
   */
  refresh(inode: Inode): ContentStat | undefined {
    const backing = this.backings.get(inode.ino);
    const stat = backing?.file.stat();
    if (!backing || !stat) return undefined;
    if (backing.writers) this.take(inode, backing, stat);
    this.takeAccess(inode, backing, stat);
    return stat;
  }

  /** As `refresh` of an inode that was made and registered in the same stretch: the kernel was not told yet, and nobody else can have written. */
  refreshNew(inode: Inode): ContentStat | undefined {
    return this.backings.get(inode.ino)?.registeredAs ?? this.refresh(inode);
  }

  /** A reply with the inode's attributes is under way. */
  told(ino: number): void {
    const backing = this.backings.get(ino);
    if (backing) backing.untold = false;
  }

  /** What write(2) changes the kernel asks for again by itself, what a mapping changes it does not. */
  private tell(ino: number, backing: Backing): void {
    if (!backing.mappable || !backing.untold) return;
    backing.untold = false;
    this.deps.kernel.attributesChanged(ino);
  }

  /** The kernel keeps the content file's atime, as the mount is told to; by itself it is never uploaded (J11). */
  private takeAccess(inode: Inode, backing: Backing, stat: ContentStat): void {
    if (stat.atimeNs === backing.atimeNs) return;
    backing.atimeNs = stat.atimeNs;
    inode.atime = timeFromNs(stat.atimeNs);
    this.deps.tree.inodes.keepVolatile(inode);
  }

  private take(inode: Inode, backing: Backing, stat: ContentStat): void {
    if (!inode.unsealed) {
      if (backing.seen && stat.ctimeNs === backing.seen.ctimeNs && stat.size === backing.seen.size) return;
      this.contents.beginChange(inode, backing.file);
    }
    const size = Number(stat.size);
    if (size === inode.sizeBytes && stat.mtimeNs === backing.mtimeNs) return;
    inode.sizeBytes = size;
    if (stat.mtimeNs !== backing.mtimeNs) {
      inode.mtime = timeFromNs(stat.mtimeNs);
      backing.mtimeNs = stat.mtimeNs;
    }
    backing.untold = true;
    const changed = timeFromNs(stat.ctimeNs);
    if (changed.sec > inode.ctime.sec || (changed.sec === inode.ctime.sec && changed.nsec > inode.ctime.nsec)) inode.ctime = changed;
    this.deps.tree.inodes.keepVolatile(inode);
  }

  /**
   * An unsealed inode has the times of its content file after a crash (`recoverLocal`): the file gets those that were set. A sealed one has not, and
   * its file is left alone: another ctime would say it was written.
   */
  keepTimes(inode: Inode): void {
    const backing = this.backings.get(inode.ino);
    const file = backing?.file ?? this.contents.existing(inode);
    if (!file) return;
    file.setTimes(inode.atime, inode.mtime);
    if (backing) ({ mtimeNs: backing.mtimeNs, atimeNs: backing.atimeNs } = timesOf(file.stat()));
  }

  /**
   * Before we change the content ourselves: as `FileContents.beginChange`, with the inode's times in the content file. A change that
   * then fails, or never comes because of a crash, leaves them as they were.
   * @returns what to wait for before the first byte is changed; undefined: nothing.
   */
  beginChange(inode: Inode, file: ContentFile): Promise<void> | undefined {
    this.begin(inode, file);
    return this.contents.begun(inode);
  }

  private begin(inode: Inode, file: ContentFile): void {
    if (inode.unsealed) return;
    this.keepTimes(inode);
    this.contents.beginChange(inode, file);
  }

  /** Before the kernel is told that it may write: its mark is on record, durably, as for our own writes. undefined: nothing to wait for. */
  marked(ino: number): Promise<void> | undefined {
    return this.marking.durable(ino);
  }

  /** For the journal interval: brings the inodes the kernel may be writing up to date; answers their content files. */
  refreshAll(): number[] {
    const ids: number[] = [];
    for (const [ino, backing] of this.backings) {
      if (!backing.writers) continue;
      const inode = this.deps.tree.inodes.get(ino);
      if (!inode) continue;
      this.refresh(inode);
      this.tell(ino, backing);
      ids.push(backing.file.id);
    }
    return ids;
  }

  /** In the transaction of a seal: what the content file looks like now is sealed. */
  sealed(ino: number, seen: Seen): void {
    const backing = this.backings.get(ino);
    if (backing?.writers) this.record(ino, backing, { ctimeNs: seen.ctimeNs, size: seen.size });
  }

  close(): void {
    clearInterval(this.timer);
  }

  private register(inode: Inode, file: ContentFile): Backing | undefined {
    let id: number;
    try {
      id = this.device!.open(file.path, this.deps.contents.fds.forKernel(file));
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.deps.metrics.add('fuse.passthrough_refused'); // K7: an ordinary open
      return undefined;
    }
    const backing = this.add(inode.ino, id, file);
    this.deps.db.onRollback(() => this.discard(inode.ino, backing));
    // Every inode with a row is known here, and these are not
    this.deps.db.prepare(saveRow).lateNew(inode.ino, inode.ino, id, null, null);
    return backing;
  }

  private add(ino: number, id: number, file: ContentFile): Backing {
    const stat = file.stat();
    const backing: Backing = {
      id, file, release: this.deps.contents.acquire(file), writers: false, seen: null, mappable: false, untold: false,
      ...timesOf(stat), registeredAs: stat,
    };
    this.backings.set(ino, backing);
    return backing;
  }

  private mayBeWritten(inode: Inode, backing: Backing, stat: ContentStat | undefined): void {
    if (backing.writers) return;
    backing.writers = true;
    backing.file.storePresenceNow();
    backing.file.kernelMayWrite();
    this.deps.contents.changes.kernelWrites(backing.file.id, true);
    this.deps.db.onRollback(() => {
      backing.writers = false;
      this.deps.contents.changes.kernelWrites(backing.file.id, false);
    });
    assert(stat, `content file ${backing.file.id} is registered, but gone`);
    const { ctimeNs, size } = stat;
    backing.mtimeNs = stat.mtimeNs;
    const ageMs = this.deps.clock.now() - Number(ctimeNs / 1_000_000n);
    // Too fresh a ctime cannot tell a write that follows: then the file counts as written
    if (!inode.unsealed) {
      this.marking.note(inode.ino);
      if (ageMs < ctimeGrainMs) this.begin(inode, backing.file);
    }
    this.record(inode.ino, backing, { ctimeNs, size });
  }

  private record(ino: number, backing: Backing, seen: Seen | null): void {
    backing.seen = seen;
    this.deps.db.prepare(saveRow).late(ino, ino, backing.id, seen && seen.ctimeNs.toString(), seen && Number(seen.size));
  }

  /** `isGone`: false while something may still write, then its backing stays registered; `stat` is what the file looked like after that was known. */
  private lastLook(inode: Inode, backing: Backing): { readonly isGone: boolean; readonly stat: ContentStat | undefined } {
    const isGone = !backing.writers || backing.file.isQuiescent();
    const stat = this.refresh(inode);
    if (isGone && backing.writers) this.writersGone(inode, backing);
    return { isGone, stat };
  }

  private writersGone(inode: Inode, backing: Backing): void {
    this.deps.contents.wrote(backing.file); // since the last sync that covered it, for all we know
    this.deps.db.tx(() => {
      this.deps.db.onRollback(() => {
        backing.writers = true;
        this.deps.contents.changes.kernelWrites(backing.file.id, true);
      });
      backing.writers = false;
      this.deps.contents.changes.kernelWrites(backing.file.id, false);
      this.record(inode.ino, backing, null);
      if (!inode.unsealed) return;
      this.deps.tree.inodes.settle(inode);
      if (inode.nlink > 0) this.contents.markKeys(inode, this.deps.config.uploadDelayMs);
    });
  }

  private remove(ino: number, backing: Backing, stat?: ContentStat): void {
    this.removeRow(ino);
    this.deps.db.afterCommit(() => this.discard(ino, backing, stat));
  }

  private removeRow(ino: number): void {
    this.deps.db.prepare('DELETE FROM backing WHERE ino = ?').late(ino, ino);
  }

  private discard(ino: number, backing: Backing, stat?: ContentStat): void {
    if (this.backings.get(ino) === backing) this.backings.delete(ino);
    backing.release(stat);
    try {
      this.device?.close(backing.id);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error; // the connection is gone, and its ids with it
    }
  }

  /** A mapping outlives its descriptor, and handles of an earlier daemon are unknown: look again until a lease is granted. */
  private lingerOn(): void {
    this.timer ??= setInterval(() => this.linger(), lingerMs).unref();
  }

  private linger(): void {
    let waiting = false;
    for (const [ino, backing] of this.backings) {
      if (this.files.ownCount(ino) > 0) continue;
      try {
        if (!this.isOver(ino, backing)) waiting = true;
      } catch (error) {
        if (!(error instanceof DbError) || error.kind !== 'full') throw error;
        waiting = true; // D5: until there is room to note it
      }
    }
    if (waiting) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** @returns false while something may still write. */
  private isOver(ino: number, backing: Backing): boolean {
    const inode = this.deps.tree.inodes.get(ino);
    const isWaiting = inode !== undefined && !this.lastLook(inode, backing).isGone;
    this.tell(ino, backing);
    if (!isWaiting && !this.inherited.has(ino)) this.remove(ino, backing);
    return !isWaiting;
  }
}

function timesOf(stat: ContentStat | undefined): { mtimeNs: bigint; atimeNs: bigint } {
  return { mtimeNs: stat?.mtimeNs ?? 0n, atimeNs: stat?.atimeNs ?? 0n };
}
