/**
 * A disk for tests that fails by label and can lose its power. Until a file is synced, how to undo its changes is remembered;
 * `powerCut()` undoes them (the harshest outcome the kernel allows: nothing unsynced survived) and fails every later call.
 * A file whose directory was not synced since it was created vanishes; one that was unlinked stays gone.
 */
import fs from 'node:fs';
import { dirname } from 'node:path';
import { realDisk, type Disk } from './disk.js';
import { Errno, type Errno as ErrnoType, errnoName } from './errno.js';

export interface Fault {
  readonly errno?: ErrnoType;
  /** pwrite and pread move only this many bytes, once. */
  readonly shortBytes?: number;
  /** How many calls fail; default 1. */
  readonly times?: number;
  /** Calls that pass first; default 0. */
  readonly after?: number;
}

interface SyncedLog { readonly sizeBytes: number; readonly databaseTimeNs: bigint }
interface Change { readonly offset: number; readonly bytes: Buffer; readonly sizeBytes: number }

export class FaultyDisk implements Disk {
  private readonly faults = new Map<string, { fault: Fault; left: number; skip: number }>();
  private readonly paths = new Map<number, string>();
  private readonly undo = new Map<string, Change[]>();
  private readonly unsyncedNames = new Set<string>();
  /** SQLite writes its log itself: all we know is what it looked like when a sync of it began. */
  private readonly wal = new Map<string, SyncedLog>();
  private readonly holds = new Map<string, Promise<void>>();
  private dead = false;
  /** Calls seen by label. */
  readonly calls = new Map<string, number>();
  /** Runs before each call; may throw, or await in asynchronous calls. */
  hook: ((label: string) => void) | undefined;

  fail(label: string, fault: Fault): void {
    this.faults.set(label, { fault, left: fault.times ?? 1, skip: fault.after ?? 0 });
  }

  /** Syncs with that label take until the answer is called. */
  hold(label: string): () => void {
    let release!: () => void;
    this.holds.set(label, new Promise((resolve) => (release = resolve)));
    return release;
  }

  heal(): void {
    this.faults.clear();
  }

  /** @param survives files whose changes reached the disk all the same, as the kernel writes back when it likes. */
  powerCut(survives: (path: string) => boolean = () => false): void {
    this.dead = true;
    for (const [path, changes] of this.undo) {
      if (survives(path) || this.unsyncedNames.has(path) || !fs.existsSync(path)) continue;
      const fd = fs.openSync(path, 'r+');
      for (const change of changes.reverse()) {
        if (change.bytes.length > 0) fs.writeSync(fd, change.bytes, 0, change.bytes.length, change.offset);
        fs.ftruncateSync(fd, change.sizeBytes);
      }
      fs.closeSync(fd);
    }
    for (const [path, synced] of this.wal) {
      if (!fs.existsSync(path) || databaseTimeNs(path) !== synced.databaseTimeNs) continue; // a checkpoint syncs the log first, all of it
      if (fs.statSync(path).size > synced.sizeBytes) fs.truncateSync(path, synced.sizeBytes);
    }
    for (const path of this.unsyncedNames) fs.rmSync(path, { force: true });
  }

  private logIsAt(path: string, sizeBytes: number): void {
    this.wal.set(path, { sizeBytes, databaseTimeNs: databaseTimeNs(path) });
  }

  /** The same disk, as far as it is not synced, seen by the next process; the files under `from` were copied to `to`. */
  moved(from: string, to: string): FaultyDisk {
    const next = new FaultyDisk();
    const at = (path: string): string => (path.startsWith(`${from}/`) ? to + path.slice(from.length) : path);
    for (const [path, changes] of this.undo) next.undo.set(at(path), [...changes]);
    for (const path of this.unsyncedNames) next.unsyncedNames.add(at(path));
    for (const [path, synced] of this.wal) next.logIsAt(at(path), databaseTimeNs(path) === synced.databaseTimeNs ? synced.sizeBytes : Infinity);
    return next;
  }

  open(label: string, path: string, flags: number, mode?: number): number {
    this.before(label);
    const isNew = (flags & fs.constants.O_CREAT) !== 0 && !fs.existsSync(path);
    const fd = realDisk.open(label, path, flags, mode);
    this.paths.set(fd, path);
    if (isNew) this.unsyncedNames.add(path);
    if (label === 'wal.open' && !this.wal.has(path)) this.logIsAt(path, 0);
    return fd;
  }

  async create(label: string, path: string, mode: number): Promise<number> {
    this.before(label);
    const fd = await realDisk.create(label, path, mode);
    this.paths.set(fd, path);
    this.unsyncedNames.add(path);
    return fd;
  }

  close(fd: number): void {
    this.paths.delete(fd);
    realDisk.close(fd);
  }

  pread(label: string, fd: number, into: Uint8Array, intoOffset: number, length: number, offset: number): number {
    const short = this.before(label);
    return realDisk.pread(label, fd, into, intoOffset, short === undefined ? length : Math.min(length, short), offset);
  }

