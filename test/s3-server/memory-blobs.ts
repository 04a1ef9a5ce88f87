/** Test and demo equipment, not product: blobs in memory, as lists of pieces of at most 8 MiB. */
import { CountedBlobs, type BlobId, type BlobReader, type BlobStore, type BlobWriter } from './blob-store.js';

const pieceBytes = 8 << 20;

interface MemoryBlob { readonly pieces: readonly Buffer[] }

export class MemoryBlobs extends CountedBlobs implements BlobStore {
  private readonly blobs = new Map<BlobId, MemoryBlob>();
  private lastId = 0;

  create(sizeBytes?: number): BlobWriter {
    const pieces: Buffer[] = [];
    let piece: Buffer | undefined;
    let fill = 0;
    let written = 0;
    return {
      write: (bytes) => {
        for (let at = 0; at < bytes.length;) {
          // Unknown sizes get pieces of their own length: most such bodies are one chunk.
          piece ??= Buffer.allocUnsafeSlow(Math.min(pieceBytes, sizeBytes === undefined ? bytes.length - at : Math.max(sizeBytes - written, bytes.length - at)));
          const copied = bytes.copy(piece, fill, at);
          at += copied;
          fill += copied;
          written += copied;
          if (fill === piece.length) {
            pieces.push(piece);
            piece = undefined;
            fill = 0;
          }
        }
        return undefined;
      },
      finish: () => {
        if (piece && fill > 0) pieces.push(Buffer.from(piece.subarray(0, fill)));
        const id = ++this.lastId;
        this.blobs.set(id, { pieces });
        this.retain(id);
        return id;
      },
      abort: () => undefined,
    };
  }

  open(id: BlobId): BlobReader {
    const blob = this.blobs.get(id);
    if (!blob) throw new Error(`Blob ${id} is gone`);
    return {
      read: (start, length) => {
        let at = 0;
        for (const piece of blob.pieces) {
          if (start < at + piece.length) return piece.subarray(start - at, start - at + length);
          at += piece.length;
        }
        throw new Error(`Cannot read blob ${id} at ${start}: it has ${at} bytes`);
      },
      close: () => undefined,
    };
  }

  close(): Promise<void> {
    this.blobs.clear();
    return Promise.resolve();
  }

  protected remove(id: BlobId): void {
    this.blobs.delete(id);
  }
}
