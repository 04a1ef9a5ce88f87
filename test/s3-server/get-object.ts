/** Test and demo equipment, not product: GetObject and HeadObject with ranges, parts, conditions and response overrides. */
import { checkCustomerKey, checksumHeaders, objectHeaders } from './attributes.js';
import { releaseAll, retainAll, slice } from './blob-store.js';
import { headerOf } from './checksums.js';
import { checkRead } from './conditions.js';
import { S3Error } from './errors.js';
import type { Exchange, Headers } from './exchange.js';
import type { ObjectVersion } from './model.js';
import { findVersion } from './versions.js';

const overrides = ['content-type', 'content-language', 'expires', 'cache-control', 'content-disposition', 'content-encoding'] as const;

export function getObject(x: Exchange): Promise<void> | void {
  const version = findVersion(x, x.bucket, x.key, x.query.get('versionId'));
  checkRead(x, version);
  checkCustomerKey(x, version.customerKeyMd5);
  const head = x.req.method === 'HEAD';
  if (!head && isArchived(version, x.core.now())) throw new S3Error('InvalidObjectState', undefined, { StorageClass: version.storageClass });
  const headers = objectHeaders(x, version);
  if (x.query.size > 0) override(x, headers);
  const range = wanted(x, version, headers);
  const length = range.end - range.start;
  headers['content-length'] = length;
  if (range.partial) headers['content-range'] = `bytes ${range.start}-${range.end - 1}/${version.size}`;
  else if (x.header('x-amz-checksum-mode')?.toUpperCase() === 'ENABLED') Object.assign(headers, checksumHeaders(version));
  const status = range.partial ? 206 : 200;
  if (head) return x.send(status, headers);
  const segments = length === version.size ? version.segments : slice(version.segments, range.start, length);
  retainAll(x.core.blobs, segments);
  let sending: Promise<void> | void;
  try {
    sending = x.sendObject(status, headers, segments, length);
  } catch (error) {
    releaseAll(x.core.blobs, segments);
    throw error;
  }
  if (!sending) return releaseAll(x.core.blobs, segments);
  return sending.finally(() => releaseAll(x.core.blobs, segments));
}

/** Archived, and not restored at the moment. */
export function isArchived(version: ObjectVersion, nowMs: number): boolean {
  return (version.storageClass === 'GLACIER' || version.storageClass === 'DEEP_ARCHIVE') && !(version.restoredUntilMs !== undefined && version.restoredUntilMs > nowMs);
}

function override(x: Exchange, headers: Headers): void {
  for (const name of overrides) {
    const value = x.query.get(`response-${name}`);
    if (value === undefined) continue;
    if (!x.auth.credential) throw new S3Error('InvalidRequest', 'Request specific response headers cannot be used for anonymous GET requests.');
    headers[name] = value;
  }
}

interface Wanted { readonly start: number; readonly end: number; readonly partial: boolean }

function wanted(x: Exchange, version: ObjectVersion, headers: Headers): Wanted {
  const part = x.query.get('partNumber');
  const text = x.header('range');
  if (part !== undefined) {
    if (text !== undefined) throw new S3Error('InvalidRequest', 'Cannot specify both Range header and partNumber query parameter');
    return wantedPart(x, version, part, headers);
  }
  if (text === undefined) return { start: 0, end: version.size, partial: false };
  const range = parseRange(text, version.size);
  if (range === 'unsatisfiable') {
    throw new S3Error('InvalidRange', undefined, { RangeRequested: text, ActualObjectSize: String(version.size) }, { 'content-range': `bytes */${version.size}` });
  }
  return range ? { ...range, partial: true } : { start: 0, end: version.size, partial: false };
}

/** Half-open; undefined for what S3 ignores (several ranges, other units, nonsense). */
export function parseRange(text: string, size: number): { start: number; end: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(text.trim());
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  if (match[1] === '') {
    const count = Math.min(Number(match[2]), size);
    return count === 0 ? 'unsatisfiable' : { start: size - count, end: size };
  }
  const start = Number(match[1]);
  const end = match[2] === '' ? size : Math.min(Number(match[2]) + 1, size);
  if (match[2] !== '' && Number(match[2]) < start) return undefined;
  return start >= size ? 'unsatisfiable' : { start, end };
}

function wantedPart(x: Exchange, version: ObjectVersion, text: string, headers: Headers): Wanted {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 10_000) throw new S3Error('InvalidArgument', 'Part number must be an integer between 1 and 10000, inclusive');
  const parts = version.parts ?? [{ number: 1, size: version.size }];
  if (number > parts.length) throw new S3Error('InvalidPartNumber', undefined, { ActualPartCount: String(parts.length), PartNumberRequested: text });
  if (version.parts) headers['x-amz-mp-parts-count'] = parts.length;
  let start = 0;
  for (const part of parts.slice(0, number - 1)) start += part.size;
  const part = parts[number - 1]!;
  if (part.checksum !== undefined && version.checksum && x.header('x-amz-checksum-mode') !== undefined) headers[headerOf(version.checksum.algorithm)] = part.checksum;
  return { start, end: start + part.size, partial: part.size > 0 };
}
