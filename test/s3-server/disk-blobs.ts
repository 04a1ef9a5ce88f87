/**
 * Test and demo equipment, not product: blobs as files `blobs/<id modulo 256>/<id>` of a directory. Blocks of 64 KiB that are all
 * zero are not written, so a sparse object of many GiB costs next to nothing. Files survive a kill of the process (no fsync: this
 * is no database). What the journal does not reference after a restart is swept away.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { CountedBlobs, type BlobId, type BlobReader, type BlobStore, type BlobWriter } from './blob-store.js';

const blockBytes = 64 << 10;
const bufferBytes = 1 << 20;
/** Writes in flight before the client is made to wait. */
const inFlightBuffersMax = 4;
const readBytesMax = 512 << 10;
/** Up to here a read is done on the spot: cheaper than a trip through the thread pool. */
const syncReadBytesMax = 64 << 10;
const zeros = Buffer.alloc(blockBytes);

export class DiskBlobs extends CountedBlobs implements BlobStore {
  private readonly root: string;
  private readonly spareBuffers: Buffer[] = [];
  private lastId = 0;
  /** While the journal is replayed, references come and go without touching files. */
  private replaying = true;

  constructor(directory: string) {
    super();
    this.root = join(directory, 'blobs');
    for (let i = 0; i < 256; i++) fs.mkdirSync(join(this.root, i.toString(16).padStart(2, '0')), { recursive: true });
  }

  /** Call once the journal is replayed. */
  sweep(): void {
    this.replaying = false;
    for (const folder of fs.readdirSync(this.root)) {
      for (const name of fs.readdirSync(join(this.root, folder))) {
        const id = Number(name);
        this.lastId = Math.max(this.lastId, id);
        if (!this.isReferenced(id)) fs.unlinkSync(join(this.root, folder, name));
      }
    }
  }

  create(sizeBytes?: number): BlobWriter {
    const id = ++this.lastId;
    return new DiskWriter(this.path(id), sizeBytes, this.spareBuffers, () => {
      this.retain(id);
      return id;
    });
  }

  open(id: BlobId): BlobReader {
    const fd = fs.openSync(this.path(id), 'r');
    let reading = 0;
    let closed = false;
    const closeIfIdle = (): void => {
      if (closed && reading === 0) fs.closeSync(fd);
    };
    return {
      read: (start, length) => {
        const buffer = Buffer.allocUnsafeSlow(Math.min(length, readBytesMax));
        if (buffer.length <= syncReadBytesMax) return whole(id, start, buffer, fs.readSync(fd, buffer, 0, buffer.length, start));
        reading++;
        return new Promise((resolve, reject) => {
          fs.read(fd, buffer, 0, buffer.length, start, (error, count) => {
            reading--;
            closeIfIdle();
            if (error) reject(error);
            else if (count === 0) reject(new Error(`Cannot read blob ${id} at ${start}: past its end`));
            else resolve(buffer.subarray(0, count));
          });
        });
      },
      close: () => {
        if (closed) return;
        closed = true;
        closeIfIdle();
      },
    };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  protected remove(id: BlobId): void {
    if (!this.replaying) fs.unlinkSync(this.path(id));
  }

  private path(id: BlobId): string {
    return join(this.root, (id & 255).toString(16).padStart(2, '0'), String(id));
  }
}

function whole(id: BlobId, start: number, buffer: Buffer, count: number): Buffer {
  if (count === 0) throw new Error(`Cannot read blob ${id} at ${start}: past its end`);
  return count === buffer.length ? buffer : buffer.subarray(0, count);
}

class DiskWriter implements BlobWriter {
  private fd = -1;
  private buffer: Buffer | undefined;
  private fill = 0;
  /** Offset of the buffer's first byte in the file; always a multiple of the block size. */
  private position = 0;
  private inFlight = 0;
  private failure: Error | undefined;
  private aborted = false;
  private wake: (() => void) | undefined;

  constructor(private readonly path: string, private readonly sizeBytes: number | undefined, private readonly spare: Buffer[], private readonly finished: () => BlobId) {}

