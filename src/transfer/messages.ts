/**
 * What crosses between the main thread and a transfer worker, in arrays: all that one turn of the event loop has to say (`Outbox`). Everything is
 * structured-cloneable; signals and callbacks do not cross.
 */
import type { LogFields, LogLevel } from '../base/log.js';
import type { EtagQuotes } from '../s3/capabilities.js';
import type { ListPage, ObjectStore } from '../s3/object-store.js';
import type { RequestSample } from '../s3/request-metrics.js';
import type { S3Settings } from '../s3/s3-context.js';
import { StoreError, type StoreErrorKind } from '../s3/store-error.js';

export type PoolOp = Exclude<keyof ObjectStore, 'close'>;

export interface WorkerSettings extends S3Settings { readonly logLevel: LogLevel }

export type ToWorker =
  /** `args` without the options; `deadlineMs`, `ranges` and `abortable` stand for them. */
  | {
    readonly type: 'call'; readonly id: number; readonly op: PoolOp; readonly args: readonly unknown[]; readonly deadlineMs?: number; readonly ranges: boolean;
    readonly abortable: boolean;
  }
  | { readonly type: 'abort'; readonly id: number }
  | { readonly type: 'etag-quotes'; readonly quotes: EtagQuotes }
  /** After the last answer: end. */
  | { readonly type: 'close' };

export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly error: PlainError }
  | { readonly type: 'range'; readonly id: number; readonly start: number; readonly end: number }
  | { readonly type: 'done'; readonly id: number; readonly value: unknown; readonly samples: readonly RequestSample[] }
  | { readonly type: 'error'; readonly id: number; readonly error: PlainError; readonly samples: readonly RequestSample[] }
  | { readonly type: 'log'; readonly level: LogLevel; readonly message: string; readonly fields: LogFields };

/** Errors lose their class and fields in a structured clone. */
export interface PlainError {
  readonly kind?: StoreErrorKind;
  readonly name: string;
  readonly message: string;
  readonly details?: StoreError['details'];
  readonly stack?: string;
}

export function toPlainError(error: unknown): PlainError {
  if (error instanceof StoreError) return { kind: error.kind, name: error.name, message: error.message, details: error.details };
  if (error instanceof Error) return { name: error.name, message: error.message, ...(error.stack !== undefined && { stack: error.stack }) };
  return { name: 'Error', message: String(error) };
}

/** A listing page by columns: a third of the cost of cloning a thousand objects. */
export interface PackedPage {
  readonly keys: string[];
  readonly etags: string[];
  readonly sizes: Float64Array<ArrayBuffer>;
  readonly times: Float64Array<ArrayBuffer>;
  /** [index, class] of what is not STANDARD. */
  readonly classes: [number, string][];
  readonly prefixes: readonly string[];
  readonly token?: string;
}

export function packPage({ objects, prefixes, token }: ListPage): PackedPage {
  const sizes = new Float64Array(objects.length);
  const times = new Float64Array(objects.length);
  const classes: [number, string][] = [];
  objects.forEach((object, i) => {
    sizes[i] = object.sizeBytes;
    times[i] = object.lastModifiedMs;
    if (object.storageClass !== undefined) classes.push([i, object.storageClass]);
  });
  return { keys: objects.map(({ key }) => key), etags: objects.map(({ etag }) => etag), sizes, times, classes, prefixes, ...(token !== undefined && { token }) };
}

export function unpackPage({ keys, etags, sizes, times, classes, prefixes, token }: PackedPage): ListPage {
  const classOf = new Map(classes);
  const objects = keys.map((key, i) => {
    const storageClass = classOf.get(i);
    return { key, etag: etags[i]!, sizeBytes: sizes[i]!, lastModifiedMs: times[i]!, ...(storageClass !== undefined && { storageClass }) };
  });
  return { objects, prefixes, ...(token !== undefined && { token }) };
}
