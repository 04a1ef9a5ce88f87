/** ObjectAttributes and results as HTTP headers, both ways. */
import type { IncomingHttpHeaders } from 'node:http';
import { decodeHeaderText, encodeHeaderText } from './header-text.js';
import type { Key, ObjectAttributes, ObjectHead, Stored } from './object-store.js';
import { stripQuotes } from './xml.js';

const systemHeaders = [
  ['contentType', 'content-type'], ['cacheControl', 'cache-control'], ['contentEncoding', 'content-encoding'], ['contentDisposition', 'content-disposition'],
  ['contentLanguage', 'content-language'], ['expires', 'expires'], ['storageClass', 'x-amz-storage-class'], ['sse', 'x-amz-server-side-encryption'],
  ['sseKmsKeyId', 'x-amz-server-side-encryption-aws-kms-key-id'],
] as const;

export function attributesToHeaders(attributes: ObjectAttributes): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(attributes.metadata)) headers[`x-amz-meta-${name.toLowerCase()}`] = encodeHeaderText(value);
  for (const [property, header] of systemHeaders) {
    const value = attributes[property];
    if (value !== undefined && value !== '') headers[header] = encodeHeaderText(value);
  }
  if (attributes.tagging !== undefined) headers['x-amz-tagging'] = attributes.tagging;
  return headers;
}

export function headersToAttributes(headers: IncomingHttpHeaders): ObjectAttributes {
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith('x-amz-meta-') && typeof value === 'string') metadata[name.slice('x-amz-meta-'.length)] = decodeHeaderText(value);
  }
  const attributes: Record<string, string> = {};
  for (const [property, header] of systemHeaders) {
    const value = headers[header];
    if (typeof value === 'string' && value !== '' && !(property === 'storageClass' && value === 'STANDARD')) attributes[property] = decodeHeaderText(value);
  }
  // aws-chunked is how a client sent it, not what the object is
  if (attributes['contentEncoding'] !== undefined) {
    const codings = attributes['contentEncoding'].split(',').map((text) => text.trim()).filter((text) => text !== 'aws-chunked' && text !== '');
    if (codings.length > 0) attributes['contentEncoding'] = codings.join(',');
    else delete attributes['contentEncoding'];
  }
  return { metadata, ...attributes };
}

export function headersToHead(key: Key, headers: IncomingHttpHeaders): ObjectHead {
  const attributes = headersToAttributes(headers);
  const serverDateMs = dateMs(headers['date']);
  const tagCount = Number(one(headers['x-amz-tagging-count']) ?? 0);
  return {
    key, etag: stripQuotes(headers.etag ?? ''), sizeBytes: Number(headers['content-length'] ?? 0), lastModifiedMs: dateMs(headers['last-modified']) ?? 0, attributes, ...versionOf(headers),
    ...(attributes.storageClass !== undefined && { storageClass: attributes.storageClass }),
    ...(isLocked(headers, serverDateMs) && { locked: true }),
    ...(isArchived(headers, attributes.storageClass) && { archived: true }),
    ...(serverDateMs !== undefined && { serverDateMs }),
    ...(tagCount > 0 && { tagCount }),
  };
}

export function headersToStored(headers: IncomingHttpHeaders): Stored {
  const lastModifiedMs = dateMs(headers['last-modified']);
  return { etag: stripQuotes(headers.etag ?? ''), ...versionOf(headers), ...(lastModifiedMs !== undefined && { lastModifiedMs }) };
}

export function dateMs(text: string | undefined): number | undefined {
  const ms = text === undefined ? NaN : Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}

export function one(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function versionOf(headers: IncomingHttpHeaders): { versionId?: string } {
  const versionId = one(headers['x-amz-version-id']);
  return versionId === undefined || versionId === '' || versionId === 'null' ? {} : { versionId };
}

function isLocked(headers: IncomingHttpHeaders, nowMs: number | undefined): boolean {
  if (one(headers['x-amz-object-lock-legal-hold'])?.toUpperCase() === 'ON') return true;
  const untilMs = dateMs(one(headers['x-amz-object-lock-retain-until-date']));
  return headers['x-amz-object-lock-mode'] !== undefined && (untilMs === undefined || nowMs === undefined || untilMs > nowMs);
}

function isArchived(headers: IncomingHttpHeaders, storageClass: string | undefined): boolean {
  const archived = storageClass === 'GLACIER' || storageClass === 'DEEP_ARCHIVE' || headers['x-amz-archive-status'] !== undefined;
  return archived && !/ongoing-request="false"/.test(one(headers['x-amz-restore']) ?? '');
}