  write(bytes: Buffer): Promise<void> | undefined {
    for (let at = 0; at < bytes.length;) {
      this.buffer ??= this.sizeBytes !== undefined && this.sizeBytes < bufferBytes
        ? Buffer.allocUnsafeSlow(Math.max(this.sizeBytes, bytes.length)) : (this.spare.pop() ?? Buffer.allocUnsafeSlow(bufferBytes));
      const copied = bytes.copy(this.buffer, this.fill, at);
      at += copied;
      this.fill += copied;
      if (this.fill === this.buffer.length && this.fill === bufferBytes) this.flush(this.buffer);
      else if (this.fill === this.buffer.length && at < bytes.length) this.grow();
    }
    return this.inFlight >= inFlightBuffersMax ? this.below(inFlightBuffersMax) : undefined;
  }

  finish(): BlobId | Promise<BlobId> {
    if (this.fd < 0) {
      // Small: open, write, close at once.
      this.fd = fs.openSync(this.path, 'w');
      if (this.buffer && this.fill > 0) for (const [from, to] of dataRuns(this.buffer, this.fill)) writeAllSync(this.fd, this.buffer, from, to, from);
      return this.seal();
    }
    if (this.buffer && this.fill > 0) this.flush(this.buffer);
    return this.inFlight === 0 && !this.failure ? this.seal() : this.below(1).then(() => this.seal());
  }

  abort(): void {
    this.aborted = true;
    if (this.fd >= 0 && this.inFlight === 0) this.discard();
  }

  private seal(): BlobId {
    fs.ftruncateSync(this.fd, this.position + (this.buffer ? this.fill : 0));
    fs.closeSync(this.fd);
    this.fd = -1;
    return this.finished();
  }

  /** More came than was announced (cannot happen with HTTP's own framing, but a writer must not lose bytes). */
  private grow(): void {
    const larger = Buffer.allocUnsafeSlow(bufferBytes);
    this.buffer!.copy(larger, 0, 0, this.fill);
    this.buffer = larger;
  }

  private flush(buffer: Buffer): void {
    if (this.fd < 0) this.fd = fs.openSync(this.path, 'w');
    const at = this.position;
    const runs = dataRuns(buffer, this.fill);
    this.position += this.fill;
    this.buffer = undefined;
    this.fill = 0;
    if (runs.length === 0) {
      this.recycle(buffer);
      return;
    }
    this.inFlight++;
    void this.writeRuns(buffer, runs, at).catch((error: unknown) => (this.failure = error as Error)).finally(() => {
      this.inFlight--;
      this.recycle(buffer);
      this.wake?.();
      if (this.aborted && this.inFlight === 0) this.discard();
    });
  }

  private async writeRuns(buffer: Buffer, runs: readonly [number, number][], position: number): Promise<void> {
    for (const [from, to] of runs) {
      for (let at = from; at < to;) at += await writeAsync(this.fd, buffer, at, to - at, position + at);
    }
  }

  private recycle(buffer: Buffer): void {
    if (buffer.length === bufferBytes && this.spare.length < 8) this.spare.push(buffer);
  }

  private async below(count: number): Promise<void> {
    while (this.inFlight >= count) await new Promise<void>((resolve) => (this.wake = resolve));
    if (this.failure) throw this.failure;
  }

  private discard(): void {
    fs.closeSync(this.fd);
    this.fd = -1;
    fs.unlinkSync(this.path);
  }
}

/** The ranges of the buffer that hold anything but whole blocks of zeros. */
function dataRuns(buffer: Buffer, end: number): [number, number][] {
  const runs: [number, number][] = [];
  for (let at = 0; at < end; at += blockBytes) {
    const to = Math.min(at + blockBytes, end);
    if (buffer[at] === 0 && buffer.compare(zeros, 0, to - at, at, to) === 0) continue;
    const last = runs[runs.length - 1];
    if (last && last[1] === at) last[1] = to;
    else runs.push([at, to]);
  }
  return runs;
}

function writeAllSync(fd: number, buffer: Buffer, from: number, to: number, position: number): void {
  for (let at = from; at < to;) at += fs.writeSync(fd, buffer, at, to - at, position + at - from);
}

function writeAsync(fd: number, buffer: Buffer, offset: number, length: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(fd, buffer, offset, length, position, (error, written) => (error ? reject(error) : resolve(written)));
  });
}
