import { errnoName, type Errno } from './errno.js';

/** What a file-system operation answers instead of a result. Thrown by `fs/`, turned into a reply by `fuse/session`. */
export class FsError extends Error {
  override readonly name = 'FsError';
  constructor(readonly errno: Errno, message: string = errnoName(errno), options?: ErrorOptions) {
    super(message, options);
  }
}
