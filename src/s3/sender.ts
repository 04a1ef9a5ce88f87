/**
 * Signs and sends one S3 request and turns a refusal into a `StoreError`.
 *
 * A request goes out again only where the server's answer proves that it was *not executed*: expired credentials that could be
 * renewed, a wrong clock that could be learned from the answer, another region. Everything else is the caller's (J5).
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { AwsConfig, Endpoint } from './aws-config.js';
import type { SendableBody } from './body-source.js';
import type { CredentialSource } from './credentials.js';
import { storeError } from './error-map.js';
import type { HedgeEvent } from './hedge.js';
import type { Exchange, HttpClient } from './http-client.js';
import { dateMs, one } from './object-headers.js';
import type { RequestKind, RequestSample } from './request-metrics.js';
import { emptySha256, unsignedPayload, type Credentials, type Signer } from './signer.js';
import { StoreError } from './store-error.js';
import { encodeKey, encodeQuery } from './uri.js';
import { parseError, type XmlError } from './xml.js';

export interface S3Request {
  readonly kind: RequestKind;
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  /** Whole key, prefix included; undefined: the bucket. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: SendableBody;
  /** Of the body, if it is known: then it is signed over https, too. */
  readonly payloadSha256?: string;
  /** Statuses below 300 are successes; these too. */
  readonly alsoOk?: readonly number[];
  readonly idempotent: boolean;
  readonly idleMs: number;
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface SenderParts {
  readonly aws: AwsConfig;
  readonly http: HttpClient;
  readonly signer: Signer;
  readonly credentials: CredentialSource;
  readonly bucket: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly observe: (sample: RequestSample) => void;
}

/** Skews up to 15 minutes are accepted by S3; an offset is learned only when it refuses. */
const attemptsMax = 3;

export class Sender {
  private clockOffsetMs = 0;
  private region: string;

  private constructor(private readonly parts: SenderParts, private endpoint: Endpoint) {
    this.region = parts.aws.region;
  }

  static async open(parts: SenderParts): Promise<Sender> {
    return new Sender(parts, await parts.aws.endpointFor(parts.aws.region));
  }

  get currentRegion(): string { return this.region; }

  /** @param consume reads the body of a success; the request is over when it resolves. */
  async send<T>(request: S3Request, consume: (exchange: Exchange) => Promise<T>): Promise<T> {
    const startedMs = this.parts.clock.monotonic();
    for (let attempt = 1; ; attempt++) {
      const credentials = await this.parts.credentials.get();
      // A body may take long to leave, and its refusal comes after that: a deadline that begins when it has left begins anew with the next one
      const leftMs = request.body ? request.deadlineMs : request.deadlineMs - (this.parts.clock.monotonic() - startedMs);
      const outcome = await this.sendOnce(request, credentials, Math.max(1, leftMs), consume);
      if ('value' in outcome) return outcome.value;
      if (attempt === attemptsMax || !(await this.recover(outcome, credentials))) throw outcome.failure;
      this.parts.log.debug('request sent again', { kind: request.kind, key: request.key, error: outcome.failure });
    }
  }

  async presign(key: string, expiresS: number): Promise<string> {
    const { endpoint } = this;
    const path = this.path(key);
    const query = this.parts.signer.presign(path, endpoint.host, expiresS, await this.parts.credentials.get(), endpoint.scope, this.nowMs());
    return `${endpoint.secure ? 'https' : 'http'}://${endpoint.host}${path}?${query}`;
  }

  describe({ method, key }: Pick<S3Request, 'method' | 'key'>): string {
    return key === undefined ? `${method} of bucket "${this.parts.bucket}"` : `${method} "${key}" in bucket "${this.parts.bucket}"`;
  }

