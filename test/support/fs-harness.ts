/**
 * A whole file system without a kernel: paths instead of inode numbers, and the requests a kernel would send for them (LOOKUP down the path,
 * OPEN, FLUSH, RELEASE, FORGET). The kernel's caches are the harshest possible: nothing is remembered between two calls but open files.

 * A request that a daemon dies over is sent again to the next one, as the kernel does (K11).
 */
import { readSync } from 'node:fs';
import { ManualClock, type Time } from '../../src/base/clock.js';
import { Errno, errnoName, systemErrno } from '../../src/base/errno.js';
import { FsError } from '../../src/base/fs-error.js';
import { SystemError } from '../../src/base/libc.js';
import type { MaybePromise } from '../../src/base/maybe-promise.js';
import { OpenFlag, type Attr, type DirentSink, type Entry, type RequestContext, type SetAttr } from '../../src/fuse/ops.js';
import { isDirectory, rootIno } from '../../src/meta/inode.js';
import { FaultyStore } from '../../src/s3/faulty-store.js';
import { MemoryObjectStore } from '../../src/s3/memory-object-store.js';
import type { ObjectAttributes } from '../../src/s3/object-store.js';
import type { DaemonOptions } from './fs-daemon.js';
import { FsLife } from './fs-life.js';

export interface Handle { readonly ino: number; readonly fh: number; readonly flags: number }
export interface Listed { readonly name: string; readonly ino: number; readonly mode: number; readonly cookie: number; readonly entry: Entry | undefined }
export interface Caller { uid?: number; gid?: number; pid?: number; supplementaryGid?: number; signal?: AbortSignal }

export class FsHarness extends FsLife {
  private nextUnique = 2n;

  static async open(options: DaemonOptions & { memory?: MemoryObjectStore; clock?: ManualClock; seed?: number } = {}): Promise<FsHarness> {
    const clock = options.clock ?? new ManualClock();
    const memory = options.memory ?? new MemoryObjectStore({ clock, partSizeMin: 1 });
    const harness = new FsHarness(clock, memory, new FaultyStore(memory, { seed: options.seed ?? 1 }), { isOffline: false }, options);
    await harness.begin();
    return harness;
  }

  /** Another mount of the same bucket with an empty cache. */
  freshMount(options: DaemonOptions = {}): Promise<FsHarness> {
    return FsHarness.open({ ...this.options, ...options, memory: this.memory, clock: this.clock });
  }

  // ---- another client

  readonly stranger = {
    put: async (key: string, text: string | Buffer, attributes: Partial<ObjectAttributes> = {}): Promise<void> => {
      await this.memory.put(key, { kind: 'bytes', bytes: Buffer.from(text) }, { metadata: {}, ...attributes }, 'any');
    },
    delete: (key: string): Promise<void> => this.memory.delete(key, 'any'),
    keys: (): string[] => [...this.memory.snapshot().keys()],
    text: (key: string): string | undefined => this.memory.snapshot().get(key)?.bytes.toString(),
  };

  // ---- requests

  context(caller: Caller = {}): RequestContext {
    this.nextUnique += 2n;
    return {
      unique: this.nextUnique, resent: false, uid: caller.uid ?? 0, gid: caller.gid ?? 0, pid: caller.pid ?? 1, signal: caller.signal ?? new AbortController().signal,
      ...(caller.supplementaryGid !== undefined && { supplementaryGid: caller.supplementaryGid }),
    };
  }

  resent(ctx: RequestContext): RequestContext { return { ...ctx, resent: true }; }

  /** A request as the kernel sends it: to the next daemon once more if this one dies over it. */
  async ask<T>(run: (ctx: RequestContext) => MaybePromise<T>, caller: Caller = {}): Promise<T> {
    await this.alive();
    const ctx = this.context(caller);
    for (let isResent = false; ; isResent = true) {
      const { deaths } = this;
      const outcome = await attempt(() => run(isResent ? this.resent(ctx) : ctx));
      if (this.deaths === deaths) {
        this.fs.delivered(ctx);
        if ('error' in outcome) throw outcome.error as Error;
        return outcome.value;
      }
      await this.alive();
    }
  }

