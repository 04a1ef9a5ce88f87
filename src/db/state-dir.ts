/**
 * A mount's cache directory: who may use it. It carries a marker file `hearthfs-cache` naming its format, and a `lock` file that
 * the running daemon holds with flock (released by the kernel however the daemon dies). Refused, each with one sentence saying
 * what to do: another daemon's directory, someone else's files, a newer format, a place inside a FUSE mount.
 *
 * The FUSE check must not touch a hung mount (K17), so paths are resolved component by component against mountinfo, and
 * nothing below a FUSE mount point is ever looked at.
 */
import fs from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { realDisk } from '../base/disk.js';
import { errorCode } from '../base/errno.js';
import { tryLockExclusive } from '../base/libc.js';
import { makeDirectories } from '../base/make-directories.js';
import { UserError } from '../base/user-error.js';

export const markerName = 'hearthfs-cache';
export const cacheFormat = 1;
const markerText = (format: number): string => `hearthfs cache directory, format ${format}\nFiles here may hold data that is not in S3 yet: never delete them by hand.\n`;

/** What may lie in a directory before it is ours: a fresh file system's own, and logs, sockets and pid files the supervisor made. */
const harmless = /^(lost\+found|hearthfs\..*|.*\.(sock|log|pid))$/;

export interface MountPoint { readonly path: string; readonly type: string }

