/**
 * An `ObjectStore` by paths, however long, over one by keys: `long-keys` says which key a path has. What fits into a key passes through untouched
 * and costs nothing.
 *
 * A listing of a deep directory looks in both places where its names may be. A listing without a delimiter answers whether anything is in the directory;
 * it does not follow long areas of the directories below.
 *
 * The note that says whose area it is: there before the first object in the area, gone before the directory's marker is. It is for people;
 * nothing here reads it. A marker whose area is not empty is not deleted: names of others would be hidden with it, where a short name would show the directory by itself.
 * As with those the directory is simply there again.
 */
import { LRUCache } from 'lru-cache';
import { SingleFlight } from '../base/single-flight.js';
import { noNameMark } from '../base/file-name.js';
import { longAreaName, type LongKeys } from './long-keys.js';
import type {
  Body, CallOptions, CopySource, Expected, GetOptions, GetQuery, GetResult, Key, ListPage, ListQuery, ObjectAttributes, ObjectHead, ObjectStore, ObjectSummary, Part, Stored, Upload,
} from './object-store.js';
import { StoreError } from './store-error.js';

const notesRememberedMax = 1000;

/** Where a listing of both places of a deep directory goes on; JSON. */
interface Continuation {
  readonly isInArea: boolean;
  /** The inner store's. Undefined: from the start of the place, or after `startAfter`. */
  readonly token?: string;
  /** What the whole listing began after. */
  readonly startAfter?: Key;
}

export class LongKeyStore implements ObjectStore {
  /** Areas whose note was seen in S3. */
  private readonly noted = new LRUCache<Key, true>({ max: notesRememberedMax });
  private readonly noting = new SingleFlight<Key, void>();

  constructor(private readonly inner: ObjectStore, private readonly keys: LongKeys) {}

  async head(path: Key, options?: CallOptions): Promise<ObjectHead | null> {
    const key = this.keys.physical(path);
    if (key === undefined) return null;
    const head = await this.inner.head(key, options);
    return head && key !== path ? { ...head, key: path } : head;
  }

  list(query: ListQuery, options?: CallOptions): Promise<ListPage> {
    const cut = query.prefix.lastIndexOf('/') + 1;
    const directory = query.prefix.slice(0, cut);
    const key = this.keys.physical(directory);
    if (key === undefined) return Promise.resolve({ objects: [], prefixes: [] });
    if (this.keys.isDeep(directory)) return this.listDeep(directory, key, query, options);
    return this.listPlace(directory, key, query, options);
  }

  async getToFile(path: Key, query: GetQuery, file: string, options?: GetOptions): Promise<GetResult> {
    const result = await this.inner.getToFile(this.mustExist(path), query, file, options);
    return result.head && result.head.key !== path ? { ...result, head: { ...result.head, key: path } } : result;
  }
  async getBytes(path: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }> { return this.inner.getBytes(this.mustExist(path), query, options); }

  async put(path: Key, body: Body, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.inner.put(await this.toWrite(path, options), body, attributes, expected, options);
  }

