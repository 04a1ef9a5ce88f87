import { expect, test } from 'vitest';
import { Errno, errnoName } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { CacheFullError } from '../cache/cache-error.js';
import { StoreError, type StoreErrorKind } from '../s3/store-error.js';
import { storeErrno, toFsError } from './errno-map.js';

const table: Record<StoreErrorKind, string> = {
  'not-found': 'ENOENT', 'no-such-bucket': 'EIO', 'no-such-upload': 'EIO', 'precondition-failed': 'ESTALE', conflict: 'EIO', 'access-denied': 'EACCES', 'bad-credentials': 'EIO',
  'wrong-region': 'EIO', 'clock-skew': 'EIO', archived: 'EIO', locked: 'EACCES', 'too-large': 'EFBIG', invalid: 'EIO', throttled: 'EIO', unavailable: 'EIO', 'local-io': 'EIO', aborted: 'EINTR',
};

test('every kind of failure of S3 has its errno, and only a missing object is ENOENT (promise 5)', () => {
  const found = Object.fromEntries(Object.keys(table).map((kind) => [kind, errnoName(storeErrno(kind as StoreErrorKind))]));
  expect(found).toEqual(table);
  expect(Object.values(found).filter((name) => name === 'ENOENT')).toHaveLength(1);
});

test('what rooms below throw becomes an FsError with its cause; bugs pass through', () => {
  const errno = (error: unknown): unknown => (toFsError(error) as FsError).errno;
  const store = new StoreError('unavailable', 'no connection');
  expect(toFsError(store)).toMatchObject({ errno: Errno.EIO, cause: store });
  expect(errno(new CacheFullError(1, 2, 3, 'all dirty'))).toBe(Errno.ENOSPC);
  expect(errno(new FsError(Errno.ENOTDIR))).toBe(Errno.ENOTDIR);
  const bug = new TypeError('x is undefined');
  expect(toFsError(bug)).toBe(bug);
});