  private mutate<T>(caller: Caller, run: (ctx: RequestContext) => MaybePromise<T>): Promise<T> {
    return this.ask(run, caller);
  }

  async walk(path: string): Promise<{ ino: number; entry: Entry | undefined; held: number[] }> {
    let ino: number = rootIno;
    let entry: Entry | undefined;
    const held: number[] = [];
    for (const name of split(path)) {
      const parent = ino;
      entry = await this.ask((ctx) => this.fs.lookup(ctx, parent, name));
      if (!entry.attr) {
        this.forget(held);
        throw new FsError(Errno.ENOENT);
      }
      ino = entry.attr.ino;
      held.push(ino);
    }
    return { ino, entry, held };
  }

  /** Runs with the inode of `path` looked up, and forgets it afterwards. */
  async at<T>(path: string, run: (ino: number, entry: Entry | undefined) => MaybePromise<T>): Promise<T> {
    const { ino, entry, held } = await this.walk(path);
    try {
      return await run(ino, entry);
    } finally {
      this.forget(held);
    }
  }

  private within<T>(path: string, run: (parent: number, name: string) => MaybePromise<T>): Promise<T> {
    const names = split(path);
    const name = names.pop()!;
    return this.at(names.join('/'), (parent) => run(parent, name));
  }

  private forget(inos: readonly number[]): void {
    for (const ino of inos) {
      if (this.opens.get(ino)) continue;
      const { deaths } = this;
      this.fs.forget(ino);
      if (this.deaths !== deaths) this.lostForgets++;
    }
  }

  private forgetEntry<E extends Entry>(entry: E): E {
    if (entry.attr) this.forget([entry.attr.ino]);
    return entry;
  }

  stat(path: string): Promise<Attr> {
    return this.at(path, async (ino, entry) => entry?.attr ?? (await this.ask((ctx) => this.fs.getattr(ctx, ino))).attr);
  }

  getattr(path: string): Promise<Attr> {
    return this.at(path, async (ino) => (await this.ask((ctx) => this.fs.getattr(ctx, ino))).attr);
  }

  async exists(path: string): Promise<boolean> {
    try {
      await this.stat(path);
      return true;
    } catch (error) {
      if (error instanceof FsError && (error.errno === Errno.ENOENT || error.errno === Errno.ENOTDIR)) return false;
      throw error;
    }
  }

  setattr(path: string, change: Partial<SetAttr>, caller: Caller = {}): Promise<Attr> {
    return this.at(path, async (ino) => (await this.mutate(caller, (ctx) => this.fs.setattr(ctx, ino, { killSuidGid: false, ...change }))).attr);
  }

  chmod(path: string, mode: number): Promise<Attr> { return this.setattr(path, { mode }); }
  truncate(path: string, sizeBytes: number): Promise<Attr> { return this.setattr(path, { sizeBytes }); }
  utimens(path: string, atime: Time | 'now' | undefined, mtime: Time | 'now' | undefined): Promise<Attr> {
    return this.setattr(path, { ...(atime !== undefined && { atime }), ...(mtime !== undefined && { mtime }) });
  }

