/**
 * The daemon's end of the control socket. It owns the socket file (mode 0600: who may connect may unmount) and knows nothing but
 * `ControlTarget`. Requests run at the same time; each one's signal fires when its caller goes away.
 */
import { chmodSync, unlinkSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { errorCode } from '../base/errno.js';
import type { Closable } from '../base/lifetime.js';
import type { Log } from '../base/log.js';
import { UserError } from '../base/user-error.js';
import type { ControlTarget, Progress } from './api.js';
import { aliveIntervalMs, connectionsMax, isCommand, pathPrefix, requestBytesMax, socketPathBytesMax, type Line } from './protocol.js';

export interface ControlServer extends Closable {
  readonly socketPath: string;
}

/**
 * Listens on `socketPath`; a socket file left by a daemon that died is replaced.
 * `close()` lets answers that are under way finish for `graceMs`, then cuts them off.
 *
 * @throws UserError if another daemon answers there, or the path is too long.
 */
export async function serveControl(options: { socketPath: string; target: ControlTarget; log: Log; graceMs?: number }): Promise<ControlServer> {
  const { socketPath, target, log } = options;
  if (Buffer.byteLength(socketPath) > socketPathBytesMax) {
    throw new UserError(`Control socket path is ${Buffer.byteLength(socketPath)} of ${socketPathBytesMax} bytes long: ${socketPath}`);
  }
  const server = http.createServer((request, response) => {
    answer(target, log, request, response).catch((error: unknown) => {
      log.error('control request failed', { room: 'control', error });
      response.destroy();
    });
  });
  server.maxConnections = connectionsMax;
  server.requestTimeout = 10_000; // to receive the request, which is small; the answer may take hours
  server.keepAliveTimeout = 1_000;
  try {
    await listen(server, socketPath);
  } catch (error) {
    if (errorCode(error) !== 'EADDRINUSE') throw error;
    if (await answers(socketPath)) throw new UserError(`Another daemon already answers on ${socketPath}; unmount it first`, 1, { cause: error });
    unlinkSync(socketPath);
    await listen(server, socketPath);
  }
  return {
    socketPath,
    close: () =>
      new Promise<void>((resolve) => {
        const timer = setTimeout(() => server.closeAllConnections(), options.graceMs ?? 2_000);
        server.close(() => {
          clearTimeout(timer);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

async function listen(server: http.Server, socketPath: string): Promise<void> {
  // bind(2) creates the file with the umask; listen() binds before it returns, so nobody can slip in between bind and chmod.
  const before = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(socketPath, () => {
        server.off('error', reject);
        resolve();
      });
      process.umask(before);
    });
  } finally {
    process.umask(before);
  }
  chmodSync(socketPath, 0o600);
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(socketPath);
    const done = (result: boolean) => (): void => {
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', done(true)).once('error', done(false)).setTimeout(2_000, done(true)); // silent but accepting: alive
  });
}

async function answer(target: ControlTarget, log: Log, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  const name = request.url?.startsWith(pathPrefix) ? request.url.slice(pathPrefix.length) : '';
  if (request.method !== 'POST' || !isCommand(name)) {
    response.writeHead(404).end();
    return;
  }
  const caller = new AbortController();
  response.once('close', () => caller.abort());
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  const send = (line: Line): void => {
    if (!response.writableEnded && !response.destroyed) response.write(`${JSON.stringify(line)}\n`);
  };
  const alive = setInterval(() => send({ alive: true }), aliveIntervalMs);
  try {
    const body = (await readBody(request)) as Record<string, unknown>;
    // A slow reader loses intermediate progress, never memory here.
    const onProgress = (progress: Progress): void => {
      if (response.writableLength < requestBytesMax) send({ progress });
    };
    send({ result: await dispatch(target, name, body, caller.signal, onProgress) });
  } catch (error) {
    if (error instanceof UserError) send({ error: { message: error.message, exitCode: error.exitCode, bug: false } });
    else if (!caller.signal.aborted) {
      log.error('control command failed', { room: 'control', op: name, error });
      send({ error: { message: error instanceof Error ? error.message : String(error), exitCode: 1, bug: true } });
    }
  } finally {
    clearInterval(alive);
    response.end();
  }
}

async function dispatch(
  target: ControlTarget, name: Parameters<typeof isCommand>[0], body: Record<string, unknown>, signal: AbortSignal, onProgress: (progress: Progress) => void,
): Promise<unknown> {
  const running = { signal, onProgress };
  switch (name) {
    case 'status': return target.status();
    case 'stats': return target.stats();
    case 'pending': return { items: target.pending(number(body, 'limit') ?? 1000) };
    case 'conflicts': return { items: target.conflicts() };
    case 'sync': return target.sync({ wait: body['wait'] === true, ...optional('path', path(body)), ...running });
    case 'warm': return target.warm({ path: path(body) ?? '', ...running });
    case 'evict': return target.evict({ ...optional('path', path(body)), ...optional('bytes', number(body, 'bytes')), ...running });
    case 'doctor': return target.doctor();
    case 'unmount': return target.unmount({ drainTimeoutMs: number(body, 'drainTimeoutMs') ?? 0, lazy: body['lazy'] === true, onProgress });
    default: throw new UserError(`This daemon does not know the command ${name}; it may be older than the command line`);
  }
}

function optional<K extends string, V>(name: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [name]: value } as Record<K, V>);
}

function number(body: Record<string, unknown>, name: string): number | undefined {
  const value = body[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new UserError(`${name} must be a number of 0 or more`, 2);
  return value;
}

function path(body: Record<string, unknown>): string | undefined {
  const value = body['path'];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw new UserError('path must be a text', 2);
  if (value.startsWith('/') || value.split('/').some((part) => part === '..' || part === '.' || (part === '' && value !== ''))) {
    throw new UserError(`path must be relative to the mountpoint, without . or ..: ${value}`, 2);
  }
  return value;
}

async function readBody(request: http.IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > requestBytesMax) throw new UserError(`Request is larger than ${requestBytesMax} bytes`, 2);
    chunks.push(chunk);
  }
  let body: unknown;
  try {
    body = size === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new UserError('Request is not JSON', 2, { cause: error });
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new UserError('Request is not a JSON object', 2);
  return body;
}
