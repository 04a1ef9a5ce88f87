/** Test and demo equipment, not product: multipart uploads. A part is one or more segments; completing moves no byte. */
import { createHash, randomBytes } from 'node:crypto';
import { checkCustomerKey, encryptionHeaders, readAttributes } from './attributes.js';
import { releaseAll, retainAll, slice, type Segment } from './blob-store.js';
import { createChecksum, elementOf, headerOf, isCrc, joinCrc, parseAlgorithm } from './checksums.js';
import { bareEtag, checkWrite, checkWriteHeaders } from './conditions.js';
import { S3Error } from './errors.js';
import type { Exchange } from './exchange.js';
import type { ObjectVersion, StoredChecksum, Upload, UploadedPart } from './model.js';
import { contentDigests, copySource, digestSegments, writtenHeaders } from './put-object.js';
import { receiveObject, receiveText } from './receive-body.js';
import type { OpenUpload } from './state.js';
import { checkKey, modifiedNow, newVersionId, versionHeader } from './versions.js';
import { childrenOf, childText, document, parseXml, tag } from './xml.js';

const partNumberMax = 10_000;
const copyBytesMax = 5 * 1024 ** 3;

export async function createUpload(x: Exchange): Promise<void> {
  const { bucket, core } = x;
  checkKey(x.key);
  const algorithm = parseAlgorithm(x.header('x-amz-checksum-algorithm'));
  const asked = x.header('x-amz-checksum-type')?.toUpperCase();
  const type = algorithm && (asked === 'FULL_OBJECT' || asked === 'COMPOSITE' ? asked : algorithm === 'CRC64NVME' ? 'FULL_OBJECT' : 'COMPOSITE');
  if (algorithm && ((type === 'FULL_OBJECT' && !isCrc(algorithm)) || (type === 'COMPOSITE' && algorithm === 'CRC64NVME'))) {
    throw new S3Error('InvalidRequest', `The ${type} checksum type cannot be used with the ${algorithm.toLowerCase()} checksum algorithm.`);
  }
  const upload: Upload = {
    ...readAttributes(x), id: randomBytes(32).toString('base64url'), bucket: bucket.name, key: x.key, initiatedMs: modifiedNow(core),
    ...(algorithm && { checksumAlgorithm: algorithm }), ...(type && { checksumType: type }),
  };
  await x.beforeCommit();
  core.state.commit({ t: 'upload', upload });
  await x.sendXml(200, document('InitiateMultipartUploadResult', `${tag('Bucket', bucket.name)}${tag('Key', x.key)}${tag('UploadId', upload.id)}`), {
    ...encryptionHeaders(upload), ...(algorithm && { 'x-amz-checksum-algorithm': algorithm }), ...(type && { 'x-amz-checksum-type': type }),
  });
}

function openUpload(x: Exchange): OpenUpload {
  const open = x.core.state.uploads.get(x.query.get('uploadId') ?? '');
  if (!open || open.upload.bucket !== x.bucket.name || open.upload.key !== x.key) throw new S3Error('NoSuchUpload', undefined, { UploadId: x.query.get('uploadId') ?? '' });
  return open;
}

function partNumber(x: Exchange): number {
  const number = Number(x.query.get('partNumber'));
  if (!Number.isInteger(number) || number < 1 || number > partNumberMax) {
    throw new S3Error('InvalidArgument', 'Part number must be an integer between 1 and 10000, inclusive', { ArgumentName: 'partNumber', ArgumentValue: x.query.get('partNumber') ?? '' });
  }
  return number;
}

export async function uploadPart(x: Exchange): Promise<void> {
  const { core } = x;
  const { upload } = openUpload(x);
  const number = partNumber(x);
  checkCustomerKey(x, upload.customerKeyMd5);
  const received = await receiveObject(x, upload.checksumAlgorithm);
  try {
    const algorithm = upload.checksumAlgorithm ?? [...received.checksums.keys()][0];
    const checksum = algorithm && received.checksums.get(algorithm);
    await addPart(x, number, received.segments, received.size, received.md5.toString('hex'), checksum);
    await x.send(200, { etag: `"${received.md5.toString('hex')}"`, ...encryptionHeaders(upload), ...(algorithm && checksum !== undefined && { [headerOf(algorithm)]: checksum }) });
  } finally {
    releaseAll(core.blobs, received.segments);
  }
}

