import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { SystemError } from '../base/libc.js';
import { StoreError, type StoreErrorKind } from '../s3/store-error.js';
import { CacheFullError, ContentLostError } from '../cache/cache-error.js';
import { DbError } from '../db/db-error.js';
import { SourceLostError } from '../prefetch/source-lost-error.js';

/** The errno an application sees for what S3 answered. Total; tested as a table. Never ENOENT for a failure (promise 5). */
export function storeErrno(kind: StoreErrorKind): Errno {
  switch (kind) {
    case 'not-found': return Errno.ENOENT;
    case 'precondition-failed': return Errno.ESTALE; // replaced under an open handle
    case 'access-denied': case 'locked': return Errno.EACCES;
    case 'too-large': return Errno.EFBIG;
    case 'aborted': return Errno.EINTR;
    case 'archived': return Errno.EIO;
    case 'no-such-bucket': case 'no-such-upload': case 'conflict': case 'bad-credentials': case 'wrong-region': case 'clock-skew': case 'invalid':
    case 'throttled': case 'unavailable': case 'local-io': return Errno.EIO;
    default: kind satisfies never; throw new Error(`unmapped ${String(kind)}`);
  }
}

/** Turns what the rooms below throw into what the session may answer; unknown errors pass through and are logged there. */
export function toFsError(error: unknown): unknown {
  if (error instanceof FsError || error instanceof SystemError) return error;
  if (error instanceof StoreError) return new FsError(storeErrno(error.kind), error.message, { cause: error });
  if (error instanceof DbError) return new FsError(error.kind === 'full' ? Errno.ENOSPC : Errno.EIO, error.message, { cause: error });
  if (error instanceof CacheFullError) return new FsError(Errno.ENOSPC, error.message, { cause: error });
  if (error instanceof ContentLostError) return new FsError(Errno.EIO, error.message, { cause: error });
  if (error instanceof SourceLostError) return new FsError(Errno.ESTALE, error.message, { cause: error });
  return error;
}
