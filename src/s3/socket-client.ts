/**
 * HTTP/1.1 requests over sockets of its own: all of them receive into one buffer and hand the bytes on in the same turn, so that a download makes no
 * garbage and no copies, and a small request costs little. Through node:http a GiB costs a worker 1.8 s more (a new 64 KiB buffer per read, and a stream
 * between), and a small PUT three times as much (decisions 022 and 034). Bodies are bytes in memory; what is streamed goes through node:http.
 *
 * 1. Every wait is bounded: connecting by `connectMs`, silence by `idleMs`, the whole exchange by `deadlineMs`, waiting for a connection included; with a
 *    body as `send-deadline` says.
 * 2. A body that ends before its announced end is an error, never short data; what is not HTTP ends the connection.
 * 3. Nothing is sent twice, but what the caller calls idempotent where a kept connection turns out to have been closed before: then once more, on a
 *    new one. For all else that is a failure like any other: whether the server acted is the caller's question (J5).
 * 4. A success that was answered before all of the body had left is none: the exchange fails, and what became of it is the caller's question (J5).
 * 5. A connection carries one request at a time and goes back to the idle ones only after all of the request left and exactly its answer arrived.
 */
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Started } from './hedge.js';
import { MalformedResponse, ResponseParser } from './response-parser.js';
import {
  aborted, contentLength, cut, deadlineOf, isReset, late, networkError, notConnected, readText, silent, StaleSocket, tooEarly, unavailable, unusable, type Exchange, type HttpRequest, type Origin,
} from './exchange.js';
import { SendDeadline, unsentBytes, type Expiry, type Uplink } from './send-deadline.js';
import { StoreError } from './store-error.js';

export interface SocketClientOptions {
  readonly connectionsMax: number;
  readonly connectMs: number;
  readonly lookup: LookupFunction;
  readonly ca?: readonly string[];
  /** Whatever else sends bodies the same way counts with ours. */
  readonly uplink?: Uplink;
}

/** What one read(2) may bring: fewer events, and still within a processor's cache. */
const receiveBytes = 256 << 10;
/** Idle connections go before servers and balancers drop them (S3 about 20 s, others 60 s), or earlier where the server says so. */
const idleSocketMs = 15_000;
/** Up to here head and body leave as one piece: a copy is cheaper than a second buffer to write. */
const joinedBytesMax = 32 << 10;
const notInHeaders = /[^\t\x20-\x7e\x80-\xff]/;

export class SocketClient {
  private readonly pools = new Map<string, Pool>();

  /** One for all connections: what is in it is used up before the next read. */
  private readonly buffer = Buffer.allocUnsafeSlow(receiveBytes);

  private readonly uplink: Uplink;

  constructor(private readonly options: SocketClientOptions) {
    this.uplink = options.uplink ?? { bodies: 0 };
  }

  /** `cancel` also gives up an answer that nobody will read. */
  start(request: HttpRequest): Started<Exchange> {
    let current = this.sendOnce(request, false);
    const send = async (): Promise<Exchange> => {
      try {
        return await current.answer;
      } catch (error) {
        if (!(error instanceof StaleSocket)) throw error;
        if (!request.idempotent) throw error.failure;
      }
      current = this.sendOnce(request, true); // a new connection is never stale
      return current.answer;
    };
    return { answer: send(), isSent: () => current.isSent(), cancel: () => current.cancel() };
  }

  send(request: HttpRequest): Promise<Exchange> {
    return this.start(request).answer;
  }

  close(): void {
    for (const pool of this.pools.values()) pool.close();
    this.pools.clear();
  }

  private sendOnce(request: HttpRequest, fresh: boolean): Started<Exchange> {
    const { body } = request;
    let head: string;
    try {
      if (request.signal?.aborted) throw aborted();
      if (body && !(body instanceof Uint8Array)) throw new StoreError('invalid', `Cannot send ${request.method} ${request.path}: its body is a stream`);
      head = requestHead(request);
    } catch (error) {
      return { answer: Promise.reject(error as StoreError), isSent: () => false, cancel: () => undefined };
    }
    const { secure, hostname, port } = request.origin;
    const name = `${secure ? 's' : ''}/${hostname}/${port}`;
    let pool = this.pools.get(name);
    if (!pool) this.pools.set(name, (pool = new Pool(request.origin, this.options, this.buffer)));
    let exchange!: SocketExchange;
    const answer = new Promise<Exchange>((resolve, reject) => { exchange = new SocketExchange(request, head, body, this.uplink, resolve, reject); });
    pool.run(exchange, fresh);
    return { answer, isSent: () => exchange.connection !== undefined, cancel: () => exchange.fail(aborted()) };
  }
}

