import { errnoName, type Errno } from './errno.js';

/** What a file-system operation answers instead of a result. Thrown by `fs/`, turned into a reply by `fuse/session`. */
export class FsError extends Error {
  override readonly name = 'FsError';
  constructor(readonly errno: Errno, message?: string, options?: ErrorOptions) {
    // Without a message it is an everyday answer (ENOENT, ENODATA): a stack would cost more than the operation
    const frames = Error.stackTraceLimit;
    if (message === undefined) Error.stackTraceLimit = 0;
    super(message ?? errnoName(errno), options);
    Error.stackTraceLimit = frames;
  }
}
