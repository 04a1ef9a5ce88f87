/** Test and demo equipment, not product: DeleteObject and DeleteObjects, with If-Match. */
import { checkDelete } from './conditions.js';
import { S3Error } from './errors.js';
import type { Exchange } from './exchange.js';
import { receiveText } from './receive-body.js';
import { removal, versionHeader } from './versions.js';
import { childrenOf, childText, document, parseXml, tag } from './xml.js';

const batchMax = 1000;

function bypasses(x: Exchange): boolean {
  return x.header('x-amz-bypass-governance-retention')?.toLowerCase() === 'true';
}

export async function deleteObject(x: Exchange): Promise<void> {
  const { bucket, core } = x;
  const id = x.query.get('versionId');
  await x.beforeCommit();
  checkDelete(x, x.header('if-match'), core.state.latest(bucket, x.key), x.key);
  const removed = removal(core, bucket, x.key, id, bypasses(x));
  if (removed.facts.length > 0) core.state.commit(...removed.facts);
  await x.send(204, { ...versionHeader(bucket, removed.versionId), ...(removed.deleteMarker && { 'x-amz-delete-marker': 'true' }) });
}

export async function deleteObjects(x: Exchange): Promise<void> {
  const { bucket, core } = x;
  const root = parseXml(await receiveText(x, { digestRequired: true }));
  const objects = childrenOf(root, 'Object');
  if (root.name !== 'Delete' || objects.length === 0 || objects.length > batchMax) throw new S3Error('MalformedXML');
  const quiet = childText(root, 'Quiet') === 'true';
  await x.beforeCommit();
  let out = '';
  for (const object of objects) {
    const key = childText(object, 'Key');
    if (key === undefined || key === '') throw new S3Error('MalformedXML');
    const id = childText(object, 'VersionId');
    try {
      checkDelete(x, childText(object, 'ETag'), core.state.latest(bucket, key), key);
      const removed = removal(core, bucket, key, id, bypasses(x));
      if (removed.facts.length > 0) core.state.commit(...removed.facts);
      if (quiet) continue;
      const marker = removed.deleteMarker ? `<DeleteMarker>true</DeleteMarker>${tag('DeleteMarkerVersionId', removed.versionId)}` : '';
      out += `<Deleted>${tag('Key', key)}${tag('VersionId', id)}${marker}</Deleted>`;
    } catch (error) {
      if (!(error instanceof S3Error)) throw error;
      out += `<Error>${tag('Key', key)}${tag('VersionId', id)}${tag('Code', error.code)}${tag('Message', error.message)}</Error>`;
    }
  }
  await x.sendXml(200, document('DeleteResult', out));
}
