/**
 * Test and demo equipment, not product: the `aws-chunked` content encoding, incrementally.
 *
 *   <hex size>[;chunk-signature=<64 hex>] CRLF <bytes> CRLF ... 0[;chunk-signature=...] CRLF [trailer: value CRLF ...] CRLF
 *
 * Each chunk signature covers the one before it and the chunk's SHA-256; the trailers have their own as `x-amz-trailer-signature`.
 * Source: S3 API reference, "Signature calculations for the Authorization header: transferring payload in multiple chunks".
 */
import { createHash, hash, type Hash } from 'node:crypto';
import { S3Error } from './errors.js';
import { hmac, sameText, type ChunkSigning } from './sigv4.js';

const lineBytesMax = 16 << 10;
const emptySha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

export class AwsChunkedDecoder {
  readonly trailers = new Map<string, string>();
  private state: 'size' | 'data' | 'data-end' | 'trailers' | 'done' = 'size';
  private line = '';
  private left = 0;
  private chunkHash: Hash | undefined;
  private chunkSignature = '';
  private previous: string;
  private signedTrailers = '';

  /** `signing` undefined: chunks are not signed. */
  constructor(private readonly signing: ChunkSigning | undefined, private readonly hasTrailers: boolean) {
    this.previous = signing?.seed ?? '';
  }

  push(bytes: Buffer, emit: (data: Buffer) => void): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.state === 'done') {
        // Some clients end a body without trailers by one more CRLF; anything else is an error.
        if (bytes[at] !== 13 && bytes[at] !== 10) throw new S3Error('IncompleteBody', 'Bytes after the last chunk');
        at++;
      } else if (this.state === 'data') {
        const data = bytes.subarray(at, at + this.left);
        at += data.length;
        this.left -= data.length;
        this.chunkHash?.update(data);
        emit(data);
        if (this.left === 0) this.state = 'data-end';
      } else {
        const end = bytes.indexOf(10, at);
        this.line += bytes.toString('latin1', at, end < 0 ? bytes.length : end);
        if (this.line.length > lineBytesMax) throw new S3Error('InvalidRequest', 'A line of the aws-chunked body is too long');
        if (end < 0) return;
        at = end + 1;
        const line = this.line.endsWith('\r') ? this.line.slice(0, -1) : this.line;
        this.line = '';
        this.endOfLine(line);
      }
    }
  }

  /** @throws S3Error if the body ended early. */
  finish(): void {
    if (this.state === 'trailers' && !this.hasTrailers) this.state = 'done';
    if (this.state !== 'done') throw new S3Error('IncompleteBody', 'The request body terminated unexpectedly');
  }

  private endOfLine(line: string): void {
    if (this.state === 'data-end') {
      if (line !== '') throw new S3Error('IncompleteBody', 'A chunk is longer than its size says');
      this.endOfChunk();
      this.state = 'size';
      return;
    }
    if (this.state === 'size') {
      const match = /^([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?\s*$/.exec(line);
      if (!match) throw new S3Error('InvalidRequest', 'The chunk header is not valid');
      this.left = parseInt(match[1]!, 16);
      this.chunkSignature = match[2] ?? '';
      if (this.signing) this.chunkHash = createHash('sha256');
      if (this.left > 0) {
        this.state = 'data';
      } else {
        this.endOfChunk();
        this.state = 'trailers';
      }
      return;
    }
    if (line === '') {
      this.endOfTrailers();
      return;
    }
    const colon = line.indexOf(':');
    if (colon < 0) throw new S3Error('InvalidRequest', 'A trailer is not valid');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    this.trailers.set(name, value);
    if (name !== 'x-amz-trailer-signature') this.signedTrailers += `${name}:${value}\n`;
  }

  private endOfChunk(): void {
    if (!this.signing || !this.chunkHash) return;
    const { key, amzDate, scope } = this.signing;
    const text = `AWS4-HMAC-SHA256-PAYLOAD\n${amzDate}\n${scope}\n${this.previous}\n${emptySha256}\n${this.chunkHash.digest('hex')}`;
    const expected = hmac(key, text).toString('hex');
    if (!sameText(expected, this.chunkSignature)) throw new S3Error('SignatureDoesNotMatch');
    this.previous = expected;
  }

  private endOfTrailers(): void {
    this.state = 'done';
    if (!this.signing || !this.hasTrailers) return;
    const { key, amzDate, scope } = this.signing;
    const text = `AWS4-HMAC-SHA256-TRAILER\n${amzDate}\n${scope}\n${this.previous}\n${hash('sha256', this.signedTrailers)}`;
    if (!sameText(hmac(key, text).toString('hex'), this.trailers.get('x-amz-trailer-signature') ?? '')) throw new S3Error('SignatureDoesNotMatch');
  }
}
