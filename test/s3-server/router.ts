/**
 * Test and demo equipment, not product: from an HTTP request to a handler. The order is AWS's as far as clients can see it: parse,
 * authenticate, authorize, then the bucket and the operation. Faults come before all of it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import * as buckets from './bucket-config.js';
import { deleteObject, deleteObjects } from './delete-object.js';
import { ClientGone, codeForStatus, S3Error } from './errors.js';
import { Exchange, sleep, type Core } from './exchange.js';
import { getObject } from './get-object.js';
import { listObjects, listObjectsV2, listUploads, listVersions } from './listing.js';
import * as multipart from './multipart.js';
import * as objects from './object-config.js';
import { operationOf, type OperationName } from './operations.js';
import { isAllowed } from './policy.js';
import { copyObject, putObject } from './put-object.js';

type Handler = (x: Exchange) => Promise<void> | void;

const handlers: Readonly<Record<OperationName, Handler>> = {
  ListBuckets: buckets.listBuckets,
  CreateBucket: buckets.createBucket,
  DeleteBucket: buckets.deleteBucket,
  HeadBucket: buckets.headBucket,
  GetBucketLocation: buckets.getLocation,
  GetBucketDocument: buckets.getDocument,
  PutBucketDocument: buckets.putDocument,
  DeleteBucketDocument: buckets.deleteDocument,
  ListObjectsV2: listObjectsV2,
  ListObjects: listObjects,
  ListObjectVersions: listVersions,
  ListMultipartUploads: listUploads,
  DeleteObjects: deleteObjects,
  GetObject: getObject,
  HeadObject: getObject,
  PutObject: putObject,
  CopyObject: copyObject,
  DeleteObject: deleteObject,
  CreateMultipartUpload: multipart.createUpload,
  UploadPart: multipart.uploadPart,
  UploadPartCopy: multipart.uploadPartCopy,
  CompleteMultipartUpload: multipart.completeUpload,
  AbortMultipartUpload: multipart.abortUpload,
  ListParts: multipart.listParts,
  GetObjectAttributes: objects.getAttributes,
  GetObjectTagging: objects.getTagging,
  PutObjectTagging: objects.putTagging,
  DeleteObjectTagging: objects.deleteTagging,
  GetObjectRetention: objects.getRetention,
  PutObjectRetention: objects.putRetention,
  GetObjectLegalHold: objects.getLegalHold,
  PutObjectLegalHold: objects.putLegalHold,
  GetObjectAcl: objects.getAcl,
  PutObjectAcl: objects.putAcl,
  RestoreObject: objects.restore,
};

const noQuery: ReadonlyMap<string, string> = new Map();
const policies = new Map<string, unknown>();

export async function route(core: Core, req: IncomingMessage, res: ServerResponse, awaitsContinue: boolean, unexpected: (error: unknown) => void): Promise<void> {
  const startedMs = performance.now();
  const url = req.url ?? '/';
  const mark = url.indexOf('?');
  const rawPath = mark < 0 ? url : url.slice(0, mark);
  const queryText = mark < 0 ? '' : url.slice(mark + 1);
  let x: Exchange | undefined;
  try {
    const { bucket, key } = address(req.headers.host ?? '', rawPath);
    const query = queryText === '' ? noQuery : parseQuery(queryText);
    x = new Exchange(core, req, res, operationOf(req.method ?? '', bucket, key, query, req.headers), query, bucket, key);
    x.awaitsContinue = awaitsContinue;
    if (await suffer(x)) return;
    x.auth = core.sigv4.authenticate({ http: req, rawPath, query });
    authorize(x);
    await handlers[x.operation.name](x);
  } catch (error) {
    await answerError(core, req, res, x, error, unexpected);
  } finally {
    if (x) {
      core.log.add({
        atMs: core.now(), kind: x.operation.kind, operation: x.operation.name, method: req.method ?? '', bucket: x.bucketName, key: x.key, query: queryText,
        range: x.header('range'), status: x.status, code: x.code, bytesIn: x.bytesIn, bytesOut: x.bytesOut, ms: performance.now() - startedMs,
      });
    }
  }
}

/** Faults before processing; true if nothing is left to do. */
async function suffer(x: Exchange): Promise<boolean> {
  const plan = (x.plan = x.core.faults.plan(x.operation.kind, x.bucketName, x.key));
  if (!plan) return false;
  if (plan.latencyMs > 0) {
    // Unread, the body waits in the socket; a client that leaves has sent nothing.
    await sleep(plan.latencyMs);
    if (x.gone) return true;
  }
  const { fault } = plan;
  switch (fault?.type) {
    case 'hang':
      x.hang();
      return true;
    case 'cut-before':
      x.cut();
      return true;
    case 'status': {
      x.plan = undefined;
      const code = fault.code ?? codeForStatus(fault.status);
      await x.sendError({ code, message: fault.message ?? 'Injected fault', status: fault.status, ...(fault.retryAfterS !== undefined && { headers: { 'retry-after': String(fault.retryAfterS) } }) });
      return true;
    }
    case 'error-in-200':
      if (fault.execute) return false;
      x.plan = undefined;
      await x.sendError({ code: fault.code ?? 'InternalError', message: 'Injected fault', status: 200 });
      return true;
    default:
      return false;
  }
}

