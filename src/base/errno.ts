/** Linux errno values as the FUSE protocol wants them (positive here; the encoder negates). Source: asm-generic/errno*.h. */
export const Errno = {
  EPERM: 1, ENOENT: 2, EINTR: 4, EIO: 5, ENXIO: 6, E2BIG: 7, EBADF: 9, EAGAIN: 11, ENOMEM: 12, EACCES: 13, EBUSY: 16,
  EEXIST: 17, EXDEV: 18, ENODEV: 19, ENOTDIR: 20, EISDIR: 21, EINVAL: 22, ENOTTY: 25, ETXTBSY: 26, EFBIG: 27, ENOSPC: 28,
  EROFS: 30, EMLINK: 31, ERANGE: 34, ENAMETOOLONG: 36, ENOSYS: 38, ENOTEMPTY: 39, ELOOP: 40, ENODATA: 61, EOVERFLOW: 75,
  EILSEQ: 84, EOPNOTSUPP: 95, ESTALE: 116, EDQUOT: 122,
} as const;
export type Errno = (typeof Errno)[keyof typeof Errno];

const names = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]));

/** `EIO` for 5; `errno 999` for one that has no name here. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** The errno of an error thrown by node:fs (`err.errno` is negative there), or undefined. */
export function systemErrno(error: unknown): Errno | undefined {
  if (!(error instanceof Error)) return undefined;
  const value = (error as NodeJS.ErrnoException).errno;
  if (typeof value !== 'number') return undefined;
  const positive = Math.abs(value);
  return names.has(positive) ? (positive as Errno) : undefined;
}

/** The symbolic code of a node error, such as `ENOENT`. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}
