/** One sample per HTTP request, so that a worker can hand them over with its reply and the main thread counts. */
import type { Metrics } from '../base/metrics.js';
import type { HedgeEvent } from './hedge.js';
import type { StoreErrorKind } from './store-error.js';

export const requestKinds = [
  'HEAD', 'LIST', 'GET', 'PUT', 'COPY', 'DELETE', 'CREATE_UPLOAD', 'UPLOAD_PART', 'UPLOAD_PART_COPY', 'COMPLETE_UPLOAD', 'ABORT_UPLOAD', 'LIST_PARTS', 'LIST_UPLOADS',
  'HEAD_BUCKET', 'GET_VERSIONING', 'GET_TAGGING',
] as const;
export type RequestKind = (typeof requestKinds)[number];

export interface RequestSample {
  readonly kind: RequestKind;
  readonly us: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly error?: StoreErrorKind;
  /** It was slow, and asked a second time: two requests. */
  readonly hedged?: HedgeEvent;
}

/** `s3.requests.<KIND>`, `s3.latency_us.<KIND>`, `s3.bytes_in`, `s3.bytes_out`, `s3.errors.<kind>`, `s3.hedges`, `s3.hedges_won`. */
export function recordSample(metrics: Metrics, { kind, us, bytesIn, bytesOut, error, hedged }: RequestSample): void {
  metrics.add(`s3.requests.${kind}`, hedged ? 2 : 1);
  if (hedged) metrics.add('s3.hedges');
  if (hedged === 'hedge-won') metrics.add('s3.hedges_won');
  metrics.observeUs(`s3.latency_us.${kind}`, us);
  if (bytesIn > 0) metrics.add('s3.bytes_in', bytesIn);
  if (bytesOut > 0) metrics.add('s3.bytes_out', bytesOut);
  if (error !== undefined) metrics.add(`s3.errors.${error}`);
}
