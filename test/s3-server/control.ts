/**
 * Test and demo equipment, not product: steering a running server by HTTP, without authentication, on the prefix `/_control/` (no
 * bucket can have that name). Bodies are JSON.
 *
 *   GET    /_control/faults         -> [{ rule, hits }]
 *   PUT    /_control/faults         { rules: FaultRule[], seed? }   replaces all rules
 *   POST   /_control/faults         FaultRule                       adds one
 *   DELETE /_control/faults
 *   PUT    /_control/capabilities   Partial<Capabilities>           merged
 *   PUT    /_control/down           { forMs? }                      refuses connections, comes back by itself after forMs
 *   PUT    /_control/up                                             (only reachable through a control port of its own)
 *   POST   /_control/fill           Fill                            makes many objects at once
 *   POST   /_control/remove         { bucket, prefix }              removes all below the prefix
 *   PUT    /_control/release                                        cuts the requests that hang
 *   GET    /_control/stats          -> { counters, bytesIn, bytesOut, hung, cpuMs, rssBytes }
 *   GET    /_control/requests       -> LoggedRequest[], oldest first
 *   DELETE /_control/requests                                       forgets log and counters
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { BucketAccess, type Fill } from './bucket-access.js';
import type { Capabilities } from './capabilities.js';
import type { Core } from './exchange.js';
import type { FaultRule } from './faults.js';

export async function handleControl(core: Core, req: IncomingMessage, res: ServerResponse, viaS3Port: boolean): Promise<void> {
  try {
    const pieces: Buffer[] = [];
    for await (const bytes of req) pieces.push(bytes as Buffer);
    const text = Buffer.concat(pieces).toString();
    const result = await command(core, `${req.method} ${(req.url ?? '').split('?')[0]}`, text === '' ? {} : JSON.parse(text), viaS3Port);
    answer(res, result === undefined ? 404 : 200, result ?? { error: 'unknown' });
  } catch (error) {
    answer(res, 400, { error: error instanceof Error ? error.message : String(error) });
  }
}

/** By the S3 port itself, going down waits until the answer has left. */
function command(core: Core, what: string, body: unknown, viaS3Port: boolean): object | Promise<object> | undefined {
  const { faults, log } = core;
  switch (what) {
    case 'GET /_control/faults': return faults.describe();
    case 'PUT /_control/faults': {
      const { rules, seed } = body as { rules: FaultRule[]; seed?: number };
      faults.set(rules, seed);
      return {};
    }
    case 'POST /_control/faults':
      faults.add(body as FaultRule);
      return {};
    case 'DELETE /_control/faults':
      faults.clear();
      return {};
    case 'PUT /_control/capabilities':
      Object.assign(core.capabilities, body as Partial<Capabilities>);
      return { ...core.capabilities };
    case 'PUT /_control/down': {
      const { forMs } = body as { forMs?: number };
      if (forMs !== undefined) setTimeout(() => void faults.up(), forMs);
      return viaS3Port ? (setTimeout(() => void faults.down(), 5), {}) : faults.down().then(() => ({}));
    }
    case 'PUT /_control/up': return faults.up().then(() => ({}));
    case 'POST /_control/fill': return new BucketAccess(core).fill(body as Fill).then(() => ({}));
    case 'POST /_control/remove': {
      const { bucket, prefix } = body as { bucket: string; prefix: string };
      new BucketAccess(core).deleteAll(bucket, prefix);
      return {};
    }
    case 'PUT /_control/release':
      faults.releaseHung();
      return {};
    case 'GET /_control/stats': {
      const cpu = process.cpuUsage();
      return { counters: log.counters(), bytesIn: log.bytesIn, bytesOut: log.bytesOut, hung: faults.hungCount, cpuMs: (cpu.user + cpu.system) / 1000, rssBytes: process.memoryUsage.rss() };
    }
    case 'GET /_control/requests': return log.recent();
    case 'DELETE /_control/requests':
      log.clear();
      return {};
    default: return undefined;
  }
}

function answer(res: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body);
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  res.end(text);
}

/** A control port of its own, which answers while the S3 port is down. */
export function startControl(core: Core, port: number, host: string): Promise<{ readonly port: number; close(): Promise<void> }> {
  const server: Server = createServer((req, res) => void handleControl(core, req, res, false));
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      resolve({
        port: (server.address() as { port: number }).port,
        close: () => new Promise((done) => {
          server.close(() => done());
          server.closeAllConnections();
        }),
      });
    });
  });
}
