/**
 * Test and demo equipment, not product: buckets and their configurations. Most of these are only stored and given back; versioning,
 * policy and object lock mean something, lifecycle and notification do not (nothing expires and no event is sent).
 */
import { S3Error, type S3Code } from './errors.js';
import type { Exchange } from './exchange.js';
import { aclDocument } from './object-config.js';
import { bucketDocumentOf, type BucketDocument } from './operations.js';
import { isPolicy } from './policy.js';
import { receiveText } from './receive-body.js';
import { childText, document, parseXml, tag } from './xml.js';

export async function listBuckets(x: Exchange): Promise<void> {
  const rows = [...x.core.state.buckets.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((bucket) => `<Bucket>${tag('Name', bucket.name)}${tag('CreationDate', new Date(bucket.createdMs).toISOString())}</Bucket>`).join('');
  await x.sendXml(200, document('ListAllMyBucketsResult', `<Owner><ID>hearthfs-test</ID><DisplayName>hearthfs-test</DisplayName></Owner><Buckets>${rows}</Buckets>`));
}

export function isBucketName(name: string): boolean {
  return /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(name) && !name.includes('..') && !/^\d+\.\d+\.\d+\.\d+$/.test(name);
}

export async function createBucket(x: Exchange): Promise<void> {
  if (!isBucketName(x.bucketName)) throw new S3Error('InvalidBucketName', undefined, { BucketName: x.bucketName });
  await receiveText(x);
  const lock = x.header('x-amz-bucket-object-lock-enabled')?.toLowerCase() === 'true';
  if (!x.core.state.buckets.has(x.bucketName)) {
    x.core.state.commit({ t: 'bucket', name: x.bucketName, createdMs: x.core.now(), lock });
  } else if (x.core.region !== 'us-east-1') {
    throw new S3Error('BucketAlreadyOwnedByYou', undefined, { BucketName: x.bucketName });
  }
  await x.send(200, { location: `/${x.bucketName}` });
}

export async function headBucket(x: Exchange): Promise<void> {
  void x.bucket;
  await x.send(200, { 'x-amz-bucket-region': x.core.region, 'x-amz-access-point-alias': 'false', 'content-type': 'application/xml' });
}

export async function deleteBucket(x: Exchange): Promise<void> {
  if (x.bucket.entries.size > 0) throw new S3Error('BucketNotEmpty', undefined, { BucketName: x.bucketName });
  x.core.state.commit({ t: 'bucket-gone', name: x.bucketName });
  await x.send(204, {});
}

export async function getLocation(x: Exchange): Promise<void> {
  void x.bucket;
  await x.sendXml(200, document('LocationConstraint', x.core.region === 'us-east-1' ? '' : x.core.region));
}

/** What a GET answers where nothing was ever put: an error, or a default document. */
const absent: Readonly<Record<BucketDocument, { readonly code: S3Code } | { readonly text: string }>> = {
  versioning: { text: document('VersioningConfiguration', '') },
  policy: { code: 'NoSuchBucketPolicy' },
  lifecycle: { code: 'NoSuchLifecycleConfiguration' },
  notification: { text: document('NotificationConfiguration', '') },
  tagging: { code: 'NoSuchTagSet' },
  cors: { code: 'NoSuchCORSConfiguration' },
  'object-lock': { code: 'ObjectLockConfigurationNotFoundError' },
  encryption: { text: document('ServerSideEncryptionConfiguration', '<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule>') },
  website: { code: 'NoSuchWebsiteConfiguration' },
  logging: { text: document('BucketLoggingStatus', '') },
  accelerate: { text: document('AccelerateConfiguration', '') },
  requestPayment: { text: document('RequestPaymentConfiguration', '<Payer>BucketOwner</Payer>') },
  publicAccessBlock: { code: 'NoSuchPublicAccessBlockConfiguration' },
  ownershipControls: { code: 'OwnershipControlsNotFoundError' },
  replication: { code: 'ReplicationConfigurationNotFoundError' },
  acl: { text: aclDocument },
};

export async function getDocument(x: Exchange): Promise<void> {
  const name = bucketDocumentOf(x.query)!;
  const { bucket } = x;
  const stored = bucket.config.get(name);
  if (name === 'policy' && stored !== undefined) return x.send(200, { 'content-type': 'application/json' }, stored);
  if (name === 'versioning' && stored !== undefined) return x.sendXml(200, document('VersioningConfiguration', tag('Status', stored)));
  if (name === 'object-lock' && stored === undefined && bucket.lock) return x.sendXml(200, document('ObjectLockConfiguration', '<ObjectLockEnabled>Enabled</ObjectLockEnabled>'));
  if (stored !== undefined) return x.sendXml(200, stored);
  const nothing = absent[name];
  if ('code' in nothing) throw new S3Error(nothing.code, undefined, { BucketName: bucket.name });
  return x.sendXml(200, nothing.text);
}

export async function putDocument(x: Exchange): Promise<void> {
  const name = bucketDocumentOf(x.query)!;
  const { bucket } = x;
  const text = await receiveText(x);
  let value = text;
  if (name === 'policy') {
    if (!isPolicy(tryJson(text))) throw new S3Error('MalformedPolicy');
  } else if (name === 'versioning') {
    const status = childText(parseXml(text), 'Status');
    if (status !== 'Enabled' && status !== 'Suspended') throw new S3Error('MalformedXML');
    if (bucket.lock && status === 'Suspended') throw new S3Error('InvalidRequest', 'An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.');
    value = status;
  } else if (text !== '') {
    parseXml(text);
  }
  if (name === 'object-lock' && !bucket.lock) throw new S3Error('InvalidRequest', 'Object Lock configuration cannot be enabled on existing buckets');
  if (name !== 'acl') x.core.state.commit({ t: 'config', bucket: bucket.name, name, value });
  await x.send(name === 'policy' ? 204 : 200, {});
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export async function deleteDocument(x: Exchange): Promise<void> {
  const name = bucketDocumentOf(x.query)!;
  if (name === 'versioning' || name === 'object-lock') throw new S3Error('MethodNotAllowed');
  x.core.state.commit({ t: 'config', bucket: x.bucket.name, name, value: null });
  await x.send(204, {});
}