/** The connections to one server: the most recently used first, so that those not needed grow old. */
class Pool {
  private readonly idle: Connection[] = [];
  private readonly waiting: SocketExchange[] = [];
  private readonly open = new Set<Connection>();
  private tlsSession: Buffer | undefined;

  constructor(private readonly origin: Origin, private readonly options: SocketClientOptions, private readonly buffer: Buffer) {}

  run(exchange: SocketExchange, fresh: boolean): void {
    const kept = fresh ? undefined : this.idle.pop();
    if (kept) return kept.carry(exchange);
    if (this.open.size >= this.options.connectionsMax) {
      const spare = this.idle.shift(); // fresh wanted, and all places taken by idle ones
      if (!spare) return void this.waiting.push(exchange);
      spare.destroy();
    }
    this.openFor(exchange);
  }

  close(): void {
    for (const exchange of this.waiting.splice(0)) exchange.fail(aborted());
    for (const connection of [...this.open]) connection.destroy();
  }

  private openFor(exchange: SocketExchange): void {
    const connection = new Connection(this.connect, this.origin, this.options.connectMs, {
      free: (free) => {
        const next = this.next();
        if (next) free.carry(next);
        else this.idle.push(free);
      },
      gone: (gone) => {
        this.open.delete(gone);
        const at = this.idle.indexOf(gone);
        if (at >= 0) this.idle.splice(at, 1);
        const next = this.next();
        if (next) this.openFor(next);
      },
    });
    this.open.add(connection);
    connection.carry(exchange);
  }

  private next(): SocketExchange | undefined {
    for (;;) {
      const exchange = this.waiting.shift();
      if (!exchange?.isOver) return exchange;
    }
  }

  private readonly connect = (received: (bytes: Buffer) => boolean): Socket => {
    const { hostname, port, secure } = this.origin;
    const { buffer } = this;
    const common = {
      host: hostname, port, lookup: this.options.lookup, noDelay: true,
      onread: { buffer, callback: (count: number) => received(count === buffer.length ? buffer : buffer.subarray(0, count)) },
    };
    if (!secure) return connectTcp(common);
    const socket = connectTls({
      ...common, ALPNProtocols: ['http/1.1'], ...(isIP(hostname) === 0 && { servername: hostname }), ...(this.options.ca && { ca: [...this.options.ca] }),
      ...(this.tlsSession && { session: this.tlsSession }),
    });
    socket.on('session', (session) => { this.tlsSession = session; });
    return socket;
  };
}

interface ConnectionEvents {
  /** It can carry another request. */
  free(connection: Connection): void;
  gone(connection: Connection): void;
}

class Connection {
  private readonly socket: Socket;
  private readonly parser: ResponseParser;
  private exchange: SocketExchange | undefined;
  private carried = 0;
  private answered: { readonly reusable: boolean } | undefined;
  private idleMs = idleSocketMs;
  private error: Error | undefined;
  private dead = false;

  constructor(connect: (received: (bytes: Buffer) => boolean) => Socket, private readonly origin: Origin, connectMs: number, private readonly events: ConnectionEvents) {
    this.parser = new ResponseParser({
      head: (status, headers) => {
        this.idleMs = keepAliveMs(headers['keep-alive']);
        this.exchange?.begin(status, headers, this);
      },
      body: (chunk) => this.exchange?.receive(chunk),
      end: (reusable) => { this.answered = { reusable }; },
    });
    this.socket = connect((bytes) => this.received(bytes));
    const timer = setTimeout(() => this.fail(notConnected(this.where, connectMs)), connectMs);
    this.socket.once(origin.secure ? 'secureConnect' : 'connect', () => clearTimeout(timer));
    this.socket.on('error', (error) => { this.error = error; });
    this.socket.on('timeout', () => {
      if (!this.exchange) this.destroy();
      else if (!this.exchange.isSending) this.fail(silent(this.where, this.exchange.request.idleMs));
    });
    this.socket.on('end', () => this.ended());
    this.socket.on('close', () => {
      clearTimeout(timer);
      this.ended();
    });
  }

