import { closeSync, mkdtempSync, readFileSync, readSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BackingView, type AtimeMode } from './backing-view.js';

let dir: string;
beforeEach(() => { dir = mkdtempSync(join(tmpdir(), 'hearthfs-view-')); });
afterEach(() => rmSync(dir, { recursive: true }));

/** Reads the file through a view after each of the times it was given: did its atime move? */
function moves(atime: AtimeMode): boolean[] {
  const path = join(dir, 'file');
  const view = BackingView.open(dir, atime);
  try {
    return [{ atime: 1000, mtime: 2000 }, { atime: 1_900_000_000, mtime: 2000 }].map((times) => {
      writeFileSync(path, 'text');
      utimesSync(path, times.atime, times.mtime);
      // ctime is now: an atime in the future is later than that, too
      if (times.atime > 1_000_000_000) utimesSync(path, Date.now() / 1000 + 3600, times.mtime);
      const before = statSync(path).atimeMs;
      const fd = view.openFile(path);
      const buffer = Buffer.alloc(10);
      expect(buffer.toString('latin1', 0, readSync(fd, buffer))).toBe('text');
      closeSync(fd);
      return statSync(path).atimeMs !== before;
    });
  } finally {
    view.close();
  }
}

test.skipIf(process.getuid!() !== 0)('atime is kept as the view says, whatever the disk is mounted with', () => {
  expect({ relatime: moves('relatime'), noatime: moves('noatime'), strictatime: moves('strictatime') }).toEqual({ relatime: [true, false], noatime: [false, false], strictatime: [true, true] });
});

test.skipIf(process.getuid!() !== 0)('a closed view is no mount any more', () => {
  const mounts = (): number => readFileSync('/proc/self/mountinfo', 'utf8').split('\n').length;
  const before = mounts();
  const view = BackingView.open(dir, 'noatime');
  expect(mounts()).toBe(before);
  view.close();
  expect(mounts()).toBe(before);
});
