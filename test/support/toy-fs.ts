/**
 * A file system in memory behind the real interface: enough meaning to drive a kernel mount with everyday tools. Its handles are
 * inode numbers, so the next daemon understands them; with `stateDir` the tree is stored there after each change and file contents live
 * there, so that both survive a `kill -9`. Reads of a file named `block` wait until they are interrupted; `void` swallows writes.
 */
import fs from 'node:fs';
import { Errno } from '../../src/base/errno.js';
import { FsError } from '../../src/base/fs-error.js';
import type { MaybePromise } from '../../src/base/maybe-promise.js';
import { systemClock, type Time } from '../../src/base/clock.js';
import { openBacking } from '../../src/fuse/passthrough.js';
import type { Attr, AttrReply, DirentSink, Entry, FileSystem, OpenReply, RequestContext, SetAttr, StatFs } from '../../src/fuse/ops.js';
import { OpenFlag, RenameFlag, XattrFlag } from '../../src/fuse/ops.js';

const IFDIR = 0o040000;
const IFREG = 0o100000;
const IFLNK = 0o120000;
const validMs = 60_000;

interface Node {
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  rdev: number;
  atime: Time;
  mtime: Time;
  ctime: Time;
  sizeBytes: number;
  data: Buffer;
  /** Names in order of their cookies: numbers given when a name is made, so that they mean the same to the next daemon (K12). */
  readonly children: Map<string, number>;
  readonly cookies: Map<string, number>;
  parent: number;
  readonly xattrs: Map<string, Buffer>;
  target: Buffer | undefined;
}

export interface ToyOptions {
  /** Sizes of files that exist from the start; they hold zeros. */
  readonly files?: Readonly<Record<string, number>>;
  readonly uid?: number;
  readonly gid?: number;
  /** Where tree and contents are stored, for the next daemon. */
  readonly stateDir?: string;
  /** Opens (not creates) are passed through to the file in `stateDir`. */
  readonly passthrough?: boolean;
}

interface Saved { next: number; nextCookie: number; nodes: (Omit<Node, 'children' | 'cookies' | 'xattrs' | 'data' | 'target'> & { children: [string, number][]; cookies: [string, number][]; target: string | null })[] }

export class ToyFileSystem implements FileSystem {
  private readonly nodes = new Map<number, Node>();
  private next = 2;
  private nextCookie = 3;
  readonly deliveredOps: bigint[] = [];
  readonly undeliveredOps: bigint[] = [];
  readonly lookups = new Map<number, number>();
  destroyedCount = 0;
  private readonly fdOf = new Map<number, number>();

  private readonly backingIds = new Map<number, number>();

  constructor(private readonly options: ToyOptions = {}, private readonly device = -1) {
    if (options.stateDir && fs.existsSync(`${options.stateDir}/tree`)) this.load(`${options.stateDir}/tree`);
    else {
      this.make(1, IFDIR | 0o755, options.uid ?? 0, options.gid ?? 0, 1);
      for (const [name, size] of Object.entries(options.files ?? {})) {
        const node = this.make(this.next++, IFREG | 0o644, options.uid ?? 0, options.gid ?? 0, 1);
        node.sizeBytes = size;
        this.put(1, name, node.ino);
      }
    }
  }

  private make(ino: number, mode: number, uid: number, gid: number, parent: number): Node {
    const now = systemClock.time();
    const node: Node = {
      ino, mode, uid, gid, nlink: (mode & 0o170000) === IFDIR ? 2 : 1, rdev: 0, atime: now, mtime: now, ctime: now, sizeBytes: 0,
      data: Buffer.alloc(0), children: new Map(), cookies: new Map(), parent, xattrs: new Map(), target: undefined,
    };
    this.nodes.set(ino, node);
    return node;
  }

  private put(parent: number, name: string, ino: number): void {
    const { children, cookies } = this.node(parent);
    children.delete(name); // to the end: names are in the order of their cookies
    children.set(name, ino);
    cookies.set(name, this.nextCookie++);
  }

  private node(ino: number): Node {
    const node = this.nodes.get(ino);
    if (!node) throw new FsError(Errno.ESTALE);
    return node;
  }

  private child(parent: number, name: string): Node {
    const ino = this.node(parent).children.get(name);
    if (ino === undefined) throw new FsError(Errno.ENOENT);
    return this.node(ino);
  }

  private attr(node: Node): Attr {
    const { ino, atime, mtime, ctime, mode, nlink, uid, gid, rdev, sizeBytes } = node;
    return { ino, sizeBytes, blocks: Math.ceil(sizeBytes / 512), atime, mtime, ctime, mode, nlink, uid, gid, rdev, blksize: 4096 };
  }

