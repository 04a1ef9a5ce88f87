/**
 * The wire: HTTP/1.1 over a unix socket, `POST /v1/<command>` with a JSON body. The answer is NDJSON, one of these per line:
 * any number of `{"progress": Progress}` and `{"alive": true}` (every `aliveIntervalMs`, so that silence means a stuck daemon), then exactly one
 * `{"result": ...}` or `{"error": {message, exitCode, bug}}`. An answer without that last line is a daemon that died.
 * The client's closing the connection is its Ctrl-C.
 */
import type { Command, Progress } from './api.js';

export const commands = ['status', 'stats', 'pending', 'conflicts', 'sync', 'warm', 'evict', 'doctor', 'unmount'] as const satisfies readonly Command[];

export const pathPrefix = '/v1/';

/** Often enough that a client can call 30 s of silence a stuck daemon, rare enough to cost nothing. */
export const aliveIntervalMs = 5_000;

/** Requests are a path and a few numbers; a path has at most 4096 bytes, escaped six-fold. */
export const requestBytesMax = 64 * 1024;

/** People and scripts, not traffic. Beyond that: 503, try again. */
export const connectionsMax = 64;

/** sun_path has 108 bytes with the terminating zero (unix(7)). */
export const socketPathBytesMax = 107;

export type Line =
  | { readonly alive: true }
  | { readonly progress: Progress }
  | { readonly result: unknown }
  | { readonly error: WireError };

export interface WireError {
  readonly message: string;
  readonly exitCode: 1 | 2;
  /** True: not a `UserError` but a fault of the daemon. */
  readonly bug: boolean;
}

export function isCommand(text: string): text is Command {
  return (commands as readonly string[]).includes(text);
}

/** Cuts a byte stream into JSON lines. Text stays whole across chunks because bytes are joined before decoding. */
export class LineReader {
  private rest: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): Line[] {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    const lines: Line[] = [];
    for (;;) {
      const end = this.rest.indexOf(0x0a);
      if (end < 0) return lines;
      lines.push(JSON.parse(this.rest.toString('utf8', 0, end)) as Line);
      this.rest = this.rest.subarray(end + 1);
    }
  }
}
