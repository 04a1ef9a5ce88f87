/** Multipart uploads. Listings of parts and uploads are followed to their end, within bounds. */
import { createHash } from 'node:crypto';
import { openBody, PartBuffers } from './body-source.js';
import { attributesToHeaders, dateMs, headersToStored, one } from './object-headers.js';
import type { Body, CallOptions, CopySource, Expected, Key, ObjectAttributes, ObjectHead, Part, Stored, Upload } from './object-store.js';
import { mutation, type S3Context } from './s3-context.js';
import { StoreError } from './store-error.js';
import { decodeKey } from './uri.js';
import { completeUploadXml, field, nodes, parseXml, stripQuotes } from './xml.js';

/** 10,000 parts come in 10 pages; 200 pages of uploads are 200,000. */
const pagesMax = 200;
type Head = (key: Key, options?: CallOptions) => Promise<ObjectHead | null>;

export class S3Multipart {
  private readonly buffers = new PartBuffers();

  constructor(private readonly context: S3Context, private readonly head: Head) {}

  create(key: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string> {
    return this.context.sender.send(
      {
        kind: 'CREATE_UPLOAD', method: 'POST', key: this.context.fullKey(key), query: { uploads: '' }, headers: attributesToHeaders(attributes), idempotent: false, ...this.context.limits(options),
      },
      async (exchange) => {
        const uploadId = field(parseXml(await exchange.text(), 'InitiateMultipartUploadResult'), 'UploadId');
        if (!uploadId) throw new StoreError('invalid', `The server began an upload of "${key}" without an id`);
        return uploadId;
      },
    );
  }

  async uploadPart(key: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part> {
    const sendable = await openBody(body, this.buffers);
    const sizeBytes = sendable instanceof Uint8Array ? sendable.byteLength : sendable.lengthBytes;
    // Signed, so the server checks it: no other checksum is needed, and a CRC would have to be announced when the upload is created.
    const sha256 = sendable instanceof Uint8Array ? createHash('sha256').update(sendable).digest('hex') : undefined;
    const part = await this.context.sender.send(
      {
        kind: 'UPLOAD_PART', method: 'PUT', key: this.context.fullKey(key), query: { partNumber: String(number), uploadId }, body: sendable, idempotent: false,
        ...(sha256 !== undefined && { payloadSha256: sha256 }), ...this.context.limits(options, sizeBytes),
      },
      async (exchange) => {
        await exchange.drain();
        return { number, etag: headersToStored(exchange.headers).etag, sizeBytes, ...(sha256 !== undefined && { sha256 }) };
      },
    );
    if (body.kind === 'file' && sendable instanceof Uint8Array && sizeBytes > 0) this.buffers.give(sendable);
    return part;
  }

  uploadPartCopy(key: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part> {
    const request = { kind: 'UPLOAD_PART_COPY', method: 'PUT', key: this.context.fullKey(key) } as const;
    return this.context.sender.send(
      {
        ...request, query: { partNumber: String(number), uploadId }, headers: { ...this.context.copySource(source), 'x-amz-copy-source-range': `bytes=${start}-${end - 1}` }, idempotent: false,
        ...this.context.longLimits(options),
      },
      async (exchange) => {
        const result = parseXml(await this.context.textOrError(request, exchange), 'CopyPartResult');
        return { number, etag: stripQuotes(field(result, 'ETag') ?? ''), sizeBytes: end - start };
      },
    );
  }

  async complete(key: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored> {
    const request = { kind: 'COMPLETE_UPLOAD', method: 'POST', key: this.context.fullKey(key) } as const;
    const stored = await mutation(expected, this.context.sender.send(
      {
        ...request, query: { uploadId }, headers: { 'content-type': 'application/xml', ...this.context.conditions(expected) }, body: Buffer.from(completeUploadXml(parts)), idempotent: false,
        ...this.context.longLimits(options),
      },
      async (exchange) => {
        const result = parseXml(await this.context.textOrError(request, exchange), 'CompleteMultipartUploadResult');
        const versionId = one(exchange.headers['x-amz-version-id']);
        return { etag: stripQuotes(field(result, 'ETag') ?? ''), ...(versionId !== undefined && versionId !== '' && { versionId }) };
      },
    )).catch((error: unknown) => this.explainComplete(key, uploadId, error, options));
    if (stored.etag !== '') return stored;
    const head = await this.head(key, options); // Ceph leaves it empty
    return { ...stored, etag: head?.etag ?? '', ...(head && { lastModifiedMs: head.lastModifiedMs }) };
  }

  /** Ceph calls the completion of an upload that is gone an InternalError; believing it would mean trying forever. */
  private async explainComplete(key: Key, uploadId: string, error: unknown, options: CallOptions | undefined): Promise<never> {
    if (error instanceof StoreError && error.details.code === 'InternalError' && (await this.listParts(key, uploadId, options)) === null) {
      throw new StoreError('no-such-upload', error.message, error.details, { cause: error });
    }
    throw error;
  }

  async abort(key: Key, uploadId: string, options?: CallOptions): Promise<void> {
    await this.context.sender.send(
      { kind: 'ABORT_UPLOAD', method: 'DELETE', key: this.context.fullKey(key), query: { uploadId }, idempotent: true, ...this.context.limits(options) },
      (exchange) => exchange.drain(),
    ).catch((error: unknown) => {
      if (!isGone(error)) throw error;
    });
  }

  async listParts(key: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null> {
    const parts: Part[] = [];
    let marker: string | undefined;
    for (let page = 0; page < pagesMax; page++) {
      try {
        const root = await this.context.sender.send(
          {
            kind: 'LIST_PARTS', method: 'GET', key: this.context.fullKey(key), idempotent: true, ...this.context.limits(options),
            query: { uploadId, 'max-parts': '1000', ...(marker !== undefined && { 'part-number-marker': marker }) },
          },
          async (exchange) => parseXml(await exchange.text(), 'ListPartsResult'),
        );
        for (const part of nodes(root['Part'])) {
          parts.push({ number: Number(field(part, 'PartNumber')), etag: stripQuotes(field(part, 'ETag') ?? ''), sizeBytes: Number(field(part, 'Size') ?? 0) });
        }
        marker = field(root, 'NextPartNumberMarker');
        if (field(root, 'IsTruncated') !== 'true' || !marker) return parts;
      } catch (error) {
        if (isGone(error)) return null;
        throw error;
      }
    }
    throw new StoreError('invalid', `The parts of upload ${uploadId} do not end after ${pagesMax} pages`);
  }

  async listUploads(prefix: string, options?: CallOptions): Promise<Upload[]> {
    const uploads: Upload[] = [];
    const full = this.context.settings.prefix + prefix;
    let marker: Record<string, string> = {};
    for (let page = 0; page < pagesMax; page++) {
      const root = await this.context.sender.send(
        { kind: 'LIST_UPLOADS', method: 'GET', query: { uploads: '', prefix: full, 'encoding-type': 'url', ...marker }, idempotent: true, ...this.context.limits(options) },
        async (exchange) => parseXml(await exchange.text(), 'ListMultipartUploadsResult'),
      );
      const decode = field(root, 'EncodingType') === 'url' ? decodeKey : (key: string): string => key;
      for (const upload of nodes(root['Upload'])) {
        const key = decode(field(upload, 'Key') ?? '');
        const uploadId = field(upload, 'UploadId');
        if (key === undefined || uploadId === undefined || !key.startsWith(full)) continue;
        uploads.push({ key: key.slice(this.context.settings.prefix.length), uploadId, initiatedMs: dateMs(field(upload, 'Initiated')) ?? 0 });
      }
      const nextKey = decode(field(root, 'NextKeyMarker') ?? '');
      if (field(root, 'IsTruncated') !== 'true' || !nextKey) return uploads;
      marker = { 'key-marker': nextKey, 'upload-id-marker': field(root, 'NextUploadIdMarker') ?? '' };
    }
    throw new StoreError('invalid', `The uploads under "${full}" do not end after ${pagesMax} pages`);
  }
}

function isGone(error: unknown): boolean {
  return error instanceof StoreError && (error.kind === 'no-such-upload' || error.kind === 'not-found');
}