export async function uploadPartCopy(x: Exchange): Promise<void> {
  const { core } = x;
  const { upload } = openUpload(x);
  const number = partNumber(x);
  const source = copySource(x);
  const { start, end } = copyRange(x.header('x-amz-copy-source-range'), source.version.size);
  if (end - start > copyBytesMax) throw new S3Error('InvalidRequest', `The specified copy source is larger than the maximum allowable size for a copy source: ${copyBytesMax}`);
  const segments = slice(source.version.segments, start, end - start);
  retainAll(core.blobs, segments);
  try {
    const whole = end - start === source.version.size ? await contentDigests(x, source.version, upload.checksumAlgorithm) : undefined;
    const { md5, checksum } = whole ? { md5: whole.md5, checksum: whole.checksum?.value } : await digestSegments(x, segments, upload.checksumAlgorithm);
    const etag = md5.toString('hex');
    const part = await addPart(x, number, segments, end - start, etag, checksum);
    const sums = upload.checksumAlgorithm && checksum !== undefined ? tag(elementOf(upload.checksumAlgorithm), checksum) : '';
    const sourceId = versionHeader(source.bucket, source.version.id)['x-amz-version-id'];
    await x.sendXml(200, document('CopyPartResult', `${tag('LastModified', new Date(part.modifiedMs).toISOString())}${tag('ETag', `"${etag}"`)}${sums}`), {
      ...encryptionHeaders(upload), ...(sourceId !== undefined && { 'x-amz-copy-source-version-id': sourceId }),
    });
  } finally {
    releaseAll(core.blobs, segments);
  }
}

function copyRange(text: string | undefined, size: number): { start: number; end: number } {
  if (text === undefined) return { start: 0, end: size };
  const match = /^bytes=(\d+)-(\d+)$/.exec(text);
  if (!match) throw new S3Error('InvalidArgument', 'The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy');
  const start = Number(match[1]);
  const end = Number(match[2]) + 1;
  if (start >= end || end > size) throw new S3Error('InvalidArgument', `Range specified is not valid for source object of size: ${size}`);
  return { start, end };
}

async function addPart(x: Exchange, number: number, segments: readonly Segment[], size: number, etag: string, checksum: string | undefined): Promise<UploadedPart> {
  await x.beforeCommit();
  const { upload } = openUpload(x); // it may have been aborted meanwhile
  const part: UploadedPart = { number, etag, size, modifiedMs: modifiedNow(x.core), segments, ...(checksum !== undefined && { checksum }) };
  x.core.state.commit({ t: 'part', uploadId: upload.id, part });
  return part;
}

export async function completeUpload(x: Exchange): Promise<void> {
  const { bucket, core } = x;
  openUpload(x);
  checkWriteHeaders(x);
  const root = parseXml(await receiveText(x));
  if (root.name !== 'CompleteMultipartUpload') throw new S3Error('MalformedXML');
  const listed = childrenOf(root, 'Part');
  if (listed.length === 0 || listed.length > partNumberMax) throw new S3Error('MalformedXML');
  await x.beforeCommit();
  const { upload, parts } = openUpload(x);
  const chosen: UploadedPart[] = [];
  for (const one of listed) {
    const number = Number(childText(one, 'PartNumber'));
    const previous = chosen[chosen.length - 1];
    if (previous && number <= previous.number) throw new S3Error('InvalidPartOrder');
    const part = parts.get(number);
    const claimed = upload.checksumAlgorithm && childText(one, elementOf(upload.checksumAlgorithm));
    if (!part || bareEtag(childText(one, 'ETag') ?? '') !== part.etag || (claimed !== undefined && claimed !== part.checksum)) {
      throw new S3Error('InvalidPart', undefined, { UploadId: upload.id, PartNumber: String(number), ETag: bareEtag(childText(one, 'ETag') ?? '') });
    }
    chosen.push(part);
  }
  const small = chosen.slice(0, -1).find((part) => part.size < core.limits.partBytesMin);
  if (small) throw new S3Error('EntityTooSmall', undefined, { ProposedSize: String(small.size), MinSizeAllowed: String(core.limits.partBytesMin), PartNumber: String(small.number), ETag: small.etag });
  const size = chosen.reduce((sum, part) => sum + part.size, 0);
  const announced = x.header('x-amz-mp-object-size');
  if (announced !== undefined && Number(announced) !== size) throw new S3Error('InvalidRequest', 'The provided x-amz-mp-object-size header does not match what was computed.');
  checkWrite(x, 'completeIf', core.state.current(bucket, x.key));
  const checksum = joinedChecksum(upload, chosen);
  const claimedWhole = checksum && x.header(headerOf(checksum.algorithm));
  if (claimedWhole !== undefined && claimedWhole.replace(/-\d+$/, '') !== checksum?.value.replace(/-\d+$/, '')) throw new S3Error('BadDigest', `The ${checksum?.algorithm} you specified did not match the calculated checksum.`);
  const version: ObjectVersion = {
    metadata: upload.metadata, headers: upload.headers, storageClass: upload.storageClass,
    ...(upload.tags && { tags: upload.tags }), ...(upload.retention && { retention: upload.retention }),
    ...(upload.legalHold !== undefined && { legalHold: upload.legalHold }), ...(upload.customerKeyMd5 !== undefined && { customerKeyMd5: upload.customerKeyMd5 }),
    // As on AWS: an object's LastModified is when its upload was created, not when it was completed.
    key: x.key, id: newVersionId(bucket), size, modifiedMs: upload.initiatedMs, segments: chosen.flatMap((part) => part.segments),
    etag: `${createHash('md5').update(Buffer.concat(chosen.map((part) => Buffer.from(part.etag, 'hex')))).digest('hex')}-${chosen.length}`,
    parts: chosen.map((part, index) => ({ number: index + 1, size: part.size, ...(part.checksum !== undefined && { checksum: part.checksum }) })),
    ...(checksum && { checksum }),
  };
  core.state.commit({ t: 'version', bucket: bucket.name, version }, { t: 'upload-gone', uploadId: upload.id });
  const etag = core.capabilities.completeEtagEmpty ? '' : `"${version.etag}"`;
  const sums = checksum ? tag(elementOf(checksum.algorithm), checksum.value) + tag('ChecksumType', checksum.type) : '';
  const { etag: _etag, ...headers } = writtenHeaders(bucket, version);
  await x.sendXml(200, document('CompleteMultipartUploadResult', `${tag('Location', `/${bucket.name}/${x.key}`)}${tag('Bucket', bucket.name)}${tag('Key', x.key)}${tag('ETag', etag)}${sums}`), headers);
}

