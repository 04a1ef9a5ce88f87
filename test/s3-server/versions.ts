/** Test and demo equipment, not product: choosing, adding and removing versions of objects, with object lock. */
import { randomBytes } from 'node:crypto';
import { S3Error } from './errors.js';
import type { Core, Exchange } from './exchange.js';
import type { Fact, ObjectVersion } from './model.js';
import type { Bucket } from './state.js';

export function versioningOf(bucket: Bucket): string | undefined {
  return bucket.config.get('versioning');
}

export function newVersionId(bucket: Bucket): string {
  return versioningOf(bucket) === 'Enabled' ? randomBytes(24).toString('base64url') : 'null';
}

/**
 * LastModified has whole seconds, as on AWS. It lags by half a second so that "not modified since half a second ago", asked right
 * after a write, does not depend on where in a second the write fell; never more than 1.5 s behind (O1 allows 2).
 */
export function modifiedNow(core: Core): number {
  return Math.floor((core.now() - 500) / 1000) * 1000;
}

export function checkKey(key: string): void {
  const bytes = Buffer.byteLength(key);
  if (bytes > 1024) throw new S3Error('KeyTooLongError', undefined, { Size: String(bytes), MaxSizeAllowed: '1024' });
}

/**
 * The version a read means: the one asked for, else the newest.
 * @throws S3Error NoSuchKey, NoSuchVersion, MethodNotAllowed for a delete marker asked for by id.
 */
export function findVersion(x: Exchange, bucket: Bucket, key: string, id: string | undefined): ObjectVersion {
  if (id === undefined) {
    const latest = x.core.state.latest(bucket, key);
    if (!latest) throw new S3Error('NoSuchKey', undefined, { Key: key });
    if (latest.deleteMarker) throw new S3Error('NoSuchKey', undefined, { Key: key }, { 'x-amz-delete-marker': 'true', 'x-amz-version-id': latest.id });
    return latest;
  }
  const version = x.core.state.version(bucket, key, id);
  if (!version) throw id === 'null' || /^[\w-]{32}$/.test(id) ? new S3Error('NoSuchVersion', undefined, { Key: key, VersionId: id }) : new S3Error('InvalidArgument', 'Invalid version id specified', { ArgumentName: 'versionId', ArgumentValue: id });
  if (version.deleteMarker) throw new S3Error('MethodNotAllowed', undefined, { Method: x.req.method ?? '', ResourceType: 'DeleteMarker' }, { 'x-amz-delete-marker': 'true', 'x-amz-version-id': id, allow: 'DELETE' });
  return version;
}

export interface Removal { readonly facts: Fact[]; readonly deleteMarker?: true; readonly versionId?: string }

/** What deleting a key (or one version) changes. @throws S3Error AccessDenied if object lock forbids it. */
export function removal(core: Core, bucket: Bucket, key: string, id: string | undefined, bypassGovernance: boolean): Removal {
  if (id !== undefined) {
    const version = core.state.version(bucket, key, id);
    if (!version) return { facts: [], versionId: id };
    if (version.legalHold) throw new S3Error('AccessDenied', 'Access Denied because object protected by object lock.');
    const retained = version.retention && version.retention.untilMs > core.now();
    if (retained && !(version.retention?.mode === 'GOVERNANCE' && bypassGovernance)) throw new S3Error('AccessDenied', 'Access Denied because object protected by object lock.');
    return { facts: [{ t: 'version-gone', bucket: bucket.name, key, id }], versionId: id, ...(version.deleteMarker && { deleteMarker: true }) };
  }
  const status = versioningOf(bucket);
  if (status === undefined) {
    return { facts: bucket.entries.has(key) ? [{ t: 'version-gone', bucket: bucket.name, key, id: 'null' }] : [] };
  }
  const marker: ObjectVersion = {
    key, id: newVersionId(bucket), deleteMarker: true, etag: '', size: 0, modifiedMs: modifiedNow(core), segments: [], metadata: {}, headers: {}, storageClass: 'STANDARD',
  };
  return { facts: [{ t: 'version', bucket: bucket.name, version: marker }], deleteMarker: true, versionId: marker.id };
}

export function versionHeader(bucket: Bucket, id: string | undefined): Record<string, string> {
  return id !== undefined && versioningOf(bucket) !== undefined ? { 'x-amz-version-id': id } : {};
}
