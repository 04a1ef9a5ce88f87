/**
 * What a server does with conditions (O2): found out on one scratch key per mount, kept as JSON in the database, shown by
 * `doctor`. A condition counts as supported only if it was seen to *refuse*: a server that ignores it answers success.
 */
import { randomBytes } from 'node:crypto';
import type { ETag, Expected, ObjectAttributes, ObjectStore } from './object-store.js';
import { StoreError } from './store-error.js';

export type EtagQuotes = 'quoted' | 'unquoted';

export interface Capabilities {
  readonly putIfNoneMatch: boolean;
  readonly putIfMatch: boolean;
  /** How If-Match wants the etag. Ceph before 18 never matches a quoted one. */
  readonly etagQuotes: EtagQuotes;
  readonly deleteIfMatch: boolean;
  readonly copySourceIfMatch: boolean;
  readonly copyIfNoneMatch: boolean;
  readonly copyIfMatch: boolean;
  readonly completeIfNoneMatch: boolean;
  readonly completeIfMatch: boolean;
  /** These credentials may not write here. Nothing about conditions is known then. */
  readonly readOnly: boolean;
  /** Undefined: the server does not say. */
  readonly versioning?: boolean;
}

/** Everything as AWS answers it. */
export const fullCapabilities: Capabilities = {
  putIfNoneMatch: true, putIfMatch: true, etagQuotes: 'quoted', deleteIfMatch: true, copySourceIfMatch: true, copyIfNoneMatch: true, copyIfMatch: true,
  completeIfNoneMatch: true, completeIfMatch: true, readOnly: false,
};

/** A store whose If-Match headers can be written either way. */
export interface EtagQuoting { setEtagQuotes(quotes: EtagQuotes): void }

const attributes: ObjectAttributes = { metadata: {}, contentType: 'application/octet-stream' };
const body = { kind: 'bytes', bytes: Buffer.from('hearthfs probe') } as const;
const wrongEtag = '00000000000000000000000000000000';

/**
 * Costs about 15 small requests. Leaves nothing behind, also on failure.
 * @param limits `firstAnswerMs`: the server must answer the first request by then; default: the store's own deadline.
 * @throws StoreError if the bucket cannot be used at all. Lack of write permission is not an error: `readOnly`.
 */
export async function probeCapabilities(store: ObjectStore & Partial<EtagQuoting>, limits: { signal?: AbortSignal | undefined; firstAnswerMs?: number } = {}): Promise<Capabilities> {
  const options = limits.signal ? { signal: limits.signal } : {};
  const bucket = await store.checkBucket({ ...options, ...(limits.firstAnswerMs !== undefined && { deadlineMs: limits.firstAnswerMs }) });
  const versioning = bucket.versioning === undefined ? {} : { versioning: bucket.versioning };
  const key = `.hearthfs-probe-${randomBytes(8).toString('hex')}`;
  const copyKey = `${key}-copy`;
  let uploadId: string | undefined;
  try {
    let { etag } = await store.put(key, body, attributes, 'any', options);
    if (!etag) etag = (await store.head(key, options))?.etag ?? '';

    const putIfNoneMatch = await refuses(store.put(key, body, attributes, null, options));
    let etagQuotes: EtagQuotes = 'quoted';
    let putIfMatch = await refuses(store.put(key, body, attributes, wrongEtag, options));
    if (putIfMatch && !(await accepts(store.put(key, body, attributes, etag, options)))) {
      etagQuotes = 'unquoted';
      store.setEtagQuotes?.(etagQuotes);
      putIfMatch = (await accepts(store.put(key, body, attributes, etag, options))) && (await refuses(store.put(key, body, attributes, wrongEtag, options)));
      if (!putIfMatch) store.setEtagQuotes?.((etagQuotes = 'quoted'));
    }
    etag = (await store.head(key, options))?.etag ?? etag;

    const copy = (sourceEtag: ETag, target: string, expected: Expected): Promise<unknown> => store.copy({ key, etag: sourceEtag }, target, attributes, expected, options);
    const copySourceIfMatch = (await refuses(copy(wrongEtag, copyKey, 'any'))) && (await accepts(copy(etag, copyKey, 'any')));
    const copyIfNoneMatch = await refuses(copy(etag, key, null));
    const copyIfMatch = (await refuses(copy(etag, copyKey, wrongEtag))) && (await accepts(copy(etag, copyKey, etag)));

    const complete = async (expected: Expected): Promise<void> => {
      const id = (uploadId = await store.createUpload(key, attributes, options));
      const part = await store.uploadPart(key, id, 1, body, options);
      await store.completeUpload(key, id, [part], expected, options);
      uploadId = undefined;
    };
    const abort = async (): Promise<void> => {
      if (uploadId !== undefined) await store.abortUpload(key, uploadId, options);
      uploadId = undefined;
    };
    const completeIfNoneMatch = await refuses(complete(null));
    await abort();
    const completeRefuses = await refuses(complete(wrongEtag));
    await abort();
    etag = (await store.head(key, options))?.etag ?? etag;
    const completeIfMatch = completeRefuses && (await accepts(complete(etag)));
    await abort();

    let deleteIfMatch = await refuses(store.delete(key, wrongEtag, options));
    if (deleteIfMatch) {
      const now = await store.head(key, options);
      deleteIfMatch = now !== null && (await accepts(store.delete(key, now.etag, options))) && (await store.head(key, options)) === null;
    }
    return {
      putIfNoneMatch, putIfMatch, etagQuotes, deleteIfMatch, copySourceIfMatch, copyIfNoneMatch, copyIfMatch, completeIfNoneMatch, completeIfMatch, readOnly: false, ...versioning,
    };
  } catch (error) {
    if (!(error instanceof StoreError) || error.kind !== 'access-denied') throw error;
    return {
      putIfNoneMatch: false, putIfMatch: false, etagQuotes: 'quoted', deleteIfMatch: false, copySourceIfMatch: false, copyIfNoneMatch: false, copyIfMatch: false,
      completeIfNoneMatch: false, completeIfMatch: false, readOnly: true, ...versioning,
    };
  } finally {
    // Not with the caller's signal: an aborted probe must clean up too. What fails here only leaves a scratch key.
    const cleanUp: Promise<unknown>[] = [store.delete(key, 'any', { deadlineMs: 5000 }), store.delete(copyKey, 'any', { deadlineMs: 5000 })];
    if (uploadId !== undefined) cleanUp.push(store.abortUpload(key, uploadId, { deadlineMs: 5000 }));
    await Promise.allSettled(cleanUp);
  }
}

/** True if the condition was honoured: the request was refused. `invalid` (501 and the like) is a refusal of conditions as such. */
async function refuses(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return false;
  } catch (error) {
    return conditionFailed(error) === 'failed';
  }
}

async function accepts(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    conditionFailed(error);
    return false;
  }
}

function conditionFailed(error: unknown): 'failed' | 'unsupported' {
  if (error instanceof StoreError) {
    if (error.kind === 'precondition-failed' || error.kind === 'conflict') return 'failed';
    if (error.kind === 'invalid') return 'unsupported';
  }
  throw error;
}
