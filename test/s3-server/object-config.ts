/** Test and demo equipment, not product: attributes, tags, retention, legal hold, ACL and restoring of objects. */
import { checkCustomerKey, checkRetention, checkTags } from './attributes.js';
import { S3Error } from './errors.js';
import type { Exchange } from './exchange.js';
import { attributesDocument } from './listing.js';
import type { ObjectVersion } from './model.js';
import { receiveText } from './receive-body.js';
import { findVersion, versionHeader } from './versions.js';
import { child, childrenOf, childText, document, parseXml, tag } from './xml.js';

export const aclDocument = document('AccessControlPolicy',
  '<Owner><ID>hearthfs-test</ID></Owner><AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>hearthfs-test</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList>');

function version(x: Exchange): ObjectVersion {
  return findVersion(x, x.bucket, x.key, x.query.get('versionId'));
}

function amend(x: Exchange, changed: ObjectVersion): void {
  x.core.state.commit({ t: 'amend', bucket: x.bucketName, version: changed });
}

export async function getAttributes(x: Exchange): Promise<void> {
  const one = version(x);
  checkCustomerKey(x, one.customerKeyMd5);
  const wanted = new Set((x.header('x-amz-object-attributes') ?? '').split(',').map((name) => name.trim()));
  await x.sendXml(200, attributesDocument(one, wanted), { 'last-modified': new Date(one.modifiedMs).toUTCString(), ...versionHeader(x.bucket, one.id) });
}

export async function getTagging(x: Exchange): Promise<void> {
  const one = version(x);
  const set = (one.tags ?? []).map(({ key, value }) => `<Tag>${tag('Key', key)}${tag('Value', value)}</Tag>`).join('');
  await x.sendXml(200, document('Tagging', `<TagSet>${set}</TagSet>`), versionHeader(x.bucket, one.id));
}

export async function putTagging(x: Exchange): Promise<void> {
  version(x);
  const set = child(parseXml(await receiveText(x)), 'TagSet');
  if (!set) throw new S3Error('MalformedXML');
  const tags = checkTags(childrenOf(set, 'Tag').map((one) => ({ key: childText(one, 'Key') ?? '', value: childText(one, 'Value') ?? '' })));
  const one = version(x);
  amend(x, { ...one, tags });
  await x.send(200, versionHeader(x.bucket, one.id));
}

export async function deleteTagging(x: Exchange): Promise<void> {
  const { tags: _tags, ...rest } = version(x);
  amend(x, rest);
  await x.send(204, versionHeader(x.bucket, rest.id));
}

function demandLock(x: Exchange): void {
  if (!x.bucket.lock) throw new S3Error('InvalidRequest', 'Bucket is missing Object Lock Configuration');
}

export async function getRetention(x: Exchange): Promise<void> {
  demandLock(x);
  const { retention } = version(x);
  if (!retention) throw new S3Error('NoSuchObjectLockConfiguration');
  await x.sendXml(200, document('Retention', `${tag('Mode', retention.mode)}${tag('RetainUntilDate', new Date(retention.untilMs).toISOString())}`));
}

export async function putRetention(x: Exchange): Promise<void> {
  demandLock(x);
  version(x);
  const root = parseXml(await receiveText(x));
  const one = version(x);
  const { retention: old, ...rest } = one;
  const mode = childText(root, 'Mode');
  const next = mode === undefined ? undefined : checkRetention(x, mode, Date.parse(childText(root, 'RetainUntilDate') ?? ''));
  const weaker = old && old.untilMs > x.core.now() && (!next || next.untilMs < old.untilMs || next.mode !== old.mode);
  if (weaker && !(old.mode === 'GOVERNANCE' && x.header('x-amz-bypass-governance-retention')?.toLowerCase() === 'true')) {
    throw new S3Error('AccessDenied', 'Access Denied because object protected by object lock.');
  }
  amend(x, { ...rest, ...(next && { retention: next }) });
  await x.send(200, {});
}

export async function getLegalHold(x: Exchange): Promise<void> {
  demandLock(x);
  const { legalHold } = version(x);
  if (legalHold === undefined) throw new S3Error('NoSuchObjectLockConfiguration');
  await x.sendXml(200, document('LegalHold', tag('Status', legalHold ? 'ON' : 'OFF')));
}

export async function putLegalHold(x: Exchange): Promise<void> {
  demandLock(x);
  version(x);
  const status = childText(parseXml(await receiveText(x)), 'Status');
  if (status !== 'ON' && status !== 'OFF') throw new S3Error('MalformedXML');
  amend(x, { ...version(x), legalHold: status === 'ON' });
  await x.send(200, {});
}

export async function getAcl(x: Exchange): Promise<void> {
  version(x);
  await x.sendXml(200, aclDocument);
}

/** Taken and ignored: everything belongs to one owner. */
export async function putAcl(x: Exchange): Promise<void> {
  version(x);
  await receiveText(x);
  await x.send(200, {});
}

/** Restoring takes no time here. */
export async function restore(x: Exchange): Promise<void> {
  const before = version(x);
  if (before.storageClass !== 'GLACIER' && before.storageClass !== 'DEEP_ARCHIVE') throw new S3Error('InvalidObjectState', "Restore is not allowed for the object's current storage class");
  const text = await receiveText(x);
  const days = Number((text === '' ? undefined : childText(parseXml(text), 'Days')) ?? 1);
  const one = version(x);
  amend(x, { ...one, restoredUntilMs: x.core.now() + days * 86_400_000 });
  await x.send(one.restoredUntilMs === undefined ? 202 : 200, {});
}
