/**
 * `ObjectStore` over HTTP, the lean path (DESIGN 4): own requests on one keep-alive client, signed here, with the AWS SDK only for
 * credentials, region and endpoint rules. Retries nothing (J5): `retry-store` does, for what is idempotent.
 * Runs in a transfer worker; downloads are written and XML is parsed in the calling thread.
 */
import { systemClock, type Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { loadAwsConfig, type AwsConfig } from './aws-config.js';
import { openBody } from './body-source.js';
import type { EtagQuotes, EtagQuoting } from './capabilities.js';
import { CredentialSource } from './credentials.js';
import { HttpClient } from './http-client.js';
import { attributesToHeaders, dateMs, headersToHead, headersToStored, one } from './object-headers.js';
import type {
  Body, CallOptions, CopySource, Expected, GetOptions, GetQuery, GetResult, Key, ListPage, ListQuery, ObjectAttributes, ObjectHead, ObjectStore, Part, Stored, Upload,
} from './object-store.js';
import { recordSample, type RequestSample } from './request-metrics.js';
import { S3Context, integrityHeaders, mutation, type S3Settings } from './s3-context.js';
import { proxyFor } from './proxy.js';
import { S3Multipart } from './s3-multipart.js';
import { S3Reader } from './s3-reader.js';
import { Sender } from './sender.js';
import { Signer } from './signer.js';
import { StoreError } from './store-error.js';
import { field, parseListing, parseXml, stripQuotes } from './xml.js';

export interface S3StoreOptions extends S3Settings {
  readonly log: Log;
  readonly metrics?: Metrics;
  /** Instead of `metrics`: every request as it ends. */
  readonly observe?: (sample: RequestSample) => void;
  readonly clock?: Clock;
  /** Instead of what the SDK finds out; for tests. */
  readonly aws?: AwsConfig;
}

const bucketTrustMs = 60_000;
/** Two losses of the first packet, and TLS. Whoever does not answer by then is not there. */
const connectMs = 3000;

export async function openS3Store(options: S3StoreOptions): Promise<ObjectStore & EtagQuoting> {
  const clock = options.clock ?? systemClock;
  const aws = options.aws ?? (await loadAwsConfig(options));
  const caBundle = options.caBundle ?? process.env['AWS_CA_BUNDLE'];
  const http = new HttpClient({
    connectionsMax: options.connectionsMax, connectMs: options.connectTimeoutMs ?? connectMs, monotonic: () => clock.monotonic(), proxyFor: (origin) => proxyFor(origin, process.env),
    ...(caBundle !== undefined && caBundle !== '' && { caBundle }),
  });
  const { metrics } = options;
  const observe = options.observe ?? ((sample: RequestSample): void => { if (metrics) recordSample(metrics, sample); });
  const credentials = new CredentialSource((fresh) => aws.loadCredentials(fresh), clock, options.log);
  const sender = await Sender.open({ aws, http, signer: new Signer(), credentials, bucket: options.bucket, clock, log: options.log, observe });
  return new S3Store(sender, http, options, clock);
}

class S3Store implements ObjectStore, EtagQuoting {
  /** When the bucket was last known to exist, monotonic. */
  private bucketKnownMs = -Infinity;
  private readonly context: S3Context;
  private readonly reader: S3Reader;
  private readonly multipart: S3Multipart;

  constructor(private readonly sender: Sender, private readonly http: HttpClient, private readonly settings: S3Settings, private readonly clock: Clock) {
    this.context = new S3Context(sender, settings);
    this.reader = new S3Reader(this.context, (key, options) => this.head(key, options));
    this.multipart = new S3Multipart(this.context, (key, options) => this.head(key, options));
  }

  setEtagQuotes(quotes: EtagQuotes): void { this.context.etagQuotes = quotes; }

  async head(key: Key, options?: CallOptions): Promise<ObjectHead | null> {
    const fullKey = this.context.fullKey(key);
    const head = await this.sender.send(
      { kind: 'HEAD', method: 'HEAD', key: fullKey, idempotent: true, alsoOk: [404], ...this.context.limits(options) },
      async (exchange) => {
        await exchange.drain();
        return exchange.status === 404 ? null : headersToHead(key, exchange.headers);
      },
    );
    if (head === null) {
      await this.confirmBucket(options);
      return null;
    }
    this.bucketKnownMs = this.clock.monotonic();
    if (head.tagCount === undefined) return head;
    const tagging = await this.tagging(fullKey, options);
    return tagging === undefined ? head : { ...head, attributes: { ...head.attributes, tagging } };
  }

  list(query: ListQuery, options?: CallOptions): Promise<ListPage> {
    const { prefix } = this.settings;
    const parameters: Record<string, string> = { 'list-type': '2', 'encoding-type': 'url', prefix: prefix + query.prefix };
    if (query.delimiter !== undefined) parameters['delimiter'] = query.delimiter;
    if (query.maxKeys !== undefined) parameters['max-keys'] = String(query.maxKeys);
    if (query.token !== undefined) parameters['continuation-token'] = query.token;
    else if (query.startAfter !== undefined) parameters['start-after'] = prefix + query.startAfter;
    return this.sender.send({ kind: 'LIST', method: 'GET', query: parameters, idempotent: true, ...this.context.limits(options) }, async (exchange) => {
      const page = parseListing(await exchange.text(), prefix);
      this.bucketKnownMs = this.clock.monotonic();
      return page;
    });
  }

  getToFile(key: Key, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult> { return this.reader.getToFile(key, query, path, options); }
  getBytes(key: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }> { return this.reader.getBytes(key, query, options); }

  async put(key: Key, body: Body, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    const sendable = await openBody(body);
    const sizeBytes = sendable instanceof Uint8Array ? sendable.byteLength : sendable.lengthBytes;
    const stored = await mutation(expected, this.sender.send(
      {
        kind: 'PUT', method: 'PUT', key: this.context.fullKey(key), idempotent: false, body: sendable, ...this.context.limits(options, sizeBytes),
        headers: { ...attributesToHeaders(attributes), ...this.context.conditions(expected), ...integrityHeaders(sendable) },
      },
      async (exchange) => {
        await exchange.drain();
        return headersToStored(exchange.headers);
      },
    ));
    return this.withEtag(key, stored, options);
  }

  async copy(source: CopySource, key: Key, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    const request = { kind: 'COPY', method: 'PUT', key: this.context.fullKey(key) } as const;
    const stored = await mutation(expected, this.sender.send(
      {
        ...request, idempotent: false, ...this.context.longLimits(options),
        headers: {
          ...attributesToHeaders(attributes), 'x-amz-metadata-directive': 'REPLACE', ...(attributes.tagging !== undefined && { 'x-amz-tagging-directive': 'REPLACE' }),
          ...this.context.copySource(source), ...this.context.conditions(expected),
        },
      },
      async (exchange) => {
        const result = parseXml(await this.context.textOrError(request, exchange), 'CopyObjectResult');
        const lastModifiedMs = dateMs(field(result, 'LastModified'));
        return { ...headersToStored(exchange.headers), etag: stripQuotes(field(result, 'ETag') ?? ''), ...(lastModifiedMs !== undefined && { lastModifiedMs }) };
      },
    ));
    return this.withEtag(key, stored, options);
  }

  async delete(key: Key, expected: Exclude<Expected, null>, options?: CallOptions): Promise<void> {
    await this.sender.send(
      { kind: 'DELETE', method: 'DELETE', key: this.context.fullKey(key), idempotent: false, headers: this.context.conditions(expected), ...this.context.limits(options) },
      (exchange) => exchange.drain(),
    ).catch((error: unknown) => {
      if (!(error instanceof StoreError && error.kind === 'not-found')) throw error; // gone is what was asked for
    });
  }

  createUpload(key: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string> { return this.multipart.create(key, attributes, options); }
  uploadPart(key: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part> { return this.multipart.uploadPart(key, uploadId, number, body, options); }
  uploadPartCopy(key: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part> {
    return this.multipart.uploadPartCopy(key, uploadId, number, source, start, end, options);
  }
  completeUpload(key: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.multipart.complete(key, uploadId, parts, expected, options);
  }
  abortUpload(key: Key, uploadId: string, options?: CallOptions): Promise<void> { return this.multipart.abort(key, uploadId, options); }
  listParts(key: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null> { return this.multipart.listParts(key, uploadId, options); }
  listUploads(prefix: string, options?: CallOptions): Promise<Upload[]> { return this.multipart.listUploads(prefix, options); }

  presign(key: Key, expiresS: number): Promise<string> { return this.sender.presign(this.context.fullKey(key), expiresS); }

  async checkBucket(options?: CallOptions): Promise<{ region?: string; versioning?: boolean; serverDateMs?: number; server?: string }> {
    // A listing and not HeadBucket: a refused HEAD has no body that says why.
    const listing = this.sender.send(
      { kind: 'LIST', method: 'GET', query: { 'list-type': '2', prefix: this.settings.prefix, 'max-keys': '1', 'encoding-type': 'url' }, idempotent: true, ...this.context.limits(options) },
      async (exchange) => {
        parseXml(await exchange.text(), 'ListBucketResult');
        const region = one(exchange.headers['x-amz-bucket-region']) ?? this.sender.currentRegion;
        const serverDateMs = dateMs(exchange.headers['date']);
        const server = one(exchange.headers['server']);
        this.bucketKnownMs = this.clock.monotonic();
        return { region, ...(serverDateMs !== undefined && { serverDateMs }), ...(server !== undefined && { server }) };
      },
    );
    // side by side: each is a round trip, and somebody waits for a mount
    const versioning = this.optional(this.sender.send(
      { kind: 'GET_VERSIONING', method: 'GET', query: { versioning: '' }, idempotent: true, ...this.context.limits(options) },
      async (exchange) => field(parseXml(await exchange.text(), 'VersioningConfiguration'), 'Status') === 'Enabled',
    ));
    versioning.catch(() => undefined); // what the listing says is said first
    const found = await listing;
    const isVersioned = await versioning;
    return { ...found, ...(isVersioned !== undefined && { versioning: isVersioned }) };
  }

  close(): Promise<void> {
    this.http.close();
    return Promise.resolve();
  }

  /** Some servers answer a write with an empty etag (Ceph: Complete); only a HEAD knows it then. */
  private async withEtag(key: Key, stored: Stored, options: CallOptions | undefined): Promise<Stored> {
    if (stored.etag !== '') return stored;
    return { ...stored, etag: (await this.head(key, options))?.etag ?? '' };
  }

  /**
   * A 404 without a body may mean the bucket. "No such object" must never be an answer about a bucket that is gone (promise 5),
   * so it is believed only while the bucket was seen lately.
   */
  private async confirmBucket(options: CallOptions | undefined): Promise<void> {
    if (this.clock.monotonic() - this.bucketKnownMs < bucketTrustMs) return;
    await this.sender.send({ kind: 'HEAD_BUCKET', method: 'HEAD', idempotent: true, alsoOk: [403], ...this.context.limits(options) }, (exchange) => exchange.drain()).catch((error: unknown) => {
      if (error instanceof StoreError && error.kind === 'not-found') {
        throw new StoreError('no-such-bucket', `There is no bucket "${this.settings.bucket}"; check its name, --endpoint and --region`, error.details, { cause: error });
      }
      throw error;
    });
    this.bucketKnownMs = this.clock.monotonic();
  }

  /** The tags in the form of x-amz-tagging; undefined if we may not read them. */
  private tagging(key: string, options: CallOptions | undefined): Promise<string | undefined> {
    return this.optional(this.sender.send({ kind: 'GET_TAGGING', method: 'GET', key, query: { tagging: '' }, idempotent: true, ...this.context.limits(options) }, async (exchange) => {
      const set = parseXml(await exchange.text(), 'Tagging')['TagSet'] as { Tag?: unknown } | undefined;
      const tags = [set?.Tag ?? []].flat() as { Key?: string; Value?: string }[];
      return tags.map(({ Key: name, Value: value }) => `${encodeURIComponent(name ?? '')}=${encodeURIComponent(value ?? '')}`).join('&');
    }));
  }

  /** For questions some servers or policies refuse. */
  private async optional<T>(answer: Promise<T>): Promise<T | undefined> {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof StoreError && (error.kind === 'access-denied' || error.kind === 'invalid' || error.kind === 'not-found')) return undefined;
      throw error;
    }
  }
}