function authorize(x: Exchange): void {
  const text = x.core.state.buckets.get(x.bucketName)?.config.get('policy');
  const { credential } = x.auth;
  if (text === undefined && credential && credential.policy === undefined) return;
  let policy = text === undefined ? undefined : policies.get(text);
  if (text !== undefined && policy === undefined) {
    policy = JSON.parse(text);
    if (policies.size > 100) policies.clear();
    policies.set(text, policy);
  }
  if (!isAllowed(x.operation, x.bucketName, x.key, policy, credential)) throw new S3Error('AccessDenied');
}

async function answerError(core: Core, req: IncomingMessage, res: ServerResponse, x: Exchange | undefined, error: unknown, unexpected: (error: unknown) => void): Promise<void> {
  if (error instanceof ClientGone || res.destroyed) return;
  if (!(error instanceof S3Error)) unexpected(error);
  if (res.headersSent) {
    res.destroy();
    return;
  }
  const known = error instanceof S3Error ? error : new S3Error('InternalError', error instanceof Error ? error.message : String(error));
  const answerer = x ?? new Exchange(core, req, res, { name: 'HeadBucket', kind: 'BUCKET', action: '' }, noQuery, '', '');
  if (known.code === 'NotModified') {
    answerer.code = known.code;
    await answerer.send(304, { ...known.headers });
  } else {
    await answerer.sendError(known);
  }
}

/** Path style, or the bucket as the first label before `.localhost` or `.s3.`. */
export function address(host: string, rawPath: string): { bucket: string; key: string } {
  const name = host.replace(/:\d+$/, '');
  const suffix = name.endsWith('.localhost') ? name.length - 10 : name.search(/\.s3[.-]/);
  if (suffix > 0) return { bucket: name.slice(0, suffix), key: decode(rawPath.slice(1)) };
  const slash = rawPath.indexOf('/', 1);
  if (slash < 0) return { bucket: decode(rawPath.slice(1)), key: '' };
  return { bucket: decode(rawPath.slice(1, slash)), key: decode(rawPath.slice(slash + 1)) };
}

function decode(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    throw new S3Error('InvalidURI', undefined, { URI: text });
  }
}

function parseQuery(text: string): Map<string, string> {
  const out = new Map<string, string>();
  for (const pair of text.split('&')) {
    if (pair === '') continue;
    const at = pair.indexOf('=');
    const name = decode(at < 0 ? pair : pair.slice(0, at));
    out.set(name, at < 0 ? '' : decode(pair.slice(at + 1).replace(/\+/g, ' ')));
  }
  return out;
}
