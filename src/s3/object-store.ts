/**
 * The one interface to an S3 bucket. Bodies: the real client (`s3-store`), one in memory (`memory-object-store`), a failing
 * wrapper (`faulty-store`), the worker pool (`transfer/transfer-pool`, which runs `s3-store` in worker threads), and wrappers that
 * retry or emulate conditions. All arguments and results can cross a thread (structured clone), except signals and callbacks,
 * which the pool carries itself.
 *
 * Keys are relative to the mount's prefix and are the strings of `base/file-name.ts` joined with `/`. Below `long-key-store` they have at most 1,024 bytes
 * with the prefix; above it they are paths of any length.
 * Etags are opaque, stored and compared without quotes (O1).
 * Retries: only `retry-store` retries, and only what is marked *idempotent* here. Mutations are never retried below writeback (J5).
 */
import type { StoreErrorKind } from './store-error.js';

export type Key = string;
export type ETag = string;

/** `null`: the key must not exist (If-None-Match: *). An etag: it must still be that (If-Match). `'any'`: no condition, for scratch keys only. */
export type Expected = ETag | null | 'any';

/** User metadata (lower-case names without `x-amz-meta-`) and the system headers that rewrites must carry (J12). */
export interface ObjectAttributes {
  readonly metadata: Readonly<Record<string, string>>;
  readonly contentType?: string;
  readonly cacheControl?: string;
  readonly contentEncoding?: string;
  readonly contentDisposition?: string;
  readonly contentLanguage?: string;
  readonly expires?: string;
  readonly storageClass?: string;
  readonly tagging?: string;
  readonly sse?: string;
  readonly sseKmsKeyId?: string;
}

export interface ObjectSummary {
  readonly key: Key;
  readonly etag: ETag;
  readonly sizeBytes: number;
  /** Milliseconds since the epoch by the server's clock. */
  readonly lastModifiedMs: number;
  readonly storageClass?: string;
}

export interface ObjectHead extends ObjectSummary {
  readonly versionId?: string;
  readonly attributes: ObjectAttributes;
  /** Object lock retention or legal hold is active, or the object is archived and must be restored before reading. */
  readonly locked?: boolean;
  readonly archived?: boolean;
  /** The server's Date header, for clock offset (O1). */
  readonly serverDateMs?: number;
  readonly tagCount?: number;
}

export interface ListQuery {
  /** Only keys that start with it. `''` is everything. */
  readonly prefix: string;
  /** `'/'` folds deeper keys into `prefixes`. */
  readonly delimiter?: '/';
  readonly startAfter?: Key;
  readonly token?: string;
  readonly maxKeys?: number;
}

export interface ListPage {
  /** In the server's order (byte order on AWS; do not rely on it). */
  readonly objects: readonly ObjectSummary[];
  /** Common prefixes, each ending in `/`. */
  readonly prefixes: readonly string[];
  /** Not in the order in which the server lists, nor continuing it: keys say nothing about what was already listed. */
  readonly isOutOfOrder?: boolean;
  /** Continuation; undefined at the end. */
  readonly token?: string;
}

/** Where bytes come from: memory, or a range of a file that the store opens by path itself. */
export type Body =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'file'; readonly path: string; readonly start: number; readonly end: number };

export interface Stored {
  readonly etag: ETag;
  readonly versionId?: string;
  readonly lastModifiedMs?: number;
}

export interface GetQuery {
  /** Half-open byte range. */
  readonly start: number;
  readonly end: number;
  /** If-Match: the bytes of any other version are useless. */
  readonly etag?: ETag;
  readonly versionId?: string;
  /** The answer's headers say as much as those of a HEAD: answer them, too. */
  readonly withHead?: boolean;
}

export interface GetResult {
  readonly etag: ETag;
  readonly lastModifiedMs: number;
  /** Bytes delivered; less than asked only where the object ends. */
  readonly lengthBytes: number;
  /** Size of the whole object, from Content-Range. */
  readonly objectSizeBytes: number;
  /** What `head` would have answered; only if asked for, and not where that takes another request. */
  readonly head?: ObjectHead;
}

export interface CopySource { readonly key: Key; readonly etag: ETag; readonly versionId?: string }
export interface Part {
  readonly number: number;
  readonly etag: ETag;
  readonly sizeBytes: number;
  /** Of the bytes that were sent, in hex; not of copied parts, nor of what the server lists. */
  readonly sha256?: string;
}
export interface Upload { readonly key: Key; readonly uploadId: string; readonly initiatedMs: number }

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds this call may take altogether, retries included; the store's default otherwise. */
  readonly deadlineMs?: number;
}

export interface GetOptions extends CallOptions {
  /** Called as bytes land in the file: [start, end) is now readable there. Ranges ascend and do not overlap. */
  readonly onRange?: (start: number, end: number) => void;
}

export interface ObjectStore {
  /** Idempotent. `null` if there is no such object (404); a missing *bucket* is an error. */
  head(key: Key, options?: CallOptions): Promise<ObjectHead | null>;
  /** Idempotent. One page. */
  list(query: ListQuery, options?: CallOptions): Promise<ListPage>;
  /**
   * Idempotent. Writes the range into the existing file `path` at the same offsets.
   * @throws StoreError `not-found`, `precondition-failed` (etag differs), `archived`.
   */
  getToFile(key: Key, query: GetQuery, path: string, options?: GetOptions): Promise<GetResult>;
  /** Idempotent. The range in memory; at most 64 MiB. */
  getBytes(key: Key, query: GetQuery, options?: CallOptions): Promise<GetResult & { bytes: Uint8Array }>;

  /**
   * Replaces the whole object. `body` of a file is read inside the call; up to 16 MiB it is read completely before anything is sent.
   * @throws StoreError `precondition-failed` (412, or 404 where If-Match met nothing), `conflict` (409), `access-denied`, `unavailable` (outcome unknown: J5).
   */
  put(key: Key, body: Body, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored>;
  /** Server-side copy with replaced attributes; `source.etag` is demanded of the source, `expected` of the destination. At most 5 GiB. */
  copy(source: CopySource, key: Key, attributes: ObjectAttributes, expected: Expected, options?: CallOptions): Promise<Stored>;
  /** Deletes. A missing object is success. @throws `precondition-failed` if another version is there. */
  delete(key: Key, expected: Exclude<Expected, null>, options?: CallOptions): Promise<void>;

  createUpload(key: Key, attributes: ObjectAttributes, options?: CallOptions): Promise<string>;
  uploadPart(key: Key, uploadId: string, number: number, body: Body, options?: CallOptions): Promise<Part>;
  uploadPartCopy(key: Key, uploadId: string, number: number, source: CopySource, start: number, end: number, options?: CallOptions): Promise<Part>;
  completeUpload(key: Key, uploadId: string, parts: readonly Part[], expected: Expected, options?: CallOptions): Promise<Stored>;
  /** Success also if it is gone already. */
  abortUpload(key: Key, uploadId: string, options?: CallOptions): Promise<void>;
  listParts(key: Key, uploadId: string, options?: CallOptions): Promise<Part[] | null>;
  listUploads(prefix: string, options?: CallOptions): Promise<Upload[]>;

  /** A URL anyone can GET for `expiresS` seconds. */
  presign(key: Key, expiresS: number): Promise<string>;
  /** @throws StoreError with the precise kind if the bucket cannot be used; answers what is known about it. */
  checkBucket(options?: CallOptions): Promise<{ region?: string; versioning?: boolean; serverDateMs?: number; server?: string }>;
  close(): Promise<void>;
}

export type { StoreErrorKind };
