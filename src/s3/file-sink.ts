/**
 * Bytes on their way from S3 into a local file: gathered to 256 KiB and written at their offset in one pwritev, in the same turn.
 * Synchronous on purpose: it runs in a transfer worker, a write into the page cache takes less than a thread-pool hand-off, and
 * the pool stays free for fdatasync. `onRange` is called after the bytes are in the file.
 */
import { closeSync, openSync, writeSync, writevSync } from 'node:fs';
import { localIoError } from './body-source.js';

const gatherBytes = 256 << 10;

export class FileSink {
  private readonly fd: number;
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private closed = false;

  /** @throws StoreError `local-io`; the file must exist. */
  constructor(private readonly path: string, private position: number, private readonly onRange: ((start: number, end: number) => void) | undefined) {
    try {
      this.fd = openSync(path, 'r+');
    } catch (error) {
      throw localIoError(`open "${path}"`, error);
    }
  }

  take(chunk: Buffer): void {
    this.pending.push(chunk);
    this.pendingBytes += chunk.length;
    if (this.pendingBytes >= gatherBytes) this.flush();
  }

  /** Writes what is gathered, also after an error: bytes that arrived are good (the etag was demanded). */
  flush(): void {
    if (this.pendingBytes === 0) return;
    const start = this.position;
    const { pending, pendingBytes } = this;
    this.pending = [];
    this.pendingBytes = 0;
    try {
      const written = writevSync(this.fd, pending, start);
      if (written < pendingBytes) this.writeRest(Buffer.concat(pending).subarray(written), start + written);
    } catch (error) {
      throw localIoError(`write "${this.path}"`, error);
    }
    this.position = start + pendingBytes;
    this.onRange?.(start, this.position);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    closeSync(this.fd);
  }

  private writeRest(bytes: Buffer, position: number): void {
    for (let at = 0; at < bytes.length; at += writeSync(this.fd, bytes, at, bytes.length - at, position + at));
  }
}
