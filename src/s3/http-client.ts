/**
 * One keep-alive HTTP client. It knows nothing of S3: a request goes out, an `Exchange` comes back once the status line is there. Requests without a body,
 * or with one in memory, go through `socket-client`; what is streamed, and all that goes through a proxy, goes through node:http, here.
 *
 * 1. Every wait is bounded: connecting by `connectMs`, silence on the socket by `idleMs`, the whole exchange by `deadlineMs`; with a body as
 *    `send-deadline` says.
 * 2. A body that ends before its Content-Length is an error (`unavailable`), never short data. So is a success that was answered before all of our own
 *    body had left (J5).
 * 3. Nothing is sent twice, with one exception that the caller asks for (`idempotent`): a kept socket that the server had
 *    closed before our request reached it says nothing about the server, so the request goes out once more.
 */
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { errorCode } from '../base/errno.js';
import { UserError } from '../base/user-error.js';
import { cachingLookup } from './dns-cache.js';
import { proxyAuthorization, proxyPort, TunnelAgent } from './proxy.js';
import {
  aborted, contentLength, cut, deadlineOf, isReset, late, networkError, notConnected, readText, silent, StaleSocket, tooEarly, unusable, type Exchange, type HttpRequest, type Origin, type StreamBody,
} from './exchange.js';
import { Hedge, type Started } from './hedge.js';
import { SendDeadline, unsentBytes, type Expiry, type Uplink } from './send-deadline.js';
import { SocketClient } from './socket-client.js';
import { StoreError } from './store-error.js';

export type { Exchange, HttpRequest, Origin, StreamBody } from './exchange.js';

export interface HttpOptions {
  readonly connectionsMax: number;
  readonly connectMs: number;
  /** PEM file of additional authorities (AWS_CA_BUNDLE). */
  readonly caBundle?: string;
  readonly monotonic: () => number;
  /** The proxy to ask, if any (HTTPS_PROXY and friends). */
  readonly proxyFor?: (origin: Origin) => URL | undefined;
}

/** Idle sockets go before servers and balancers drop them (S3 about 20 s, others 60 s); a server's Keep-Alive hint is honoured by the agent. */
const idleSocketMs = 15_000;

export class HttpClient {
  private readonly http: HttpAgent;
  private readonly https: HttpsAgent;
  private readonly sockets: SocketClient;
  private readonly hedge: Hedge;
  private readonly uplink: Uplink = { bodies: 0 };
  /** What the environment says for each origin; null: go there directly. */
  private readonly proxies = new WeakMap<Origin, URL | null>();
  private readonly tunnels = new Map<string, TunnelAgent>();
  private readonly ca: { ca?: string[] };
  private readonly agentOptions;

  constructor(private readonly options: HttpOptions) {
    const common = this.agentOptions = { keepAlive: true, maxSockets: options.connectionsMax, maxFreeSockets: options.connectionsMax, scheduling: 'lifo', timeout: idleSocketMs, lookup: cachingLookup(options.monotonic) } as const;
    this.http = new HttpAgent(common);
    this.ca = options.caBundle === undefined ? {} : { ca: [...rootCertificates, readBundle(options.caBundle)] };
    this.https = new HttpsAgent({ ...common, ...this.ca });
    this.hedge = new Hedge({ monotonic: options.monotonic });
    this.sockets = new SocketClient({ connectionsMax: options.connectionsMax, connectMs: options.connectMs, lookup: common.lookup, uplink: this.uplink, ...this.ca });
  }

  async send(request: HttpRequest): Promise<Exchange> {
    if ((!request.body || request.body instanceof Uint8Array) && !this.proxyOf(request.origin)) return this.direct(request);
    try {
      return await this.sendOnce(request);
    } catch (error) {
      if (!request.idempotent || !(error instanceof StaleSocket)) throw error instanceof StaleSocket ? error.failure : error;
    }
    try {
      return await this.sendOnce(request);
    } catch (error) {
      throw error instanceof StaleSocket ? error.failure : error;
    }
  }

  close(): void {
    this.http.destroy();
    this.https.destroy();
    this.sockets.close();
    for (const tunnel of this.tunnels.values()) tunnel.destroy();
  }

  private proxyOf(origin: Origin): URL | null {
    let proxy = this.proxies.get(origin);
    if (proxy === undefined) this.proxies.set(origin, (proxy = this.options.proxyFor?.(origin) ?? null));
    return proxy;
  }

