/**
 * Test and demo equipment, not product: takes a request body, whatever its framing and signature, and verifies every digest the
 * client gave: signed SHA-256, Content-MD5, checksum headers and trailers. Nothing is stored unless all of them hold.
 */
import { createHash } from 'node:crypto';
import { AwsChunkedDecoder } from './aws-chunked.js';
import type { BlobWriter, Segment } from './blob-store.js';
import { algorithms, createChecksum, digestBytes, headerOf, parseAlgorithm, type Algorithm, type Checksum } from './checksums.js';
import { ClientGone, S3Error } from './errors.js';
import type { Exchange } from './exchange.js';

export interface ReceivedObject {
  /** One reference belongs to the caller. */
  readonly segments: readonly Segment[];
  readonly size: number;
  readonly md5: Buffer;
  /** Base64 by algorithm, of those given by the client or asked for. */
  readonly checksums: ReadonlyMap<Algorithm, string>;
}

const emptySha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** Takes the body into the blob store. `also` names an algorithm to compute even if the client gave none. */
export async function receiveObject(x: Exchange, also?: Algorithm): Promise<ReceivedObject> {
  const plan = planBody(x, x.core.limits.putBytesMax, also);
  const writer = x.core.blobs.create(plan.size);
  let blob: number;
  let digests: Digests;
  try {
    digests = await receive(x, plan, writer);
    blob = await writer.finish();
  } catch (error) {
    writer.abort();
    throw error;
  }
  const segment = { blob, start: 0, length: digests.size };
  // A blob of no bytes is not worth keeping.
  if (digests.size === 0) x.core.blobs.release(blob);
  return { segments: digests.size === 0 ? [] : [segment], size: digests.size, md5: digests.md5, checksums: digests.checksums };
}

/** Takes a small body into memory. */
export async function receiveText(x: Exchange, options: { readonly digestRequired?: boolean } = {}): Promise<string> {
  const plan = planBody(x, 4 << 20, undefined);
  if (options.digestRequired && plan.expectedMd5 === undefined && plan.expected.size === 0 && plan.trailer === undefined) {
    throw new S3Error('InvalidRequest', 'Missing required header for this request: Content-MD5 OR x-amz-checksum-*');
  }
  const parts: Buffer[] = [];
  const writer: BlobWriter = { write: (bytes) => void parts.push(Buffer.from(bytes)), finish: () => 0, abort: () => undefined };
  await receive(x, plan, writer);
  return Buffer.concat(parts).toString('utf8');
}

interface BodyPlan {
  /** Bytes of content, if announced. */
  readonly size: number | undefined;
  readonly bytesMax: number;
  readonly decoder: AwsChunkedDecoder | undefined;
  /** Lower-case hex the body's SHA-256 must have. */
  readonly sha256: string | undefined;
  readonly expectedMd5: Buffer | undefined;
  readonly expected: ReadonlyMap<Algorithm, string>;
  readonly trailer: Algorithm | undefined;
  readonly compute: ReadonlySet<Algorithm>;
}

function planBody(x: Exchange, bytesMax: number, also: Algorithm | undefined): BodyPlan {
  const mode = x.header('x-amz-content-sha256') ?? 'UNSIGNED-PAYLOAD';
  const streaming = mode.startsWith('STREAMING-');
  const trailing = mode.endsWith('-TRAILER');
  const lengthText = x.header('content-length');
  if (trailing && x.core.capabilities.refuseTrailers) {
    throw lengthText === undefined ? new S3Error('MissingContentLength') : new S3Error('InvalidRequest', 'This server does not know trailing checksums');
  }
  let size = lengthText === undefined ? undefined : Number(lengthText);
  if (streaming) {
    const decoded = x.header('x-amz-decoded-content-length');
    if (decoded === undefined || !/^\d+$/.test(decoded)) throw new S3Error('MissingContentLength');
    size = Number(decoded);
  } else if (size === undefined) {
    // S3 does not take plain chunked transfer encoding; no length at all means no body.
    if (x.req.headers['transfer-encoding'] !== undefined) throw new S3Error('MissingContentLength');
    size = 0;
  }
  if (size > bytesMax) throw new S3Error('EntityTooLarge', undefined, { ProposedSize: String(size), MaxSizeAllowed: String(bytesMax) });
  if (streaming && !/^STREAMING-(AWS4-HMAC-SHA256-PAYLOAD(-TRAILER)?|UNSIGNED-PAYLOAD-TRAILER)$/.test(mode)) throw new S3Error('InvalidArgument', 'x-amz-content-sha256 is not a mode this server knows');
  if (!streaming && mode !== 'UNSIGNED-PAYLOAD' && !/^[0-9a-f]{64}$/.test(mode)) {
    throw new S3Error('InvalidArgument', 'x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.');
  }
  const signed = mode.startsWith('STREAMING-AWS4');
  if (signed && !x.auth.signing) throw new S3Error('AccessDenied');
  const expected = new Map<Algorithm, string>();
  for (const algorithm of algorithms) {
    const value = x.header(headerOf(algorithm));
    if (value === undefined) continue;
    if (Buffer.from(value, 'base64').length !== digestBytes(algorithm)) throw new S3Error('InvalidRequest', `Value for ${headerOf(algorithm)} header is invalid.`);
    expected.set(algorithm, value);
  }
  if (expected.size > 1) throw new S3Error('InvalidRequest', 'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.');
  const trailer = trailing ? parseAlgorithm(/^x-amz-checksum-(\w+)$/.exec((x.header('x-amz-trailer') ?? '').trim().toLowerCase())?.[1]) : undefined;
  const md5Text = x.header('content-md5');
  const expectedMd5 = md5Text === undefined ? undefined : Buffer.from(md5Text, 'base64');
  if (expectedMd5 && expectedMd5.length !== 16) throw new S3Error('InvalidDigest');
  const compute = new Set(expected.keys());
  if (trailer) compute.add(trailer);
  if (also) compute.add(also);
  return {
    size, bytesMax, decoder: streaming ? new AwsChunkedDecoder(signed ? x.auth.signing : undefined, trailing) : undefined,
    sha256: streaming || mode === 'UNSIGNED-PAYLOAD' ? undefined : mode, expectedMd5, expected, trailer, compute,
  };
}