  mkdir(path: string, mode = 0o755, caller: Caller = {}): Promise<Attr> {
    return this.within(path, async (parent, name) => this.forgetEntry(await this.mutate(caller, (ctx) => this.fs.mkdir(ctx, parent, name, mode))).attr!);
  }
  mknod(path: string, mode: number, rdev = 0): Promise<Attr> {
    return this.within(path, async (parent, name) => this.forgetEntry(await this.mutate({}, (ctx) => this.fs.mknod(ctx, parent, name, mode, rdev))).attr!);
  }
  symlink(path: string, target: string): Promise<Attr> {
    return this.within(path, async (parent, name) => this.forgetEntry(await this.mutate({}, (ctx) => this.fs.symlink(ctx, parent, name, Buffer.from(target)))).attr!);
  }
  async readlink(path: string): Promise<string> {
    return (await this.at(path, (ino) => this.ask((ctx) => this.fs.readlink(ctx, ino)))).toString();
  }
  link(path: string, newPath: string): Promise<Attr> {
    return this.at(path, (ino) => this.within(newPath, async (parent, name) => this.forgetEntry(await this.mutate({}, (ctx) => this.fs.link(ctx, ino, parent, name))).attr!));
  }
  /** The kernel looks the name up first, and forgets the inode after. */
  unlink(path: string): Promise<void> {
    return this.within(path, (parent, name) => this.at(path, () => this.mutate({}, (ctx) => this.fs.unlink(ctx, parent, name))));
  }
  rmdir(path: string): Promise<void> {
    return this.within(path, (parent, name) => this.at(path, () => this.mutate({}, (ctx) => this.fs.rmdir(ctx, parent, name))));
  }
  rename(path: string, newPath: string, flags = 0): Promise<void> {
    return this.within(path, (parent, name) => this.within(newPath, async (newParent, newName) => {
      const target = await this.walk(newPath).catch((error: unknown) => {
        if (error instanceof FsError && error.errno === Errno.ENOENT) return undefined;
        throw error;
      });
      try {
        await this.at(path, () => this.mutate({}, (ctx) => this.fs.rename(ctx, parent, name, newParent, newName, flags)));
      } finally {
        this.forget(target?.held ?? []);
      }
    }));
  }

  async create(path: string, flags: number = OpenFlag.RDWR, mode = 0o644, caller: Caller = {}): Promise<Handle> {
    return this.within(path, async (parent, name) => {
      const reply = await this.mutate(caller, (ctx) => this.fs.create(ctx, parent, name, flags | OpenFlag.CREAT, mode));
      return this.opened(reply.attr!.ino, reply.fh, flags);
    });
  }
  async tmpfile(directory: string): Promise<Handle> {
    return this.at(directory, async (parent) => {
      const reply = await this.mutate({}, (ctx) => this.fs.tmpfile(ctx, parent, OpenFlag.RDWR, 0o600));
      return this.opened(reply.attr!.ino, reply.fh, OpenFlag.RDWR);
    });
  }
  async open(path: string, flags: number = OpenFlag.RDONLY): Promise<Handle> {
    return this.at(path, async (ino) => this.opened(ino, (await this.mutate({}, (ctx) => this.fs.open(ctx, ino, flags, false))).fh, flags));
  }
  private opened(ino: number, fh: number, flags: number): Handle {
    this.opens.set(ino, (this.opens.get(ino) ?? 0) + 1);
    return { ino, fh, flags };
  }
  async closeFile(handle: Handle): Promise<void> {
    await this.ask((ctx) => this.fs.flush(ctx, handle.ino, handle.fh));
    await this.ask((ctx) => this.fs.release(ctx, handle.ino, handle.fh));
    const left = (this.opens.get(handle.ino) ?? 1) - 1;
    if (left > 0) this.opens.set(handle.ino, left);
    else {
      this.opens.delete(handle.ino);
      this.fs.forget(handle.ino);
    }
  }
  async pwrite(handle: Handle, offset: number, data: Buffer | string): Promise<number> {
    return this.ask((ctx) => {
      const borrowed = Buffer.from(data);
      const pending = this.fs.write(ctx, handle.ino, handle.fh, offset, borrowed, handle.flags, false);
      borrowed.fill(0xee); // valid only until the method returns
      return pending;
    });
  }
  async pread(handle: Handle, offset: number, length: number): Promise<Buffer> {
    const into = Buffer.alloc(length, 0xdd);
    await this.ask(async (ctx) => this.fs.ready(ctx, handle.ino, handle.fh, offset, into.length)); // as the session does
    return into.subarray(0, await this.ask((ctx) => {
      const count = this.fs.read(ctx, handle.ino, handle.fh, offset, into);
      if (typeof count === 'number') this.mustBeLocated(handle, offset, into.subarray(0, count), into.length);
      return count;
    }));
  }

