/**
 * Bytes of a local file on their way to S3. Up to 16 MiB are read completely before anything is sent, so that a file that
 * changes meanwhile cannot make a torn object (S4); larger bodies are read as they are sent, and the caller checks the
 * file before Complete. A file shorter than promised is `local-io`.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { readUnnoticed } from '../base/disk.js';
import { errorCode } from '../base/errno.js';
import type { StreamBody } from './http-client.js';
import type { Body } from './object-store.js';
import { StoreError } from './store-error.js';

export const wholeBodyBytesMax = 16 << 20;
const pieceBytes = 1 << 20;

/** Kept for the next part: what one thread of a sender of parts may have in flight. */
const sparesMax = 12;
/** And so long after the last one: between two uploads nothing is kept. */
const keptMs = 2000;

/**
 * Buffers of parts, used again: as garbage they would pile up to many times what is in flight before they are collected. A buffer is given back only once
 * its request was answered, so no socket still holds it.
 */
export class PartBuffers {
  private spares: Buffer[] = [];
  private timer: { refresh(): unknown } | undefined;

  constructor(private readonly setTimer: (run: () => void, ms: number) => { refresh(): unknown } = (run, ms) => setTimeout(run, ms).unref()) {}

  /** Exactly `lengthBytes` long, its content arbitrary. */
  take(lengthBytes: number): Buffer {
    const spare = this.spares.pop();
    return spare !== undefined && spare.length >= lengthBytes ? spare.subarray(0, lengthBytes) : Buffer.allocUnsafeSlow(lengthBytes);
  }

  give(buffer: Uint8Array): void {
    if (this.spares.length < sparesMax) this.spares.push(Buffer.from(buffer.buffer)); // all of it, not only what was used
    if (this.timer) this.timer.refresh();
    else this.timer = this.setTimer(() => (this.spares = []), keptMs);
  }
}

export type SendableBody = Uint8Array | { readonly lengthBytes: number; readonly stream: StreamBody };

/** @param buffers where the bytes of a file are put that is read whole; a new buffer without it. */
export async function openBody(body: Body, buffers?: PartBuffers): Promise<SendableBody> {
  if (body.kind === 'bytes') return body.bytes;
  const { path, start, end } = body;
  const lengthBytes = end - start;
  if (lengthBytes === 0) return new Uint8Array(0);
  if (lengthBytes <= wholeBodyBytesMax) {
    const bytes = buffers?.take(lengthBytes) ?? Buffer.allocUnsafeSlow(lengthBytes);
    await withFile(path, (file) => readFully(file, path, bytes, start));
    return bytes;
  }
  return {
    lengthBytes,
    stream: (write) => withFile(path, async (file) => {
      for (let at = start; at < end; at += pieceBytes) {
        // a fresh buffer each time: the socket may still hold the one before
        const piece = Buffer.allocUnsafeSlow(Math.min(pieceBytes, end - at));
        await readFully(file, path, piece, at);
        await write(piece);
      }
    }),
  };
}

export function localIoError(what: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const errno = (error as NodeJS.ErrnoException | undefined)?.errno;
  const words = errorCode(error) ?? (error instanceof Error ? error.message : String(error));
  return new StoreError('local-io', `Cannot ${what}: ${words}`, typeof errno === 'number' ? { errno: Math.abs(errno) } : {}, { cause: error });
}

async function withFile(path: string, use: (file: FileHandle) => Promise<void>): Promise<void> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, readUnnoticed);
    await use(file);
  } catch (error) {
    throw localIoError(`read "${path}"`, error);
  } finally {
    await file?.close();
  }
}

async function readFully(file: FileHandle, path: string, into: Buffer, position: number): Promise<void> {
  for (let at = 0; at < into.length;) {
    const { bytesRead } = await file.read(into, at, into.length - at, position + at);
    if (bytesRead === 0) throw new StoreError('local-io', `Cannot read "${path}" to byte ${position + into.length}: it ends at ${position + at}`);
    at += bytesRead;
  }
}