  private get where(): string { return `${this.origin.hostname}:${this.origin.port}`; }

  get isConnecting(): boolean { return this.socket.connecting; }
  get unsentBytes(): number { return unsentBytes(this.socket); }

  carry(exchange: SocketExchange): void {
    this.exchange = exchange;
    this.carried++;
    exchange.connection = this;
    this.socket.ref();
    this.socket.setTimeout(exchange.request.idleMs);
    this.parser.expect(exchange.request.method);
    this.write(exchange.head, exchange.body);
  }

  private write(head: string, body: Uint8Array | undefined): void {
    const { socket } = this;
    if (!body || body.length === 0) socket.write(head, 'latin1');
    else if (body.length <= joinedBytesMax) {
      const all = Buffer.allocUnsafe(head.length + body.length);
      all.write(head, 0, 'latin1');
      all.set(body, head.length);
      socket.write(all);
    } else {
      socket.cork();
      socket.write(head, 'latin1');
      socket.write(body);
      socket.uncork();
    }
  }

  /** The body has a taker now. */
  resume(): void {
    if (!this.dead) this.socket.resume();
  }

  destroy(): void {
    if (this.dead) return;
    this.dead = true;
    this.socket.destroy();
    this.events.gone(this);
  }

  /** @returns false: no more for now. */
  private received(bytes: Buffer): boolean {
    if (this.dead) return false;
    const { exchange } = this;
    try {
      this.parser.feed(bytes);
    } catch (error) {
      this.fail(error instanceof MalformedResponse ? unavailable(`${this.where} answered what is not HTTP: ${error.message}`, 'EPROTO', error) : networkError(error, this.where));
      return false;
    }
    if (!this.answered) return !exchange?.isFull;
    this.finishAnswer();
    return true;
  }

  private finishAnswer(): void {
    const { exchange, answered } = this;
    const isSent = this.socket.writableLength === 0; // a refusal may come before all of a body left
    this.exchange = undefined;
    this.answered = undefined;
    if (exchange && exchange.bytesOut > 0 && exchange.status < 300 && this.unsentBytes > 0) exchange.fail(tooEarly(exchange.status, this.where));
    else exchange?.end();
    if (this.dead) return;
    if (!answered!.reusable || !isSent || this.idleMs <= 0) return this.destroy();
    this.socket.unref();
    this.socket.setTimeout(this.idleMs);
    this.events.free(this);
  }

  /** The server closed, or the connection broke. */
  private ended(): void {
    if (this.dead) return;
    if (this.exchange && this.error === undefined && this.parser.closed()) this.finishAnswer();
    else if (this.exchange) this.fail(this.error ? networkError(this.error, this.where) : this.exchange.cutError());
    this.destroy();
  }

  private fail(failure: StoreError): void {
    const { exchange } = this;
    const stale = this.carried > 1 && exchange?.status === 0 && (this.error === undefined ? failure.details.code === 'ECONNRESET' : isReset(this.error));
    this.exchange = undefined;
    this.destroy();
    exchange?.fail(failure, stale);
  }
}

class SocketExchange implements Exchange {
  status = 0;
  headers: Record<string, string> = {};
  bytesIn = 0;
  readonly bytesOut: number;
  private readonly sending: SendDeadline | undefined;
  connection: Connection | undefined;
  private early: Buffer[] = [];
  private take: ((chunk: Buffer) => void) | undefined;
  private settle: { resolve(): void; reject(error: StoreError): void } | undefined;
  /** All of the body is here: the connection is done with us. */
  private arrived = false;
  /** The taker has all of it. */
  private delivered = false;
  private failure: StoreError | undefined;
  private readonly deadline: { close(): void };
  private readonly onAbort = (): void => this.fail(aborted());

