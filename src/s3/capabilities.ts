/**
 * What a server does with conditions (O2): found out on a few scratch keys, kept as JSON in the database, shown by
 * `doctor`. A condition counts as supported only if it was seen to *refuse*: a server that ignores it answers success.
 */
import { randomBytes } from 'node:crypto';
import type { ETag, Expected, Key, ObjectAttributes, ObjectStore, Part, Stored } from './object-store.js';
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
 * Costs about 35 small requests in eight rounds. Leaves nothing behind, also on failure.
 * @param limits `firstAnswerMs`: the server must answer the first request by then; default: the store's own deadline.
 * @throws StoreError if the bucket cannot be used at all. Lack of write permission is not an error: `readOnly`.
 */
export async function probeCapabilities(store: ObjectStore & Partial<EtagQuoting>, limits: { signal?: AbortSignal | undefined; firstAnswerMs?: number } = {}): Promise<Capabilities> {
  const options = limits.signal ? { signal: limits.signal } : {};
  const bucket = await store.checkBucket({ ...options, ...(limits.firstAnswerMs !== undefined && { deadlineMs: limits.firstAnswerMs }) });
  const versioning = bucket.versioning === undefined ? {} : { versioning: bucket.versioning };
  const probe = new Probe(store, options);
  try {
    return { ...(await probe.run()), readOnly: false, ...versioning };
  } catch (error) {
    if (!(error instanceof StoreError) || error.kind !== 'access-denied') throw error;
    return {
      putIfNoneMatch: false, putIfMatch: false, etagQuotes: 'quoted', deleteIfMatch: false, copySourceIfMatch: false, copyIfNoneMatch: false, copyIfMatch: false,
      completeIfNoneMatch: false, completeIfMatch: false, readOnly: true, ...versioning,
    };
  } finally {
    await probe.cleanUp();
  }
}

interface Upload { readonly id: string; readonly key: Key; readonly part: Part }

/**
 * Somebody waits for a mount: what does not build on another answer is asked at the same time. Two requests under way never write one key, or a server
 * could refuse one for the other's sake; and no copy has its source as its target, which may be refused, or change its etag, for reasons of its own.
 */
class Probe {
  private readonly key = `.hearthfs-probe-${randomBytes(8).toString('hex')}`;
  private readonly noneKey = `${this.key}-none`;
  private readonly copyKey = `${this.key}-copy`;
  private readonly completeKey = `${this.key}-complete`;
  private readonly completeNoneKey = `${this.key}-complete-none`;
  private readonly deleteKey = `${this.key}-delete`;
  private readonly openUploads = new Map<string, Key>();

  constructor(private readonly store: ObjectStore & Partial<EtagQuoting>, private readonly options: { signal?: AbortSignal }) {}

  async run(): Promise<Omit<Capabilities, 'readOnly' | 'versioning'>> {
    // How an etag is to be written is known once the puts are through: till then nothing else names one
    const uploads = all([this.upload(this.completeNoneKey), this.upload(this.completeKey), this.upload(this.completeKey)]);
    const [puts, completeEtag, deleteEtag] = await all([this.puts(), this.create(this.completeKey), this.create(this.deleteKey), this.create(this.completeNoneKey), uploads]);
    const [copies, completes, deleteIfMatch] = await all([this.copies(puts.etag), this.completes(completeEtag, await uploads), this.deletes(deleteEtag)]);
    return { putIfNoneMatch: puts.putIfNoneMatch, putIfMatch: puts.putIfMatch, etagQuotes: puts.etagQuotes, ...copies, ...completes, deleteIfMatch };
  }

  /** Not with the caller's signal: an aborted probe must clean up too. What fails here only leaves a scratch key. */
  async cleanUp(): Promise<void> {
    const limit = { deadlineMs: 5000 };
    await Promise.allSettled([
      ...[this.key, this.noneKey, this.copyKey, this.completeKey, this.completeNoneKey, this.deleteKey].map((key) => this.store.delete(key, 'any', limit)),
      ...[...this.openUploads].map(([id, key]) => this.store.abortUpload(key, id, limit)),
    ]);
  }

