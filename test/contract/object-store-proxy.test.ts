/** The real client behind an HTTP proxy, which alone knows where "s3.test" is. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { silentLog } from '../../src/base/log.js';
import type { AwsConfig } from '../../src/s3/aws-config.js';
import type { ObjectStore } from '../../src/s3/object-store.js';
import { openS3Store } from '../../src/s3/s3-store.js';
import { startS3Server, type S3Server } from '../s3-server/server.js';
import { selfSigned, tlsFront } from '../support/tls-front.js';

const keys = { accessKeyId: 'good-key', secretAccessKey: 'good-secret' };
let s3: S3Server;
let directory: string;
let proxy: Server;
let asked: string[];
/** Port of "s3.test" with TLS. */
let tlsPort = 0;
const stores: ObjectStore[] = [];

/** A forward proxy that wants a user. */
function startProxy(): Promise<Server> {
  const isWelcome = ({ headers }: IncomingMessage): boolean => headers['proxy-authorization'] === `Basic ${Buffer.from('user:p@ss').toString('base64')}`;
  const server = createServer((from, to) => {
    asked.push(`${from.method} ${from.url}`);
    if (!isWelcome(from)) return void to.writeHead(407).end();
    const { pathname, search } = new URL(from.url!);
    const { 'proxy-authorization': _, ...headers } = from.headers;
    from.pipe(request({ host: '127.0.0.1', port: s3.port, method: from.method, path: pathname + search, headers }, (answer) => {
      to.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(to);
    }));
  });
  server.on('connect', (from: IncomingMessage, socket: Duplex) => {
    asked.push(`${from.method} ${from.url}`);
    if (!isWelcome(from)) return void socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    const inner = connect(tlsPort, '127.0.0.1', () => socket.write('HTTP/1.1 200 Connection Established\r\n\r\n'));
    inner.on('error', () => socket.destroy());
    socket.on('error', () => inner.destroy());
    socket.pipe(inner).pipe(socket);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'hearthfs-proxy-'));
  s3 = await startS3Server({ ...keys, region: 'us-east-1', buckets: ['b'] });
  proxy = await startProxy();
});
beforeEach(() => {
  asked = [];
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await Promise.all(stores.splice(0).map((store) => store.close()));
});
afterAll(async () => {
  proxy.closeAllConnections();
  await new Promise((resolve) => proxy.close(resolve));
  await s3.close();
  rmSync(directory, { recursive: true });
});

async function open(secure: boolean, user: string, caBundle?: string): Promise<ObjectStore> {
  for (const name of ['https_proxy', 'http_proxy', 'all_proxy', 'ALL_PROXY', 'no_proxy']) vi.stubEnv(name, undefined);
  for (const name of ['HTTPS_PROXY', 'HTTP_PROXY']) vi.stubEnv(name, `http://${user}127.0.0.1:${(proxy.address() as AddressInfo).port}`);
  vi.stubEnv('NO_PROXY', 'elsewhere.test');
  const port = secure ? 443 : 80;
  const aws: AwsConfig = {
    region: 'us-east-1', customEndpoint: true, loadCredentials: () => Promise.resolve(keys),
    endpointFor: (region) => Promise.resolve({ secure, hostname: 's3.test', port, host: 's3.test', basePath: '/b', scope: { region, service: 's3' } }),
  };
  const store = await openS3Store({ bucket: 'b', prefix: '', pathStyle: true, connectionsMax: 4, requestTimeoutMs: 5000, deadlineMs: 10_000, log: silentLog, aws, ...(caBundle !== undefined && { caBundle }) });
  stores.push(store);
  return store;
}

async function roundTrip(store: ObjectStore, key: string): Promise<void> {
  await store.put(key, { kind: 'bytes', bytes: Buffer.from('through') }, { metadata: {} }, 'any');
  expect(Buffer.from((await store.getBytes(key, { start: 0, end: 10 })).bytes).toString()).toBe('through');
  expect((await store.list({ prefix: '' })).objects.map((object) => object.key)).toContain(key);
}

test('http goes to HTTP_PROXY by whole URL, with its user', async () => {
  await roundTrip(await open(false, 'user:p%40ss@'), 'plain');
  expect(asked.slice(0, 2)).toEqual(['PUT http://s3.test:80/b/plain', 'GET http://s3.test:80/b/plain']);
  const refused = (await open(false, '')).head('plain');
  await expect(refused).rejects.toMatchObject({ details: { status: 407 } });
});

test('https goes through a tunnel of HTTPS_PROXY, encrypted for the server itself, and connections are kept', async ({ skip }) => {
  const files = selfSigned(directory, 's3.test');
  if (!files) return skip('openssl is not installed');
  const { cert } = files;
  const tls = await tlsFront(files, s3.port);
  tlsPort = (tls.address() as AddressInfo).port;
  try {
    await roundTrip(await open(true, 'user:p%40ss@', cert), 'secret');
    expect(asked).toEqual(['CONNECT s3.test:443']);
    await expect((await open(true, 'user:wrong@', cert)).head('secret')).rejects.toMatchObject({ kind: 'unavailable', message: expect.stringMatching(/Cannot reach s3\.test:443 through the proxy 127\.0\.0\.1:\d+: it answers 407 .*USER:PASSWORD/) as string });
    await expect((await open(true, 'user:p%40ss@')).head('secret')).rejects.toMatchObject({ kind: 'unavailable', message: expect.stringContaining('AWS_CA_BUNDLE') as string });
  } finally {
    await Promise.all(stores.splice(0).map((store) => store.close()));
    await new Promise((resolve) => tls.close(resolve));
  }
});

test('a proxy that is not there is named', async () => {
  const store = await open(true, '');
  vi.stubEnv('HTTPS_PROXY', 'http://127.0.0.1:1');
  await expect(store.head('a')).rejects.toMatchObject({ kind: 'unavailable', message: expect.stringContaining('through the proxy 127.0.0.1:1: it refuses connections') as string });
});
