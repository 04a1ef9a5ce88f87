/**
 * Prometheus text format 0.0.4 at `GET /metrics`. `room.what_unit` becomes `hearthfs_room_what_unit`, and `room.what.KIND` the same with a label `kind`; counters end in `_total`; latencies
 * are summaries in seconds (the registry keeps quantiles, not buckets).
 * Plain HTTP without authentication: bind it to an address that only the scraper reaches.
 */
import http from 'node:http';
import { errorCode } from '../base/errno.js';
import type { Closable } from '../base/lifetime.js';
import type { LatencySummary, Metrics } from '../base/metrics.js';
import { UserError } from '../base/user-error.js';

export type Snapshot = ReturnType<Metrics['snapshot']>;

const connectionsMax = 32;

/** What a name means, by its longest known beginning; anything else is described by its own words. */
const helpByPrefix: readonly (readonly [string, string])[] = [
  ['cache.hit_files', 'Files opened for reading that were here whole, also for passthrough'], ['cache.miss_files', 'Files opened for reading of which something was still in S3'],
  ['cache.hit_requests', 'READs through the daemon of bytes that were here when the file was opened'], ['cache.miss_requests', 'READs through the daemon of bytes that had to come from S3, prefetched or not'],
  ['cache.hit_bytes', 'Bytes read through the daemon that were here when the file was opened'], ['cache.miss_bytes', 'Bytes read through the daemon that had to come from S3, prefetched or not'],
  ['s3.hedges_won', 'Second requests that answered first'], ['s3.hedges', 'Slow requests that were sent a second time'], ['s3.slowed_to', 'Requests at once since S3 said SlowDown; 0 is no limit'],
  ['fuse.', 'Requests of the kernel'], ['cache.', 'The cache on disk'], ['s3.', 'Requests to S3'], ['journal.', 'What S3 lacks'], ['writeback.', 'Uploads, copies and deletes'],
  ['prefetch.', 'Reading ahead'], ['transfer.', 'Transfer workers'], ['meta.', 'Names and attributes'], ['fs.', 'File-system operations'], ['db.', 'The database'], ['daemon.', 'The daemon'],
];

/**
 * @param hostPort as `--metrics` takes it; port 0 picks a free one (tests).
 * @param read called per scrape; a snapshot, or the text itself.
 * @throws UserError if the address cannot be used.
 */
export async function serveMetrics(hostPort: string, read: () => string | Snapshot): Promise<Closable & { readonly port: number }> {
  const at = hostPort.lastIndexOf(':');
  const host = hostPort.slice(0, at).replace(/^\[|\]$/g, '');
  const port = Number(hostPort.slice(at + 1));
  const server = http.createServer((request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405, { allow: 'GET, HEAD' }).end();
    const path = (request.url ?? '').split('?')[0];
    if (path !== '/metrics') return void response.writeHead(404, { 'content-type': 'text/plain' }).end('metrics are at /metrics\n');
    const answer = read();
    const text = typeof answer === 'string' ? answer : prometheusText(answer);
    return void response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(request.method === 'HEAD' ? undefined : text);
  });
  server.maxConnections = connectionsMax;
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const code = errorCode(error);
      const why = code === 'EADDRINUSE' ? 'another program uses it' : code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' ? 'this machine has no such address' : code === 'EACCES' ? 'ports below 1024 need root' : error.message;
      reject(new UserError(`Cannot serve metrics at ${hostPort}: ${why}`, 1, { cause: error }));
    });
    server.listen({ port, ...(host === '' ? {} : { host }) }, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : port,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Samples of one metric stand together after one HELP and TYPE, as the format demands. */
export function prometheusText(snapshot: Snapshot): string {
  const families = new Map<string, string[]>();
  const add = (metric: string, name: string, type: string, samples: readonly string[]): void => {
    let lines = families.get(metric);
    if (!lines) families.set(metric, (lines = head(metric, name, type)));
    lines.push(...samples);
  };
  for (const [fullName, value] of Object.entries(snapshot.counters)) {
    const { name, label } = split(fullName);
    const metric = `${metricName(name).replace(/_total$/, '')}_total`;
    add(metric, name, 'counter', [`${metric}${braces(label)} ${format(value)}`]);
  }
  for (const [fullName, value] of Object.entries(snapshot.gauges)) {
    const { name, label } = split(fullName);
    const metric = metricName(name);
    add(metric, name, 'gauge', [`${metric}${braces(label)} ${format(value)}`]);
  }
  for (const [fullName, latency] of Object.entries(snapshot.latencies)) {
    const { name, label } = split(fullName);
    const words = name.replace(/_us$/, '');
    const metric = `${metricName(words)}_seconds`;
    add(metric, words, 'summary', summary(metric, label, latency));
  }
  return `${[...families.values()].flat().join('\n')}\n`;
}

/** `s3.requests.PUT`: the third part is which kind, a label. */
function split(fullName: string): { name: string; label: readonly string[] } {
  const [room, what, ...kind] = fullName.split('.');
  if (what === undefined || kind.length === 0) return { name: fullName, label: [] };
  return { name: `${room}.${what}`, label: [`kind="${kind.join('.').replace(/[\\"\n]/g, '_')}"`] };
}

function braces(labels: readonly string[]): string {
  return labels.length === 0 ? '' : `{${labels.join(',')}}`;
}

function summary(metric: string, label: readonly string[], latency: LatencySummary): string[] {
  const quantile = (of: string, us: number): string => `${metric}${braces([...label, `quantile="${of}"`])} ${format(us / 1e6)}`;
  return [
    quantile('0.5', latency.p50Us), quantile('0.99', latency.p99Us), quantile('1', latency.maxUs),
    `${metric}_sum${braces(label)} ${format(latency.sumUs / 1e6)}`, `${metric}_count${braces(label)} ${format(latency.count)}`,
  ];
}

function head(metric: string, name: string, type: string): string[] {
  const prefix = helpByPrefix.find(([start]) => name.startsWith(start));
  const words = (prefix ? name.slice(prefix[0].length) : name).replace(/[._]+/g, ' ').trim();
  return [`# HELP ${metric} ${[prefix?.[1] ?? '', words].filter((part) => part !== '').join(': ')}`, `# TYPE ${metric} ${type}`];
}

function metricName(name: string): string {
  return `hearthfs_${name.replace(/[^A-Za-z0-9_]+/g, '_')}`;
}

function format(value: number): string {
  return Number.isNaN(value) ? 'NaN' : value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value);
}
