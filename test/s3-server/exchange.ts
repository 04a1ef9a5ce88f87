/**
 * Test and demo equipment, not product: one request and its answer. All answers leave through `send` or `sendObject`, where faults
 * that concern the response take effect; a handler that returns has answered, one that throws is answered for.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { BlobStore, Segment } from './blob-store.js';
import type { Capabilities } from './capabilities.js';
import { codeForStatus, S3Error } from './errors.js';
import type { FaultPlan, Faults } from './faults.js';
import type { Operation } from './operations.js';
import type { RequestLog } from './request-log.js';
import type { Authentication, SigV4 } from './sigv4.js';
import type { Bucket, State } from './state.js';
import { tag, xmlHead } from './xml.js';

export type Headers = Record<string, string | number>;

/** What handlers may use of the server. */
export interface Core {
  readonly state: State;
  readonly blobs: BlobStore;
  readonly sigv4: SigV4;
  readonly faults: Faults;
  readonly log: RequestLog;
  readonly capabilities: Capabilities;
  readonly region: string;
  readonly limits: { readonly putBytesMax: number; readonly partBytesMin: number };
  now(): number;
}

let lastRequest = 0;
/** Stored bytes up to here are read on the spot by either blob store, and the answer is one write. */
const smallBytesMax = 64 << 10;

export class Exchange {
  readonly requestId = (++lastRequest).toString(16).toUpperCase().padStart(16, '0');
  auth: Authentication = {};
  plan: FaultPlan | undefined;
  status = 0;
  code: string | undefined;
  bytesIn = 0;
  bytesOut = 0;
  /** The client waits for `100 Continue` and has not got it. */
  awaitsContinue = false;

  constructor(
    readonly core: Core, readonly req: IncomingMessage, readonly res: ServerResponse, readonly operation: Operation,
    readonly query: ReadonlyMap<string, string>, readonly bucketName: string, readonly key: string,
  ) {}

  header(name: string): string | undefined {
    const value = this.req.headers[name];
    return Array.isArray(value) ? value.join(',') : value;
  }

  /** @throws S3Error NoSuchBucket */
  get bucket(): Bucket {
    const bucket = this.core.state.buckets.get(this.bucketName);
    if (!bucket) throw new S3Error('NoSuchBucket', undefined, { BucketName: this.bucketName });
    return bucket;
  }

  get gone(): boolean { return this.res.destroyed || this.req.socket.destroyed; }

  /** Waits if this request is to be executed late. Call with everything received, right before checking conditions and committing. */
  async beforeCommit(): Promise<void> {
    if (this.plan?.fault?.type === 'late') await sleep(this.plan.fault.ms);
  }

  sendXml(status: number, body: string, headers: Headers = {}): Promise<void> | void {
    headers['content-type'] = 'application/xml';
    return this.send(status, headers, body);
  }

  /** The whole answer at once. */
  send(status: number, headers: Headers, body?: string | Buffer): Promise<void> | void {
    const fault = this.plan?.fault;
    if (fault && this.faultBeforeResponse(fault)) return;
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    const hasBody = this.req.method !== 'HEAD' && status !== 204 && status !== 304;
    if (hasBody) headers['content-length'] = bytes?.length ?? 0;
    this.head(status, headers);
    if (!hasBody || !bytes) {
      this.res.end();
    } else if (fault) {
      return this.pour([bytes].values(), bytes.length);
    } else {
      this.bytesOut += bytes.length;
      this.res.end(bytes);
    }
  }

  /** An answer whose body is stored bytes. The blobs must be referenced until the promise settles. */
  sendObject(status: number, headers: Headers, segments: readonly Segment[], length: number): Promise<void> | void {
    const fault = this.plan?.fault;
    if (fault && this.faultBeforeResponse(fault)) return;
    const only = segments[0];
    if (only && segments.length === 1 && length <= smallBytesMax && !fault) {
      const reader = this.core.blobs.open(only.blob);
      const bytes = reader.read(only.start, length);
      reader.close();
      if (Buffer.isBuffer(bytes) && bytes.length === length) {
        this.head(status, headers);
        this.bytesOut += length;
        this.res.end(bytes);
        return;
      }
    }
    this.head(status, headers);
    return this.pour(this.pieces(segments), length);
  }

  sendError(error: S3Error | { readonly code: string; readonly message: string; readonly status: number; readonly extra?: Readonly<Record<string, string>>; readonly headers?: Headers | Readonly<Record<string, string>> }): Promise<void> | void {
    this.code = error.code;
    return this.send(error.status, { 'content-type': 'application/xml', ...error.headers }, this.errorDocument(error.code, error.message, error.extra));
  }

