/** Test and demo equipment, not product: PutObject and CopyObject. Both commit in the same stretch as they check conditions. */
import { createHash } from 'node:crypto';
import { checkCustomerKey, encryptionHeaders, etagOf, readAttributes, readLock } from './attributes.js';
import { readSegments, releaseAll, retainAll, type Segment } from './blob-store.js';
import { createChecksum, elementOf, headerOf, parseAlgorithm, type Algorithm } from './checksums.js';
import { checkCopySource, checkWrite, checkWriteHeaders } from './conditions.js';
import { S3Error } from './errors.js';
import type { Exchange, Headers } from './exchange.js';
import { isArchived } from './get-object.js';
import type { Attributes, ObjectVersion, StoredChecksum } from './model.js';
import { receiveObject } from './receive-body.js';
import type { Bucket } from './state.js';
import { checkKey, findVersion, modifiedNow, newVersionId, versionHeader } from './versions.js';
import { document, tag } from './xml.js';

const copyBytesMax = 5 * 1024 ** 3;

export async function putObject(x: Exchange): Promise<void> {
  const { bucket, core } = x;
  checkKey(x.key);
  checkWriteHeaders(x);
  const attributes = readAttributes(x);
  const received = await receiveObject(x);
  try {
    await x.beforeCommit();
    checkWrite(x, 'putIf', core.state.current(bucket, x.key));
    const [first] = received.checksums;
    const version: ObjectVersion = {
      ...attributes, key: x.key, id: newVersionId(bucket), etag: etagOf(received.md5, attributes), size: received.size,
      modifiedMs: modifiedNow(core), segments: received.segments,
      ...(first && { checksum: { algorithm: first[0], value: first[1], type: 'FULL_OBJECT' } }),
    };
    core.state.commit({ t: 'version', bucket: bucket.name, version });
    await x.send(200, { ...writtenHeaders(bucket, version), ...(version.checksum && { [headerOf(version.checksum.algorithm)]: version.checksum.value, 'x-amz-checksum-type': 'FULL_OBJECT' }) });
  } finally {
    releaseAll(core.blobs, received.segments);
  }
}

export function writtenHeaders(bucket: Bucket, version: ObjectVersion): Headers {
  return { etag: `"${version.etag}"`, ...encryptionHeaders(version), ...versionHeader(bucket, version.id) };
}

export interface Source { readonly bucket: Bucket; readonly version: ObjectVersion }