  private entry(node: Node): Entry {
    this.lookups.set(node.ino, (this.lookups.get(node.ino) ?? 0) + 1);
    return { attr: this.attr(node), entryValidMs: validMs, attrValidMs: validMs };
  }

  private touch(node: Node): void {
    node.mtime = node.ctime = systemClock.time();
  }

  lookup(_ctx: RequestContext, parent: number, name: string): Entry {
    const ino = this.node(parent).children.get(name);
    if (ino === undefined) return { attr: null, entryValidMs: name.startsWith('negative') ? validMs : 0, attrValidMs: 0 };
    return this.entry(this.node(ino));
  }

  forget(ino: number, count: number): void {
    this.lookups.set(ino, (this.lookups.get(ino) ?? 0) - count);
  }

  getattr(_ctx: RequestContext, ino: number): AttrReply {
    return { attr: this.attr(this.node(ino)), attrValidMs: validMs };
  }

  setattr(_ctx: RequestContext, ino: number, change: SetAttr): AttrReply {
    const node = this.node(ino);
    const now = systemClock.time();
    if (change.mode !== undefined) node.mode = (node.mode & 0o170000) | (change.mode & 0o7777);
    if (change.uid !== undefined) node.uid = change.uid;
    if (change.gid !== undefined) node.gid = change.gid;
    if (change.sizeBytes !== undefined) this.resize(node, change.sizeBytes);
    if (change.atime !== undefined) node.atime = change.atime === 'now' ? now : change.atime;
    if (change.mtime !== undefined) node.mtime = change.mtime === 'now' ? now : change.mtime;
    if (change.killSuidGid) node.mode &= ~0o6000;
    node.ctime = now;
    this.save();
    return { attr: this.attr(node), attrValidMs: validMs };
  }

  private resize(node: Node, size: number): void {
    if (this.options.stateDir) fs.ftruncateSync(this.fd(node), size);
    if (size < node.sizeBytes) node.data.fill(0, size, Math.min(node.sizeBytes, node.data.length));
    node.sizeBytes = size;
    this.touch(node);
  }

  /** Someone else changed the store: a file in the root appears, or its content is another. */
  changeBehind(name: string, content: string): number {
    const root = this.node(1);
    let ino = root.children.get(name);
    if (ino === undefined) {
      ino = this.make(this.next++, IFREG | 0o644, 0, 0, 1).ino;
      this.put(1, name, ino);
    }
    const node = this.node(ino);
    node.data = Buffer.from(content);
    this.resize(node, node.data.length);
    return ino;
  }

  private reserve(node: Node, size: number): void {
    if (node.data.length >= size) return;
    const grown = Buffer.alloc(Math.max(size, node.data.length * 2, 4096));
    node.data.copy(grown);
    node.data = grown;
  }

  readlink(_ctx: RequestContext, ino: number): Buffer {
    const target = this.node(ino).target;
    if (!target) throw new FsError(Errno.EINVAL);
    return target;
  }

  private add(ctx: RequestContext, parent: number, name: string, mode: number): Node {
    const directory = this.node(parent);
    if (directory.children.has(name)) throw new FsError(Errno.EEXIST);
    const node = this.make(this.next++, mode, ctx.uid, ctx.gid, parent);
    this.put(parent, name, node.ino);
    this.touch(directory);
    this.save();
    return node;
  }

  mknod(ctx: RequestContext, parent: number, name: string, mode: number, rdev: number): Entry {
    const node = this.add(ctx, parent, name, mode);
    node.rdev = rdev;
    return this.entry(node);
  }

  mkdir(ctx: RequestContext, parent: number, name: string, mode: number): Entry {
    return this.entry(this.add(ctx, parent, name, IFDIR | (mode & 0o7777)));
  }

  unlink(_ctx: RequestContext, parent: number, name: string): MaybePromise<void> {
    const node = this.child(parent, name);
    this.node(parent).children.delete(name);
    node.nlink--;
    this.touch(this.node(parent));
    this.save();
  }

  rmdir(_ctx: RequestContext, parent: number, name: string): void {
    if (this.child(parent, name).children.size > 0) throw new FsError(Errno.ENOTEMPTY);
    this.node(parent).children.delete(name);
    this.save();
  }

  symlink(ctx: RequestContext, parent: number, name: string, target: Buffer): Entry {
    const node = this.add(ctx, parent, name, IFLNK | 0o777);
    node.target = target;
    node.sizeBytes = target.length;
    this.save();
    return this.entry(node);
  }

