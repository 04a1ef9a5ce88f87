/** Test and demo equipment, not product: request headers to stored attributes, and stored attributes to response headers. */
import { createHash } from 'node:crypto';
import { headerOf } from './checksums.js';
import { S3Error } from './errors.js';
import type { Exchange, Headers } from './exchange.js';
import type { Attributes, ObjectVersion, Retention, Tag } from './model.js';

const keptHeaders = ['content-type', 'cache-control', 'content-disposition', 'content-encoding', 'content-language', 'expires', 'x-amz-website-redirect-location', 'x-amz-server-side-encryption', 'x-amz-server-side-encryption-aws-kms-key-id'] as const;
const storageClasses = new Set(['STANDARD', 'REDUCED_REDUNDANCY', 'STANDARD_IA', 'ONEZONE_IA', 'INTELLIGENT_TIERING', 'GLACIER', 'DEEP_ARCHIVE', 'GLACIER_IR', 'OUTPOSTS', 'EXPRESS_ONEZONE']);
const metadataBytesMax = 2048;

/** @throws S3Error for what S3 refuses in a PUT's headers. */
export function readAttributes(x: Exchange): Attributes {
  const metadata: Record<string, string> = {};
  let metadataBytes = 0;
  for (const name in x.req.headers) {
    if (!name.startsWith('x-amz-meta-')) continue;
    const value = decodeMime(x.header(name) ?? '');
    metadata[name.slice(11)] = value;
    metadataBytes += Buffer.byteLength(name) - 11 + Buffer.byteLength(value);
  }
  if (metadataBytes > metadataBytesMax) throw new S3Error('MetadataTooLarge', undefined, { Size: String(metadataBytes), MaxSizeAllowed: String(metadataBytesMax) });
  const headers: Record<string, string> = { 'content-type': 'binary/octet-stream', 'x-amz-server-side-encryption': 'AES256' };
  for (const name of keptHeaders) {
    const value = x.header(name);
    if (value !== undefined && value !== '') headers[name] = value;
  }
  const encoding = headers['content-encoding']?.split(',').map((one) => one.trim()).filter((one) => one !== 'aws-chunked').join(',');
  if (encoding === undefined || encoding === '') delete headers['content-encoding'];
  else headers['content-encoding'] = encoding;
  const storageClass = x.header('x-amz-storage-class') ?? 'STANDARD';
  if (!storageClasses.has(storageClass)) throw new S3Error('InvalidStorageClass', undefined, { StorageClassRequested: storageClass });
  const customerKeyMd5 = readCustomerKey(x, 'x-amz-server-side-encryption-customer');
  if (customerKeyMd5 !== undefined) delete headers['x-amz-server-side-encryption'];
  const tagging = x.header('x-amz-tagging');
  return {
    metadata, headers, storageClass, ...readLock(x),
    ...(customerKeyMd5 !== undefined && { customerKeyMd5 }),
    ...(tagging !== undefined && tagging !== '' && { tags: checkTags([...new URLSearchParams(tagging)].map(([key, value]) => ({ key, value }))) }),
  };
}

/** Retention and legal hold, from headers or from the bucket's default. */
export function readLock(x: Exchange): { retention?: Retention; legalHold?: boolean } {
  const mode = x.header('x-amz-object-lock-mode');
  const until = x.header('x-amz-object-lock-retain-until-date');
  const hold = x.header('x-amz-object-lock-legal-hold');
  const { bucket } = x;
  if ((mode ?? until ?? hold) !== undefined && !bucket.lock) throw new S3Error('InvalidRequest', 'Bucket is missing Object Lock Configuration');
  if ((mode === undefined) !== (until === undefined)) throw new S3Error('InvalidArgument', 'x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied');
  const legalHold = hold === undefined ? {} : { legalHold: hold === 'ON' };
  if (mode !== undefined && until !== undefined) return { retention: checkRetention(x, mode, Date.parse(until)), ...legalHold };
  const rule = /<DefaultRetention>.*<Mode>(\w+)<\/Mode>.*<\/DefaultRetention>/s.exec(bucket.config.get('object-lock') ?? '');
  if (!rule) return legalHold;
  const period = /<(Days|Years)>(\d+)<\//.exec(rule[0]);
  const days = Number(period?.[2] ?? 0) * (period?.[1] === 'Years' ? 365 : 1);
  return { retention: { mode: rule[1]!, untilMs: x.core.now() + days * 86_400_000 }, ...legalHold };
}

