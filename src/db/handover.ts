/**
 * From one daemon of a cache directory to the next. A daemon whose mount is gone still uploads for a while and holds the directory's lock meanwhile; who
 * mounts again need not wait for that, nor be refused. Two files in the directory are how they talk, as they may not see each other's processes
 * (containers): `leaving`, the holder of the lock has no mount any more; `wanted`, someone waits for the lock. Both are hints: the lock alone decides, and
 * whoever takes it removes them (`lockDirectory`).
 */
import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { claimDirectory, hintNames, isLocked } from './state-dir.js';

const pollMs = 50;
/** A request in flight is cut off, and what was done is written down: seconds on a slow disk. */
const handoverMs = 30_000;

/** Says that this daemon goes; its lock is given back as ever. `wanted` fires when someone waits for it. */
export function announceLeaving(dir: string): { readonly wanted: AbortSignal; close(): void } {
  const wanted = new AbortController();
  writeHint(join(dir, hintNames.leaving));
  const timer = setInterval(() => {
    if (fs.existsSync(join(dir, hintNames.wanted))) wanted.abort();
  }, pollMs).unref();
  return { wanted: wanted.signal, close: () => clearInterval(timer) };
}

/** Waits for a daemon that is leaving; returns at once where none is. Who then finds the directory locked is refused. @throws UserError if it cannot be used at all */
export async function awaitHandover(dir: string, deadlineMs = handoverMs): Promise<void> {
  claimDirectory(dir);
  const until = performance.now() + deadlineMs;
  while (fs.existsSync(join(dir, hintNames.leaving)) && isLocked(dir) && performance.now() < until) {
    writeHint(join(dir, hintNames.wanted));
    await delay(pollMs);
  }
}

function writeHint(path: string): void {
  try {
    fs.writeFileSync(path, '');
  } catch {
    // a full disk: then the other waits longer
  }
}
