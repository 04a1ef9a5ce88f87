/**
 * Test and demo equipment, not product: listings. All are one walk over the sorted keys that starts with a binary search, jumps over
 * what a common prefix folds, and stops after a page: a page costs the same in a bucket of ten or a million keys.
 */
import { elementOf } from './checksums.js';
import { S3Error } from './errors.js';
import type { Exchange } from './exchange.js';
import type { ObjectVersion } from './model.js';
import { afterPrefix, sortForm } from './sorted-keys.js';
import type { Bucket, Entry } from './state.js';
import { document, tag } from './xml.js';

const maxKeysMax = 1000;

interface Walk {
  readonly prefix: string;
  readonly delimiter: string | undefined;
  /** Only keys and common prefixes after it. */
  readonly after: string;
  readonly maxKeys: number;
}

interface Page {
  readonly entries: Entry[];
  readonly prefixes: string[];
  /** The last key or common prefix of this page; undefined if nothing is left. */
  readonly next: string | undefined;
}

/** Walks entries that `counts` (those with a current version, for object listings). */
function walk(bucket: Bucket, query: Walk, counts: (entry: Entry) => boolean): Page {
  const entries: Entry[] = [];
  const prefixes: string[] = [];
  const prefix = sortForm(query.prefix);
  const after = sortForm(query.after);
  const delimiter = query.delimiter === undefined ? undefined : sortForm(query.delimiter);
  const cursor = bucket.sorted.cursor(after > prefix ? after : prefix);
  let last = '';
  for (let entry = cursor.current; entry?.sort.startsWith(prefix); entry = cursor.current) {
    if (query.after !== '' && entry.sort <= after) {
      cursor.next();
      continue;
    }
    const at = delimiter === undefined ? -1 : entry.sort.indexOf(delimiter, prefix.length);
    const folded = at < 0 || delimiter === undefined ? undefined : entry.sort.slice(0, at + delimiter.length);
    if (folded !== undefined && folded === after) {
      // The page before ended with this common prefix.
      const skip = afterPrefix(folded);
      if (skip === undefined) break;
      cursor.seek(skip);
      continue;
    }
    if (!counts(entry)) {
      cursor.next();
      continue;
    }
    if (entries.length + prefixes.length >= query.maxKeys) return { entries, prefixes, next: query.maxKeys === 0 ? undefined : last };
    if (folded === undefined) {
      entries.push(entry);
      last = entry.key;
      cursor.next();
    } else {
      // Sort forms differ from keys only unit by unit, so lengths agree.
      last = entry.key.slice(0, folded.length);
      prefixes.push(last);
      const skip = afterPrefix(folded);
      if (skip === undefined) break;
      cursor.seek(skip);
    }
  }
  return { entries, prefixes, next: undefined };
}

function readWalk(x: Exchange, after: string, maxName = 'max-keys'): Walk & { encode: (text: string) => string; encoding: string | undefined } {
  const max = x.query.get(maxName) ?? '';
  const maxKeys = max === '' ? maxKeysMax : Number(max);
  if (!Number.isInteger(maxKeys) || maxKeys < 0) throw new S3Error('InvalidArgument', `Argument ${maxName} must be an integer between 0 and 2147483647`, { ArgumentName: maxName, ArgumentValue: max });
  const encoding = x.query.get('encoding-type');
  if (encoding !== undefined && encoding !== 'url') throw new S3Error('InvalidArgument', 'Invalid Encoding Method specified in Request', { ArgumentName: 'encoding-type', ArgumentValue: encoding });
  const delimiter = x.query.get('delimiter');
  return {
    prefix: x.query.get('prefix') ?? '', delimiter: delimiter === '' ? undefined : delimiter, after, maxKeys: Math.min(maxKeys, maxKeysMax),
    encode: encoding === 'url' ? urlEncode : (text) => text, encoding,
  };
}