  /** Which agent takes it, and where the request line goes. */
  private route(origin: Origin, path: string): RequestOptions {
    const { secure, hostname, port } = origin;
    const proxy = this.proxyOf(origin);
    if (!proxy) return { agent: secure ? this.https : this.http, hostname, port, path };
    if (secure) return { agent: this.tunnel(proxy), hostname, port, path };
    const authority = `${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}`;
    return {
      agent: proxy.protocol === 'https:' ? this.https : this.http, protocol: proxy.protocol, hostname: proxy.hostname.replace(/^\[|\]$/g, ''), port: proxyPort(proxy), path: `http://${authority}${path}`,
      headers: proxyAuthorization(proxy),
    };
  }

  private tunnel(proxy: URL): TunnelAgent {
    let tunnel = this.tunnels.get(proxy.href);
    if (!tunnel) this.tunnels.set(proxy.href, (tunnel = new TunnelAgent(proxy, { connectMs: this.options.connectMs, lookup: this.agentOptions.lookup }, { ...this.agentOptions, ...this.ca })));
    return tunnel;
  }

  private direct(request: HttpRequest): Promise<Exchange> {
    const { hedge, method } = request;
    if (!hedge || (method !== 'GET' && method !== 'HEAD')) return this.sockets.send(request);
    const startedMs = this.options.monotonic();
    const start = (): Started<Exchange> => this.sockets.start({ ...request, deadlineMs: Math.max(1, request.deadlineMs - (this.options.monotonic() - startedMs)) });
    return this.hedge.run(hedge.kind, start, hedge.note);
  }

  private sendOnce(request: HttpRequest): Promise<Exchange> {
    const { origin, signal, body } = request;
    if (signal?.aborted) return Promise.reject(aborted());
    return new Promise((resolve, reject) => {
      const { secure, hostname } = origin;
      const route = this.route(origin, request.path);
      const headers: Record<string, string> = { ...request.headers, ...(route.headers as Record<string, string> | undefined) };
      if (body) headers['content-length'] = String(body instanceof Uint8Array ? body.byteLength : body.lengthBytes);
      else if (request.method === 'PUT' || request.method === 'POST') headers['content-length'] = '0';
      const encrypted = secure || route.protocol === 'https:';
      const make = encrypted ? httpsRequest : httpRequest;
      const sent = make({ ...route, method: request.method, headers, ...(secure && { servername: hostname }) });
      const exchange = new SentExchange(sent, request, this.uplink);
      exchange.onFailure = (failure, stale) => reject(stale ? new StaleSocket(failure) : failure);
      sent.on('socket', (socket) => {
        if (!socket.connecting) return;
        const timer = setTimeout(() => exchange.fail(notConnected(`${route.hostname}:${route.port}`, this.options.connectMs)), this.options.connectMs);
        const stop = (): void => clearTimeout(timer);
        socket.once(encrypted ? 'secureConnect' : 'connect', stop);
        socket.once('close', stop);
      });
      sent.on('response', (response) => {
        exchange.begin(response);
        resolve(exchange);
      });
      if (!body) sent.end();
      else if (body instanceof Uint8Array) sent.end(body);
      else exchange.sendStream(body.stream, body.lengthBytes);
    });
  }
}

class SentExchange implements Exchange {
  status = 0;
  headers: IncomingHttpHeaders = {};
  bytesIn = 0;
  bytesOut = 0;
  onFailure: ((failure: StoreError, stale: boolean) => void) | undefined;
  private response: IncomingMessage | undefined;
  private failure: StoreError | undefined;
  private finished = false;
  /** Of the body, if there is one. */
  private readonly lengthBytes: number;
  private readonly sending: SendDeadline | undefined;
  private readonly deadline: { close(): void };
  private readonly onAbort = (): void => this.fail(aborted());

