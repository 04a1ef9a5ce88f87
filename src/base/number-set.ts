/** Numbers per chunk: 4 KiB of bits. */
const chunkBits = 32_768;

interface Chunk { readonly bits: Uint32Array; count: number }

/**
 * A set of non-negative safe integers that lie close together, such as inode numbers: one bit each, where a `Set` takes some 40 bytes. Ranges
 * with nothing in them take nothing.
 */
export class NumberSet {
  private readonly chunks = new Map<number, Chunk>();

  has(value: number): boolean {
    const bits = this.chunks.get(Math.floor(value / chunkBits))?.bits;
    const at = value % chunkBits;
    return bits !== undefined && (bits[at >>> 5]! & (1 << (at & 31))) !== 0;
  }

  add(value: number): void {
    if (this.has(value)) return;
    const index = Math.floor(value / chunkBits);
    let chunk = this.chunks.get(index);
    if (!chunk) this.chunks.set(index, (chunk = { bits: new Uint32Array(chunkBits / 32), count: 0 }));
    const at = value % chunkBits;
    chunk.bits[at >>> 5]! |= 1 << (at & 31);
    chunk.count++;
  }

  delete(value: number): void {
    if (!this.has(value)) return;
    const index = Math.floor(value / chunkBits);
    const chunk = this.chunks.get(index)!;
    const at = value % chunkBits;
    chunk.bits[at >>> 5]! &= ~(1 << (at & 31));
    if (--chunk.count === 0) this.chunks.delete(index);
  }

  /** Chunks that take memory. */
  get chunkCount(): number { return this.chunks.size; }
}
