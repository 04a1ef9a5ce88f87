import { LRUCache } from 'lru-cache';
import type { RequestContext } from '../fuse/ops.js';
import type { Dentry } from '../meta/dentry-table.js';
import { isDirectory, isRegular, type Inode } from '../meta/inode.js';
import type { ComingHead } from '../prefetch/object-reader.js';
import { OrderRun, type Ahead, type Want } from '../prefetch/order-run.js';
import type { FsDeps } from './deps.js';
import type { FileContents } from './file-content.js';
import { ListAhead } from './list-ahead.js';
import { OpenHabits } from './open-habits.js';
import type { RemoteAttributes } from './remote-attributes.js';
import type { RemoteNames } from './remote-names.js';

const MiB = 2 ** 20;
const fileRun = { windowMin: 4, windowMax: 64, bytesMax: 64 * MiB, visitsMin: 2, gapMax: 32 };
const attributeRun = { windowMin: 16, windowMax: 512, bytesMax: Infinity, visitsMin: 2, gapMax: 1024 };
const directoryRun = { windowMin: 4, windowMax: 64, bytesMax: Infinity, visitsMin: 2, gapMax: 64 };
/** Files begun in a directory whose siblings were read, before its first file is opened. */
const firstFiles = 16;
/** Attributes begun in a directory listed ahead: about what the kernel's first READDIRPLUS asks for. */
const firstAttributes = 170;
const namesPerLook = 256;
/** Attributes of larger files are asked for by a HEAD: whoever wants only them should not wait for so many bytes. */
const withBytesMax = 256 << 10;
/** Bytes of larger files are not asked for before they are opened: a wrong guess costs as much. */
const besideLookupMax = MiB;

/** What goes on in one directory. */
interface Activity {
  files?: OrderRun;
  attributes?: OrderRun;
  directories?: OrderRun;
  /** The files of a directory in it were read one after the other. */
  readsFiles: boolean;
  /** Whoever came last into a directory in it looks at the attributes of files. */
  usesAttributes: boolean;
}

/**
 * Sees programs walk through directories (`tar`, `grep -r`, `find`, `ls -lR`, `rsync`) and asks S3 for what they will want
 * next: the bytes of small files, attributes, the names in sub-directories (DESIGN 7).
 *
 * Invariants: 1. it only starts what somebody would start anyway, through the same single flights, so a late guess is joined and a wrong one costs requests, never
 * correctness. 2. Everything ahead is bounded: per walker by its window, over all by the queues of reader, attributes and listings, which serve
 * whoever waits first. 3. Nothing is guessed while S3 is offline or slow, or the cache is nearly full. 4. A directory looked at once (`ls`) starts nothing in others.
 */
export class WalkAhead {
  /** By directory; what falls out has to show its pattern again. */
  private readonly activities = new LRUCache<number, Activity>({ max: 4096 });
  /** `pid:ino` of directories opened: who opens a directory and then one in it is walking. */
  private readonly opened = new LRUCache<string, true>({ max: 4096 });
  /** Processes that looked up files, and not only directories, in a directory they had opened. */
  private readonly lookers = new LRUCache<number, true>({ max: 1024 });
  private readonly habits = new OpenHabits();
  private readonly listAhead: ListAhead;

  constructor(private readonly deps: FsDeps, private readonly contents: FileContents, private readonly attributes: RemoteAttributes, remote: RemoteNames) {
    this.listAhead = new ListAhead(deps, remote, (ino) => this.listed(ino));
  }

  /** A file was opened for reading. */
  fileOpened({ pid }: Pick<RequestContext, 'pid'>, inode: Inode): void {
    if (!isRegular(inode)) return;
    this.habits.opened(pid, inode.ino);
    const dentry = this.deps.tree.dentries.ofInode(inode.ino)[0];
    if (!dentry) return;
    const activity = this.activity(dentry.parent);
    activity.files ??= this.run('files', fileRun);
    const want = activity.files.visit(dentry.id);
    if (!want) return;
    this.filesAhead(dentry.parent, activity.files, want);
    const above = this.deps.tree.dentries.ofInode(dentry.parent)[0];
    if (above) this.activity(above.parent).readsFiles = true;
  }

  /** A name was looked up. Costs nothing but a look into a map where nobody walks. @param missed its attributes have to be asked for. */
  looked(ctx: Pick<RequestContext, 'pid'>, parent: number, dentry: Dentry, missed: boolean): void {
    if (!missed && this.activities.get(parent)?.attributes === undefined) return;
    const inode = this.deps.tree.inodes.mustGet(dentry.ino);
    const isFile = !isDirectory(inode);
    if (isFile && missed && this.habits.lookedUp(ctx.pid, inode.ino)) this.withBytes(ctx.pid, inode);
    if (isFile && missed && this.opened.has(`${ctx.pid}:${parent}`)) this.lookers.set(ctx.pid, true);
    const activity = this.activity(parent);
    if (activity.files?.isActive) return; // what is fetched comes with its attributes
    activity.attributes ??= this.run('attributes', attributeRun);
    const want = activity.attributes.visit(dentry.id);
    if (want) this.attributesAhead(parent, activity.attributes, want, isFile);
    else if (!missed && !activity.attributes.isActive && activity.attributes.window > 0) delete activity.attributes; // at the end of it
  }