  /** What is read at once can be sent from a descriptor as well, as the session does where it is much. */
  private mustBeLocated({ ino, fh }: Handle, offset: number, bytes: Buffer, askedBytes: number): void {
    const located = this.fs.located(this.context(), ino, fh, offset, askedBytes);
    const again = Buffer.alloc(located?.length ?? 0);
    if (located) readSync(located.fd, again, 0, again.length, offset);
    if (!again.equals(bytes)) throw new Error(`READ of ${askedBytes} bytes at ${offset} of inode ${ino}: ${bytes.length} bytes read, ${again.length} others located`);
  }
  fsync(handle: Handle): Promise<void> { return this.ask((ctx) => this.fs.fsync(ctx, handle.ino)); }
  async fstat(handle: Handle): Promise<Attr> { return (await this.ask((ctx) => this.fs.getattr(ctx, handle.ino))).attr; }
  fallocate(handle: Handle, mode: number, offset: number, length: number): Promise<void> {
    return this.ask((ctx) => this.fs.fallocate(ctx, handle.ino, handle.fh, offset, length, mode));
  }
  copyRange(from: Handle, offset: number, to: Handle, outOffset: number, length: number): Promise<number> {
    return this.ask((ctx) => this.fs.copyFileRange(ctx, from.ino, from.fh, offset, to.ino, to.fh, outOffset, length));
  }

  async using<T>(path: string, flags: number, run: (handle: Handle) => Promise<T>): Promise<T> {
    const handle = await this.open(path, flags);
    try {
      return await run(handle);
    } finally {
      await this.closeFile(handle);
    }
  }

  /** As `echo -n text > path`. */
  async writeFile(path: string, data: Buffer | string): Promise<void> {
    const there = await this.exists(path);
    const handle = there ? await this.open(path, OpenFlag.WRONLY | OpenFlag.TRUNC) : await this.create(path, OpenFlag.WRONLY);
    try {
      await this.pwrite(handle, 0, data);
    } finally {
      await this.closeFile(handle);
    }
  }
  writeAt(path: string, offset: number, data: Buffer | string): Promise<number> {
    return this.using(path, OpenFlag.WRONLY, (handle) => this.pwrite(handle, offset, data));
  }
  async readBytes(path: string): Promise<Buffer> {
    const { sizeBytes } = await this.getattr(path);
    return this.using(path, OpenFlag.RDONLY, (handle) => this.pread(handle, 0, sizeBytes + 10));
  }
  async readFile(path: string): Promise<string> { return (await this.readBytes(path)).toString(); }

  /** Every entry, in chunks of `chunk` like a small getdents buffer. */
  async readdirplus(path: string, options: { plus?: boolean; chunk?: number; from?: number } = {}): Promise<Listed[]> {
    return this.at(path, async (ino) => {
      const { fh } = await this.ask((ctx) => this.fs.opendir(ctx, ino));
      const all: Listed[] = [];
      const chunk = options.chunk ?? 1000;
      try {
        for (let offset = options.from ?? 0; ; ) {
          let some: Listed[] = [];
          const sink: DirentSink = {
            plus: options.plus ?? true, roomFor: chunk,
            add: (name, child, mode, cookie, entry) => {
              if (some.length >= chunk) return false;
              some.push({ name, ino: child, mode, cookie, entry });
              return true;
            },
          };
          const from = offset;
          await this.ask((ctx) => {
            some = []; // what a daemon that died had in its answer did not arrive
            return this.fs.readdir(ctx, ino, fh, from, sink);
          });
          all.push(...some);
          if (some.length === 0) return all;
          offset = some.at(-1)!.cookie;
        }
      } finally {
        await this.ask((ctx) => this.fs.releasedir(ctx, ino, fh));
      }
    });
  }
  async readdir(path: string): Promise<string[]> {
    return (await this.readdirplus(path)).map(({ name }) => name).filter((name) => name !== '.' && name !== '..').sort();
  }

