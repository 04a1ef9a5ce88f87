/** What the parts of the real store share: settings, keys with their prefix, limits, conditions, and checks of answers. */
import { createHash } from 'node:crypto';
import * as zlib from 'node:zlib';
import type { ConnectionOptions } from './aws-config.js';
import type { SendableBody } from './body-source.js';
import type { EtagQuotes } from './capabilities.js';
import { storeError } from './error-map.js';
import type { Exchange } from './http-client.js';
import type { CallOptions, CopySource, Expected, Key } from './object-store.js';
import type { S3Request, Sender } from './sender.js';
import { StoreError } from './store-error.js';
import { encodeKey } from './uri.js';
import { parseError } from './xml.js';

/** What can cross to a worker. */
export interface S3Settings extends ConnectionOptions {
  /** `''`, or ends in `/`. */
  readonly prefix: string;
  readonly connectionsMax: number;
  /** Silence on a socket longer than this fails the request. */
  readonly requestTimeoutMs: number;
  /** A small request altogether; bodies get time for their size on top. */
  readonly deadlineMs: number;
  readonly connectTimeoutMs?: number;
  readonly etagQuotes?: EtagQuotes;
  /** AWS_CA_BUNDLE; read from the environment if not given. */
  readonly caBundle?: string;
}

/** What a server may need for a body that it has got, and a line for one that is on its way to us: 64 KiB/s. */
const slowestBytesPerMs = 64;
/** Copy and Complete answer after moving gigabytes; S3 sends white space meanwhile, other servers nothing. */
const serverWorkMs = 300_000;

export class S3Context {
  etagQuotes: EtagQuotes;

  constructor(readonly sender: Sender, readonly settings: S3Settings) {
    this.etagQuotes = settings.etagQuotes ?? 'quoted';
  }

  fullKey(key: Key): string {
    const full = this.settings.prefix + key;
    if (full === '') throw new StoreError('invalid', 'Cannot use the empty string as a key'); // it would name the bucket
    return full;
  }

  ifMatch(etag: string): string { return this.etagQuotes === 'quoted' ? `"${etag}"` : etag; }

  conditions(expected: Expected): Record<string, string> {
    if (expected === 'any') return {};
    return expected === null ? { 'if-none-match': '*' } : { 'if-match': this.ifMatch(expected) };
  }

  copySource(source: CopySource): Record<string, string> {
    const version = source.versionId === undefined ? '' : `?versionId=${encodeURIComponent(source.versionId)}`;
    return { 'x-amz-copy-source': `/${this.settings.bucket}/${encodeKey(this.fullKey(source.key))}${version}`, 'x-amz-copy-source-if-match': this.ifMatch(source.etag) };
  }

  limits(options: CallOptions | undefined, bodyBytes = 0): Pick<S3Request, 'idleMs' | 'deadlineMs' | 'signal'> {
    const { requestTimeoutMs, deadlineMs } = this.settings;
    return { idleMs: requestTimeoutMs, deadlineMs: options?.deadlineMs ?? deadlineMs + bodyBytes / slowestBytesPerMs, signal: options?.signal };
  }

  longLimits(options: CallOptions | undefined): Pick<S3Request, 'idleMs' | 'deadlineMs' | 'signal'> {
    return { idleMs: serverWorkMs, deadlineMs: options?.deadlineMs ?? serverWorkMs, signal: options?.signal };
  }

  /** XML of a success whose body may still be an error (J5). Empty text is answered as it is. */
  async textOrError(request: Pick<S3Request, 'method' | 'key'>, exchange: Exchange): Promise<string> {
    const text = await exchange.text();
    const error = parseError(text);
    if (error) throw storeError(this.sender.describe(request), 200, exchange.headers, error, () => Date.now());
    return text;
  }
}

/** AWS answers 404 where If-Match met nothing (Ceph: 412): to the caller both say that what it expected is not there. */
export async function mutation<T>(expected: Expected, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof StoreError && error.kind === 'not-found' && typeof expected === 'string' && expected !== 'any') {
      throw new StoreError('precondition-failed', error.message, error.details, { cause: error });
    }
    throw error;
  }
}

/**
 * A checksum of a whole object that the server verifies: CRC32 (fast), Content-MD5 where Node has no CRC. None for streamed bodies: TLS covers
 * those. Parts go by the SHA-256 of their signature.
 */
export function integrityHeaders(body: SendableBody): Record<string, string> {
  if (!(body instanceof Uint8Array)) return {};
  if (typeof zlib.crc32 === 'function') {
    const crc = Buffer.alloc(4);
    crc.writeUInt32BE(zlib.crc32(body));
    return { 'x-amz-checksum-crc32': crc.toString('base64') };
  }
  return { 'content-md5': createHash('md5').update(body).digest('base64') };
}