export function checkRetention(x: Exchange, mode: string, untilMs: number): Retention {
  if (mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE') throw new S3Error('InvalidArgument', 'Unknown wormMode directive.');
  if (Number.isNaN(untilMs)) throw new S3Error('InvalidArgument', 'The retain until date must be provided in ISO 8601 format');
  if (untilMs <= x.core.now()) throw new S3Error('InvalidArgument', 'The retain until date must be in the future!');
  return { mode, untilMs };
}

export function checkTags(tags: Tag[]): Tag[] {
  if (tags.length > 10) throw new S3Error('BadRequest', 'Object tags cannot be greater than 10');
  for (const { key, value } of tags) if (key.length < 1 || key.length > 128 || value.length > 256) throw new S3Error('InvalidTag');
  if (new Set(tags.map((one) => one.key)).size !== tags.length) throw new S3Error('InvalidTag', 'Cannot provide multiple Tags with the same key');
  return tags;
}

/** MD5 of the key given with SSE-C headers, undefined without them. */
export function readCustomerKey(x: Exchange, prefix: string): string | undefined {
  const algorithm = x.header(`${prefix}-algorithm`);
  if (algorithm === undefined) return undefined;
  const key = Buffer.from(x.header(`${prefix}-key`) ?? '', 'base64');
  const md5 = createHash('md5').update(key).digest('base64');
  if (algorithm !== 'AES256' || key.length !== 32) throw new S3Error('InvalidArgument', 'The secret key was invalid for the specified algorithm.');
  if (x.header(`${prefix}-key-md5`) !== md5) throw new S3Error('InvalidArgument', 'The calculated MD5 hash of the key did not match the hash that was provided.');
  return md5;
}

/** Demands the customer's key of an object that was stored with one. */
export function checkCustomerKey(x: Exchange, stored: string | undefined, prefix = 'x-amz-server-side-encryption-customer'): void {
  const given = readCustomerKey(x, prefix);
  if (stored === given) return;
  if (stored === undefined) throw new S3Error('InvalidRequest', 'The encryption parameters are not applicable to this object.');
  if (given === undefined) throw new S3Error('InvalidRequest', 'The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.');
  throw new S3Error('AccessDenied');
}

export function encryptionHeaders(attributes: Attributes): Headers {
  if (attributes.customerKeyMd5 !== undefined) {
    return { 'x-amz-server-side-encryption-customer-algorithm': 'AES256', 'x-amz-server-side-encryption-customer-key-md5': attributes.customerKeyMd5 };
  }
  const out: Headers = {};
  for (const name of ['x-amz-server-side-encryption', 'x-amz-server-side-encryption-aws-kms-key-id']) {
    const value = attributes.headers[name];
    if (value !== undefined) out[name] = value;
  }
  return out;
}

/** With a customer's or KMS key the etag is not the MD5 of the content, so that nobody comes to rely on it. */
export function etagOf(md5: Buffer, attributes: Attributes): string {
  const encrypted = attributes.customerKeyMd5 ?? (attributes.headers['x-amz-server-side-encryption']?.startsWith('aws:kms') ? 'kms' : undefined);
  return encrypted === undefined ? md5.toString('hex') : createHash('md5').update(md5).update(encrypted).digest('hex');
}

/** Response headers that depend on the version alone, computed once per version. */
const fixedHeaders = new WeakMap<ObjectVersion, Headers>();

export function objectHeaders(x: Exchange, version: ObjectVersion): Headers {
  let fixed = fixedHeaders.get(version);
  if (!fixed) {
    fixed = {
      'accept-ranges': 'bytes', etag: `"${version.etag}"`, 'last-modified': new Date(version.modifiedMs).toUTCString(),
      ...version.headers, ...encryptionHeaders(version),
    };
    let unprintable = 0;
    for (const [name, value] of Object.entries(version.metadata)) {
      if (/[\u0000-\u001f\u007f]/.test(value)) unprintable++;
      else fixed[`x-amz-meta-${name}`] = encodeMime(value);
    }
    if (unprintable > 0) fixed['x-amz-missing-meta'] = unprintable;
    if (version.storageClass !== 'STANDARD') fixed['x-amz-storage-class'] = version.storageClass;
    if (version.tags && version.tags.length > 0) fixed['x-amz-tagging-count'] = version.tags.length;
    if (version.retention) {
      fixed['x-amz-object-lock-mode'] = version.retention.mode;
      fixed['x-amz-object-lock-retain-until-date'] = new Date(version.retention.untilMs).toISOString();
    }
    if (version.legalHold !== undefined) fixed['x-amz-object-lock-legal-hold'] = version.legalHold ? 'ON' : 'OFF';
    if (version.restoredUntilMs !== undefined) fixed['x-amz-restore'] = `ongoing-request="false", expiry-date="${new Date(version.restoredUntilMs).toUTCString()}"`;
    fixedHeaders.set(version, fixed);
  }
  const headers = { ...fixed };
  if (x.bucket.config.has('versioning')) headers['x-amz-version-id'] = version.id;
  return headers;
}

export function checksumHeaders(version: ObjectVersion): Headers {
  return version.checksum ? { [headerOf(version.checksum.algorithm)]: version.checksum.value, 'x-amz-checksum-type': version.checksum.type } : {};
}

/** RFC 2047, as S3 gives back metadata beyond ASCII (it takes the header's bytes for Latin-1; see "Working with object metadata"). */
function encodeMime(text: string): string {
  return /^[\u0020-\u007e]*$/.test(text) ? text : `=?UTF-8?B?${Buffer.from(text, 'utf8').toString('base64')}?=`;
}

function decodeMime(text: string): string {
  if (!text.includes('=?')) return text;
  return text.replace(/=\?utf-8\?([bq])\?([^?]*)\?=/gi, (_whole, encoding: string, coded: string) =>
    encoding.toLowerCase() === 'b' ? Buffer.from(coded, 'base64').toString('utf8')
      : Buffer.from(coded.replace(/_/g, ' ').replace(/=([0-9A-F]{2})/gi, (_match, hex: string) => String.fromCharCode(parseInt(hex, 16))), 'latin1').toString('utf8'));
}