  rename(_ctx: RequestContext, parent: number, name: string, newParent: number, newName: string, flags: number): void {
    const node = this.child(parent, name);
    const target = this.node(newParent).children.get(newName);
    if ((flags & RenameFlag.NOREPLACE) !== 0 && target !== undefined) throw new FsError(Errno.EEXIST);
    if ((flags & RenameFlag.EXCHANGE) !== 0) this.put(parent, name, this.child(newParent, newName).ino);
    else this.node(parent).children.delete(name);
    this.put(newParent, newName, node.ino);
    this.save();
  }

  link(_ctx: RequestContext, ino: number, newParent: number, newName: string): Entry {
    const node = this.node(ino);
    node.nlink++;
    this.put(newParent, newName, ino);
    this.save();
    return this.entry(node);
  }

  open(_ctx: RequestContext, ino: number, flags: number): OpenReply {
    const node = this.node(ino);
    if ((flags & OpenFlag.TRUNC) !== 0) this.resize(node, 0);
    if (this.options.passthrough === true) {
      let backingId = this.backingIds.get(ino); // one per inode (K5)
      if (backingId === undefined) this.backingIds.set(ino, (backingId = openBacking(this.device, this.fd(node))));
      return { fh: ino, backingId, keepCache: true };
    }
    return { fh: ino, directIo: this.isBlocking(node) };
  }

  create(ctx: RequestContext, parent: number, name: string, _flags: number, mode: number): Entry & OpenReply {
    return { ...this.entry(this.add(ctx, parent, name, IFREG | (mode & 0o7777))), fh: this.next - 1 };
  }

  tmpfile(ctx: RequestContext, parent: number, _flags: number, mode: number): Entry & OpenReply {
    const node = this.make(this.next++, IFREG | (mode & 0o7777), ctx.uid, ctx.gid, parent);
    node.nlink = 0;
    return { ...this.entry(node), fh: node.ino };
  }

  private isBlocking(node: Node): boolean {
    return this.nodes.get(1)!.children.get('block') === node.ino;
  }

  read(ctx: RequestContext, ino: number, _fh: number, offset: number, into: Buffer): number | Promise<number> {
    const node = this.node(ino);
    if (this.isBlocking(node)) {
      return new Promise((_resolve, reject) => {
        const stop = (): void => reject(new FsError(Errno.EINTR));
        if (ctx.signal.aborted) stop();
        else ctx.signal.addEventListener('abort', stop, { once: true });
      });
    }
    const count = Math.max(0, Math.min(into.length, node.sizeBytes - offset));
    if (this.options.stateDir) return fs.readSync(this.fd(node), into, 0, count, offset);
    const have = Math.max(0, Math.min(count, node.data.length - offset));
    if (have > 0) node.data.copy(into, 0, offset, offset + have);
    into.fill(0, have, count);
    return count;
  }

