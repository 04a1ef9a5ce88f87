/**
 * Test and demo equipment, not product: where bytes live. A blob is immutable once finished and counted: objects, parts, requests
 * that read it and requests that have just written it each hold one reference, and at zero the bytes go. So a GET in progress keeps
 * its old bytes while the object is replaced, and copying a whole object or completing an upload moves no byte.
 */
export type BlobId = number;

/** A piece of an object: `length` bytes of a blob from `start`. */
export interface Segment { readonly blob: BlobId; readonly start: number; readonly length: number }

export interface BlobWriter {
  /** Copies the bytes. A promise is the wish to wait for the disk before more is written. */
  write(bytes: Buffer): Promise<void> | undefined;
  /** The finished blob, with one reference that belongs to the caller. */
  finish(): BlobId | Promise<BlobId>;
  /** Drops everything written. */
  abort(): void;
}

export interface BlobReader {
  /** Between 1 and `length` bytes from `start`; the caller must not ask past the end. The buffer may be kept but not changed. */
  read(start: number, length: number): Buffer | Promise<Buffer>;
  close(): void;
}

export interface BlobStore {
  /** `sizeBytes` if known beforehand. */
  create(sizeBytes?: number): BlobWriter;
  open(id: BlobId): BlobReader;
  retain(id: BlobId): void;
  release(id: BlobId): void;
  close(): Promise<void>;
}

export abstract class CountedBlobs {
  private readonly counts = new Map<BlobId, number>();

  retain(id: BlobId): void {
    this.counts.set(id, (this.counts.get(id) ?? 0) + 1);
  }
  release(id: BlobId): void {
    const left = (this.counts.get(id) ?? 0) - 1;
    if (left > 0) {
      this.counts.set(id, left);
    } else {
      this.counts.delete(id);
      this.remove(id);
    }
  }
  protected isReferenced(id: BlobId): boolean {
    return this.counts.has(id);
  }
  protected abstract remove(id: BlobId): void;
}

export function retainAll(store: BlobStore, segments: readonly Segment[]): void {
  for (const segment of segments) store.retain(segment.blob);
}
export function releaseAll(store: BlobStore, segments: readonly Segment[]): void {
  for (const segment of segments) store.release(segment.blob);
}

/** The segments that make up `length` bytes from `start` of what `segments` make up. */
export function slice(segments: readonly Segment[], start: number, length: number): Segment[] {
  const out: Segment[] = [];
  let at = 0;
  for (const segment of segments) {
    const from = Math.max(start, at);
    const to = Math.min(start + length, at + segment.length);
    if (from < to) out.push({ blob: segment.blob, start: segment.start + from - at, length: to - from });
    at += segment.length;
    if (at >= start + length) break;
  }
  return out;
}

/** All bytes of the segments, piece by piece. The caller keeps the blobs referenced meanwhile. */
export async function* readSegments(store: BlobStore, segments: readonly Segment[]): AsyncGenerator<Buffer> {
  for (const segment of segments) {
    const reader = store.open(segment.blob);
    try {
      for (let done = 0; done < segment.length;) {
        const bytes = await reader.read(segment.start + done, segment.length - done);
        done += bytes.length;
        yield bytes;
      }
    } finally {
      reader.close();
    }
  }
}