/** The object named by x-amz-copy-source, its conditions checked. */
export function copySource(x: Exchange): Source {
  const text = x.header('x-amz-copy-source') ?? '';
  const [path, versionId] = text.split('?versionId=');
  let decoded: string;
  try {
    decoded = decodeURIComponent(path!).replace(/^\//, '');
  } catch {
    throw new S3Error('InvalidArgument', 'Copy Source must be URL-encoded');
  }
  const slash = decoded.indexOf('/');
  if (slash <= 0 || slash === decoded.length - 1) throw new S3Error('InvalidArgument', 'Copy Source must mention the source bucket and key: sourcebucket/sourcekey');
  const bucket = x.core.state.buckets.get(decoded.slice(0, slash));
  if (!bucket) throw new S3Error('NoSuchBucket', undefined, { BucketName: decoded.slice(0, slash) });
  const version = findVersion(x, bucket, decoded.slice(slash + 1), versionId === undefined ? undefined : decodeURIComponent(versionId));
  checkCopySource(x, version);
  checkCustomerKey(x, version.customerKeyMd5, 'x-amz-copy-source-server-side-encryption-customer');
  if (isArchived(version, x.core.now())) throw new S3Error('InvalidObjectState', undefined, { StorageClass: version.storageClass });
  return { bucket, version };
}

export async function copyObject(x: Exchange): Promise<void> {
  const { bucket, core } = x;
  checkKey(x.key);
  checkWriteHeaders(x);
  const source = copySource(x);
  if (source.version.size > copyBytesMax) throw new S3Error('InvalidRequest', `The specified copy source is larger than the maximum allowable size for a copy source: ${copyBytesMax}`);
  const given = readAttributes(x);
  const replace = x.header('x-amz-metadata-directive') === 'REPLACE';
  const attributes = copiedAttributes(x, source.version, given, replace);
  const onItself = source.bucket === bucket && source.version.key === x.key && !x.header('x-amz-copy-source')!.includes('?versionId=');
  if (onItself && !replace && attributes.storageClass === source.version.storageClass && attributes.customerKeyMd5 === source.version.customerKeyMd5 && x.header('x-amz-server-side-encryption') === undefined && x.header('x-amz-website-redirect-location') === undefined) {
    throw new S3Error('InvalidRequest', "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.");
  }
  const { segments } = source.version;
  retainAll(core.blobs, segments);
  try {
    const { md5, checksum } = await contentDigests(x, source.version, parseAlgorithm(x.header('x-amz-checksum-algorithm')) ?? source.version.checksum?.algorithm);
    await x.beforeCommit();
    checkWrite(x, 'copyDest', core.state.current(bucket, x.key));
    const version: ObjectVersion = {
      ...attributes, key: x.key, id: newVersionId(bucket), etag: etagOf(md5, attributes), size: source.version.size, modifiedMs: modifiedNow(core), segments,
      ...(checksum && { checksum }),
    };
    core.state.commit({ t: 'version', bucket: bucket.name, version });
    const result = `${tag('LastModified', new Date(version.modifiedMs).toISOString())}${tag('ETag', `"${version.etag}"`)}${checksum ? tag(elementOf(checksum.algorithm), checksum.value) + tag('ChecksumType', checksum.type) : ''}`;
    const sourceId = versionHeader(source.bucket, source.version.id)['x-amz-version-id'];
    await x.sendXml(200, document('CopyObjectResult', result), {
      ...encryptionHeaders(version), ...versionHeader(bucket, version.id), ...(sourceId !== undefined && { 'x-amz-copy-source-version-id': sourceId }),
    });
  } finally {
    releaseAll(core.blobs, segments);
  }
}

function copiedAttributes(x: Exchange, source: ObjectVersion, given: Attributes, replace: boolean): Attributes {
  const tags = x.header('x-amz-tagging-directive') === 'REPLACE' ? given.tags : source.tags;
  const { 'x-amz-server-side-encryption': sourceEncryption, ...sourceHeaders } = source.headers;
  const encryption = x.header('x-amz-server-side-encryption') ?? sourceEncryption ?? 'AES256';
  return {
    metadata: replace ? given.metadata : source.metadata,
    headers: replace ? given.headers : { ...sourceHeaders, ...(given.customerKeyMd5 === undefined && { 'x-amz-server-side-encryption': encryption }) },
    // The storage class is not copied: without the header the copy is STANDARD.
    storageClass: given.storageClass,
    ...(tags && tags.length > 0 && { tags }),
    ...(given.customerKeyMd5 !== undefined && { customerKeyMd5: given.customerKeyMd5 }),
    ...readLock(x),
  };
}

/** MD5 and checksum of a copied object's bytes: known where the source was one PUT, else read. */
export async function contentDigests(x: Exchange, source: ObjectVersion, algorithm: Algorithm | undefined): Promise<{ md5: Buffer; checksum: StoredChecksum | undefined }> {
  const plain = /^[0-9a-f]{32}$/.test(source.etag) && source.customerKeyMd5 === undefined && !source.headers['x-amz-server-side-encryption']?.startsWith('aws:kms');
  const known = source.checksum?.type === 'FULL_OBJECT' && source.checksum.algorithm === algorithm ? source.checksum : undefined;
  if (plain && (algorithm === undefined || known)) return { md5: Buffer.from(source.etag, 'hex'), checksum: known };
  const digests = await digestSegments(x, source.segments, algorithm);
  return { md5: digests.md5, checksum: algorithm && digests.checksum !== undefined ? { algorithm, value: digests.checksum, type: 'FULL_OBJECT' } : undefined };
}

export async function digestSegments(x: Exchange, segments: readonly Segment[], algorithm: Algorithm | undefined): Promise<{ md5: Buffer; checksum: string | undefined }> {
  const md5 = createHash('md5');
  const checksum = algorithm && createChecksum(algorithm);
  for await (const bytes of readSegments(x.core.blobs, segments)) {
    md5.update(bytes);
    checksum?.update(bytes);
  }
  return { md5: md5.digest(), checksum: checksum?.digest().toString('base64') };
}