  private fd(node: Node): number {
    let fd = this.fdOf.get(node.ino);
    if (fd === undefined) {
      fd = fs.openSync(`${this.options.stateDir}/${node.ino}`, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
      if (fs.fstatSync(fd).size < node.sizeBytes) fs.ftruncateSync(fd, node.sizeBytes);
      this.fdOf.set(node.ino, fd);
    }
    return fd;
  }

  write(_ctx: RequestContext, ino: number, _fh: number, offset: number, data: Buffer, _flags: number, killSuidGid: boolean): number {
    const node = this.node(ino);
    if (this.nodes.get(1)!.children.get('void') === ino) return data.length;
    if (this.options.stateDir) fs.writeSync(this.fd(node), data, 0, data.length, offset);
    else {
      this.reserve(node, offset + data.length);
      data.copy(node.data, offset);
    }
    node.sizeBytes = Math.max(node.sizeBytes, offset + data.length);
    if (killSuidGid) node.mode &= ~0o6000;
    this.touch(node);
    return data.length;
  }

  flush(): void { /* nothing is buffered */ }
  release(): void { /* handles are inode numbers */ }
  async fsync(): Promise<void> { await Promise.resolve(); }
  opendir(_ctx: RequestContext, ino: number): OpenReply { return { fh: ino, cacheDir: true }; }

  readdir(_ctx: RequestContext, ino: number, _fh: number, offset: number, sink: DirentSink): void {
    const directory = this.node(ino);
    if (offset < 1 && !sink.add('.', ino, IFDIR, 1)) return;
    if (offset < 2 && !sink.add('..', directory.parent, IFDIR, 2)) return;
    for (const [name, childIno] of directory.children) {
      const cookie = directory.cookies.get(name)!;
      if (cookie <= offset) continue;
      const child = this.node(childIno);
      const entry = { attr: this.attr(child), entryValidMs: validMs, attrValidMs: validMs };
      if (!sink.add(name, childIno, child.mode, cookie, entry)) return;
      if (sink.plus) this.lookups.set(childIno, (this.lookups.get(childIno) ?? 0) + 1);
    }
  }

  releasedir(): void { /* nothing */ }
  fsyncdir(): void { /* nothing */ }

  statfs(): StatFs {
    return { blocks: 1 << 20, blocksFree: 1 << 19, blocksAvailable: 1 << 19, files: 1000, filesFree: 500, blockSizeBytes: 4096, nameBytesMax: 255 };
  }

  getxattr(_ctx: RequestContext, ino: number, name: string): Buffer | undefined {
    return this.node(ino).xattrs.get(name);
  }

  listxattr(_ctx: RequestContext, ino: number): string[] {
    return [...this.node(ino).xattrs.keys()];
  }

  setxattr(_ctx: RequestContext, ino: number, name: string, value: Buffer, flags: number): void {
    const { xattrs } = this.node(ino);
    if ((flags & XattrFlag.CREATE) !== 0 && xattrs.has(name)) throw new FsError(Errno.EEXIST);
    if ((flags & XattrFlag.REPLACE) !== 0 && !xattrs.has(name)) throw new FsError(Errno.ENODATA);
    xattrs.set(name, value);
  }

  removexattr(_ctx: RequestContext, ino: number, name: string): void {
    if (!this.node(ino).xattrs.delete(name)) throw new FsError(Errno.ENODATA);
  }

  fallocate(_ctx: RequestContext, ino: number, _fh: number, offset: number, length: number, mode: number): void {
    if (mode !== 0) throw new FsError(Errno.EOPNOTSUPP);
    const node = this.node(ino);
    if (offset + length > node.sizeBytes) this.resize(node, offset + length);
  }

  lseek(_ctx: RequestContext, ino: number, _fh: number, offset: number, whence: number): number {
    const node = this.node(ino);
    if (offset >= node.sizeBytes) throw new FsError(Errno.ENXIO);
    return whence === 3 ? offset : node.sizeBytes;
  }

  copyFileRange(ctx: RequestContext, ino: number, fh: number, offset: number, outIno: number, outFh: number, outOffset: number, length: number): number {
    const data = Buffer.alloc(Math.max(0, Math.min(length, this.node(ino).sizeBytes - offset, 1 << 20)));
    const count = this.read(ctx, ino, fh, offset, data) as number;
    return this.write(ctx, outIno, outFh, outOffset, data.subarray(0, count), 0, false);
  }

  delivered(ctx: RequestContext): void { if (this.deliveredOps.length < 10_000) this.deliveredOps.push(ctx.unique); }
  undelivered(ctx: RequestContext, undo: { lookupIno?: number }): void {
    this.undeliveredOps.push(ctx.unique);
    if (undo.lookupIno !== undefined) this.forget(undo.lookupIno, 1);
  }
  destroyed(): void {
    this.destroyedCount++;
    for (const fd of this.fdOf.values()) fs.closeSync(fd);
    this.fdOf.clear();
  }

  private save(): void {
    const { stateDir } = this.options;
    if (!stateDir) return;
    const saved: Saved = {
      next: this.next, nextCookie: this.nextCookie,
      nodes: [...this.nodes.values()].map(({ children, cookies, xattrs: _xattrs, data: _data, target, ...rest }) => ({
        ...rest, children: [...children], cookies: [...cookies], target: target ? target.toString('latin1') : null,
      })),
    };
    fs.writeFileSync(`${stateDir}/tree.new`, JSON.stringify(saved));
    fs.renameSync(`${stateDir}/tree.new`, `${stateDir}/tree`);
  }

  private load(file: string): void {
    const saved = JSON.parse(fs.readFileSync(file, 'utf8')) as Saved;
    this.next = saved.next;
    this.nextCookie = saved.nextCookie;
    for (const { children, cookies, target, ...rest } of saved.nodes) {
      const content = `${this.options.stateDir}/${rest.ino}`;
      this.nodes.set(rest.ino, {
        ...rest, sizeBytes: fs.existsSync(content) ? fs.statSync(content).size : rest.sizeBytes, data: Buffer.alloc(0),
        children: new Map(children), cookies: new Map(cookies), xattrs: new Map(), target: target === null ? undefined : Buffer.from(target, 'latin1'),
      });
    }
  }
}
