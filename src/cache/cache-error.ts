/** No room was made for `reserve` in a bounded time: everything in the cache is dirty, open or pinned. `fs/` maps it to ENOSPC. */
export class CacheFullError extends Error {
  override readonly name = 'CacheFullError';
  constructor(readonly neededBytes: number, readonly usedBytes: number, readonly limitBytes: number, reason: string) {
    super(`Cannot reserve ${neededBytes} bytes: cache is at ${usedBytes} of ${limitBytes} bytes, ${reason}`);
  }
}

/** The row says there is data S3 lacks, the file is not there: somebody deleted it, or the disk lost it. Never papered over. */
export class ContentLostError extends Error {
  override readonly name = 'ContentLostError';
  constructor(readonly id: number, readonly path: string) {
    super(`Content file ${id} holds data that S3 lacks, but ${path} does not exist`);
  }
}
