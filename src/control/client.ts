/**
 * The command line's end of the control socket. All failures are `UserError`s with a sentence. A daemon that is being replaced
 * (it crashed, the supervisor starts the next one) refuses connections for a moment: connecting is retried for `connectTimeoutMs`, and a command whose
 * answer broke off is sent once more, except `unmount`, where a broken connection may well be the success.
 */
import http from 'node:http';
import { sleep } from '../base/backoff.js';
import { errorCode } from '../base/errno.js';
import { UserError } from '../base/user-error.js';
import type { Command, Progress, RequestOf, ResultOf } from './api.js';
import { LineReader, pathPrefix, type WireError } from './protocol.js';

export interface CallOptions {
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
}

/** The connection ended before the answer was complete. */
export class ConnectionLost extends UserError {}

export class ControlClient {
  /**
   * @param mountpoint for messages only.
   * @param connectTimeoutMs how long a refused connection is tried again; 0: once.
   * @param silenceTimeoutMs the daemon says at least "alive" every 5 s; this much silence means it is stuck.
   */
  constructor(
    private readonly socketPath: string,
    private readonly mountpoint: string,
    private readonly options: { readonly connectTimeoutMs?: number; readonly silenceTimeoutMs?: number } = {},
  ) {}

  async call<C extends Command>(command: C, request: RequestOf<C>, options: CallOptions = {}): Promise<ResultOf<C>> {
    const deadline = performance.now() + (this.options.connectTimeoutMs ?? 5_000);
    let lost = 0;
    for (;;) {
      try {
        return (await this.once(command, request, options)) as ResultOf<C>;
      } catch (error) {
        if (options.signal?.aborted) throw new UserError('Interrupted', 1, { cause: error });
        if (error instanceof ConnectionLost) {
          if (command === 'unmount' || ++lost > 1) throw error;
          continue;
        }
        const code = errorCode(error);
        const starting = code === 'ECONNREFUSED' || code === 'ENOENT' || code === 'EAGAIN';
        if (!starting || performance.now() >= deadline) throw this.explain(error);
        await sleep(50, options.signal);
      }
    }
  }

  private once(command: Command, body: object, options: CallOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const silenceMs = this.options.silenceTimeoutMs ?? 30_000;
      const text = JSON.stringify(body);
      const request = http.request({
        socketPath: this.socketPath, path: pathPrefix + command, method: 'POST', agent: false, timeout: silenceMs,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
        ...(options.signal ? { signal: options.signal } : {}),
      });
      const fail = (error: unknown): void => {
        reject(error instanceof Error ? error : new Error(String(error)));
        request.destroy();
      };
      let answered = false;
      request.on('timeout', () =>
        fail(new UserError(`The daemon of ${this.mountpoint} accepts connections but has not answered for ${Math.round(silenceMs / 1000)} s; look at its log, or unmount with --lazy`)));
      request.on('error', (error) => {
        const code = errorCode(error);
        fail(answered || code === 'ECONNRESET' || code === 'EPIPE' ? this.lost(error) : error);
      });
      request.on('response', (response) => {
        answered = true;
        if (response.statusCode !== 200) {
          response.resume();
          return fail(new UserError(`The daemon of ${this.mountpoint} does not know the command ${command}; it may be older than this command line: unmount and mount again to upgrade it`));
        }
        const lines = new LineReader();
        response.on('data', (chunk: Buffer) => {
          try {
            for (const line of lines.push(chunk)) {
              if ('progress' in line) options.onProgress?.(line.progress);
              else if ('result' in line) resolve(line.result);
              else if ('error' in line) fail(this.fromWire(line.error));
            }
          } catch (error) {
            fail(error);
          }
        });
        response.on('error', (error) => fail(this.lost(error)));
        response.on('close', () => reject(this.lost())); // no effect after a result
      });
      request.end(text);
    });
  }

  private fromWire(error: WireError): UserError {
    return new UserError(error.bug ? `The daemon failed: ${error.message}; its log says more` : error.message, error.exitCode);
  }

  private lost(cause?: Error): ConnectionLost {
    return new ConnectionLost(`The daemon of ${this.mountpoint} went away before it answered; its log says why`, 1, { cause });
  }

  private explain(error: unknown): UserError {
    if (error instanceof UserError) return error;
    switch (errorCode(error)) {
      case 'ENOENT':
      case 'ECONNREFUSED':
        return new UserError(`No daemon answers for ${this.mountpoint}; if the mount is dead, detach it with \`hearthfs unmount --lazy ${this.mountpoint}\` and mount again`, 1, { cause: error });
      case 'EACCES':
      case 'EPERM':
        return new UserError(`Only root and the user who mounted ${this.mountpoint} may talk to its daemon; run the command as that user`, 1, { cause: error });
      default:
        return new UserError(`Cannot talk to the daemon of ${this.mountpoint}: ${error instanceof Error ? error.message : String(error)}`, 1, { cause: error });
    }
  }
}
