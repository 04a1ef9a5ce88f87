/**
 * An S3 server for tests and the demo: equipment, not product. It answers as Amazon S3 does (all of what the tests of S3 servers ask),
 * or wrongly on purpose: `faults` injects latency, errors, cut connections and outages, `capabilities` imitates other servers.
 *
 * Memory: everything is gone at `close`. A directory: bytes and index survive the process, however it ends (not a power cut).
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { BucketAccess } from './bucket-access.js';
import { awsCapabilities, type Capabilities } from './capabilities.js';
import { handleControl } from './control.js';
import { DiskBlobs } from './disk-blobs.js';
import type { Core } from './exchange.js';
import { Faults } from './faults.js';
import { Journal } from './journal.js';
import { MemoryBlobs } from './memory-blobs.js';
import { RequestLog } from './request-log.js';
import { route } from './router.js';
import { SigV4, type Credential } from './sigv4.js';
import { State } from './state.js';

export interface S3ServerOptions {
  /** 0 (default): a free one. */
  readonly port?: number;
  readonly host?: string;
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly region?: string;
  /** More users of the same account, with policies of their own. */
  readonly users?: readonly Credential[];
  /** `memory` (default) or a directory, made if missing. */
  readonly storage?: string;
  /** Buckets to make if they are missing. */
  readonly buckets?: readonly string[];
  readonly capabilities?: Partial<Capabilities>;
  /** Of the random numbers of faults. */
  readonly seed?: number;
  /** Largest single PUT (5 GiB) and smallest part that is not the last (5 MiB). */
  readonly putBytesMax?: number;
  readonly partBytesMin?: number;
  /** The server's clock, milliseconds. */
  readonly now?: () => number;
  /** Serve `/_control/...` on the main port (no authentication). */
  readonly control?: boolean;
  readonly log?: (line: string) => void;
}

export interface S3Server extends BucketAccess {
  readonly endpoint: string;
  readonly port: number;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
  readonly faults: Faults;
  /** Changeable while running. */
  readonly capabilities: Capabilities;
  readonly requestLog: RequestLog;
  /** For control interfaces. */
  readonly core: Core;
  close(): Promise<void>;
}

export async function startS3Server(options: S3ServerOptions = {}): Promise<S3Server> {
  const { host = '127.0.0.1', accessKeyId = 'test-access-key', secretAccessKey = 'test-secret-key', region = 'us-east-1', storage = 'memory' } = options;
  const now = options.now ?? Date.now;
  const log = options.log ?? ((): void => undefined);
  const credentials = new Map<string, Credential>();
  for (const one of [{ accessKeyId, secretAccessKey }, ...(options.users ?? [])]) credentials.set(one.accessKeyId, one);

  const disk = storage === 'memory' ? undefined : { journal: new Journal(storage), blobs: new DiskBlobs(storage) };
  const blobs = disk?.blobs ?? new MemoryBlobs();
  const state = new State(blobs, disk?.journal);
  disk?.blobs.sweep();
  for (const name of options.buckets ?? []) if (!state.buckets.has(name)) state.commit({ t: 'bucket', name, createdMs: now(), lock: false });

  const sockets = new Set<Socket>();
  const capabilities: Capabilities = { ...awsCapabilities(), ...options.capabilities };
  let port = options.port ?? 0;
  const faults = new Faults({ down: () => stopListening(), up: () => listen() }, options.seed);
  const requestLog = new RequestLog();
  const core: Core = {
    state, blobs, faults, capabilities, region, now, log: requestLog, sigv4: new SigV4(credentials, region, now),
    limits: { putBytesMax: options.putBytesMax ?? 5 * 1024 ** 3, partBytesMin: options.partBytesMin ?? 5 << 20 },
  };

  const unexpected = (error: unknown): void => log(`unexpected: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  const handle = (req: IncomingMessage, res: ServerResponse, awaitsContinue: boolean): void => {
    res.on('error', () => undefined);
    if (options.control && req.url?.startsWith('/_control/')) void handleControl(core, req, res, true).catch(unexpected);
    else void route(core, req, res, awaitsContinue, unexpected).catch(unexpected);
  };
  const server = createServer({ keepAlive: true, noDelay: true, maxHeaderSize: 32 << 10, requestTimeout: 0, keepAliveTimeout: 120_000, highWaterMark: 256 << 10 }, (req, res) => handle(req, res, false));
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => handle(req, res, true));
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  const listen = (): Promise<void> => {
    if (server.listening) return Promise.resolve();
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, host, backlog: 1024 }, () => {
        server.off('error', reject);
        port = (server.address() as AddressInfo).port;
        resolve();
      });
    });
  };
  const stopListening = (): Promise<void> => {
    if (!server.listening) return Promise.resolve();
    return new Promise((resolve) => {
      // A moment later, so that clients in this process know their pooled connections are gone.
      server.close(() => setTimeout(resolve, 10));
      for (const socket of sockets) socket.destroy();
    });
  };

  await listen();
  log(`listening http://${host}:${port}`);
  let closing: Promise<void> | undefined;
  return Object.assign(new BucketAccess(core), {
    endpoint: `http://${host}:${port}`, port, accessKeyId, secretAccessKey, region, faults, capabilities, requestLog, core,
    close: (): Promise<void> => (closing ??= (async () => {
      faults.releaseHung();
      await stopListening();
      disk?.journal.close();
      await blobs.close();
    })()),
  });
}
