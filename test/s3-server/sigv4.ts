/**
 * Test and demo equipment, not product: checks AWS Signature Version 4 as S3 does, in the Authorization header and in presigned
 * queries. Source: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
 */
import { createHmac, hash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { S3Error } from './errors.js';

export interface Credential {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Appears in policies as the last part of the principal's ARN. */
  readonly user?: string;
  /** IAM-style policy of this user; without one everything is allowed that no bucket policy denies. */
  readonly policy?: object;
}

/** What is needed to check the signatures of an aws-chunked body, which continue the request's. */
export interface ChunkSigning { readonly key: Buffer; readonly amzDate: string; readonly scope: string; readonly seed: string }

export interface Authentication {
  /** Undefined: nobody in particular. */
  readonly credential?: Credential;
  readonly signing?: ChunkSigning;
}

export interface SignedRequest {
  readonly http: IncomingMessage;
  /** Path as received, without the query. */
  readonly rawPath: string;
  readonly query: ReadonlyMap<string, string>;
}

const skewMsMax = 15 * 60_000;
const presignSecondsMax = 604_800;
const plainPath = /^[A-Za-z0-9\-._~/]*$/;

export class SigV4 {
  private readonly signingKeys = new Map<string, Buffer>();
  constructor(private readonly credentials: ReadonlyMap<string, Credential>, private readonly region: string, private readonly now: () => number) {}

  /** @throws S3Error for every way a signature can be wrong. A request without one is anonymous. */
  authenticate(request: SignedRequest): Authentication {
    const header = request.http.headers.authorization;
    if (header !== undefined) return this.checkHeader(request, header);
    if (request.query.has('X-Amz-Signature')) return this.checkQuery(request);
    return {};
  }

  private checkHeader(request: SignedRequest, header: string): Authentication {
    const match = /^AWS4-HMAC-SHA256\s+Credential=([^,\s]+)\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]{64})$/.exec(header);
    if (!match) throw new S3Error(header.startsWith('AWS4') ? 'AuthorizationHeaderMalformed' : 'InvalidRequest', header.startsWith('AWS4') ? undefined : 'The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.');
    const amzDate = headerText(request.http, 'x-amz-date') ?? '';
    const { credential, scope, key } = this.scopeOf(match[1]!, amzDate, 'AuthorizationHeaderMalformed');
    const skewMs = Math.abs(this.now() - parseAmzDate(amzDate));
    if (!(skewMs <= skewMsMax)) {
      throw new S3Error('RequestTimeTooSkewed', undefined, { RequestTime: amzDate, ServerTime: new Date(this.now()).toISOString(), MaxAllowedSkewMilliseconds: String(skewMsMax) });
    }
    const payload = headerText(request.http, 'x-amz-content-sha256');
    if (payload === undefined) throw new S3Error('InvalidRequest', 'Missing required header for this request: x-amz-content-sha256');
    const signed = match[2]!.split(';');
    demandSigned(request.http, signed);
    this.compare(request, signed, request.query, payload, amzDate, scope, key, match[3]!);
    return { credential, signing: { key, amzDate, scope, seed: match[3]! } };
  }

  private checkQuery(request: SignedRequest): Authentication {
    const { query } = request;
    if (query.get('X-Amz-Algorithm') !== 'AWS4-HMAC-SHA256') throw new S3Error('AuthorizationQueryParametersError', 'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"');
    const amzDate = query.get('X-Amz-Date') ?? '';
    const expiresS = Number(query.get('X-Amz-Expires'));
    if (!(expiresS >= 1 && expiresS <= presignSecondsMax)) throw new S3Error('AuthorizationQueryParametersError', 'X-Amz-Expires must be less than a week (in seconds) that is 604800');
    const { credential, scope, key } = this.scopeOf(query.get('X-Amz-Credential') ?? '', amzDate, 'AuthorizationQueryParametersError');
    const dateMs = parseAmzDate(amzDate);
    if (Number.isNaN(dateMs)) throw new S3Error('AuthorizationQueryParametersError', 'X-Amz-Date must be in the ISO8601 Long Format "yyyyMMdd\'T\'HHmmss\'Z\'"');
    if (dateMs > this.now() + skewMsMax) throw new S3Error('AccessDenied', 'Request is not valid yet');
    if (this.now() > dateMs + expiresS * 1000) {
      throw new S3Error('AccessDenied', 'Request has expired', { 'X-Amz-Expires': String(expiresS), Expires: new Date(dateMs + expiresS * 1000).toISOString(), ServerTime: new Date(this.now()).toISOString() });
    }
    const signed = (query.get('X-Amz-SignedHeaders') ?? '').split(';');
    demandSigned(request.http, signed);
    const payload = query.get('X-Amz-Content-Sha256') ?? headerText(request.http, 'x-amz-content-sha256') ?? 'UNSIGNED-PAYLOAD';
    const rest = new Map([...query].filter(([name]) => name !== 'X-Amz-Signature'));
    this.compare(request, signed, rest, payload, amzDate, scope, key, query.get('X-Amz-Signature')!);
    return { credential, signing: { key, amzDate, scope, seed: query.get('X-Amz-Signature')! } };
  }

  private scopeOf(text: string, amzDate: string, malformed: 'AuthorizationHeaderMalformed' | 'AuthorizationQueryParametersError'): { credential: Credential; scope: string; key: Buffer } {
    const [accessKeyId, date, region, service, end, more] = text.split('/');
    if (!accessKeyId || !date || !region || service !== 's3' || end !== 'aws4_request' || more !== undefined) throw new S3Error(malformed);
    const credential = this.credentials.get(accessKeyId);
    if (!credential) throw new S3Error('InvalidAccessKeyId', undefined, { AWSAccessKeyId: accessKeyId });
    if (region !== this.region) throw new S3Error(malformed, `The authorization header is malformed; the region '${region}' is wrong; expecting '${this.region}'`, { Region: this.region });
    if (date !== amzDate.slice(0, 8)) throw new S3Error(malformed, `Invalid credential date "${date}". This date is not the same as X-Amz-Date: "${amzDate.slice(0, 8)}".`);
    const scope = `${date}/${region}/s3/aws4_request`;
    return { credential, scope, key: this.signingKey(credential, date) };
  }

  private signingKey(credential: Credential, date: string): Buffer {
    const id = `${credential.accessKeyId}/${date}`;
    let key = this.signingKeys.get(id);
    if (!key) {
      key = ['aws4_request', 's3', this.region, date].reduceRight((from: string | Buffer, text) => hmac(from, text), `AWS4${credential.secretAccessKey}`) as Buffer;
      if (this.signingKeys.size > 100) this.signingKeys.clear();
      this.signingKeys.set(id, key);
    }
    return key;
  }

  private compare(request: SignedRequest, signed: readonly string[], query: ReadonlyMap<string, string>, payload: string, amzDate: string, scope: string, key: Buffer, signature: string): void {
    const tail = `${canonicalQuery(query)}\n${canonicalHeaders(request.http, signed)}\n${signed.join(';')}\n${payload}`;
    const plain = plainPath.test(request.rawPath);
    const canonical = `${request.http.method}\n${plain ? request.rawPath : canonicalPath(request.rawPath)}\n${tail}`;
    // A header beyond ASCII arrives as bytes; Node shows them as Latin-1. Clients sign either those bytes or, where their HTTP
    // library sends Latin-1, the UTF-8 form of the same text.
    const tries: [string, BufferEncoding][] = [[canonical, 'utf8']];
    if (!/^[\u0000-\u007f]*$/.test(canonical)) tries.push([canonical, 'latin1']);
    if (!plain) tries.push([`${request.http.method}\n${request.rawPath}\n${tail}`, 'utf8']);
    for (const [text, encoding] of tries) {
      const digest = encoding === 'utf8' ? hash('sha256', text) : hash('sha256', Buffer.from(text, encoding));
      const expected = createHmac('sha256', key).update(`AWS4-HMAC-SHA256\n${amzDate}\n${scope}\n${digest}`).digest('hex');
      if (sameText(expected, signature)) return;
    }
    throw new S3Error('SignatureDoesNotMatch', undefined, { StringToSign: `AWS4-HMAC-SHA256\n${amzDate}\n${scope}\n${hash('sha256', canonical)}`, SignatureProvided: signature, CanonicalRequest: canonical });
  }
}

