/**
 * AWS Signature Version 4 with the derived key kept for the day (docs/decisions/020-own-sigv4.md has the measurement against
 * @smithy/signature-v4). All headers given are signed. The path must be encoded already and is signed as it is: S3 does not
 * normalise or encode it again.
 * @see "Authenticating Requests (AWS Signature Version 4)", S3 API reference.
 */
import { createHmac, createSecretKey, hash, type KeyObject } from 'node:crypto';
import { encodeComponent, encodeQuery } from './uri.js';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface SigningScope { readonly region: string; readonly service: string }

export const unsignedPayload = 'UNSIGNED-PAYLOAD';
export const emptySha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

export class Signer {
  private cachedFor = '';
  private cachedKey: KeyObject | undefined;

  /** Adds x-amz-date, x-amz-content-sha256, the token and authorization to `headers` (lower-case names, `host` included). */
  sign(method: string, path: string, query: string, headers: Record<string, string>, payloadHash: string, credentials: Credentials, scope: SigningScope, nowMs: number): void {
    const date = amzDate(nowMs);
    headers['x-amz-date'] = date;
    headers['x-amz-content-sha256'] = payloadHash;
    if (credentials.sessionToken !== undefined) headers['x-amz-security-token'] = credentials.sessionToken;
    const names = Object.keys(headers).sort();
    let canonicalHeaders = '';
    for (const name of names) canonicalHeaders += `${name}:${canonicalValue(headers[name]!)}\n`;
    const signedHeaders = names.join(';');
    const canonical = `${method}\n${path}\n${query}\n${canonicalHeaders}\n${signedHeaders}\n${payloadHash}`;
    const credentialScope = `${date.slice(0, 8)}/${scope.region}/${scope.service}/aws4_request`;
    const signature = this.signature(canonical, date, credentialScope, credentials, scope);
    headers['authorization'] = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${credentialScope}, SignedHeaders=${signedHeaders}, Signature=${signature}`;
  }

  /** The query string of a presigned GET, signature included. */
  presign(path: string, host: string, expiresS: number, credentials: Credentials, scope: SigningScope, nowMs: number, more: Readonly<Record<string, string>> = {}): string {
    const date = amzDate(nowMs);
    const credentialScope = `${date.slice(0, 8)}/${scope.region}/${scope.service}/aws4_request`;
    const query = encodeQuery({
      ...more, 'X-Amz-Algorithm': 'AWS4-HMAC-SHA256', 'X-Amz-Credential': `${credentials.accessKeyId}/${credentialScope}`, 'X-Amz-Date': date, 'X-Amz-Expires': String(expiresS),
      'X-Amz-SignedHeaders': 'host', ...(credentials.sessionToken !== undefined && { 'X-Amz-Security-Token': credentials.sessionToken }),
    });
    const canonical = `GET\n${path}\n${query}\nhost:${host}\n\nhost\n${unsignedPayload}`;
    return `${query}&X-Amz-Signature=${encodeComponent(this.signature(canonical, date, credentialScope, credentials, scope))}`;
  }

  private signature(canonical: string, date: string, credentialScope: string, credentials: Credentials, scope: SigningScope): string {
    const toSign = `AWS4-HMAC-SHA256\n${date}\n${credentialScope}\n${hash('sha256', canonical)}`;
    return createHmac('sha256', this.key(date.slice(0, 8), credentials, scope)).update(toSign).digest('hex');
  }

  private key(day: string, { secretAccessKey }: Credentials, { region, service }: SigningScope): KeyObject {
    const wanted = `${day} ${region} ${service} ${secretAccessKey}`;
    if (!this.cachedKey || wanted !== this.cachedFor) {
      let key: Buffer = Buffer.from(`AWS4${secretAccessKey}`);
      for (const text of [day, region, service, 'aws4_request']) key = createHmac('sha256', key).update(text).digest();
      this.cachedKey = createSecretKey(key);
      this.cachedFor = wanted;
    }
    return this.cachedKey;
  }
}

function canonicalValue(value: string): string {
  return value.includes('  ') ? value.trim().replace(/ {2,}/g, ' ') : value.trim();
}

let dateAtMs = NaN;
let dateText = '';

/** `20130524T000000Z`; many requests are signed within a second. */
function amzDate(ms: number): string {
  if (!(ms - dateAtMs >= 0 && ms - dateAtMs < 1000)) {
    dateText = new Date(ms).toISOString().replace(/[-:]|\.\d{3}/g, '');
    dateAtMs = Math.floor(ms / 1000) * 1000;
  }
  return dateText;
}