/** Creates the directory if need be and marks it as ours; throws `UserError` if it cannot be used. Does not lock. */
export function claimDirectory(dir: string, mountinfo: string = readMountinfo()): void {
  const real = resolveOutsideFuse(dir, parseMountinfo(mountinfo));
  try {
    makeDirectories(real, 0o700);
  } catch (error) {
    if (errorCode(error) === 'EEXIST' || errorCode(error) === 'ENOTDIR') throw notDirectory(dir, error);
    throw unusable(dir, error);
  }
  let names: string[];
  try {
    if (!fs.statSync(real).isDirectory()) throw notDirectory(dir);
    names = fs.readdirSync(real);
    fs.accessSync(real, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw unusable(dir, error);
  }
  if (names.includes(markerName)) return checkMarker(dir, fs.readFileSync(join(real, markerName), 'utf8'));
  const foreign = names.filter((name) => !harmless.test(name) && name !== `${markerName}.new`);
  if (foreign.length > 0) {
    throw new UserError(`Cannot use ${dir} as cache directory: it holds other files (${foreign.slice(0, 3).join(', ')}${foreign.length > 3 ? ', ...' : ''}) and no ${markerName} marker; choose an empty or a new directory`);
  }
  try {
    writeMarker(real);
  } catch (error) {
    throw unusable(dir, error);
  }
}

/**
 * Cached files without the database that says what they are: a new database would take them for leftovers and remove them, and some may hold
 * what S3 lacks.
 */
export function refuseLostDatabase(dir: string, databasePath: string): void {
  if ((fs.statSync(databasePath, { throwIfNoEntry: false })?.size ?? 0) > 0 || (fs.statSync(`${databasePath}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0) return;
  const content = join(dir, 'content');
  const shards = fs.existsSync(content) ? fs.readdirSync(content) : [];
  if (!shards.some((shard) => fs.readdirSync(join(content, shard)).length > 0)) return;
  throw new UserError(`The state database ${databasePath} is gone, but there are cached files, which may hold what S3 lacks; move the directory aside (mv ${dir} ${dir}.damaged) and mount again, and never delete it: the files are in ${dir}.damaged/content`);
}

function writeMarker(dir: string): void {
  const fd = fs.openSync(join(dir, `${markerName}.new`), 'w', 0o600);
  try {
    fs.writeSync(fd, markerText(cacheFormat));
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  fs.renameSync(join(dir, `${markerName}.new`), join(dir, markerName));
  realDisk.syncDirectorySync('dir.sync', dir);
}

function checkMarker(dir: string, text: string): void {
  const format = Number(/^hearthfs cache directory, format (\d+)\n/.exec(text)?.[1]);
  if (!Number.isInteger(format)) throw new UserError(`Cannot use ${dir} as cache directory: its ${markerName} marker is damaged; move the directory aside (mv ${dir} ${dir}.damaged), never delete it, and mount again`);
  if (format > cacheFormat) throw new UserError(`Cannot use ${dir} as cache directory: it was written by a newer hearthfs (format ${format}, this one knows ${cacheFormat}); upgrade hearthfs or choose another --cache-dir`);
}

/** Hints between daemons, of no meaning once the lock is free: see handover.ts. */
export const hintNames = { leaving: 'leaving', wanted: 'wanted' } as const;

/** Some daemon holds the lock now. */
export function isLocked(dir: string): boolean {
  let fd: number;
  try {
    fd = fs.openSync(join(dir, 'lock'), 'r+');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw unusable(dir, error);
  }
  try {
    return !tryLockExclusive(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** Takes the directory's lock; the returned function gives it back. */
export function lockDirectory(dir: string): () => void {
  let fd: number;
  try {
    fd = fs.openSync(join(dir, 'lock'), fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  } catch (error) {
    throw unusable(dir, error);
  }
  if (!tryLockExclusive(fd)) {
    const pid = fs.readFileSync(fd, 'utf8').trim();
    fs.closeSync(fd);
    throw new UserError(`Cache directory ${dir} is in use by another hearthfs daemon${pid ? ` (pid ${pid})` : ''}; unmount that one first, or choose another --cache-dir`);
  }
  for (const path of Object.values(hintNames).map((name) => join(dir, name))) if (fs.existsSync(path)) fs.unlinkSync(path); // only who holds the lock removes them
  fs.ftruncateSync(fd, 0);
  try {
    fs.writeSync(fd, `${process.pid}\n`, 0);
  } catch {
    // A full disk: the pid is for people only, the lock holds without it.
  }
  return () => fs.closeSync(fd);
}

function readMountinfo(): string {
  try {
    return fs.readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return ''; // no /proc: nothing to go by
  }
}

/** Fields of proc(5) mountinfo: id parent dev root *mountpoint* options... - *type* source options; spaces are octal escapes. */
export function parseMountinfo(text: string): MountPoint[] {
  const mounts: MountPoint[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ');
    const path = before?.split(' ')[4];
    const type = after?.split(' ')[0];
    if (path === undefined || type === undefined) continue;
    mounts.push({ path: path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))), type });
  }
  return mounts;
}

/** The path with symbolic links followed; throws `UserError` if it leads into a FUSE mount. Missing components stay as they are. */
export function resolveOutsideFuse(path: string, mounts: readonly MountPoint[]): string {
  const fuse = new Set<string>();
  // A later line with the same mount point lies on top.
  for (const mount of mounts) (mount.type === 'fuse' || mount.type.startsWith('fuse.') ? fuse.add(mount.path) : fuse.delete(mount.path));
  let links = 0;
  let done = '/';
  let rest = resolve(path).split('/').filter(Boolean);
  while (rest.length > 0) {
    const next = join(done, rest[0]!);
    if (fuse.has(next)) throw new UserError(`Cannot use ${path} as cache directory: it lies inside the FUSE mount ${next}; choose a directory on a local disk`);
    rest = rest.slice(1);
    let target: string;
    try {
      target = fs.readlinkSync(next);
    } catch {
      done = next; // not a link, or not there
      continue;
    }
    if (++links > 40) throw new UserError(`Cannot use ${path} as cache directory: too many symbolic links`);
    rest = [...resolve(dirname(next), target).split('/').filter(Boolean), ...rest];
    done = '/';
  }
  return done;
}

function notDirectory(dir: string, cause?: unknown): UserError {
  return new UserError(`Cannot use ${dir} as cache directory: it is not a directory; choose another --cache-dir`, 1, { cause });
}

function unusable(dir: string, cause: unknown): UserError {
  const code = errorCode(cause) ?? String(cause);
  const advice = code === 'ENOSPC' ? 'free some space on that disk' : code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? 'make it writable for this user or choose another --cache-dir' : 'choose another --cache-dir';
  return new UserError(`Cannot use ${dir} as cache directory (${code}); ${advice}`, 1, { cause });
}