  pwrite(label: string, fd: number, data: Uint8Array, dataOffset: number, length: number, offset: number): number {
    const short = this.before(label);
    const count = short === undefined ? length : Math.min(length, short);
    this.remember(fd, offset, count);
    return realDisk.pwrite(label, fd, data, dataOffset, count, offset);
  }

  truncate(label: string, fd: number, sizeBytes: number): void {
    this.before(label);
    const now = fs.fstatSync(fd).size;
    this.remember(fd, sizeBytes, Math.max(0, now - sizeBytes));
    realDisk.truncate(label, fd, sizeBytes);
  }

  fallocate(label: string, fd: number, mode: number, offset: number, length: number): void {
    this.before(label);
    this.remember(fd, 0, fs.fstatSync(fd).size);
    realDisk.fallocate(label, fd, mode, offset, length);
  }

  async fdatasync(label: string, fd: number): Promise<void> {
    const covered = this.syncing(label, fd);
    await this.holds.get(label);
    await realDisk.fdatasync(label, fd);
    this.alive(label);
    covered();
  }

  fdatasyncSync(label: string, fd: number): void {
    const covered = this.syncing(label, fd);
    realDisk.fdatasyncSync(label, fd);
    covered();
  }

  /** What was written while a sync runs is not covered by it. */
  private syncing(label: string, fd: number): () => void {
    this.before(label);
    const path = this.paths.get(fd);
    const count = path === undefined ? 0 : (this.undo.get(path)?.length ?? 0);
    const sizeBytes = fs.fstatSync(fd).size;
    const timeNs = path === undefined ? 0n : databaseTimeNs(path);
    return () => {
      if (path === undefined) return;
      this.undo.get(path)?.splice(0, count);
      if (label === 'wal.sync') this.wal.set(path, { sizeBytes, databaseTimeNs: timeNs });
    };
  }

  async syncDirectory(label: string, path: string): Promise<void> {
    this.before(label);
    const covered = [...this.unsyncedNames].filter((name) => dirname(name) === path);
    await realDisk.syncDirectory(label, path);
    this.alive(label);
    for (const name of covered) this.unsyncedNames.delete(name);
  }

  syncDirectorySync(label: string, path: string): void {
    this.before(label);
    realDisk.syncDirectorySync(label, path);
    for (const name of [...this.unsyncedNames]) if (dirname(name) === path) this.unsyncedNames.delete(name);
  }

  async syncFileSystem(label: string, fd: number): Promise<void> {
    this.before(label);
    const covered = [...this.undo].map(([path, changes]) => [path, changes.length] as const);
    const names = [...this.unsyncedNames];
    const logs = [...this.wal.keys()].map((path) => [path, fs.existsSync(path) ? fs.statSync(path).size : 0] as const);
    await realDisk.syncFileSystem(label, fd);
    this.alive(label);
    for (const [path, count] of covered) this.undo.get(path)?.splice(0, count);
    for (const name of names) this.unsyncedNames.delete(name);
    for (const [path, sizeBytes] of logs) this.logIsAt(path, sizeBytes);
  }

  async unlink(label: string, path: string): Promise<void> {
    this.before(label);
    await realDisk.unlink(label, path);
    this.gone(path);
  }

  unlinkSync(label: string, path: string): void {
    this.before(label);
    realDisk.unlinkSync(label, path);
    this.gone(path);
  }

  private gone(path: string): void {
    this.unsyncedNames.delete(path);
    this.undo.delete(path);
  }

  private alive(label: string): void {
    if (this.dead) throw systemError(label, Errno.EIO, 'the power is off');
  }

  /** Answers the byte limit of a short transfer, if one is due. */
  private before(label: string): number | undefined {
    this.alive(label);
    this.calls.set(label, (this.calls.get(label) ?? 0) + 1);
    this.hook?.(label);
    const entry = this.faults.get(label);
    if (!entry || entry.left <= 0) return undefined;
    if (entry.skip > 0) {
      entry.skip--;
      return undefined;
    }
    entry.left--;
    if (entry.fault.errno !== undefined) throw systemError(label, entry.fault.errno, 'injected');
    return entry.fault.shortBytes;
  }

  private remember(fd: number, offset: number, length: number): void {
    const path = this.paths.get(fd);
    if (path === undefined) return;
    const sizeBytes = fs.fstatSync(fd).size;
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, sizeBytes - offset)));
    if (bytes.length > 0) fs.readSync(fd, bytes, 0, bytes.length, offset);
    const changes = this.undo.get(path) ?? [];
    changes.push({ offset, bytes, sizeBytes });
    this.undo.set(path, changes);
  }
}

/** When a checkpoint last wrote to the database that a log belongs to. */
function databaseTimeNs(logPath: string): bigint {
  return fs.statSync(logPath.replace(/-wal$/, ''), { bigint: true, throwIfNoEntry: false })?.mtimeNs ?? 0n;
}

function systemError(label: string, errno: ErrnoType, why: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${label}: ${errnoName(errno)} (${why})`), { errno: -errno, code: errnoName(errno), syscall: label });
}
