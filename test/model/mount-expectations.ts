/** What must be equal: the tree in the mount and the plain one, and what S3 holds. */
import { createHash } from 'node:crypto';
import { inParallel, type TestBucket } from '../support/s3.js';

/** As `hands.py` describes it. */
export interface Entry {
  readonly path: string;
  readonly type: 'file' | 'dir' | 'link' | 'fifo';
  readonly mode: string;
  readonly owner: string;
  readonly ino: number;
  readonly links: number;
  readonly mtime: string;
  readonly size?: number;
  readonly sha1?: string;
  readonly target?: string;
  readonly xattrs?: Readonly<Record<string, string>>;
}

const compared = ['type', 'mode', 'owner', 'size', 'sha1', 'target', 'xattrs'] as const;

export function treeDifferences(wanted: readonly Entry[], found: readonly Entry[]): string[] {
  const differences: string[] = [];
  const byPath = new Map(found.map((entry) => [entry.path, entry]));
  const inodes = new Map<number, number>();
  for (const entry of wanted) {
    const match = byPath.get(entry.path);
    byPath.delete(entry.path);
    if (!match) {
      differences.push(`${entry.path} is missing`);
      continue;
    }
    for (const field of compared) {
      const [got, right] = [JSON.stringify(match[field]), JSON.stringify(entry[field])];
      if (got !== right) differences.push(`${entry.path}: ${field} is ${got} instead of ${right}`);
    }
    if (entry.type === 'dir') continue;
    if (match.links !== entry.links) differences.push(`${entry.path}: ${match.links} links instead of ${entry.links}`);
    const other = inodes.get(entry.ino);
    if (other === undefined) inodes.set(entry.ino, match.ino);
    else if (other !== match.ino) differences.push(`${entry.path} is no name of the same file any more`);
  }
  for (const path of byPath.keys()) differences.push(`${path} should not be there`);
  return differences;
}

/** Times set by `utimes` lie before; those of changes lie after. */
const setBefore = 1_500_000_000n * 10n ** 9n;
/** The two clocks are read at different moments. */
const togetherNs = 20n * 10n ** 9n;

interface Seen { readonly wanted: string; readonly found: string; readonly deaths: number }

/**
 * What a modification time must be: the one that was set; else it moves when the plain one does, and only then. Of what was being written when a daemon
 * died the time is that of the content file, a moment beside the one before. Of what is written through a mapping the kernel decides.
 */
export class TimeRules {
  private deaths = 0;
  private readonly loose = new Set<number>();
  private readonly others = new Set<number>();
  private readonly seen = new Map<number, Seen>();

  daemonDied(): void { this.deaths++; }
  mapped(ino: number): void { this.loose.add(ino); }

  /** Another client's object came or went: its time is S3's, and its directory's moves or not. */
  foreign(ino: number | undefined): void {
    this.seen.clear();
    if (ino === undefined) return;
    this.loose.add(ino);
    this.others.add(ino);
  }

  isForeign(ino: number): boolean { return this.others.has(ino); }

  differences(wanted: readonly Entry[], found: readonly Entry[]): string[] {
    const differences: string[] = [];
    const byPath = new Map(found.map((entry) => [entry.path, entry]));
    for (const entry of wanted) {
      const match = byPath.get(entry.path);
      if (!match) continue;
      const right = BigInt(entry.mtime);
      const got = BigInt(match.mtime);
      if (right < setBefore) {
        if (got !== right && !this.loose.has(entry.ino)) differences.push(`${entry.path}: mtime is ${got} instead of ${right}`);
        continue;
      }
      const apart = got > right ? got - right : right - got;
      if (apart > togetherNs && !this.others.has(entry.ino)) differences.push(`${entry.path}: mtime is ${got}, and should be about ${right}`);
      const before = this.seen.get(entry.ino);
      this.seen.set(entry.ino, { wanted: entry.mtime, found: match.mtime, deaths: this.deaths });
      if (!before || this.loose.has(entry.ino) || before.deaths !== this.deaths) continue;
      if (before.wanted === entry.mtime && before.found !== match.mtime) differences.push(`${entry.path}: mtime moved from ${before.found} to ${match.mtime} without a change`);
      if (before.wanted !== entry.mtime && before.found === match.mtime) differences.push(`${entry.path}: mtime is still ${match.mtime} after a change`);
    }
    return differences;
  }
}

const typeBits = { file: 0o100000, dir: 0o040000, link: 0o120000, fifo: 0o010000 };

/** S3 holds the tree as any client reads it, and nothing else. `shown` is what the mount says of it: times in S3 are those. */
export async function storeDifferences(
  wanted: readonly Entry[], shown: readonly Entry[], bucket: TestBucket, directory: string, loose: { isForeign(path: string): boolean; isLoose(ino: number): boolean },
): Promise<string[]> {
  const differences: string[] = [];
  const times = new Map(shown.map((entry) => [entry.path, entry.mtime]));
  const keys = new Set((await bucket.keys(`${directory}/`)).map((key) => key.slice(directory.length + 1)));
  keys.delete(''); // the marker of the directory itself
  await inParallel(8, wanted, async (entry) => {
    const key = entry.type === 'dir' ? `${entry.path}/` : entry.path;
    if (!keys.delete(key)) {
      if (key !== 'z/') differences.push(`object ${key} is missing`); // what only others use needs no marker
      return;
    }
    const { bytes, metadata } = await bucket.object(`${directory}/${key}`);
    if (entry.type === 'link' ? bytes.toString() !== entry.target : entry.type === 'file' && !loose.isLoose(entry.ino) && sha1(bytes) !== entry.sha1) {
      differences.push(`object ${key} holds other bytes (${bytes.length})`);
    }
    if (loose.isForeign(entry.path) || metadata['mode'] === undefined && loose.isLoose(entry.ino)) return;
    const mode = typeBits[entry.type] | parseInt(entry.mode.slice(2), 8);
    if (Number(metadata['mode']) !== mode) differences.push(`object ${key}: mode is ${metadata['mode']} instead of ${mode}`);
    if (`${metadata['uid']}:${metadata['gid']}` !== entry.owner) differences.push(`object ${key}: owner is ${metadata['uid']}:${metadata['gid']} instead of ${entry.owner}`);
    if (!loose.isLoose(entry.ino) && timeOf(metadata['mtime']) !== times.get(entry.path)) differences.push(`object ${key}: mtime is ${metadata['mtime']} instead of ${times.get(entry.path)}`);
  });
  for (const key of keys) differences.push(`object ${key} should not be there`);
  return differences;
}

function sha1(bytes: Buffer): string { return createHash('sha1').update(bytes).digest('hex'); }

function timeOf(text: string | undefined): string {
  const [sec, nsec = ''] = (text ?? '').split('.');
  return String(BigInt(sec!) * 10n ** 9n + BigInt(nsec.padEnd(9, '0')));
}
