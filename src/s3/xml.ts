/** S3's XML answers and the one XML request we make. Keys are asked for with encoding-type=url, so no key can break the XML. */
import { createRequire } from 'node:module';
import type { ObjectSummary, Part } from './object-store.js';
import { StoreError } from './store-error.js';
import { decodeKey } from './uri.js';

// Its CommonJS form is one file: 12 ms to load instead of 60, in every worker
const { XMLParser } = createRequire(import.meta.url)('fast-xml-parser') as typeof import('fast-xml-parser');

const lists = new Set(['ListBucketResult.Contents', 'ListBucketResult.CommonPrefixes', 'ListPartsResult.Part', 'ListMultipartUploadsResult.Upload']);
const parser = new XMLParser({
  htmlEntities: true, // numbers too: Go servers (MinIO) write the quotes of an etag as &#34;
  ignoreAttributes: true, parseTagValue: false, trimValues: false, ignoreDeclaration: true,
  // every etag of a page has two &quot;
  processEntities: { enabled: true, maxTotalExpansions: 1_000_000, maxExpandedLength: 64 << 20 },
  isArray: (_name, path) => lists.has(String(path)),
});

type Node = Readonly<Record<string, unknown>>;

/** The root element `name`. @throws StoreError `invalid` if the answer is something else. */
export function parseXml(text: string, name: string): Node {
  const root = node(tryParse(text)?.[name]);
  if (root) return root;
  throw new StoreError('invalid', `The server's answer is not S3's: expected <${name}>, got ${JSON.stringify(text.slice(0, 80))}`);
}

export interface XmlError { readonly code: string; readonly message: string; readonly region?: string }

/** The <Error> of an answer, also of one with status 200 (Copy, Complete: J5); undefined if there is none. */
export function parseError(text: string): XmlError | undefined {
  if (!text.includes('<Error')) return undefined;
  const error = node(tryParse(text)?.['Error']);
  if (!error) return undefined;
  const region = field(error, 'Region');
  return { code: field(error, 'Code') ?? '', message: field(error, 'Message') ?? '', ...(region !== undefined && { region }) };
}

export interface ParsedPage { objects: ObjectSummary[]; prefixes: string[]; token?: string }

/** @param keyPrefix is cut off every key; what does not start with it, or is it, is no part of the answer. */
export function parseListing(text: string, keyPrefix: string): ParsedPage {
  const { rest, blocks } = takeContents(text);
  const root = parseXml(rest, 'ListBucketResult');
  const decode = field(root, 'EncodingType') === 'url' ? decodeKey : (key: string): string => key;
  const relative = (raw: string | undefined): string | undefined => {
    const key = raw === undefined ? undefined : decode(raw);
    return key !== undefined && key.length > keyPrefix.length && key.startsWith(keyPrefix) ? key.slice(keyPrefix.length) : undefined;
  };
  const page: ParsedPage = { objects: [], prefixes: [] };
  const add = (get: (name: string) => string | undefined): void => {
    const key = relative(get('Key'));
    if (key === undefined) return;
    const storageClass = get('StorageClass');
    page.objects.push({
      key, etag: stripQuotes(get('ETag') ?? ''), sizeBytes: Number(get('Size') ?? 0), lastModifiedMs: Date.parse(get('LastModified') ?? '') || 0,
      ...(storageClass !== undefined && storageClass !== 'STANDARD' && { storageClass }),
    });
  };
  for (const block of blocks) add((name) => textWithin(block, name));
  for (const item of nodes(root['Contents'])) add((name) => field(item, name));
  for (const item of nodes(root['CommonPrefixes'])) {
    const prefix = relative(field(item, 'Prefix'));
    if (prefix !== undefined) page.prefixes.push(prefix);
  }
  const token = field(root, 'NextContinuationToken');
  if (field(root, 'IsTruncated') === 'true') {
    if (!token) throw new StoreError('invalid', 'The server truncated a listing without saying how to go on');
    page.token = token;
  }
  return page;
}

/**
 * The <Contents> of a listing as they are, and the text without them: a page has a thousand, and a parser that makes a tree of each takes ten
 * times as long. What does not look as every server writes it (comments, CDATA, attributes) is left to the parser.
 */
function takeContents(text: string): { rest: string; blocks: string[] } {
  const blocks: string[] = [];
  if (text.includes('<!')) return { rest: text, blocks };
  let rest = '';
  let at = 0;
  for (;;) {
    const start = text.indexOf('<Contents>', at);
    const end = start < 0 ? -1 : text.indexOf('</Contents>', start);
    if (end < 0) return { rest: rest + text.slice(at), blocks };
    rest += text.slice(at, start);
    blocks.push(text.slice(start + '<Contents>'.length, end));
    at = end + '</Contents>'.length;
  }
}

function textWithin(block: string, name: string): string | undefined {
  const start = block.indexOf(`<${name}>`);
  if (start < 0) return undefined;
  const end = block.indexOf(`</${name}>`, start);
  return end < 0 ? undefined : decodeEntities(block.slice(start + name.length + 2, end));
}

const named: Readonly<Record<string, string>> = { quot: '"', amp: '&', lt: '<', gt: '>', apos: "'" };

function decodeEntities(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|(quot|amp|lt|gt|apos));/g, (whole, hex: string | undefined, decimal: string | undefined, name: string | undefined) => {
    if (name !== undefined) return named[name]!;
    const code = hex !== undefined ? parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

export function completeUploadXml(parts: readonly Part[]): string {
  const list = parts.map(({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>"${escapeXml(etag)}"</ETag></Part>`);
  return `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${list.join('')}</CompleteMultipartUpload>`;
}

/** Text of a child element; undefined if there is none. */
export function field(parent: Node, name: string): string | undefined {
  const value = parent[name];
  return typeof value === 'string' ? value : undefined;
}

export function nodes(value: unknown): Node[] {
  return Array.isArray(value) ? value.filter((item): item is Node => node(item) !== undefined) : [];
}

export function stripQuotes(etag: string): string {
  return etag.replace(/^(W\/)?"(.*)"$/, '$2');
}

function node(value: unknown): Node | undefined {
  if (value === '') return {}; // an empty element
  return typeof value === 'object' && value !== null ? (value as Node) : undefined;
}

function tryParse(text: string): Node | undefined {
  try {
    return node(parser.parse(text));
  } catch {
    return undefined; // an HTML page of some proxy; the caller says what was expected
  }
}

function escapeXml(text: string): string {
  return text.replace(/[<>&"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