  constructor(private readonly sent: ClientRequest, private readonly request: HttpRequest, uplink: Uplink) {
    const { body, method, origin, idleMs, deadlineMs } = request;
    const where = `${origin.hostname}:${origin.port}`;
    this.bytesOut = body instanceof Uint8Array ? body.byteLength : 0;
    this.lengthBytes = body instanceof Uint8Array ? body.byteLength : body?.lengthBytes ?? 0;
    const expire = (why: Expiry): void => this.fail(why === 'silent' ? silent(where, idleMs) : this.isConnecting ? notConnected(where, deadlineMs) : late(method, where, deadlineMs));
    this.sending = this.lengthBytes > 0 ? new SendDeadline({ uplink, idleMs, deadlineMs, bodyBytes: this.lengthBytes, unsentBytes: () => this.unsentBytes, expired: expire }) : undefined;
    this.deadline = this.sending ?? deadlineOf(deadlineMs, () => expire('late'));
    request.signal?.addEventListener('abort', this.onAbort, { once: true });
    sent.setTimeout(idleMs, () => {
      if (!this.sending || this.response) this.fail(silent(where, idleMs));
    });
    sent.on('error', (error) => this.fail(networkError(error, where), sent.reusedSocket && isReset(error)));
  }

  begin(response: IncomingMessage): void {
    this.response = response;
    this.status = response.statusCode ?? 0;
    this.headers = response.headers;
    this.sending?.answering();
    response.on('error', (error) => this.fail(networkError(error, this.request.origin.hostname)));
  }

  private get isConnecting(): boolean { return this.sent.socket?.connecting === true; }

  /** What its source still has, what waits here, and what is on its way. */
  private get unsentBytes(): number | undefined {
    const { socket, writableLength } = this.sent;
    return socket ? this.lengthBytes - this.bytesOut + writableLength + unsentBytes(socket) : undefined;
  }

  /** Ends the exchange; the socket is not used again. */
  fail(failure: StoreError, stale = false): void {
    if (this.finished) return;
    this.failure = failure;
    this.finish();
    this.sent.destroy(failure);
    this.response?.destroy(failure);
    this.onFailure?.(failure, stale && this.response === undefined);
  }

  text(): Promise<string> {
    return readText((take) => this.pipe(take), this.request.origin.hostname);
  }

  pipe(take: (chunk: Buffer) => void): Promise<void> {
    const response = this.response!;
    return new Promise((resolve, reject) => {
      if (this.failure) return reject(this.failure);
      this.onFailure = reject;
      const expected = this.request.method === 'HEAD' || this.status === 204 || this.status === 304 ? undefined : contentLength(this.headers);
      response.on('data', (chunk: Buffer) => {
        if (this.finished) return;
        this.bytesIn += chunk.length;
        try {
          take(chunk);
        } catch (error) {
          this.fail(unusable(error, this.request.origin.hostname));
        }
      });
      response.on('end', () => {
        if (this.finished) return;
        if (!response.complete || (expected !== undefined && this.bytesIn !== expected)) return this.fail(cut(this.bytesIn, expected));
        if (this.status < 300 && this.lengthBytes > 0 && !this.sent.writableFinished) return this.fail(tooEarly(this.status, this.request.origin.hostname));
        this.finish();
        // A refusal that came before all of a body was sent leaves a socket with a half-sent request on it.
        if (!this.sent.writableEnded) this.sent.destroy();
        resolve();
      });
      response.on('close', () => { if (!this.finished) this.fail(cut(this.bytesIn, expected)); });
    });
  }

  drain(): Promise<void> {
    return this.pipe(() => undefined);
  }

  sendStream(stream: StreamBody, lengthBytes: number): void {
    const write = (chunk: Uint8Array): Promise<void> => {
      if (this.failure) throw this.failure;
      this.bytesOut += chunk.byteLength;
      if (this.sent.destroyed || this.sent.write(chunk)) return Promise.resolve();
      return new Promise((resolve) => {
        const done = (): void => {
          this.sent.off('drain', done).off('close', done);
          resolve();
        };
        this.sent.on('drain', done).on('close', done);
      });
    };
    stream(write).then(
      () => {
        if (this.bytesOut !== lengthBytes) return this.fail(new StoreError('local-io', `Cannot send ${lengthBytes} bytes: the source gave ${this.bytesOut}`));
        this.sent.end();
      },
      (error: unknown) => this.fail(error instanceof StoreError ? error : new StoreError('local-io', `Cannot read what is to be sent: ${String(error)}`, {}, { cause: error })),
    );
  }

  private finish(): void {
    this.finished = true;
    this.deadline.close();
    this.request.signal?.removeEventListener('abort', this.onAbort);
  }
}

function readBundle(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UserError(`Cannot read the certificate file "${path}" that AWS_CA_BUNDLE names: ${errorCode(error) ?? String(error)}`, 1, { cause: error });
  }
}
