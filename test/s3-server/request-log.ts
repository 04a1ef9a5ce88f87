/** Test and demo equipment, not product: which requests came, so that tests can count round trips. */
import type { RequestKind } from './faults.js';

export interface LoggedRequest {
  readonly atMs: number;
  readonly kind: RequestKind;
  /** Name of the S3 operation, such as GetObject. */
  readonly operation: string;
  readonly method: string;
  readonly bucket: string;
  readonly key: string;
  /** Query as received; '' if none. */
  readonly query: string;
  readonly range: string | undefined;
  /** 0: the connection was cut or left hanging before a status. */
  readonly status: number;
  readonly code: string | undefined;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly ms: number;
}

const keptMax = 2000;

export class RequestLog {
  private readonly ring: LoggedRequest[] = [];
  private next = 0;
  private counts: Partial<Record<RequestKind, number>> = {};
  bytesIn = 0;
  bytesOut = 0;

  add(request: LoggedRequest): void {
    this.counts[request.kind] = (this.counts[request.kind] ?? 0) + 1;
    this.bytesIn += request.bytesIn;
    this.bytesOut += request.bytesOut;
    this.ring[this.next] = request;
    this.next = (this.next + 1) % keptMax;
  }

  /** The last 2000 requests, oldest first. */
  recent(): LoggedRequest[] {
    return [...this.ring.slice(this.next), ...this.ring.slice(0, this.next)];
  }

  count(kind?: RequestKind): number {
    return kind ? (this.counts[kind] ?? 0) : Object.values(this.counts).reduce((sum, n) => sum + n, 0);
  }

  counters(): Readonly<Partial<Record<RequestKind, number>>> {
    return { ...this.counts };
  }

  clear(): void {
    this.ring.length = 0;
    this.next = 0;
    this.counts = {};
    this.bytesIn = 0;
    this.bytesOut = 0;
  }
}