  async copy(source: CopySource, path: Key, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored> {
    const from = this.source(source);
    return this.inner.copy(from, await this.toWrite(path, options), attributes, expected, options);
  }

  async delete(path: Key, expected: Exclude<Expected, null>, options?: CallOptions): Promise<void> {
    const key = this.keys.physical(path);
    if (key === undefined) return;
    if (path.endsWith('/') && this.keys.isDeep(path) && !(await this.closeArea(path, options))) return; // others have names there, and the marker leads to them
    return this.inner.delete(key, expected, options);
  }

  async createUpload(path: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string> { return this.inner.createUpload(await this.toWrite(path, options), attributes, options); }
  async uploadPart(path: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part> { return this.inner.uploadPart(this.mustFit(path), uploadId, number, body, options); }
  async uploadPartCopy(path: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part> {
    return this.inner.uploadPartCopy(this.mustFit(path), uploadId, number, this.source(source), start, end, options);
  }
  async completeUpload(path: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored> {
    return this.inner.completeUpload(this.mustFit(path), uploadId, parts, expected, options);
  }
  async abortUpload(path: Key, uploadId: string, options?: CallOptions): Promise<void> { return this.inner.abortUpload(this.mustFit(path), uploadId, options); }
  async listParts(path: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null> { return this.inner.listParts(this.mustFit(path), uploadId, options); }

  /** Below a prefix that is a key as it stands, or of the one object with this path. */
  async listUploads(prefix: string, options?: CallOptions): Promise<Upload[]> {
    const key = this.mustFit(prefix);
    const uploads = await this.inner.listUploads(key, options);
    return key === prefix ? uploads : uploads.filter((upload) => upload.key === key).map((upload) => ({ ...upload, key: prefix }));
  }

  async presign(path: Key, expiresS: number): Promise<string> { return this.inner.presign(this.mustFit(path), expiresS); }
  checkBucket(options?: CallOptions): ReturnType<ObjectStore['checkBucket']> { return this.inner.checkBucket(options); }
  close(): Promise<void> { return this.inner.close(); }

  /** One place: what lies below `key` has paths below `directory`. */
  private async listPlace(directory: Key, key: Key, query: ListQuery, options: CallOptions | undefined): Promise<ListPage> {
    const page = await this.inner.list(below(directory, key, query), options);
    const isRenamed = query.delimiter !== undefined && isAnyRenamed(page, key);
    if (key === directory && !isRenamed && !page.prefixes.includes(`${key}${longAreaName}/`)) return page;
    const named = this.named(directory, key, page, isRenamed);
    if (!isRenamed) return named;
    return page.token === undefined && query.token === undefined && query.startAfter === undefined ? sorted(named) : { ...named, isOutOfOrder: true };
  }

  /** Both places: as one page in order if neither is more than that, else one after the other. */
  private async listDeep(directory: Key, key: Key, query: ListQuery, options: CallOptions | undefined): Promise<ListPage> {
    const area = this.keys.area(directory);
    const { token, startAfter, ...rest } = query;
    const list = async ({ isInArea, token, startAfter }: Continuation): Promise<ListPage> => {
      const place = isInArea ? area : key;
      const from = token !== undefined ? { token } : startAfter !== undefined ? { startAfter } : {};
      const page = await this.inner.list(below(directory, place, { ...rest, ...from }), options);
      return query.delimiter === undefined ? renamed(directory, place, page) : this.named(directory, place, page, true);
    };
    if (token !== undefined) {
      const at = JSON.parse(token) as Continuation;
      const page = await list(at);
      return { ...page, ...next(at, page.token), isOutOfOrder: true };
    }
    const after = startAfter === undefined ? {} : { startAfter };
    const [main, long] = await Promise.all([list({ isInArea: false, ...after }), list({ isInArea: true, ...after })]);
    if (main.token === undefined && long.token === undefined) return sorted(joined(main, long));
    if (main.token !== undefined) return { ...main, ...next({ isInArea: false, ...after }, main.token), isOutOfOrder: true };
    return { ...joined(main, long), ...next({ isInArea: true }, long.token), isOutOfOrder: true };
  }

  /** Entries of one place by the paths they have; without what is no path of this directory. */
  private named(directory: Key, place: Key, page: ListPage, isEachChecked: boolean): ListPage {
    const isOwn = place === this.keys.physical(directory);
    const path = (key: Key): Key | undefined => {
      const entry = key.slice(place.length);
      if (entry === '') return isOwn ? directory : undefined; // its marker
      if (entry === `${longAreaName}/`) return undefined;
      const name = isEachChecked ? this.keys.nameOf(directory, key, entry) : entry;
      // What is no name is shown as it stands, so that it can be counted as hidden; in an area it is nobody's
      return name !== undefined ? directory + name : isOwn && entry.startsWith(noNameMark) ? directory + entry : undefined;
    };
    const objects: ObjectSummary[] = [];
    for (const object of page.objects) {
      const as = path(object.key);
      if (as !== undefined) objects.push(as === object.key ? object : { ...object, key: as });
    }
    const prefixes = page.prefixes.map(path).filter((as): as is Key => as !== undefined);
    return { objects, prefixes, ...(page.token !== undefined && { token: page.token }) };
  }

  private mustExist(path: Key): Key {
    const key = this.keys.physical(path);
    if (key === undefined) throw new StoreError('not-found', `There is no object "${path}"`, { status: 404 });
    return key;
  }

  private mustFit(path: Key): Key {
    const key = this.keys.physical(path);
    if (key === undefined) throw new StoreError('invalid', `"${path}" has no place in the bucket: the mount's prefix leaves too little of a key, or the name is hearthfs's own`);
    return key;
  }

  private source(source: CopySource): CopySource {
    const key = this.mustExist(source.key);
    return key === source.key ? source : { ...source, key };
  }

  /** The key for an object that is about to be there. */
  private async toWrite(path: Key, options: CallOptions | undefined): Promise<Key> {
    const key = this.mustFit(path);
    const owner = key === path ? undefined : this.keys.owner(path);
    if (owner !== undefined) await this.putNote(owner, options);
    return key;
  }

  private putNote(owner: Key, options: CallOptions | undefined): Promise<void> {
    const note = this.keys.note(owner);
    if (this.noted.has(note)) return Promise.resolve();
    return this.noting.run(note, async () => {
      const body = { kind: 'bytes', bytes: Buffer.from(`${this.keys.prefix}${owner}\n`) } as const;
      try {
        await this.inner.put(note, body, { metadata: {}, contentType: 'text/plain; charset=utf-8' }, null, options);
      } catch (error) {
        // Another one was first; all write the same
        if (!(error instanceof StoreError) || (error.kind !== 'precondition-failed' && error.kind !== 'conflict')) throw error;
      }
      this.noted.set(note, true);
    });
  }

  /** @returns false if there is anything in the area; else its note is gone, too. */
  private async closeArea(owner: Key, options: CallOptions | undefined): Promise<boolean> {
    const area = this.keys.area(owner);
    const note = this.keys.note(owner);
    const { objects } = await this.inner.list({ prefix: area.slice(0, -1), maxKeys: 2 }, options); // the note, and what begins with `HASH/`
    if (objects.some(({ key }) => key.startsWith(area))) return false;
    this.noted.delete(note);
    if (objects.some(({ key }) => key === note)) await this.inner.delete(note, 'any', options);
    return true;
  }
}

/** The same question about another place. */
function below(directory: Key, place: Key, query: ListQuery): ListQuery {
  if (directory === place) return query;
  const { startAfter } = query;
  return { ...query, prefix: place + query.prefix.slice(directory.length), ...(startAfter !== undefined && { startAfter: place + startAfter.slice(directory.length) }) };
}

/** Any entry that is not called what its name is. */
function isAnyRenamed(page: ListPage, place: Key): boolean {
  const isMarked = (key: Key): boolean => key.startsWith(noNameMark, place.length);
  return page.objects.some(({ key }) => isMarked(key)) || page.prefixes.some(isMarked);
}

function renamed(directory: Key, place: Key, page: ListPage): ListPage {
  const path = (key: Key): Key => directory + key.slice(place.length);
  return { ...page, objects: page.objects.map((object) => ({ ...object, key: path(object.key) })), prefixes: page.prefixes.map(path) };
}

function joined(a: ListPage, b: ListPage): ListPage {
  return { objects: [...a.objects, ...b.objects], prefixes: [...a.prefixes, ...b.prefixes] };
}

/** In the order of bytes, which for text without surrogates is that of its characters. */
function sorted(page: ListPage): ListPage {
  return { objects: [...page.objects].sort((a, b) => order(a.key, b.key)), prefixes: [...page.prefixes].sort(order) };
}

function order(a: Key, b: Key): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Where it goes on, if it does: in the same place, then in the area. */
function next({ isInArea, startAfter }: Continuation, token: string | undefined): Pick<ListPage, 'token'> {
  if (isInArea && token === undefined) return {};
  const at: Continuation = { isInArea: isInArea || token === undefined, ...(token !== undefined && { token }), ...(startAfter !== undefined && { startAfter }) };
  return { token: JSON.stringify(at) };
}