  private async puts(): Promise<{ putIfNoneMatch: boolean; putIfMatch: boolean; etagQuotes: EtagQuotes; etag: ETag }> {
    const { store, key, noneKey } = this;
    const put = (expected: Expected, to = key): Promise<Stored> => store.put(to, body, attributes, expected, this.options);
    let [etag] = await all([this.create(key), this.create(noneKey)]);
    let etagQuotes: EtagQuotes = 'quoted';
    const [putIfNoneMatch, refusesWrong] = await all([refuses(put(null, noneKey)), refuses(put(wrongEtag))]);
    if (!refusesWrong) etag = await this.etagOf(key);
    let putIfMatch = refusesWrong;
    if (refusesWrong) {
      let replaced = await accepted(put(etag));
      if (!replaced) {
        etagQuotes = 'unquoted';
        store.setEtagQuotes?.(etagQuotes);
        replaced = await accepted(put(etag));
        putIfMatch = replaced !== undefined && (await refuses(put(wrongEtag)));
        if (!putIfMatch) store.setEtagQuotes?.((etagQuotes = 'quoted'));
      }
      etag = putIfMatch && replaced?.value.etag ? replaced.value.etag : await this.etagOf(key);
    }
    return { putIfNoneMatch, putIfMatch, etagQuotes, etag };
  }

  private async copies(etag: ETag): Promise<Pick<Capabilities, 'copySourceIfMatch' | 'copyIfNoneMatch' | 'copyIfMatch'>> {
    const { key, noneKey, copyKey } = this;
    const copy = (sourceEtag: ETag, target: Key, expected: Expected): Promise<Stored> => this.store.copy({ key, etag: sourceEtag }, target, attributes, expected, this.options);
    const [refusesSource, copied] = await all([refuses(copy(wrongEtag, noneKey, 'any')), accepted(copy(etag, copyKey, 'any'))]);
    const [copyIfNoneMatch, refusesTarget] = await all([refuses(copy(etag, noneKey, null)), refuses(copy(etag, copyKey, wrongEtag))]);
    const copyIfMatch = copied !== undefined && refusesTarget && (await accepted(copy(etag, copyKey, copied.value.etag || (await this.etagOf(copyKey))))) !== undefined;
    return { copySourceIfMatch: refusesSource && copied !== undefined, copyIfNoneMatch, copyIfMatch };
  }

  private async completes(etag: ETag, [none, wrong, right]: readonly [Upload, Upload, Upload]): Promise<Pick<Capabilities, 'completeIfNoneMatch' | 'completeIfMatch'>> {
    const complete = async ({ id, key, part }: Upload, expected: Expected): Promise<void> => {
      await this.store.completeUpload(key, id, [part], expected, this.options);
      this.openUploads.delete(id);
    };
    const [completeIfNoneMatch, refusesWrong] = await all([refuses(complete(none, null)), refuses(complete(wrong, wrongEtag))]);
    const completeIfMatch = refusesWrong && (await accepted(complete(right, etag))) !== undefined;
    return { completeIfNoneMatch, completeIfMatch };
  }

  private async deletes(etag: ETag): Promise<boolean> {
    const remove = (expected: ETag): Promise<void> => this.store.delete(this.deleteKey, expected, this.options);
    return (await refuses(remove(wrongEtag))) && (await accepted(remove(etag))) !== undefined && (await this.store.head(this.deleteKey, this.options)) === null;
  }

  private async create(key: Key): Promise<ETag> {
    return (await this.store.put(key, body, attributes, 'any', this.options)).etag || this.etagOf(key);
  }

  private async etagOf(key: Key): Promise<ETag> {
    return (await this.store.head(key, this.options))?.etag ?? '';
  }

  private async upload(key: Key): Promise<Upload> {
    const id = await this.store.createUpload(key, attributes, this.options);
    this.openUploads.set(id, key);
    return { id, key, part: await this.store.uploadPart(key, id, 1, body, this.options) };
  }
}

/** As Promise.all, but a failure is thrown once nothing is under way any more: what is cleaned up stays so. */
async function all<T extends readonly unknown[]>(calls: readonly [...{ [K in keyof T]: Promise<T[K]> }]): Promise<T> {
  await Promise.allSettled(calls);
  return Promise.all(calls) as Promise<unknown> as Promise<T>;
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

async function accepted<T>(call: Promise<T>): Promise<{ readonly value: T } | undefined> {
  try {
    return { value: await call };
  } catch (error) {
    conditionFailed(error);
    return undefined;
  }
}

function conditionFailed(error: unknown): 'failed' | 'unsupported' {
  if (error instanceof StoreError) {
    if (error.kind === 'precondition-failed' || error.kind === 'conflict') return 'failed';
    if (error.kind === 'invalid') return 'unsupported';
  }
  throw error;
}