  private async sendOnce<T>(request: S3Request, credentials: Credentials, deadlineMs: number, consume: (exchange: Exchange) => Promise<T>): Promise<{ value: T } | Refusal> {
    const { http, signer, clock, observe } = this.parts;
    const { endpoint, region, clockOffsetMs } = this;
    const path = this.path(request.key);
    const query = request.query ? encodeQuery(request.query) : '';
    const headers: Record<string, string> = { host: endpoint.host, ...request.headers };
    signer.sign(request.method, path, query, headers, request.payloadSha256 ?? payloadHash(request.body, endpoint.secure), credentials, endpoint.scope, this.nowMs());
    headers['user-agent'] = 'hearthfs'; // proxies may change it: not signed

    const startedMs = clock.monotonic();
    let exchange: Exchange | undefined;
    let failure: StoreError | undefined;
    let hedged: HedgeEvent | undefined;
    const hedge = request.idempotent ? { kind: request.kind, note: (event: HedgeEvent) => { hedged = event; } } : undefined;
    try {
      exchange = await http.send({
        origin: endpoint, method: request.method, path: query === '' ? path : `${path}?${query}`, headers, idempotent: request.idempotent, idleMs: request.idleMs, deadlineMs,
        signal: request.signal, ...(request.body && { body: request.body }), ...(hedge && { hedge }),
      });
      if (exchange.status < 300 || request.alsoOk?.includes(exchange.status)) {
        return { value: await consume(exchange) };
      }
      const error = parseError(await exchange.text());
      failure = storeError(this.describe(request), exchange.status, exchange.headers, error, () => clock.now());
      return { failure, error, exchange, region, clockOffsetMs };
    } catch (error) {
      failure = this.explain(request, error);
      throw failure;
    } finally {
      observe({
        kind: request.kind, us: (clock.monotonic() - startedMs) * 1000, bytesIn: exchange?.bytesIn ?? 0, bytesOut: exchange?.bytesOut ?? 0, ...(failure && { error: failure.kind }), ...(hedged && { hedged }),
      });
    }
  }

  /** Names the request in failures of the connection. */
  private explain(request: S3Request, error: unknown): StoreError {
    if (!(error instanceof StoreError)) throw error;
    if ((error.kind !== 'unavailable' && error.kind !== 'aborted') || error.details.status !== undefined) return error;
    const hint = error.details.code === 'ENOTFOUND' && this.parts.aws.customEndpoint && this.endpoint.basePath === '' ? '; this endpoint may want --path-style' : '';
    return new StoreError(error.kind, `${this.describe(request)} failed: ${error.message}${hint}`, error.details, { cause: error });
  }

  private async recover({ failure, error, exchange, ...sent }: Refusal, credentials: Credentials): Promise<boolean> {
    const region = error?.region ?? one(exchange.headers['x-amz-bucket-region']);
    const mayBeRegion = failure.kind === 'wrong-region' || failure.details.status === 307 || exchange.status === 400;
    if (mayBeRegion && region !== undefined && region !== '' && region !== sent.region) {
      if (region === this.region) return true; // another request met the same meanwhile
      const endpoint = await this.parts.aws.endpointFor(region);
      if (region !== this.region) this.parts.log.info('the bucket is in another region', { region, was: this.region });
      this.region = region;
      this.endpoint = endpoint;
      return true;
    }
    if (failure.kind === 'clock-skew') {
      const serverMs = dateMs(exchange.headers['date']);
      if (serverMs === undefined) return false;
      const offsetMs = serverMs - this.parts.clock.now();
      if (Math.abs(offsetMs - sent.clockOffsetMs) < 60_000) return false; // that was not it
      if (Math.abs(offsetMs - this.clockOffsetMs) < 60_000) return true; // another request met the same meanwhile
      this.parts.log.warn("this machine's clock is wrong; signing with the server's", { offsetMs });
      this.clockOffsetMs = offsetMs;
      return true;
    }
    // HEAD has no error body: 400 may be an expired token, 403 a rotated key.
    const opaque = error === undefined && (exchange.status === 400 || exchange.status === 403) && credentials.sessionToken !== undefined;
    if (failure.kind === 'bad-credentials' || opaque) {
      try {
        return await this.parts.credentials.refused(credentials);
      } catch (cause) {
        this.parts.log.warn('cannot reload credentials', { error: cause });
        return false;
      }
    }
    return false;
  }

  private path(key: string | undefined): string {
    return key === undefined ? `${this.endpoint.basePath}/` : `${this.endpoint.basePath}/${encodeKey(key)}`;
  }

  private nowMs(): number { return this.parts.clock.now() + this.clockOffsetMs; }
}

interface Refusal {
  readonly failure: StoreError;
  readonly error: XmlError | undefined;
  readonly exchange: Exchange;
  /** What it was signed with. */
  readonly region: string;
  readonly clockOffsetMs: number;
}

/** TLS protects the body over https; over http the signature does, for all bodies that are in memory. */
function payloadHash(body: SendableBody | undefined, secure: boolean): string {
  if (!body) return emptySha256;
  if (body instanceof Uint8Array) return body.byteLength === 0 ? emptySha256 : secure ? unsignedPayload : createHash('sha256').update(body).digest('hex');
  return unsignedPayload;
}
