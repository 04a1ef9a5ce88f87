import { expect, test } from 'vitest';
import { errorKind, parseRetryAfter, storeError } from './error-map.js';
import type { StoreErrorKind } from './store-error.js';
import { completeUploadXml, parseError, parseListing, parseXml } from './xml.js';

test.each<[number, string, StoreErrorKind]>([
  [404, 'NoSuchKey', 'not-found'], [404, '', 'not-found'], [404, 'NoSuchBucket', 'no-such-bucket'], [404, 'NoSuchUpload', 'no-such-upload'], [412, '', 'precondition-failed'],
  [409, 'ConditionalRequestConflict', 'conflict'], [409, '', 'conflict'], [403, 'AccessDenied', 'access-denied'], [403, '', 'access-denied'], [403, 'InvalidAccessKeyId', 'bad-credentials'],
  [403, 'SignatureDoesNotMatch', 'bad-credentials'], [400, 'ExpiredToken', 'bad-credentials'], [401, '', 'bad-credentials'], [301, 'PermanentRedirect', 'wrong-region'], [301, '', 'wrong-region'],
  [400, 'AuthorizationHeaderMalformed', 'wrong-region'], [403, 'RequestTimeTooSkewed', 'clock-skew'], [403, 'InvalidObjectState', 'archived'], [400, 'EntityTooLarge', 'too-large'],
  [400, 'MetadataTooLarge', 'too-large'], [413, '', 'too-large'], [503, 'SlowDown', 'throttled'], [429, '', 'throttled'], [503, 'ServiceUnavailable', 'unavailable'], [503, '', 'unavailable'],
  [500, 'InternalError', 'unavailable'], [200, 'InternalError', 'unavailable'], [200, 'SlowDown', 'throttled'], [502, '', 'unavailable'], [400, 'RequestTimeout', 'unavailable'],
  [400, 'BadDigest', 'unavailable'], [400, 'InvalidArgument', 'invalid'], [501, 'NotImplemented', 'invalid'], [411, 'MissingContentLength', 'invalid'], [307, 'TemporaryRedirect', 'unavailable'],
  [400, 'KMS.DisabledException', 'access-denied'], [400, 'constructor', 'invalid'],
])('HTTP %i %s is %s', (status, code, kind) => {
  expect(errorKind(status, code, '')).toBe(kind);
});

test('object lock is recognised behind AccessDenied', () => {
  expect(errorKind(403, 'AccessDenied', 'Access Denied because object protected by object lock.')).toBe('locked');
});

test('a message says what was tried, the server\'s words and what to do', () => {
  const error = storeError('HEAD "a" in bucket "b"', 403, {}, { code: 'ExpiredToken', message: 'The token expired.' }, () => 0);
  expect(error.message).toBe('HEAD "a" in bucket "b" failed: ExpiredToken: The token expired; check AWS_ACCESS_KEY_ID, AWS_PROFILE or the instance role');
  expect(error.details).toEqual({ status: 403, code: 'ExpiredToken', hint: 'check AWS_ACCESS_KEY_ID, AWS_PROFILE or the instance role' });
});

test('Retry-After is seconds or a date', () => {
  expect(parseRetryAfter('7', 0)).toBe(7000);
  expect(parseRetryAfter('Thu, 01 Jan 1970 00:00:10 GMT', 4000)).toBe(6000);
  expect(parseRetryAfter('soon', 0)).toBeUndefined();
});

const page = (body: string): string => `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>${body}</ListBucketResult>`;
const item = (key: string): string => `<Contents><Key>${key}</Key><LastModified>2024-01-02T03:04:05.000Z</LastModified><ETag>&quot;abc&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass></Contents>`;

test('a page of a thousand quoted etags is parsed', () => {
  const { objects } = parseListing(page(`<IsTruncated>false</IsTruncated>${Array.from({ length: 1000 }, (_, i) => item(`p/k${i}`)).join('')}`), 'p/');
  expect(objects).toHaveLength(1000);
  expect(objects[999]).toEqual({ key: 'k999', etag: 'abc', sizeBytes: 5, lastModifiedMs: Date.UTC(2024, 0, 2, 3, 4, 5) });
});

test('keys outside the prefix, the prefix itself and undecodable ones are no part of a listing', () => {
  expect(parseListing(page(item('p/') + item('q/x') + item('p/%ff') + item('p/1e5') + item('p/%20+')), 'p/').objects.map(({ key }) => key)).toEqual(['1e5', '  ']);
});

test('a truncated page without a token is an error, never an end', () => {
  expect(() => parseListing(page('<IsTruncated>true</IsTruncated>'), '')).toThrow(/truncated/);
});

test('an HTML page is not S3', () => {
  expect(() => parseXml('<html><body>hotel login</body></html>', 'ListBucketResult')).toThrow(/not S3's/);
  expect(parseError('<html>')).toBeUndefined();
});

test('errors are found in a body, with white space before it (J5)', () => {
  expect(parseError('\n  <?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>try again</Message><Region>eu</Region></Error>')).toEqual({ code: 'InternalError', message: 'try again', region: 'eu' });
});

test('complete names parts with quoted etags', () => {
  expect(completeUploadXml([{ number: 1, etag: 'a<b', sizeBytes: 1 }])).toContain('<Part><PartNumber>1</PartNumber><ETag>"a&#60;b"</ETag></Part>');
});
