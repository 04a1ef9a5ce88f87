/**
 * /proc/self/mountinfo: the only way to ask about a mount without touching it (a `stat` on a mount whose daemon hangs hangs too).
 * Format: proc_pid_mountinfo(5). Space, tab, newline and backslash in paths are octal escapes.
 */
import fs from 'node:fs';

export const fsType = 'fuse.hearthfs';

export interface MountEntry {
  readonly id: number;
  /** `major:minor` of the superblock: names its directory below /sys/class/bdi. */
  readonly device: string;
  readonly mountpoint: string;
  readonly options: string;
  readonly type: string;
  readonly source: string;
}

export function parseMountinfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [front, back] = line.split(' - ');
    if (front === undefined || back === undefined) continue;
    const [id, , device, , mountpoint, options] = front.split(' ');
    const [type, source] = back.split(' ');
    if (id === undefined || device === undefined || mountpoint === undefined || type === undefined) continue;
    entries.push({ id: Number(id), device, mountpoint: unescape(mountpoint), options: options ?? '', type, source: unescape(source ?? '') });
  }
  return entries;
}

export function readMountinfo(): MountEntry[] {
  return parseMountinfo(fs.readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** What is mounted at exactly this path, if several then the topmost: later lines are mounted over earlier ones. */
export function mountAt(entries: readonly MountEntry[], path: string): MountEntry | undefined {
  return entries.findLast((entry) => entry.mountpoint === path);
}

/** The mount a path lies in, judged by its text alone. */
export function mountContaining(entries: readonly MountEntry[], path: string): MountEntry | undefined {
  let best: MountEntry | undefined;
  for (const entry of entries) {
    if (isInside(entry.mountpoint, path) && (!best || entry.mountpoint.length >= best.mountpoint.length)) best = entry;
  }
  return best;
}

/** `inner` is `outer` or below it. Both absolute and normal. */
export function isInside(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith('/') ? outer : `${outer}/`);
}

function unescape(text: string): string {
  if (!text.includes('\\')) return text;
  const bytes = Buffer.from(text, 'utf8').toString('latin1').replace(/\\([0-7]{3})/g, (_match, octal: string) => String.fromCharCode(parseInt(octal, 8)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