  setxattr(path: string, name: string, value: Buffer | string, flags = 0): Promise<void> {
    return this.at(path, (ino) => this.mutate({}, (ctx) => this.fs.setxattr(ctx, ino, name, Buffer.from(value), flags)));
  }
  async getxattr(path: string, name: string): Promise<string> {
    const value = await this.at(path, (ino) => this.ask((ctx) => this.fs.getxattr(ctx, ino, name)));
    if (value === undefined) throw new FsError(Errno.ENODATA);
    return value.toString();
  }
  listxattr(path: string): Promise<string[]> { return this.at(path, (ino) => this.ask((ctx) => this.fs.listxattr(ctx, ino))); }
  removexattr(path: string, name: string): Promise<void> {
    return this.at(path, (ino) => this.mutate({}, (ctx) => this.fs.removexattr(ctx, ino, name)));
  }

  inodeOf(path: string) {
    const key = split(path).join('/');
    const found = this.tree.resolve(key) ?? this.tree.resolve(`${key}/`);
    if (!found) throw new Error(`the tree has no ${path}`);
    return found.inode;
  }

  /** How many requests of this kind S3 has answered so far. */
  calls(method: string): number { return this.memory.calls.get(method) ?? 0; }

  /** What must always hold, whatever happened: counts of links, sizes of content files, no name without inode. */
  checkInvariants(): void {
    const { tree, db, contents } = this.daemon;
    const rows = db.prepare<[], { parent: number; name: string; ino: number }>('SELECT parent, name, ino FROM dentry').all();
    const links = new Map<number, number>();
    const subdirectories = new Map<number, number>();
    for (const row of rows) {
      const inode = tree.inodes.get(row.ino);
      if (!inode) throw new Error(`${row.name} names inode ${row.ino}, which does not exist`);
      const parent = tree.inodes.get(row.parent);
      if (!parent || !isDirectory(parent)) throw new Error(`${row.name} lies in inode ${row.parent}, which is no directory`);
      links.set(row.ino, (links.get(row.ino) ?? 0) + 1);
      if (isDirectory(inode)) subdirectories.set(row.parent, (subdirectories.get(row.parent) ?? 0) + 1);
    }
    for (const { ino } of db.prepare<[], { ino: number }>('SELECT ino FROM inode').all()) {
      const inode = tree.inodes.mustGet(ino);
      const isLinked = ino === rootIno || links.has(ino);
      const expected = !isDirectory(inode) ? links.get(ino) ?? 0 : isLinked ? 2 + (subdirectories.get(ino) ?? 0) : 0;
      if (inode.nlink !== expected) throw new Error(`inode ${ino} has nlink ${inode.nlink}, not ${expected}`);
      const file = inode.content === null ? undefined : contents.find(inode.content);
      if (file && file.sizeBytes !== inode.sizeBytes) throw new Error(`inode ${ino} has ${inode.sizeBytes} bytes, its content file ${file.sizeBytes}`);
      if (inode.unsealed && inode.nlink > 0 && this.journal.walks().length === 0) for (const key of tree.keysOf(inode)) if (!this.journal.has(key)) throw new Error(`${key} is being written and not in the journal`);
    }
    if (this.daemon.errors.length > 0) throw new Error(`logged: ${this.daemon.errors.join('\n')}`);
  }
}

async function attempt<T>(run: () => MaybePromise<T>): Promise<{ readonly value: Awaited<T> } | { readonly error: unknown }> {
  try {
    return { value: await run() };
  } catch (error) {
    return { error };
  }
}

/** The errno an operation fails with, by name; `ok` if it succeeds. A bug (any other error) is passed on. */
export async function errnoOf(work: MaybePromise<unknown> | (() => MaybePromise<unknown>)): Promise<string> {
  try {
    await (typeof work === 'function' ? work() : work);
    return 'ok';
  } catch (error) {
    if (error instanceof FsError) return errnoName(error.errno);
    const known = error instanceof SystemError ? error.errno : systemErrno(error);
    if (known === undefined) throw error;
    return errnoName(known);
  }
}

function split(path: string): string[] {
  return path.split('/').filter((name) => name !== '');
}
