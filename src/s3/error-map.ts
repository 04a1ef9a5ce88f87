/**
 * HTTP status and S3 error code to `StoreErrorKind`: one total function, tested as a table. The message is for people: what was
 * tried on what, and the server's own words.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { StoreError, type StoreErrorKind } from './store-error.js';
import type { XmlError } from './xml.js';

const byCode: Readonly<Record<string, StoreErrorKind>> = {
  NoSuchKey: 'not-found', NoSuchVersion: 'not-found', NotFound: 'not-found', NoSuchBucket: 'no-such-bucket', NoSuchUpload: 'no-such-upload',
  PreconditionFailed: 'precondition-failed', ConditionalRequestConflict: 'conflict', OperationAborted: 'conflict',
  AccessDenied: 'access-denied', AllAccessDisabled: 'access-denied', AccountProblem: 'access-denied', QuotaExceeded: 'access-denied', UserSuspended: 'access-denied',
  InvalidAccessKeyId: 'bad-credentials', SignatureDoesNotMatch: 'bad-credentials', ExpiredToken: 'bad-credentials', InvalidToken: 'bad-credentials',
  TokenRefreshRequired: 'bad-credentials', InvalidSecurity: 'bad-credentials', NotSignedUp: 'bad-credentials', UnrecognizedClientException: 'bad-credentials',
  InvalidClientTokenId: 'bad-credentials', InvalidTokenId: 'bad-credentials', AuthFailure: 'bad-credentials', Unauthorized: 'bad-credentials',
  PermanentRedirect: 'wrong-region', AuthorizationHeaderMalformed: 'wrong-region', IllegalLocationConstraintException: 'wrong-region', IncorrectEndpoint: 'wrong-region',
  RequestTimeTooSkewed: 'clock-skew', RequestExpired: 'clock-skew', InvalidObjectState: 'archived', ObjectLocked: 'locked',
  EntityTooLarge: 'too-large', MetadataTooLarge: 'too-large',
  SlowDown: 'throttled', Throttling: 'throttled', ThrottlingException: 'throttled', ThrottledException: 'throttled', RequestThrottled: 'throttled', RequestThrottledException: 'throttled',
  RequestLimitExceeded: 'throttled', TooManyRequests: 'throttled', TooManyRequestsException: 'throttled', BandwidthLimitExceeded: 'throttled', ProvisionedThroughputExceededException: 'throttled',
  // Damaged or cut on the way, or server trouble: the same request may succeed.
  InternalError: 'unavailable', ServiceUnavailable: 'unavailable', RequestTimeout: 'unavailable', IncompleteBody: 'unavailable', BadDigest: 'unavailable',
  XAmzContentSHA256Mismatch: 'unavailable', XAmzContentChecksumMismatch: 'unavailable', TemporaryRedirect: 'unavailable', OperationTimedOut: 'unavailable',
};

export function errorKind(status: number, code: string, message: string): StoreErrorKind {
  if (code === 'AccessDenied' || code === 'InvalidRequest') {
    // S3 has no code of its own for this; Ceph and MinIO word it differently.
    if (/object lock|WORM|retention/i.test(message)) return 'locked';
  }
  if (Object.hasOwn(byCode, code)) return byCode[code]!;
  if (code.startsWith('KMS.') || code.startsWith('Kms')) return status >= 500 ? 'unavailable' : 'access-denied';
  switch (status) {
    case 301: case 308: return 'wrong-region';
    case 307: return 'unavailable';
    case 401: return 'bad-credentials';
    case 403: return 'access-denied';
    case 404: case 410: return 'not-found';
    case 408: return 'unavailable';
    case 409: return 'conflict';
    case 412: return 'precondition-failed';
    case 413: return 'too-large';
    case 425: case 429: return 'throttled';
    case 501: case 505: return 'invalid';
    default: return status >= 500 || status === 200 ? 'unavailable' : 'invalid';
  }
}

const advice: Partial<Record<StoreErrorKind, string>> = {
  'bad-credentials': 'check AWS_ACCESS_KEY_ID, AWS_PROFILE or the instance role',
  'clock-skew': "set this machine's clock",
  'wrong-region': 'pass --region or --endpoint',
  'no-such-bucket': 'check its name, --endpoint and --region',
};

/** @param what e.g. `PUT "a/b" in bucket "photos"` */
export function storeError(what: string, status: number, headers: IncomingHttpHeaders, error: XmlError | undefined, now: () => number): StoreError {
  const code = error?.code ?? '';
  const kind = errorKind(status, code, error?.message ?? '');
  const words = error ? [code, error.message.replace(/\.+$/, '')].filter((text) => text !== '').join(': ') : `HTTP ${status}`;
  const hint = advice[kind];
  const retryAfterMs = parseRetryAfter(headers['retry-after'], now());
  return new StoreError(kind, `${what} failed: ${words}${hint === undefined ? '' : `; ${hint}`}`, { status, ...(code !== '' && { code }), ...(hint !== undefined && { hint }), ...(retryAfterMs !== undefined && { retryAfterMs }) });
}

/** Seconds or an HTTP date. */
export function parseRetryAfter(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,6}$/.test(text.trim())) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs);
}
