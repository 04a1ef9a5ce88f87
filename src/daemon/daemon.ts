/** The daemon: composes everything, serves, and drains when the mount is gone. */
import { randomInt } from 'node:crypto';
import { closeSync, openSync, statfsSync, unlinkSync } from 'node:fs';
import { Errno, errnoName } from '../base/errno.js';
import { SystemError } from '../base/libc.js';
import type { Lifetime } from '../base/lifetime.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { UserError } from '../base/user-error.js';
import { serveControl } from '../control/server.js';
import { DbError } from '../db/db-error.js';
import { announceLeaving, awaitHandover } from '../db/handover.js';
import { BackingView, type AtimeMode } from '../fuse/backing-view.js';
import { Notifier } from '../fuse/notifier.js';
import type { NegotiatedInit } from '../fuse/negotiate.js';
import { closeBacking, openBacking } from '../fuse/passthrough.js';
import { FuseSession } from '../fuse/session.js';
import { serveMetrics } from '../http/metrics.js';
import type { TransferPool } from '../transfer/transfer-pool.js';
import { atimeOf, compose, type Parts } from './compose.js';
import type { MountConfig } from './config.js';
import { DaemonControl } from './control-target.js';
import { controlSocketPath, makeRuntimeDir } from './mountpoint.js';
import type { SupervisorLink } from './supervisor-link.js';

const sessionFact = 'session';
const handleFact = 'file handles';
/** How long a daemon whose mount was taken away by umount(8) goes on uploading before it leaves the rest to the next mount. */
const orphanDrainMs = 60_000;

/** Of this cache directory, whose inode numbers mean nothing to the next one: a handle from before must not find another file. */
function handleGeneration(db: Parts['db']): number {
  const stored = db.fact(handleFact);
  if (stored !== undefined) return Number(stored);
  const made = randomInt(1, 2 ** 31);
  db.setFact(handleFact, String(made));
  return made;
}

/** Until the mount is gone, then the process ends. */
export async function serve(link: SupervisorLink, life: Lifetime, log: Log, metrics: Metrics, opening: Promise<TransferPool>): Promise<void> {
  const { config, generation } = link;
  const startedAtMs = Date.now();
  const late: { notifier?: Notifier } = {};
  const kernel = {
    nameChanged: (parent: number, name: string) => late.notifier?.invalEntry(parent, name, true),
    contentChanged: (ino: number) => late.notifier?.invalInode(ino),
    attributesChanged: (ino: number) => late.notifier?.invalInode(ino, -1),
  };
  if (generation === 0) await awaitHandover(config.cacheDir);
  const parts = await compose(config, generation, opening, kernel, life, log, metrics).catch((error: unknown) => { throw explain(error, config); });
  await link.prepared();

  const stored = generation > 0 ? parts.db.fact(sessionFact) || undefined : undefined;
  const resume = stored === undefined ? undefined : (JSON.parse(stored) as NegotiatedInit);
  const wantsPassthrough = config.passthrough === 'auto' && process.getuid?.() === 0;
  const view = wantsPassthrough ? backingView(parts.contents.directory, atimeOf(config), log) : undefined;
  if (view) life.own(view);
  const usePassthrough = (negotiated: NegotiatedInit): void => {
    if (!negotiated.passthrough) return;
    parts.fs.passthrough.enable({
      ...(view && { openFile: (path: string) => view.openFileLater(path) }),
      open: (path, ready) => {
        if (ready !== undefined) return openBacking(link.device, ready);
        const fd = view?.openFile(path) ?? openSync(path, 'r');
        try {
          return openBacking(link.device, fd);
        } finally {
          closeSync(fd);
        }
      },
      close: (id) => closeBacking(link.device, id),
    });
  };
  if (resume) usePassthrough(resume);
  if (generation === 0) parts.db.setFact(sessionFact, ''); // what an earlier mount negotiated is no news to a successor
  late.notifier = life.own(Notifier.start({ device: link.device, log, metrics }));
  let ended!: () => void;
  const over = new Promise<void>((resolve) => (ended = resolve));
  const session = FuseSession.start({
    device: link.device, fs: parts.fs, log, metrics, resend: generation > 0,
    init: { posixAcl: true, handleGeneration: handleGeneration(parts.db), noFlush: config.writeMode === 'back', ...((view !== undefined || (wantsPassthrough && atimeOf(config) === 'relatime')) && { passthrough: true, maxStackDepth: isOverlay(config.cacheDir) ? 2 : 1 }) },
    ...(resume && { resume }),
    onInit: (negotiated) => {
      parts.db.setFact(sessionFact, JSON.stringify(negotiated));
      usePassthrough(negotiated);
    },
    onEnded: () => ended(),
  });
  life.own(session);

  const control = new DaemonControl({
    ...parts, log, metrics, supervisorPid: link.supervisorPid, startedAtMs,
    unmount: async (lazy) => {
      const errno = await link.unmount(lazy);
      if (errno === undefined) return undefined;
      if (errno === Errno.EBUSY) return 'it is in use: something has a file open or its working directory in it; close it (see `fuser -vm`), or use --lazy';
      return errnoName(errno);
    },
  });
  makeRuntimeDir();
  const socketPath = controlSocketPath(config.mountpoint);
  const server = life.own(await serveControl({ socketPath, log, target: control }));
  if (config.metrics !== undefined) life.own(await serveMetrics(config.metrics, () => control.stats()));
  process.on('SIGTERM', () => void link.unmount(false));
  process.on('SIGINT', () => void link.unmount(false));
  link.serving();
  log.info('serving', { room: 'daemon', mountpoint: config.mountpoint, generation, pid: process.pid });

  await over;
  log.info('the mount is gone', { room: 'daemon' });
  const leaving = announceLeaving(config.cacheDir);
  if (control.unmounted) await control.unmounted;
  else await drainOrphaned(parts, leaving.wanted, log);
  leaving.close();
  await server.close();
  removeQuietly(socketPath); // before the lock is given back: a successor may have the same one
  await life.close();
  process.exit(0);
}

function explain(error: unknown, config: MountConfig): unknown {
  if (!(error instanceof DbError) || error.kind !== 'full') return error;
  return new UserError(`No space left on the disk of the cache directory ${config.cacheDir}; free some, or choose another --cache-dir`, 1, { cause: error });
}

/** Nobody waits for it: until the next mount of the cache directory, which goes on with it, or for a minute. */
async function drainOrphaned(parts: Parts, wanted: AbortSignal, log: Log): Promise<void> {
  await parts.fs.durability.all();
  if (parts.readOnly || parts.journal.count() === 0) return;
  parts.db.tx(() => parts.journal.hastenAll());
  parts.writeback.wake();
  await parts.writeback.drain({ deadlineMs: orphanDrainMs, signal: wanted });
  const left = parts.journal.count();
  if (left > 0) log.warn('changes that S3 does not have stay in the cache directory for the next mount', { room: 'daemon', pending: left });
}

/** Undefined: then the kernel keeps atime as the disk of the cache directory is mounted, mostly with relatime. */
function backingView(directory: string, atime: AtimeMode, log: Log): BackingView | undefined {
  try {
    return BackingView.open(directory, atime);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (atime !== 'relatime') log.warn(`no passthrough: it cannot be kept to ${atime}`, { room: 'daemon', error });
    return undefined;
  }
}

/** OVERLAYFS_SUPER_MAGIC of statfs(2): a cache on it needs one more level of stacking (K7). */
function isOverlay(path: string): boolean {
  return statfsSync(path).type === 0x794c7630;
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // the server removed it already
  }
}
