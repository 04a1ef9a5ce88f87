import { afterEach, describe, expect, it } from 'vitest';
import { Metrics } from '../base/metrics.js';
import { prometheusText, serveMetrics } from './metrics.js';

const open: { close(): Promise<void> | void }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

function sample(): Metrics {
  const metrics = new Metrics();
  metrics.add('s3.requests_get', 12);
  metrics.gauge('cache.used_bytes', () => 4096);
  metrics.observeUs('fuse.request_latency_us', 100);
  metrics.observeUs('fuse.request_latency_us', 300);
  return metrics;
}

describe('prometheusText', () => {
  it('writes counters, gauges and latencies with HELP and TYPE', () => {
    expect(prometheusText(sample().snapshot())).toBe([
      '# HELP hearthfs_s3_requests_get_total Requests to S3: requests get',
      '# TYPE hearthfs_s3_requests_get_total counter',
      'hearthfs_s3_requests_get_total 12',
      '# HELP hearthfs_cache_used_bytes The cache on disk: used bytes',
      '# TYPE hearthfs_cache_used_bytes gauge',
      'hearthfs_cache_used_bytes 4096',
      '# HELP hearthfs_fuse_request_latency_seconds Requests of the kernel: request latency',
      '# TYPE hearthfs_fuse_request_latency_seconds summary',
      'hearthfs_fuse_request_latency_seconds{quantile="0.5"} 0.000128',
      'hearthfs_fuse_request_latency_seconds{quantile="0.99"} 0.0003',
      'hearthfs_fuse_request_latency_seconds{quantile="1"} 0.0003',
      'hearthfs_fuse_request_latency_seconds_sum 0.0004',
      'hearthfs_fuse_request_latency_seconds_count 2', '',
    ].join('\n'));
  });

  it('makes a label of the third part of a name, with one HELP and TYPE for all of them', () => {
    const metrics = new Metrics();
    metrics.add('s3.requests.GET', 1);
    metrics.add('s3.bytes_in', 5);
    metrics.add('s3.requests.PUT', 2);
    metrics.observeUs('s3.latency_us.GET', 100);
    const lines = prometheusText(metrics.snapshot()).split('\n');
    expect(lines.filter((line) => line.startsWith('# TYPE hearthfs_s3_requests_total'))).toHaveLength(1);
    const at = lines.indexOf('hearthfs_s3_requests_total{kind="GET"} 1');
    expect(lines[at + 1]).toBe('hearthfs_s3_requests_total{kind="PUT"} 2');
    expect(lines).toContain('hearthfs_s3_latency_seconds{kind="GET",quantile="0.5"} 0.0001');
    expect(lines).toContain('hearthfs_s3_latency_seconds_count{kind="GET"} 1');
  });

  it('makes valid names of anything', () => {
    for (const line of prometheusText({ counters: { 'a-b c.d{e}': 1, x_total: 2 }, gauges: {}, latencies: {} }).split('\n').filter((text) => text && !text.startsWith('#'))) {
      expect(line).toMatch(/^[a-zA-Z_:][a-zA-Z0-9_:]*_total(\{kind="[^"]*"\})? \d+$/);
      expect(line).not.toContain('_total_total');
    }
  });
});

describe('the metrics endpoint', () => {
  it('answers GET /metrics with the values of that moment', async () => {
    const metrics = sample();
    const server = await serveMetrics('127.0.0.1:0', () => metrics.snapshot());
    open.push(server);
    metrics.add('s3.requests_get');
    const response = await fetch(`http://127.0.0.1:${server.port}/metrics`);
    expect(response.headers.get('content-type')).toContain('version=0.0.4');
    expect(await response.text()).toContain('hearthfs_s3_requests_get_total 13\n');
    expect((await fetch(`http://127.0.0.1:${server.port}/`)).status).toBe(404);
    expect((await fetch(`http://127.0.0.1:${server.port}/metrics`, { method: 'POST' })).status).toBe(405);
  });

  it('says in one sentence why an address cannot be used', async () => {
    const server = await serveMetrics('127.0.0.1:0', () => '');
    open.push(server);
    await expect(serveMetrics(`127.0.0.1:${server.port}`, () => '')).rejects.toThrow(`Cannot serve metrics at 127.0.0.1:${server.port}: another program uses it`);
    await expect(serveMetrics('203.0.113.1:9090', () => '')).rejects.toThrow('this machine has no such address');
  });
});