  constructor(readonly request: HttpRequest, readonly head: string, readonly body: Uint8Array | undefined, uplink: Uplink, private readonly begun: (exchange: Exchange) => void, private readonly refused: (error: Error) => void) {
    const { origin, method, idleMs, deadlineMs, signal } = request;
    this.bytesOut = body?.length ?? 0;
    const where = `${origin.hostname}:${origin.port}`;
    const expire = (why: Expiry): void => this.fail(why === 'silent' ? silent(where, idleMs) : this.connection?.isConnecting ? notConnected(where, deadlineMs) : late(method, where, deadlineMs));
    this.sending = this.bytesOut > 0 ? new SendDeadline({ uplink, idleMs, deadlineMs, bodyBytes: this.bytesOut, unsentBytes: () => this.connection?.unsentBytes, expired: expire }) : undefined;
    this.deadline = this.sending ?? deadlineOf(deadlineMs, () => expire('late'));
    signal?.addEventListener('abort', this.onAbort, { once: true });
  }

  /** Silence is nothing to wonder at. */
  get isSending(): boolean { return this.sending !== undefined && this.status === 0; }
  get isOver(): boolean { return this.arrived || this.failure !== undefined; }
  /** Bytes are here that nobody has asked for yet. */
  get isFull(): boolean { return this.early.length > 0; }

  text(): Promise<string> { return readText((take) => this.pipe(take), this.request.origin.hostname); }
  drain(): Promise<void> { return this.pipe(() => undefined); }

  pipe(take: (chunk: Buffer) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.failure) return reject(this.failure);
      this.settle = { resolve, reject };
      this.take = take;
      const { early } = this;
      this.early = [];
      for (const chunk of early) this.deliver(chunk);
      if (this.failure) return;
      if (this.arrived) this.complete();
      else this.connection?.resume();
    });
  }

  // ---- the connection's side

  begin(status: number, headers: Record<string, string>, connection: Connection): void {
    this.status = status;
    this.headers = headers;
    this.connection = connection;
    this.sending?.answering();
    this.begun(this);
  }

  receive(chunk: Buffer): void {
    this.bytesIn += chunk.length;
    if (this.take) this.deliver(chunk);
    else this.early.push(Buffer.from(chunk)); // borrowed; the taker comes within the turn
  }

  end(): void {
    if (this.isOver) return;
    this.arrived = true;
    this.finish();
    if (this.take) this.complete();
  }

  /** Ends the exchange; its connection is not used again. */
  fail(failure: StoreError, stale = false): void {
    if (this.failure || this.delivered) return;
    this.failure = failure;
    this.finish();
    if (!this.arrived) this.connection?.destroy(); // else it may be carrying another one
    this.refused(stale ? new StaleSocket(failure) : failure); // of no effect once the head is here
    this.settle?.reject(failure);
  }

  cutError(): StoreError { return cut(this.bytesIn, contentLength(this.headers)); }

  private deliver(chunk: Buffer): void {
    if (this.failure) return;
    try {
      this.take!(chunk);
    } catch (error) {
      this.fail(unusable(error, this.request.origin.hostname));
    }
  }

  private complete(): void {
    this.delivered = true;
    this.settle?.resolve();
  }

  private finish(): void {
    this.deadline.close();
    this.request.signal?.removeEventListener('abort', this.onAbort);
  }
}

/** @throws StoreError `invalid`: a value that would end its line early, or that HTTP/1.1 cannot carry. */
function requestHead({ method, path, headers, body }: HttpRequest): string {
  let head = `${method} ${path} HTTP/1.1\r\n`;
  for (const name of Object.keys(headers)) {
    const value = headers[name]!;
    if (notInHeaders.test(value)) throw new StoreError('invalid', `Cannot send ${method} ${path}: the header ${name} has characters that are not allowed`);
    head += `${name}: ${value}\r\n`;
  }
  if (notInHeaders.test(path) || path.includes(' ')) throw new StoreError('invalid', `Cannot send ${method} ${path}: not a path`);
  const length = body instanceof Uint8Array ? body.length : method === 'PUT' || method === 'POST' ? 0 : undefined;
  return `${head}${length === undefined ? '' : `content-length: ${length}\r\n`}connection: keep-alive\r\n\r\n`;
}

/** How long the server keeps an idle connection, less a second for the way. */
function keepAliveMs(header: string | undefined): number {
  const seconds = header === undefined ? undefined : /(?:^|[,\s])timeout=(\d+)/i.exec(header)?.[1];
  return seconds === undefined ? idleSocketMs : Math.min(idleSocketMs, Number(seconds) * 1000 - 1000);
}
