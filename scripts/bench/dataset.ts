/** The files that are measured with: made once per run from a fixed seed, so that every system gets the same bytes. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { quote, sh } from '../../test/support/child.js';

/** xorshift128: fast enough to fill a GiB, and no compressor or deduplicator finds anything. */
export class Random {
  private readonly state: Uint32Array;
  constructor(seed: number) {
    this.state = Uint32Array.of(seed | 1, 0x9e3779b9, 0x7f4a7c15, 0xf39cc060);
  }
  next(): number {
    const s = this.state;
    let t = s[3]!;
    const first = s[0]!;
    s[3] = s[2]!;
    s[2] = s[1]!;
    s[1] = first;
    t ^= t << 11;
    t ^= t >>> 8;
    s[0] = t ^ first ^ (first >>> 19);
    return s[0]!;
  }
  /** In [low, high). */
  between(low: number, high: number): number {
    return low + (this.next() % (high - low));
  }
  bytes(length: number): Buffer {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.next();
    return Buffer.from(words.buffer, 0, length);
  }
}

export interface SmallFile { readonly name: string; readonly sizeBytes: number }

/** `count` files in directories of 100, `low` to `high` bytes each. */
export function smallFiles(count: number, low: number, high: number): SmallFile[] {
  const random = new Random(count);
  return Array.from({ length: count }, (_, i) => ({ name: `d${String(Math.floor(i / 100)).padStart(4, '0')}/f${String(i).padStart(6, '0')}.bin`, sizeBytes: random.between(low, high) }));
}

export class Dataset {
  constructor(readonly dir: string) {
    mkdirSync(dir, { recursive: true });
  }

  /** A directory with the small files in it, and a tar of it. */
  async tree(name: string, files: readonly SmallFile[]): Promise<{ dir: string; tar: string }> {
    const dir = path.join(this.dir, name);
    const tar = `${dir}.tar`;
    if (!existsSync(tar)) {
      const random = new Random(7);
      const pool = random.bytes(1 << 20);
      for (const file of files) {
        const target = path.join(dir, file.name);
        mkdirSync(path.dirname(target), { recursive: true });
        const at = random.between(0, pool.length - file.sizeBytes);
        writeFileSync(target, pool.subarray(at, at + file.sizeBytes));
      }
      await sh(`cd ${quote(dir)} && tar cf ${quote(tar)} *`, { timeoutMs: 120_000 }); // not the directory itself: s3fs cannot chmod its root
    }
    return { dir, tar };
  }

  /** One file of random bytes. */
  big(sizeBytes: number): { path: string; sha256: string } {
    const target = path.join(this.dir, `big-${sizeBytes}`);
    const random = new Random(sizeBytes);
    const hash = createHash('sha256');
    const fd = openSync(target, 'w');
    for (let at = 0; at < sizeBytes; at += 4 << 20) {
      const piece = random.bytes(Math.min(4 << 20, sizeBytes - at));
      hash.update(piece);
      writeSync(fd, piece);
    }
    closeSync(fd);
    return { path: target, sha256: hash.digest('hex') };
  }
}