/** Every x-amz-* header must be covered, as on AWS; the two excepted ones are advisory or part of the signature itself. */
function demandSigned(http: IncomingMessage, signed: readonly string[]): void {
  if (!signed.includes('host')) throw new S3Error('AccessDenied', 'There were headers present in the request which were not signed', { HeadersNotSigned: 'host' });
  for (const name in http.headers) {
    if (name.startsWith('x-amz-') && !signed.includes(name) && name !== 'x-amz-content-sha256' && name !== 'x-amz-user-agent') {
      throw new S3Error('AccessDenied', 'There were headers present in the request which were not signed', { HeadersNotSigned: name });
    }
  }
}

export function sameText(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

export function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

export function headerText(http: IncomingMessage, name: string): string | undefined {
  const value = http.headers[name];
  return Array.isArray(value) ? value.join(',') : value;
}

/** Milliseconds, NaN if it is no `20240131T235959Z`. */
export function parseAmzDate(text: string): number {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  return match ? Date.UTC(+match[1]!, +match[2]! - 1, +match[3]!, +match[4]!, +match[5]!, +match[6]!) : NaN;
}

export function uriEncode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

function canonicalPath(rawPath: string): string {
  try {
    return rawPath.split('/').map((part) => uriEncode(decodeURIComponent(part))).join('/');
  } catch {
    throw new S3Error('InvalidURI');
  }
}

function canonicalQuery(query: ReadonlyMap<string, string>): string {
  if (query.size === 0) return '';
  const pairs: [string, string][] = [];
  for (const [name, value] of query) pairs.push([uriEncode(name), uriEncode(value)]);
  pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return pairs.map(([name, value]) => `${name}=${value}`).join('&');
}

function canonicalHeaders(http: IncomingMessage, signed: readonly string[]): string {
  let out = '';
  for (const name of signed) {
    const value = headerText(http, name) ?? '';
    out += `${name}:${value.includes('  ') ? value.trim().replace(/ +/g, ' ') : value.trim()}\n`;
  }
  return out;
}
