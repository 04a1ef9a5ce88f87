/**
 * Test and demo equipment, not product: the checksum algorithms of S3 (all big-endian bytes, base64 on the wire), incremental, and
 * the joining of CRCs of parts into the CRC of the whole. Expected values: CRC catalogue check values of "123456789" (see the test).
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const algorithms = ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] as const;
export type Algorithm = (typeof algorithms)[number];

export interface Checksum {
  update(bytes: Buffer): void;
  digest(): Buffer;
}

export function createChecksum(algorithm: Algorithm): Checksum {
  switch (algorithm) {
    case 'CRC32': return new Crc32();
    case 'CRC32C': return new Crc32c();
    case 'CRC64NVME': return new Crc64();
    case 'SHA1': return createHash('sha1');
    case 'SHA256': return createHash('sha256');
  }
}

export function headerOf(algorithm: Algorithm): string {
  return `x-amz-checksum-${algorithm.toLowerCase()}`;
}

/** The element name in XML: ChecksumCRC32 and so on. */
export function elementOf(algorithm: Algorithm): string {
  return `Checksum${algorithm}`;
}

export function parseAlgorithm(text: string | undefined): Algorithm | undefined {
  const upper = text?.toUpperCase();
  return algorithms.find((one) => one === upper);
}

export function digestBytes(algorithm: Algorithm): number {
  return { CRC32: 4, CRC32C: 4, CRC64NVME: 8, SHA1: 20, SHA256: 32 }[algorithm];
}

class Crc32 implements Checksum {
  private value = 0;
  update(bytes: Buffer): void { this.value = crc32(bytes, this.value); }
  digest(): Buffer { return uint32(this.value); }
}

const poly = { CRC32: 0xedb88320n, CRC32C: 0x82f63b78n, CRC64NVME: 0x9a6c9329ac4bc9b5n } as const;

/** Eight tables for slicing by eight: entry [k * 256 + byte] is `byte` followed by k zero bytes. */
function tables(polynomial: bigint): { low: Uint32Array; high: Uint32Array } {
  const low = new Uint32Array(2048);
  const high = new Uint32Array(2048);
  const first: bigint[] = [];
  for (let byte = 0; byte < 256; byte++) {
    let value = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) value = value & 1n ? (value >> 1n) ^ polynomial : value >> 1n;
    first.push(value);
  }
  for (let byte = 0; byte < 256; byte++) {
    let value = first[byte]!;
    for (let k = 0; k < 8; k++) {
      low[k * 256 + byte] = Number(value & 0xffffffffn);
      high[k * 256 + byte] = Number(value >> 32n);
      value = (value >> 8n) ^ first[Number(value & 0xffn)]!;
    }
  }
  return { low, high };
}

let table32c: Uint32Array | undefined;
let table64: { low: Uint32Array; high: Uint32Array } | undefined;

class Crc32c implements Checksum {
  private value = 0xffffffff | 0;
  update(bytes: Buffer): void {
    const t = (table32c ??= tables(poly.CRC32C).low);
    let c = this.value;
    let i = 0;
    for (const end = bytes.length - 7; i < end; i += 8) {
      c ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
      c = t[1792 + (c & 255)]! ^ t[1536 + ((c >>> 8) & 255)]! ^ t[1280 + ((c >>> 16) & 255)]! ^ t[1024 + (c >>> 24)]!
        ^ t[768 + bytes[i + 4]!]! ^ t[512 + bytes[i + 5]!]! ^ t[256 + bytes[i + 6]!]! ^ t[bytes[i + 7]!]!;
    }
    for (; i < bytes.length; i++) c = t[(c ^ bytes[i]!) & 255]! ^ (c >>> 8);
    this.value = c;
  }
  digest(): Buffer { return uint32(~this.value >>> 0); }
}

class Crc64 implements Checksum {
  private low = 0xffffffff | 0;
  private high = 0xffffffff | 0;
  update(bytes: Buffer): void {
    const { low: tl, high: th } = (table64 ??= tables(poly.CRC64NVME));
    let l = this.low;
    let h = this.high;
    let i = 0;
    for (const end = bytes.length - 7; i < end; i += 8) {
      l ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
      h ^= bytes[i + 4]! | (bytes[i + 5]! << 8) | (bytes[i + 6]! << 16) | (bytes[i + 7]! << 24);
      const a = 1792 + (l & 255), b = 1536 + ((l >>> 8) & 255), c = 1280 + ((l >>> 16) & 255), d = 1024 + (l >>> 24);
      const e = 768 + (h & 255), f = 512 + ((h >>> 8) & 255), g = 256 + ((h >>> 16) & 255), k = h >>> 24;
      l = tl[a]! ^ tl[b]! ^ tl[c]! ^ tl[d]! ^ tl[e]! ^ tl[f]! ^ tl[g]! ^ tl[k]!;
      h = th[a]! ^ th[b]! ^ th[c]! ^ th[d]! ^ th[e]! ^ th[f]! ^ th[g]! ^ th[k]!;
    }
    for (; i < bytes.length; i++) {
      const at = (l ^ bytes[i]!) & 255;
      l = ((l >>> 8) | (h << 24)) ^ tl[at]!;
      h = (h >>> 8) ^ th[at]!;
    }
    this.low = l;
    this.high = h;
  }
  digest(): Buffer {
    const out = Buffer.allocUnsafe(8);
    out.writeUInt32BE(~this.high >>> 0, 0);
    out.writeUInt32BE(~this.low >>> 0, 4);
    return out;
  }
}

function uint32(value: number): Buffer {
  const out = Buffer.allocUnsafe(4);
  out.writeUInt32BE(value >>> 0);
  return out;
}

export type CrcAlgorithm = keyof typeof poly;

export function isCrc(algorithm: Algorithm): algorithm is CrcAlgorithm {
  return algorithm in poly;
}

/** The CRC of A followed by B, from both CRCs and B's length: crc(A) times x^(8 length) modulo the polynomial, plus crc(B). */
export function joinCrc(algorithm: CrcAlgorithm, a: Buffer, b: Buffer, lengthOfB: number): Buffer {
  const width = BigInt(a.length * 8);
  const polynomial = poly[algorithm];
  let power = 1n << (width - 1n); // x^0: the highest bit, for bits are reflected
  let square = 1n << (width - 2n); // x^1
  for (let exponent = BigInt(lengthOfB) * 8n; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) power = multiply(square, power, width, polynomial);
    square = multiply(square, square, width, polynomial);
  }
  const joined = multiply(power, BigInt(`0x${a.toString('hex')}`), width, polynomial) ^ BigInt(`0x${b.toString('hex')}`);
  return Buffer.from(joined.toString(16).padStart(a.length * 2, '0'), 'hex');
}

function multiply(a: bigint, b: bigint, width: bigint, polynomial: bigint): bigint {
  let product = 0n;
  for (let mask = 1n << (width - 1n); mask > 0n; mask >>= 1n) {
    if (a & mask) product ^= b;
    b = b & 1n ? (b >> 1n) ^ polynomial : b >> 1n;
  }
  return product;
}
