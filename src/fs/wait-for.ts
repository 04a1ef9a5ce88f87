import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';

/** Waits for shared work, but only as long as the caller wants to. The work goes on for the others. */
export function waitFor<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  if (!signal) return work;
  if (signal.aborted) {
    work.catch(() => undefined);
    return Promise.reject(new FsError(Errno.EINTR, 'interrupted'));
  }
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => reject(new FsError(Errno.EINTR, 'interrupted'));
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
