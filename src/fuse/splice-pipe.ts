/**
 * Answers of READ that pass through no memory of ours: splice(2) puts references to the pages of a file into a pipe, and the kernel copies those into the pages
 * that wait for them. One copy instead of two, and no buffer that pushes everything else out of the processor's caches.
 *
 * 1. Filled and emptied in one stretch of the main thread: one pipe serves all requests.
 * 2. Nothing blocks on the pipe: what does not fit is not begun.
 * 3. A pipe that may hold the rest of a message is closed, never emptied: the next message gets a new one.
 */
import { closeSync } from 'node:fs';
import { Errno } from '../base/errno.js';
import { fcntlRaw, pipe, spliceFromPipe, spliceToPipe, SystemError, writeRaw } from '../base/libc.js';
import { maxPages, pageBytes } from './negotiate.js';

const F_SETPIPE_SZ = 1031;
/** What fs.pipe-max-size allows everybody (1 MiB); more is for CAP_SYS_RESOURCE. */
const pipeBytes = maxPages * pageBytes;
/** Requests are as long as the rest of the pages (`readBytesMax`). */
const headerPages = 1;

interface Pipe { readonly out: number; readonly into: number; readonly pages: number }

export class SplicePipe {
  private current: Pipe | undefined;
  /** Closed, or there are no pipes to be had. */
  private unusable = false;

  /**
   * Sends a message: the first `headerBytes` of `header`, then `length` bytes of `file` from `offset`.
   * @returns what write(2) of the whole would; undefined: `device` has not taken it, and it has to be sent another way.
   */
  send(device: number, header: Buffer, headerBytes: number, file: number, offset: number, length: number): number | undefined {
    const pipe = this.open();
    if (!pipe || headerPages + Math.ceil(((offset % pageBytes) + length) / pageBytes) > pipe.pages) return undefined;
    if (writeRaw(pipe.into, header, headerBytes) !== headerBytes) return this.drop();
    for (let done = 0; done < length; ) {
      const count = spliceToPipe(file, offset + done, pipe.into, length - done);
      if (count <= 0) return this.drop(); // an error that pread(2) will meet, too; 0: the file has become shorter
      done += count;
    }
    const sent = spliceFromPipe(pipe.out, device, headerBytes + length);
    if (sent === headerBytes + length) return sent;
    this.drop();
    return isUnwanted(sent) ? sent : undefined;
  }

  close(): void {
    this.drop();
    this.unusable = true;
  }

  private open(): Pipe | undefined {
    if (this.current || this.unusable) return this.current;
    try {
      const [out, into] = pipe();
      const bytes = fcntlRaw(into, F_SETPIPE_SZ, pipeBytes);
      this.current = { out, into, pages: bytes > 0 ? bytes / pageBytes : headerPages }; // a user has only so many pages for all pipes
      return this.current;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.unusable = true;
      return undefined;
    }
  }

  private drop(): undefined {
    const { current } = this;
    this.current = undefined;
    if (!current) return;
    closeSync(current.into);
    closeSync(current.out);
  }
}

/** A reply that nobody waits for any more. ENOENT: the caller is gone. ENODEV, EPERM, ECONNABORTED: the mount is. */
export function isUnwanted(result: number): boolean {
  return result === -Errno.ENOENT || result === -Errno.ENODEV || result === -Errno.EPERM || result === -103;
}
