/**
 * What an HTTP request of ours is, and its answer, whichever client carries it: `http-client` (node:http, what is streamed or goes
 * through a proxy) or `socket-client` (sockets of its own, all else). Nothing here knows S3.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { errorCode } from '../base/errno.js';
import type { HedgeEvent } from './hedge.js';
import { StoreError } from './store-error.js';

export interface Origin { readonly secure: boolean; readonly hostname: string; readonly port: number }

/** Sends itself in pieces; may be asked to start again. `write` resolves when more may come. */
export type StreamBody = (write: (chunk: Uint8Array) => Promise<void>) => Promise<void>;

export interface HttpRequest {
  readonly origin: Origin;
  readonly method: string;
  /** With query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | { readonly lengthBytes: number; readonly stream: StreamBody };
  readonly idempotent: boolean;
  readonly idleMs: number;
  /** With a body: from when all of it has left (`send-deadline`). */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Requests of one kind take about the same time to their first byte; given: one that takes much longer may be asked twice. */
  readonly hedge?: { readonly kind: string; readonly note: (event: HedgeEvent) => void };
}

/** An answer whose status line and headers are here. Its body is read by exactly one of `text`, `pipe` and `drain`. */
export interface Exchange {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytesIn: number;
  readonly bytesOut: number;
  text(): Promise<string>;
  /**
   * Hands over the body chunk by chunk, in the same turn it arrives; a chunk is borrowed until `take` returns. A throw of `take` ends
   * the exchange with that error; a body that ends early is `unavailable`.
   */
  pipe(take: (chunk: Buffer) => void): Promise<void>;
  /** For answers whose body nobody wants. */
  drain(): Promise<void>;
}

const textBytesMax = 64 << 20;

/** The whole body as text, of anything that can `pipe`. */
export async function readText(pipe: (take: (chunk: Buffer) => void) => Promise<void>, hostname: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  await pipe((chunk) => {
    if ((size += chunk.length) > textBytesMax) throw new StoreError('invalid', `The answer of ${hostname} is over ${textBytesMax} bytes`);
    chunks.push(Buffer.from(chunk)); // borrowed
  });
  return Buffer.concat(chunks, size).toString('utf8');
}

/** A failed `take` as the error the exchange ends with. */
export function unusable(error: unknown, hostname: string): StoreError {
  return error instanceof StoreError ? error : new StoreError('invalid', `Cannot use the answer of ${hostname}: ${String(error)}`, {}, { cause: error });
}

export function deadlineOf(ms: number, expired: () => void): { close(): void } {
  const timer = setTimeout(expired, ms);
  return { close: () => clearTimeout(timer) };
}

export function contentLength(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['content-length'];
  return text === undefined ? undefined : Number(text);
}

export function isReset(error: unknown): boolean {
  return ['ECONNRESET', 'EPIPE'].includes(errorCode(error) ?? '');
}

export function aborted(): StoreError {
  return new StoreError('aborted', 'The request was aborted');
}

export function cut(got: number, expected: number | undefined): StoreError {
  return unavailable(`The connection was cut after ${got} of ${expected ?? 'unknown'} bytes`, 'ECONNRESET');
}

export function notConnected(where: string, ms: number): StoreError {
  return unavailable(`Cannot connect to ${where} within ${Math.round(ms)} ms`, 'ETIMEDOUT');
}

export function silent(where: string, idleMs: number): StoreError {
  return unavailable(`${where} was silent for ${idleMs} ms`, 'ETIMEDOUT');
}

export function late(method: string, where: string, deadlineMs: number): StoreError {
  return unavailable(`${method} to ${where} was not finished within ${Math.round(deadlineMs)} ms`, 'ETIMEDOUT');
}

/** "Done", before all of what was to be done had been sent: whatever it means, it does not mean that the server has it. */
export function tooEarly(status: number, where: string): StoreError {
  return unavailable(`${where} answered ${status} before all of the body was sent`, 'EPROTO');
}

export function unavailable(message: string, code: string, cause?: unknown): StoreError {
  return new StoreError('unavailable', message, { code }, cause === undefined ? {} : { cause });
}

export function networkError(error: unknown, where: string): StoreError {
  if (error instanceof StoreError) return error;
  const code = errorCode(error) ?? 'EIO';
  const words = error instanceof Error && error.message !== '' ? error.message : code;
  if (/CERT|SIGNATURE|ISSUER|ALTNAME/.test(code)) return unavailable(`Cannot trust the certificate of ${where} (${words}); AWS_CA_BUNDLE may name a file with its authority`, code, error);
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return unavailable(`Cannot resolve ${where.split(':')[0]} (${code})`, code, error);
  if (code === 'ECONNREFUSED') return unavailable(`${where} refuses connections`, code, error);
  return unavailable(`The connection to ${where} failed: ${words}`, code, error);
}

/** The connection a request was sent on had been closed before: nothing is known about the server. */
export class StaleSocket extends Error {
  constructor(readonly failure: StoreError) { super('stale socket'); }
}
