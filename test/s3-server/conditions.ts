/**
 * Test and demo equipment, not product: conditional requests as Amazon S3 evaluates them. Sources: S3 user guide, "Conditional
 * requests", "Conditional writes", "Conditional deletes"; API reference of GetObject and CopyObject for precedence.
 */
import { S3Error } from './errors.js';
import type { Exchange } from './exchange.js';
import type { ObjectVersion } from './model.js';

export function bareEtag(text: string): string {
  const trimmed = text.trim();
  return trimmed.length >= 2 && trimmed.startsWith('"') && trimmed.endsWith('"') ? trimmed.slice(1, -1) : trimmed;
}

function etagListMatches(list: string, etag: string): boolean {
  return list.trim() === '*' || list.split(',').some((one) => bareEtag(one.trim().replace(/^W\//, '')) === etag);
}

/** Whole seconds, as LastModified is compared; undefined if it is no date. */
function seconds(text: string | undefined): number | undefined {
  const ms = text === undefined ? NaN : Date.parse(text);
  return Number.isNaN(ms) ? undefined : Math.floor(ms / 1000);
}

/**
 * If-Match (a match outranks If-Unmodified-Since) answers 412, If-None-Match (outranks If-Modified-Since) 304.
 * @throws S3Error PreconditionFailed or NotModified
 */
export function checkRead(x: Exchange, version: ObjectVersion): void {
  const ifMatch = x.header('if-match');
  const ifNoneMatch = x.header('if-none-match');
  const modified = Math.floor(version.modifiedMs / 1000);
  if (ifMatch !== undefined) {
    if (!etagListMatches(ifMatch, version.etag)) throw new S3Error('PreconditionFailed', undefined, { Condition: 'If-Match' });
  } else {
    const since = seconds(x.header('if-unmodified-since'));
    if (since !== undefined && modified > since) throw new S3Error('PreconditionFailed', undefined, { Condition: 'If-Unmodified-Since' });
  }
  const notModified = (): S3Error => new S3Error('NotModified', undefined, {}, { etag: `"${version.etag}"`, 'last-modified': new Date(version.modifiedMs).toUTCString() });
  if (ifNoneMatch !== undefined) {
    if (etagListMatches(ifNoneMatch, version.etag)) throw notModified();
  } else {
    const since = seconds(x.header('if-modified-since'));
    // A date in the future is no condition, as on AWS.
    if (since !== undefined && since * 1000 <= x.core.now() && modified <= since) throw notModified();
  }
}

/** Conditions on the source of a copy: 412 whichever fails. */
export function checkCopySource(x: Exchange, version: ObjectVersion): void {
  if (x.core.capabilities.ignoreConditions.copySource) return;
  const fail = (condition: string): never => { throw new S3Error('PreconditionFailed', undefined, { Condition: condition }); };
  const modified = Math.floor(version.modifiedMs / 1000);
  const ifMatch = x.header('x-amz-copy-source-if-match');
  const ifNoneMatch = x.header('x-amz-copy-source-if-none-match');
  const unmodified = seconds(x.header('x-amz-copy-source-if-unmodified-since'));
  const modifiedSince = seconds(x.header('x-amz-copy-source-if-modified-since'));
  if (ifMatch !== undefined) {
    if (!etagListMatches(ifMatch, version.etag)) fail('x-amz-copy-source-If-Match');
  } else if (unmodified !== undefined && modified > unmodified) {
    fail('x-amz-copy-source-If-Unmodified-Since');
  }
  if (ifNoneMatch !== undefined) {
    if (etagListMatches(ifNoneMatch, version.etag)) fail('x-amz-copy-source-If-None-Match');
  } else if (modifiedSince !== undefined && modified <= modifiedSince) {
    fail('x-amz-copy-source-If-Modified-Since');
  }
}

/** Refuses what S3 does not implement, before the body is taken. */
export function checkWriteHeaders(x: Exchange): void {
  const ifMatch = x.header('if-match');
  const ifNoneMatch = x.header('if-none-match');
  if (ifMatch === undefined && ifNoneMatch === undefined) return;
  if (x.core.capabilities.conditionalPutIs501) throw new S3Error('NotImplemented');
  if (ifNoneMatch !== undefined && ifNoneMatch.trim() !== '*') throw new S3Error('NotImplemented', undefined, { Header: 'If-None-Match', additionalMessage: 'We don\'t accept the provided value of If-None-Match header for this API' });
  if (ifMatch !== undefined && ifMatch.trim() === '*') throw new S3Error('NotImplemented', undefined, { Header: 'If-Match', additionalMessage: 'We don\'t accept the provided value of If-Match header for this API' });
  if (ifMatch !== undefined && ifNoneMatch !== undefined) throw new S3Error('NotImplemented');
}

/**
 * The write's condition against the current version (undefined: none, or a delete marker). Commit in the same synchronous stretch.
 * If-Match on nothing is 404 NoSuchKey, on another etag 412; If-None-Match: * on something is 412.
 */
export function checkWrite(x: Exchange, operation: 'putIf' | 'completeIf' | 'copyDest', current: ObjectVersion | undefined): void {
  const { capabilities } = x.core;
  if (capabilities.ignoreConditions[operation]) return;
  const ifMatch = x.header('if-match');
  if (ifMatch !== undefined) {
    if (!current) throw capabilities.missingIfMatchIs412 ? new S3Error('PreconditionFailed', undefined, { Condition: 'If-Match' }) : new S3Error('NoSuchKey', undefined, { Key: x.key });
    const quotedFails = capabilities.quotedIfMatchFails && ifMatch.trim().startsWith('"');
    if (quotedFails || bareEtag(ifMatch) !== current.etag) throw new S3Error('PreconditionFailed', undefined, { Condition: 'If-Match' });
  }
  if (x.header('if-none-match') !== undefined && current) throw new S3Error('PreconditionFailed', undefined, { Condition: 'If-None-Match' });
}

/** `latest` may be a delete marker. Nothing there is 404 NoSuchKey, a delete marker or another etag 412. */
export function checkDelete(x: Exchange, ifMatch: string | undefined, latest: ObjectVersion | undefined, key: string): void {
  if (ifMatch === undefined || x.core.capabilities.ignoreConditions.deleteIfMatch) return;
  if (!latest) throw new S3Error('NoSuchKey', undefined, { Key: key });
  if (latest.deleteMarker || (ifMatch.trim() !== '*' && bareEtag(ifMatch) !== latest.etag)) throw new S3Error('PreconditionFailed', undefined, { Condition: 'If-Match' });
}