/** As S3 encodes: a form encoding that leaves slashes. */
function urlEncode(text: string): string {
  return encodeURIComponent(text).replace(/%20/g, '+').replace(/%2F/g, '/').replace(/[!'()~]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

function hasCurrent(entry: Entry): boolean {
  return !entry.versions[0]!.deleteMarker;
}

const owner = '<Owner><ID>hearthfs-test</ID><DisplayName>hearthfs-test</DisplayName></Owner>';

function contents(page: Page, encode: (text: string) => string, withOwner: boolean): string {
  let out = '';
  for (const entry of page.entries) {
    const version = entry.versions[0]!;
    out += `<Contents>${tag('Key', encode(entry.key))}<LastModified>${new Date(version.modifiedMs).toISOString()}</LastModified><ETag>&quot;${version.etag}&quot;</ETag><Size>${version.size}</Size>${withOwner ? owner : ''}<StorageClass>${version.storageClass}</StorageClass>${version.checksum ? `<ChecksumAlgorithm>${version.checksum.algorithm}</ChecksumAlgorithm><ChecksumType>${version.checksum.type}</ChecksumType>` : ''}</Contents>`;
  }
  return out;
}

function commonPrefixes(page: { readonly prefixes: readonly string[] }, encode: (text: string) => string): string {
  return page.prefixes.map((prefix) => `<CommonPrefixes>${tag('Prefix', encode(prefix))}</CommonPrefixes>`).join('');
}

export function listObjectsV2(x: Exchange): Promise<void> | void {
  const token = x.query.get('continuation-token');
  const startAfter = x.query.get('start-after');
  const query = readWalk(x, token === undefined || token === '' ? (startAfter ?? '') : readToken(token));
  const page = walk(x.bucket, query, hasCurrent);
  const { encode } = query;
  return x.sendXml(200, document('ListBucketResult',
    `${tag('Name', x.bucketName)}${tag('Prefix', encode(query.prefix))}${query.delimiter === undefined ? '' : tag('Delimiter', encode(query.delimiter))}${tag('StartAfter', startAfter === undefined ? undefined : encode(startAfter))}${tag('MaxKeys', query.maxKeys)}${tag('KeyCount', page.entries.length + page.prefixes.length)}${tag('IsTruncated', page.next !== undefined)}${tag('ContinuationToken', token)}${tag('NextContinuationToken', page.next === undefined ? undefined : Buffer.from(page.next).toString('base64url'))}${tag('EncodingType', query.encoding)}`
    + contents(page, encode, x.query.get('fetch-owner') === 'true') + commonPrefixes(page, encode)), { 'x-amz-bucket-region': x.core.region });
}

function readToken(token: string): string {
  if (!/^[\w-]+$/.test(token)) throw new S3Error('InvalidArgument', 'The continuation token provided is incorrect', { ArgumentName: 'continuation-token' });
  return Buffer.from(token, 'base64url').toString();
}

export function listObjects(x: Exchange): Promise<void> | void {
  const marker = x.query.get('marker') ?? '';
  const query = readWalk(x, marker);
  const page = walk(x.bucket, query, hasCurrent);
  const { encode } = query;
  // NextMarker only with a delimiter; without one the last key serves.
  const next = page.next !== undefined && query.delimiter !== undefined ? tag('NextMarker', encode(page.next)) : '';
  return x.sendXml(200, document('ListBucketResult',
    `${tag('Name', x.bucketName)}${tag('Prefix', encode(query.prefix))}${tag('Marker', encode(marker))}${query.delimiter === undefined ? '' : tag('Delimiter', encode(query.delimiter))}${tag('MaxKeys', query.maxKeys)}${tag('IsTruncated', page.next !== undefined)}${next}${tag('EncodingType', query.encoding)}`
    + contents(page, encode, true) + commonPrefixes(page, encode)), { 'x-amz-bucket-region': x.core.region });
}

/** Versions of a key are newest first; a page may end between two of them, so it is walked key by key. */
export function listVersions(x: Exchange): Promise<void> | void {
  const keyMarker = x.query.get('key-marker') ?? '';
  const idMarker = x.query.get('version-id-marker');
  const query = readWalk(x, keyMarker);
  const { encode } = query;
  const rows: string[] = [];
  const prefixes: string[] = [];
  let next: { key: string; id: string | undefined } | undefined;
  const add = (entry: Entry, versions: readonly ObjectVersion[]): boolean => {
    for (const version of versions) {
      if (rows.length + prefixes.length >= query.maxKeys) return false;
      rows.push(versionRow(version, entry.versions[0] === version, encode));
      next = { key: entry.key, id: version.id };
    }
    return true;
  };
  let complete = true;
  if (idMarker !== undefined && idMarker !== '') {
    const entry = x.bucket.entries.get(keyMarker);
    if (entry) complete = add(entry, entry.versions.slice(entry.versions.findIndex((one) => one.id === idMarker) + 1));
  }
  if (complete) {
    // Each entry and prefix takes at least one place, so one page of the walk is enough.
    const page = walk(x.bucket, query, () => true);
    const merged: (Entry | string)[] = [...page.entries, ...page.prefixes].sort((a, b) => compare(typeof a === 'string' ? sortForm(a) : a.sort, typeof b === 'string' ? sortForm(b) : b.sort));
    for (const one of merged) {
      if (rows.length + prefixes.length >= query.maxKeys) complete = false;
      else if (typeof one !== 'string') complete = add(one, one.versions);
      else {
        prefixes.push(one);
        next = { key: one, id: undefined };
      }
      if (!complete) break;
    }
    if (page.next !== undefined) complete = false;
  }
  const markers = complete || !next ? '' : `${tag('NextKeyMarker', encode(next.key))}${tag('NextVersionIdMarker', next.id)}`;
  return x.sendXml(200, document('ListVersionsResult',
    `${tag('Name', x.bucketName)}${tag('Prefix', encode(query.prefix))}${tag('KeyMarker', encode(keyMarker))}${tag('VersionIdMarker', idMarker ?? '')}${query.delimiter === undefined ? '' : tag('Delimiter', encode(query.delimiter))}${tag('MaxKeys', query.maxKeys)}${tag('IsTruncated', !complete)}${markers}${tag('EncodingType', query.encoding)}`
    + rows.join('') + commonPrefixes({ prefixes }, encode)));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function versionRow(version: ObjectVersion, latest: boolean, encode: (text: string) => string): string {
  const common = `${tag('Key', encode(version.key))}${tag('VersionId', version.id)}${tag('IsLatest', latest)}${tag('LastModified', new Date(version.modifiedMs).toISOString())}`;
  if (version.deleteMarker) return `<DeleteMarker>${common}${owner}</DeleteMarker>`;
  return `<Version>${common}${tag('ETag', `"${version.etag}"`)}${tag('Size', version.size)}${tag('StorageClass', version.storageClass)}${owner}</Version>`;
}

export function listUploads(x: Exchange): Promise<void> | void {
  const query = readWalk(x, '', 'max-uploads');
  const { encode } = query;
  const keyMarker = x.query.get('key-marker') ?? '';
  const idMarker = x.query.get('upload-id-marker') ?? '';
  const all = [...x.core.state.uploads.values()].map((open) => open.upload)
    .filter((upload) => upload.bucket === x.bucketName && upload.key.startsWith(query.prefix))
    .sort((a, b) => compare(sortForm(a.key), sortForm(b.key)) || a.initiatedMs - b.initiatedMs || compare(a.id, b.id));
  // The id marker is exclusive within its key; keys are exclusive without it.
  const from = keyMarker === '' ? 0 : idMarker === '' ? all.filter((one) => sortForm(one.key) <= sortForm(keyMarker)).length : all.findIndex((one) => one.key === keyMarker && one.id === idMarker) + 1;
  const prefixes: string[] = [];
  let rows = '';
  let count = 0;
  let index = from;
  for (; index < all.length && count < query.maxKeys; index++) {
    const upload = all[index]!;
    const at = query.delimiter === undefined ? -1 : upload.key.indexOf(query.delimiter, query.prefix.length);
    if (at >= 0) {
      const prefix = upload.key.slice(0, at + query.delimiter!.length);
      if (prefixes.includes(prefix)) continue;
      prefixes.push(prefix);
    } else {
      rows += `<Upload>${tag('Key', encode(upload.key))}${tag('UploadId', upload.id)}${tag('StorageClass', upload.storageClass)}${tag('Initiated', new Date(upload.initiatedMs).toISOString())}${upload.checksumAlgorithm ? tag('ChecksumAlgorithm', upload.checksumAlgorithm) : ''}${owner}</Upload>`;
    }
    count++;
  }
  const truncated = index < all.length;
  const last = all[index - 1];
  return x.sendXml(200, document('ListMultipartUploadsResult',
    `${tag('Bucket', x.bucketName)}${tag('KeyMarker', encode(keyMarker))}${tag('UploadIdMarker', idMarker)}${truncated && last ? tag('NextKeyMarker', encode(last.key)) + tag('NextUploadIdMarker', last.id) : ''}${tag('Prefix', encode(query.prefix))}${query.delimiter === undefined ? '' : tag('Delimiter', encode(query.delimiter))}${tag('MaxUploads', query.maxKeys)}${tag('IsTruncated', truncated)}${tag('EncodingType', query.encoding)}`
    + rows + commonPrefixes({ prefixes }, encode)));
}

/** Used by GetObjectAttributes; here because it is a listing of an object's parts. */
export function attributesDocument(version: ObjectVersion, wanted: ReadonlySet<string>): string {
  const sum = wanted.has('Checksum') && version.checksum ? `<Checksum>${tag(elementOf(version.checksum.algorithm), version.checksum.value)}${tag('ChecksumType', version.checksum.type)}</Checksum>` : '';
  const parts = wanted.has('ObjectParts') && version.parts
    ? `<ObjectParts>${tag('PartsCount', version.parts.length)}${version.parts.map((part) => `<Part>${tag('PartNumber', part.number)}${tag('Size', part.size)}${version.checksum && part.checksum !== undefined ? tag(elementOf(version.checksum.algorithm), part.checksum) : ''}</Part>`).join('')}</ObjectParts>` : '';
  return document('GetObjectAttributesResponse', `${wanted.has('ETag') ? tag('ETag', version.etag) : ''}${sum}${parts}${wanted.has('StorageClass') ? tag('StorageClass', version.storageClass) : ''}${wanted.has('ObjectSize') ? tag('ObjectSize', version.size) : ''}`);
}