  /** READDIRPLUS delivered names up to `lastId`. The kernel goes on asking for attributes only if they are used. @param isFirst its first batch: no sign yet. */
  namesRead(directory: number, lastId: number, isFirst: boolean): void {
    if (isFirst || this.deps.config.attributes !== 'full') return;
    const activity = this.activity(directory);
    activity.attributes ??= this.run('attributes', attributeRun);
    const want = activity.attributes.visit(lastId, true);
    if (want) this.attributesAhead(directory, activity.attributes, want, true);
  }

  /**
   * Whether the reader of this directory will look at the attributes of its files, and not open them anyway. @param isFirst it has read no names yet: later
   * the kernel asks for attributes only if some were looked at.
   */
  usesAttributes({ pid }: Pick<RequestContext, 'pid'>, directory: Inode, isFirst: boolean): boolean {
    if (this.activities.get(directory.ino)?.files?.isActive) return false;
    if (!isFirst) return true;
    if (!this.lookers.has(pid)) return false;
    const dentry = this.deps.tree.dentries.ofInode(directory.ino)[0];
    return !dentry || this.activities.get(dentry.parent)?.readsFiles !== true;
  }

  /** A directory was opened. */
  directoryOpened(ctx: Pick<RequestContext, 'pid'>, directory: Inode): void {
    this.opened.set(`${ctx.pid}:${directory.ino}`, true);
    this.listAhead.used(directory.ino);
    const dentry = this.deps.tree.dentries.ofInode(directory.ino)[0];
    if (!dentry) return;
    const activity = this.activity(dentry.parent);
    activity.directories ??= this.run('directories', directoryRun);
    activity.usesAttributes = this.lookers.has(ctx.pid) && !activity.readsFiles;
    const run = activity.directories;
    const want = run.visit(dentry.id, this.opened.has(`${ctx.pid}:${dentry.parent}`));
    if (want) this.directoriesAhead(dentry.parent, run, want);
    if (activity.readsFiles && directory.complete) this.expectFiles(directory.ino);
    for (const next of run.ahead.slice(0, 8)) this.listed(next.ref);
  }

  // ---- private

  private activity(ino: number): Activity {
    let activity = this.activities.get(ino);
    if (!activity) this.activities.set(ino, (activity = { readsFiles: false, usesAttributes: false }));
    return activity;
  }

  private run(what: string, options: typeof fileRun): OrderRun {
    return new OrderRun(options, (used, wasted) => {
      this.deps.metrics.add(`prefetch.${what}_used`, used);
      this.deps.metrics.add(`prefetch.${what}_wasted`, wasted);
    });
  }

  /** S3 answers, and promptly. */
  private get isAllowed(): boolean {
    const { health } = this.deps;
    return !health.isOffline && (health.status === undefined || health.status.state === 'ok');
  }

  private filesAhead(directory: number, run: OrderRun, want: Want): void {
    if (!this.isAllowed || this.deps.contents.isAboveHighWater) return;
    const { tree, config } = this.deps;
    const names = tree.dentries.list(directory, want.after, namesPerLook);
    const things: Ahead[] = [];
    const inodes: Inode[] = [];
    let lookedTo = want.after;
    let bytes = 0;
    for (const { id, ino } of names) {
      if (things.length >= want.count) break;
      const inode = tree.inodes.mustGet(ino);
      const isWanted = isRegular(inode) && !inode.unsealed && inode.sizeBytes > 0 && inode.sizeBytes <= config.smallFileBytes && !this.contents.existingIfThere(inode)?.isComplete;
      if (isWanted) {
        if (bytes + inode.sizeBytes > want.bytes) break;
        bytes += inode.sizeBytes;
        things.push({ id, bytes: inode.sizeBytes, ref: ino });
        inodes.push(inode);
      }
      lookedTo = id;
    }
    run.began(things, lookedTo, names.length < namesPerLook && lookedTo === (names.at(-1)?.id ?? lookedTo));
    this.deps.metrics.add('prefetch.files_begun', things.length);
    const later = inodes.filter((inode) => !this.mayComeWithBytes(inode));
    this.fetch(inodes.filter((inode) => !later.includes(inode)));
    for (const inode of later) void this.attributes.completeAhead(inode).then(() => this.fetchKnown(inode.ino));
  }

  private fetchKnown(ino: number): void {
    const inode = this.deps.tree.inodes.get(ino);
    if (inode && !this.attributes.needed(inode)) this.fetch([inode]);
  }