function joinedChecksum(upload: Upload, parts: readonly UploadedPart[]): StoredChecksum | undefined {
  const algorithm = upload.checksumAlgorithm;
  const values = parts.map((part) => (part.checksum === undefined ? undefined : Buffer.from(part.checksum, 'base64')));
  if (!algorithm || !values.every((value) => value !== undefined)) return undefined;
  if (upload.checksumType === 'FULL_OBJECT' && isCrc(algorithm)) {
    const whole = values.slice(1).reduce<Buffer>((sum, value, index) => joinCrc(algorithm, sum, value, parts[index + 1]!.size), values[0]!);
    return { algorithm, value: whole.toString('base64'), type: 'FULL_OBJECT' };
  }
  const sum = createChecksum(algorithm);
  sum.update(Buffer.concat(values));
  return { algorithm, value: `${sum.digest().toString('base64')}-${parts.length}`, type: 'COMPOSITE' };
}

export async function abortUpload(x: Exchange): Promise<void> {
  await x.beforeCommit();
  const { upload } = openUpload(x);
  x.core.state.commit({ t: 'upload-gone', uploadId: upload.id });
  await x.send(204, {});
}

export async function listParts(x: Exchange): Promise<void> {
  const { upload, parts } = openUpload(x);
  const marker = Number(x.query.get('part-number-marker') ?? 0);
  const max = Math.min(Number(x.query.get('max-parts') ?? 1000), 1000);
  const all = [...parts.values()].filter((part) => part.number > marker).sort((a, b) => a.number - b.number);
  const page = all.slice(0, max);
  const rows = page.map((part) => `<Part>${tag('PartNumber', part.number)}${tag('LastModified', new Date(part.modifiedMs).toISOString())}${tag('ETag', `"${part.etag}"`)}${tag('Size', part.size)}${upload.checksumAlgorithm ? tag(elementOf(upload.checksumAlgorithm), part.checksum) : ''}</Part>`).join('');
  await x.sendXml(200, document('ListPartsResult', `${tag('Bucket', upload.bucket)}${tag('Key', upload.key)}${tag('UploadId', upload.id)}${tag('StorageClass', upload.storageClass)}${tag('ChecksumAlgorithm', upload.checksumAlgorithm)}${tag('ChecksumType', upload.checksumType)}${tag('PartNumberMarker', marker)}${tag('NextPartNumberMarker', page[page.length - 1]?.number ?? 0)}${tag('MaxParts', max)}${tag('IsTruncated', page.length < all.length)}${rows}`));
}