interface Digests { readonly size: number; readonly md5: Buffer; readonly checksums: Map<Algorithm, string> }

async function receive(x: Exchange, plan: BodyPlan, writer: BlobWriter): Promise<Digests> {
  const md5 = createHash('md5');
  const sha256 = plan.sha256 === undefined || (plan.size === 0 && plan.sha256 === emptySha256) ? undefined : createHash('sha256');
  const running: [Algorithm, Checksum][] = [...plan.compute].map((algorithm) => [algorithm, createChecksum(algorithm)]);
  let size = 0;
  let wait: Promise<void> | undefined;
  const take = (bytes: Buffer): void => {
    size += bytes.length;
    if (size > plan.bytesMax) throw new S3Error('EntityTooLarge');
    md5.update(bytes);
    sha256?.update(bytes);
    for (const [, checksum] of running) checksum.update(bytes);
    wait = writer.write(bytes);
  };
  if (x.awaitsContinue) {
    x.awaitsContinue = false;
    x.res.writeContinue();
  }
  await readAll(x, (bytes) => {
    wait = undefined;
    if (plan.decoder) plan.decoder.push(bytes, take);
    else take(bytes);
    return wait;
  });
  plan.decoder?.finish();
  if (plan.size !== undefined && size !== plan.size) throw new S3Error('IncompleteBody');
  if (sha256) {
    const actual = sha256.digest('hex');
    if (actual !== plan.sha256) throw new S3Error('XAmzContentSHA256Mismatch', undefined, { ClientComputedContentSHA256: plan.sha256!, S3ComputedContentSHA256: actual });
  } else if (plan.sha256 !== undefined && plan.sha256 !== emptySha256) {
    throw new S3Error('XAmzContentSHA256Mismatch');
  }
  const md5Bytes = md5.digest();
  if (plan.expectedMd5 && !plan.expectedMd5.equals(md5Bytes)) throw new S3Error('BadDigest', 'The Content-MD5 you specified did not match what we received.');
  const checksums = new Map<Algorithm, string>();
  for (const [algorithm, checksum] of running) {
    const actual = checksum.digest().toString('base64');
    const claimed = plan.expected.get(algorithm) ?? (plan.trailer === algorithm ? (plan.decoder?.trailers.get(headerOf(algorithm)) ?? '') : undefined);
    if (claimed !== undefined && claimed !== actual) throw new S3Error('BadDigest', `The ${algorithm} you specified did not match the calculated checksum.`);
    checksums.set(algorithm, actual);
  }
  return { size, md5: md5Bytes, checksums };
}

/** Feeds the body to `take` and waits where it asks to. Rejects with ClientGone if the connection ends before the body does. */
function readAll(x: Exchange, take: (bytes: Buffer) => Promise<void> | undefined): Promise<void> {
  const { req } = x;
  return new Promise((resolve, reject) => {
    let failed = false;
    const fail = (error: unknown): void => {
      failed = true;
      req.resume(); // drained unread, so that the answer can be read
      reject(error as Error);
    };
    req.on('data', (bytes: Buffer) => {
      if (failed) return;
      x.bytesIn += bytes.length;
      let wait: Promise<void> | undefined;
      try {
        wait = take(bytes);
      } catch (error) {
        fail(error);
        return;
      }
      if (!wait) return;
      req.pause();
      wait.then(() => req.resume(), fail);
    });
    req.on('end', () => resolve());
    req.on('error', () => fail(new ClientGone('connection lost')));
    req.on('close', () => {
      if (!req.complete) fail(new ClientGone('connection lost'));
    });
  });
}
