/**
 * CRC32 per 128 KiB block of a clean, complete, synced content file: a blob of little-endian u32, one per block, the last one
 * short. Computed when there is nothing better to do, block by block, with asynchronous reads; compared by `verify`, by fsck and after
 * a power cut (S6).
 */
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { readUnnoticed } from '../base/disk.js';

export const checksumBlockBytes = 128 * 1024;

/** Of a file whose bytes are in memory. */
export function checksumsOf(bytes: Uint8Array): Buffer {
  const out = Buffer.alloc(Math.ceil(bytes.length / checksumBlockBytes) * 4);
  for (let offset = 0, at = 0; offset < bytes.length; offset += checksumBlockBytes, at += 4) out.writeUInt32LE(crc32(bytes.subarray(offset, offset + checksumBlockBytes)), at);
  return out;
}

/** Undefined if the file changed while it was read. Rejects with the system error if it cannot be read. */
export async function computeChecksums(path: string, unchanged: () => boolean = () => true): Promise<Buffer | undefined> {
  const handle = await open(path, readUnnoticed);
  try {
    const before = await handle.stat({ bigint: true });
    const size = Number(before.size);
    const out = Buffer.alloc(Math.ceil(size / checksumBlockBytes) * 4);
    const block = Buffer.allocUnsafe(checksumBlockBytes);
    for (let offset = 0, at = 0; offset < size; offset += checksumBlockBytes, at += 4) {
      const wanted = Math.min(checksumBlockBytes, size - offset);
      let length = 0;
      while (length < wanted) {
        const { bytesRead } = await handle.read(block, length, wanted - length, offset + length);
        if (bytesRead === 0) return undefined;
        length += bytesRead;
      }
      if (!unchanged()) return undefined;
      out.writeUInt32LE(crc32(block.subarray(0, wanted)), at);
    }
    const after = await handle.stat({ bigint: true });
    return after.ctimeNs === before.ctimeNs && after.size === before.size ? out : undefined;
  } finally {
    await handle.close();
  }
}
