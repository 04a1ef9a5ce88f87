/**
 * SHA-256 of the blocks of big files as they were sent: how a file the kernel writes by itself is compared with what S3 holds. A cryptographic digest, since
 * a block that looks equal is not sent: CRCs would lose a change once in four billion.
 */
import type { FileHandle } from 'node:fs/promises';
import { webcrypto } from 'node:crypto';
import type { Db } from '../db/db.js';

export const digestBytes = 32;
const unknown = Buffer.alloc(digestBytes);

export interface BlockDigests {
  readonly gen: number;
  readonly blockBytes: number;
  readonly sizeBytes: number;
  /** `digestBytes` per block; zeros: not known. */
  readonly sums: Buffer;
}

interface Row { gen: number; block: number; size: number; sums: Buffer }

export class BlockDigestTable {
  constructor(private readonly db: Db) {}

  get(ino: number): BlockDigests | undefined {
    const row = this.db.prepare<[number], Row>('SELECT gen, block, size, sums FROM block_digest WHERE ino = ?').get(ino);
    return row && { gen: row.gen, blockBytes: row.block, sizeBytes: row.size, sums: row.sums };
  }

  /** True without reading the digests: there are some of this generation. */
  has(ino: number, gen: number): boolean {
    return this.db.prepare<[number, number]>('SELECT 1 FROM block_digest WHERE ino = ? AND gen = ?').get(ino, gen) !== undefined;
  }

  /** In a transaction. */
  put(ino: number, { gen, blockBytes, sizeBytes, sums }: BlockDigests): void {
    this.db.prepare('INSERT OR REPLACE INTO block_digest (ino, gen, block, size, sums) VALUES (?, ?, ?, ?, ?)').run(ino, gen, blockBytes, sizeBytes, sums);
  }

  /** In a transaction: those of inodes that are gone. Once per start is often enough: the rows are small, and few. */
  sweep(): void {
    this.db.prepare('DELETE FROM block_digest WHERE ino NOT IN (SELECT ino FROM inode)').run();
  }
}

export function noDigests(gen: number, sizeBytes: number, blockBytes: number): BlockDigests {
  return { gen, blockBytes, sizeBytes, sums: Buffer.alloc(Math.ceil(sizeBytes / blockBytes) * digestBytes) };
}

/** undefined: not known. */
export function sumOf({ sums }: BlockDigests, index: number): Buffer | undefined {
  const sum = sums.subarray(index * digestBytes, (index + 1) * digestBytes);
  return sum.length < digestBytes || sum.equals(unknown) ? undefined : sum;
}

/** Notes the digest of [start, end), if that is a whole block. */
export function noteSum(digests: BlockDigests, start: number, end: number, sum: Uint8Array): void {
  const { blockBytes, sizeBytes, sums } = digests;
  if (start % blockBytes === 0 && end === Math.min(sizeBytes, start + blockBytes)) sums.set(sum, (start / blockBytes) * digestBytes);
}

/** Reads and digests in libuv's pool. `into` is at least as long as the range; null if the file ends before. */
export async function digestRange(file: FileHandle, into: Buffer, start: number, end: number): Promise<Buffer | null> {
  const length = end - start;
  for (let at = 0; at < length;) {
    const { bytesRead } = await file.read(into, at, length - at, start + at);
    if (bytesRead === 0) return null;
    at += bytesRead;
  }
  return Buffer.from(await webcrypto.subtle.digest('SHA-256', into.subarray(0, length)));
}