  /** Somebody waits for its attributes, and will want its bytes next. */
  private withBytes(thread: number, inode: Inode): void {
    if (inode.unsealed || inode.sizeBytes > besideLookupMax || this.attributes.isAsked(inode) || !this.isAllowed || this.deps.contents.isAboveHighWater) return;
    this.deps.metrics.add('prefetch.files_with_lookup');
    for (const { answer } of this.fetch([inode], inode.sizeBytes > withBytesMax)) {
      void answer.then((head) => { if (!head) this.habits.forget(thread); }); // refused (archived objects, keys), or tagged
    }
  }

  /** Its attributes are known, or its GET may tell them. */
  private mayComeWithBytes(inode: Inode): boolean {
    return !this.attributes.needed(inode) || (inode.sizeBytes > 0 && inode.sizeBytes <= withBytesMax && !this.attributes.isAsked(inode));
  }

  /** Of files whose attributes are not known the GET says them, too: half the requests. @param isBesideHead a HEAD for them leaves at the same time: one round trip. @returns what is to tell attributes. */
  private fetch(inodes: readonly Inode[], isBesideHead = false): ComingHead[] {
    const { tree, db, reader, metrics, log } = this.deps;
    const coming: ComingHead[] = [];
    try {
      const wanted = inodes.map(({ ino }) => tree.inodes.get(ino))
        .filter((inode) => inode !== undefined && isRegular(inode) && inode.nlink > 0 && (isBesideHead || this.mayComeWithBytes(inode)));
      if (wanted.length === 0) return coming;
      const files = db.tx(() => wanted.map((inode) => ({ inode: inode!, file: this.contents.file(inode!) })));
      for (const { inode, file } of files) {
        if (file.isComplete) continue;
        const source = this.contents.source(inode, file);
        if (this.attributes.needed(inode) && !isBesideHead) {
          const answer = reader.prefetchWithHead(source);
          this.attributes.expect(inode, answer);
          coming.push(answer);
        } else {
          reader.prefetch(source, 0, inode.sizeBytes);
        }
      }
    } catch (error) { // no room for it, or its row: the open will say
      metrics.add('prefetch.failures');
      log.debug('cannot prefetch files', { room: 'fs', error });
    }
    return coming;
  }

  /** @param ofFiles or only of directories. */
  private attributesAhead(directory: number, run: OrderRun, want: Want, ofFiles: boolean): void {
    if (!this.isAllowed) return;
    const { tree } = this.deps;
    const names = tree.dentries.list(directory, want.after, Math.max(1, Math.min(want.count, 512)));
    const begun = new Set(this.attributes.prefetch(names.map(({ ino }) => tree.inodes.mustGet(ino)).filter((inode) => ofFiles || isDirectory(inode))).map(({ ino }) => ino));
    run.began(names.filter(({ ino }) => begun.has(ino)).map(({ id, ino }) => ({ id, bytes: 0, ref: ino })), names.at(-1)?.id ?? want.after, names.length === 0);
  }

  private directoriesAhead(directory: number, run: OrderRun, want: Want): void {
    if (!this.isAllowed) return;
    const { tree } = this.deps;
    const names = tree.dentries.list(directory, want.after, namesPerLook);
    const things: Ahead[] = [];
    let lookedTo = want.after;
    for (const { id, ino } of names) {
      if (things.length >= want.count) break;
      lookedTo = id;
      if (!isDirectory(tree.inodes.mustGet(ino))) continue;
      if (!this.listAhead.add(ino, run.window >= directoryRun.windowMin * 4)) break; // full
      things.push({ id, bytes: 0, ref: ino });
    }
    run.began(things, lookedTo, names.length < namesPerLook && lookedTo === (names.at(-1)?.id ?? lookedTo));
  }

  /** A directory ahead of a walker is known: now what is in it. Called again when the walker comes nearer: what there was no room for then is begun now. */
  private listed(ino: number): void {
    const { tree } = this.deps;
    if (!tree.inodes.get(ino)?.complete || !this.isAllowed) return;
    const dentry = tree.dentries.ofInode(ino)[0];
    const activity = dentry && this.activities.get(dentry.parent);
    const isAll = activity?.usesAttributes === true;
    if (this.attributes.backlog < 500 && this.listAhead.claimAttributes(ino, isAll ? 'all' : 'types')) {
      const first = tree.dentries.list(ino, 0, firstAttributes).map((each) => tree.inodes.mustGet(each.ino));
      this.attributes.prefetch(isAll ? first : first.filter((inode) => isDirectory(inode) || !this.attributes.isTypeKnown(inode)));
    }
    if (activity?.readsFiles && activity.directories?.ahead.slice(0, 2).some((next) => next.ref === ino)) this.expectFiles(ino);
  }

  private expectFiles(directory: number): void {
    const activity = this.activity(directory);
    activity.files ??= this.run('files', fileRun);
    const want = activity.files.expect(0, firstFiles);
    if (want) this.filesAhead(directory, activity.files, want);
  }
}