  errorDocument(code: string, message: string, extra: Readonly<Record<string, string>> = {}): string {
    const more = Object.entries(extra).map(([name, value]) => tag(name, value)).join('');
    return `${xmlHead}<Error>${tag('Code', code)}${tag('Message', message)}${more}${tag('Resource', this.key === '' ? `/${this.bucketName}` : `/${this.bucketName}/${this.key}`)}${tag('RequestId', this.requestId)}${tag('HostId', 'hearthfs-test')}</Error>`;
  }

  cut(): void {
    this.req.socket.destroy();
  }

  private head(status: number, headers: Headers): void {
    this.status = status;
    headers['x-amz-request-id'] = this.requestId;
    headers['x-amz-id-2'] = 'hearthfs-test';
    headers['server'] = this.core.capabilities.serverHeader;
    const skewMs = this.core.now() - Date.now();
    if (skewMs > 500 || skewMs < -500) headers['date'] = new Date(this.core.now()).toUTCString();
    // Who waits for `100 Continue` and gets a final answer will not send the body; what comes next would be taken for it.
    // (Other unread bodies are drained by Node, so that the client sees the answer and not a reset connection.)
    if (this.awaitsContinue) headers['connection'] = 'close';
    this.res.writeHead(status, headers);
  }

  /** True if the fault has taken the place of the response. */
  private faultBeforeResponse(fault: NonNullable<FaultPlan['fault']>): boolean {
    switch (fault.type) {
      case 'cut-after':
        this.cut();
        return true;
      case 'hang-after':
        this.hang();
        return true;
      case 'status-after':
      case 'error-in-200': {
        this.plan = undefined;
        const status = fault.type === 'status-after' ? fault.status : 200;
        const code = fault.code ?? (status === 200 ? 'InternalError' : codeForStatus(status));
        this.code = code;
        void this.send(status, { 'content-type': 'application/xml' }, this.errorDocument(code, 'Injected fault'));
        return true;
      }
      default:
        return false;
    }
  }

  /** Leaves the connection open and unanswered until the client or `releaseHung` ends it. */
  hang(): void {
    const forget = this.core.faults.hang(() => this.cut());
    this.res.once('close', forget);
  }

  private *pieces(segments: readonly Segment[]): Generator<Buffer | Promise<Buffer>> {
    for (const segment of segments) {
      const reader = this.core.blobs.open(segment.blob);
      try {
        for (let done = 0; done < segment.length;) {
          const bytes = reader.read(segment.start + done, segment.length - done);
          let got = 0;
          yield Buffer.isBuffer(bytes) ? ((got = bytes.length), bytes) : bytes.then((read) => ((got = read.length), read));
          done += got;
        }
      } finally {
        reader.close();
      }
    }
  }

  /** Writes pieces as fast as the client (or the fault) allows. */
  private async pour(pieces: Iterator<Buffer | Promise<Buffer>>, length: number): Promise<void> {
    const fault = this.plan?.fault;
    const cutAt = fault?.type === 'cut-body' ? Math.min(fault.afterBytes ?? length >> 1, length) : Infinity;
    let flips = fault?.type === 'corrupt' ? (fault.bytes ?? 1) : 0;
    let sent = 0;
    try {
      for (let next = pieces.next(); !next.done; next = pieces.next()) {
        let bytes = await next.value;
        if (this.gone) return;
        if (flips > 0 && bytes.length > 0) {
          bytes = Buffer.from(bytes);
          for (let i = 0; flips > 0 && i < bytes.length; i += 997, flips--) bytes[i]! ^= 0x10;
        }
        const last = sent + bytes.length >= cutAt;
        if (last) bytes = bytes.subarray(0, cutAt - sent);
        sent += bytes.length;
        this.bytesOut += bytes.length;
        const ready = this.res.write(bytes);
        if (last) {
          await new Promise<void>((resolve) => this.res.write('', () => resolve()));
          this.cut();
          return;
        }
        if (!ready) await drained(this.res);
        if (this.gone) return;
        if (fault?.type === 'bandwidth') await sleep((bytes.length / fault.bytesPerS) * 1000);
      }
      this.res.end();
    } finally {
      pieces.return?.();
    }
  }
}

function drained(res: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      res.off('drain', done);
      res.off('close', done);
      resolve();
    };
    res.on('drain', done);
    res.on('close', done);
  });
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
