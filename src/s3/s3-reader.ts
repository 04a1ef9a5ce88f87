/** GET of a range into a file or into memory. The bytes delivered are exactly those asked for, of exactly the version asked for. */
import { FileSink } from './file-sink.js';
import type { Exchange } from './http-client.js';
import { dateMs, headersToHead } from './object-headers.js';
import type { CallOptions, GetOptions, GetQuery, GetResult, Key, ObjectHead } from './object-store.js';
import type { S3Context } from './s3-context.js';
import { StoreError } from './store-error.js';
import { stripQuotes } from './xml.js';

const inMemoryBytesMax = 64 << 20;
/** So much of an answer that is longer than the range is read to its end, so that its connection can be used again. */
const surplusReadMax = 1 << 20;
type Head = (key: Key, options?: CallOptions) => Promise<ObjectHead | null>;

export class S3Reader {
  constructor(private readonly context: S3Context, private readonly head: Head) {}

  async getToFile(key: Key, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult> {
    const sink = new FileSink(path, query.start, options?.onRange);
    try {
      return await this.get(key, query, options, (chunk) => sink.take(chunk), () => sink.flush());
    } finally {
      sink.close();
    }
  }

  async getBytes(key: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }> {
    const wanted = query.end - query.start;
    if (wanted > inMemoryBytesMax) throw new StoreError('too-large', `Cannot read ${wanted} bytes of "${key}" into memory: the limit is ${inMemoryBytesMax}`);
    // own memory, never a slice of a shared pool: it may be transferred to another thread
    const bytes = new Uint8Array(wanted);
    let at = 0;
    const result = await this.get(key, query, options, (chunk) => {
      bytes.set(chunk, at);
      at += chunk.length;
    }, () => undefined);
    return { ...result, bytes: result.lengthBytes === wanted ? bytes : bytes.slice(0, result.lengthBytes) };
  }

  private async get(key: Key, query: GetQuery, options: CallOptions | undefined, take: (chunk: Buffer) => void, flush: () => void): Promise<GetResult> {
    const { start, end, etag, versionId } = query;
    if (start >= end) return this.nothing(key, query, options);
    const headers: Record<string, string> = { range: `bytes=${start}-${end - 1}` };
    if (etag !== undefined) headers['if-match'] = this.context.ifMatch(etag);
    const result = await this.context.sender.send(
      {
        kind: 'GET', method: 'GET', key: this.context.fullKey(key), headers, idempotent: true, alsoOk: [416], ...this.context.limits(options, end - start),
        ...(versionId !== undefined && { query: { versionId } }),
      },
      async (exchange): Promise<GetResult | null> => {
        if (exchange.status === 416) {
          await exchange.drain();
          return null; // the object ends before `start`
        }
        const answer = describeAnswer(key, query, exchange);
        let skip = answer.skipBytes;
        let left = answer.lengthBytes;
        const enough = new StoreError('aborted', 'the rest is not wanted');
        try {
          await exchange.pipe((chunk) => {
            if (left === 0 && answer.surplusBytes > surplusReadMax) throw enough;
            if (skip > 0 || chunk.length > left) {
              const from = Math.min(skip, chunk.length);
              skip -= from;
              chunk = chunk.subarray(from, from + left);
            }
            left -= chunk.length;
            if (chunk.length > 0) take(chunk);
          });
        } catch (error) {
          if (error !== enough) throw error;
        } finally {
          flush();
        }
        if (left > 0) throw new StoreError('unavailable', `GET "${key}" ended ${left} bytes early`, { code: 'ECONNRESET' });
        const { etag: found, lastModifiedMs, lengthBytes, objectSizeBytes } = answer;
        const head = query.withHead ? headOf(key, exchange, objectSizeBytes) : undefined;
        return { etag: found, lastModifiedMs, lengthBytes, objectSizeBytes, ...(head && { head }) };
      },
    );
    return result ?? this.nothing(key, query, options);
  }

  /** An empty answer still says which version it is of. */
  private async nothing(key: Key, { etag }: GetQuery, options: CallOptions | undefined): Promise<GetResult> {
    const head = await this.head(key, options);
    if (!head) throw new StoreError('not-found', `There is no object "${key}"`, { status: 404 });
    if (etag !== undefined && head.etag !== etag) throw changed(key, etag, head.etag);
    return { etag: head.etag, lastModifiedMs: head.lastModifiedMs, lengthBytes: 0, objectSizeBytes: head.sizeBytes };
  }
}

/** Undefined if it has tags, which only another request tells, or does not say which version it is. */
function headOf(key: Key, exchange: Exchange, sizeBytes: number): ObjectHead | undefined {
  const head = headersToHead(key, exchange.headers);
  return head.tagCount === undefined && head.etag !== '' ? { ...head, sizeBytes } : undefined;
}

/** Of the body: what comes before the range, and after it. */
interface Answer extends GetResult { skipBytes: number; surplusBytes: number }

function describeAnswer(key: Key, { start, end, etag: wanted }: GetQuery, exchange: Exchange): Answer {
  const { headers, status } = exchange;
  const etag = stripQuotes(headers.etag ?? '');
  const lastModifiedMs = dateMs(headers['last-modified']) ?? 0;
  // Belt and braces: a server that ignores If-Match must not mix versions in one file.
  if (wanted !== undefined && etag !== '' && etag !== wanted) throw changed(key, wanted, etag);
  if (headers['content-length'] === undefined) throw new StoreError('invalid', `GET "${key}" was answered without a Content-Length`);
  const bodyBytes = Number(headers['content-length']);
  if (status === 206) {
    const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers['content-range'] ?? '');
    if (!range || Number(range[1]) !== start || Number(range[2]) >= end) {
      throw new StoreError('invalid', `GET "${key}" asked for bytes ${start}-${end - 1} and got "${headers['content-range'] ?? 'no Content-Range'}"`);
    }
    const objectSizeBytes = Number(range[3]);
    const lengthBytes = Number(range[2]) + 1 - start;
    if (lengthBytes !== Math.min(end, objectSizeBytes) - start) throw new StoreError('unavailable', `GET "${key}" answered ${lengthBytes} bytes, fewer than asked for`);
    // A body of another length is not the range that the header speaks of, whatever it is: known before the first byte is believed
    if (bodyBytes !== lengthBytes) throw new StoreError('invalid', `GET "${key}" was answered with ${bodyBytes} bytes that should be bytes ${start}-${start + lengthBytes - 1}`);
    return { etag, lastModifiedMs, lengthBytes, objectSizeBytes, skipBytes: 0, surplusBytes: 0 };
  }
  if (status !== 200) throw new StoreError('invalid', `GET "${key}" was answered with status ${status}, which S3 has no use for`);
  // The server ignored Range, or the range was everything
  const lengthBytes = Math.max(0, Math.min(end, bodyBytes) - start);
  return { etag, lastModifiedMs, objectSizeBytes: bodyBytes, lengthBytes, skipBytes: Math.min(start, bodyBytes), surplusBytes: Math.max(0, bodyBytes - end) };
}

function changed(key: Key, wanted: string, found: string): StoreError {
  return new StoreError('precondition-failed', `"${key}" has etag ${found}, not ${wanted} any more`, { status: 412 });
}
