/**
 * CPU per small S3 request: 1,000 GETs of 16 KiB, 32 in flight, through the AWS SDK, the lean store, and the lean store with
 * @smithy/signature-v4 instead of its own signer. The server is a child process, so that its CPU is not counted here.
 *
 *   npm run build && node dist/scripts/bench/s3-cpu.js [requests]
 *
 * With S3_ENDPOINT (and credentials) set, that server is used.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { Sha256 } from '@aws-crypto/sha256-js';
import { HttpRequest } from '@smithy/protocol-http';
import { SignatureV4 } from '@smithy/signature-v4';
import { silentLog } from '../../src/base/log.js';
import { openS3Store } from '../../src/s3/s3-store.js';
import { Signer, emptySha256 } from '../../src/s3/signer.js';
import { startS3Server } from '../../test/s3-server/server.js';

const count = Number(process.argv[2] ?? 1000);
const inFlight = 32;
const sizeBytes = 16 << 10;
const bucket = 'hearthfs-bench';
const credentials = { accessKeyId: 'bench-key', secretAccessKey: 'bench-secret' };

if (process.env['BENCH_SERVER'] === '1') {
  const server = await startS3Server({ ...credentials, storage: 'memory', buckets: [bucket] });
  process.send!(server.endpoint);
  await once(process, 'disconnect');
  await server.close();
} else {
  await bench();
}

async function bench(): Promise<void> {
  let endpoint = process.env['S3_ENDPOINT'];
  let child: ReturnType<typeof fork> | undefined;
  if (endpoint === undefined) {
    child = fork(new URL(import.meta.url).pathname, { env: { ...process.env, BENCH_SERVER: '1' } });
    [endpoint] = (await once(child, 'message')) as [string];
    process.env['AWS_ACCESS_KEY_ID'] = credentials.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = credentials.secretAccessKey;
  }
  const store = await openS3Store({ bucket, prefix: '', endpoint, region: 'us-east-1', pathStyle: true, connectionsMax: inFlight, requestTimeoutMs: 10_000, deadlineMs: 30_000, log: silentLog });
  const { CreateBucketCommand, GetObjectCommand, S3Client } = await import('@aws-sdk/client-s3');
  const sdk = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true });
  if (!child) await sdk.send(new CreateBucketCommand({ Bucket: bucket })).catch(() => undefined);
  const keys = Array.from({ length: 100 }, (_, i) => `dir/file-${i}.bin`);
  for (const key of keys) await store.put(key, { kind: 'bytes', bytes: randomBytes(sizeBytes) }, { metadata: {} }, 'any');

  const lean = (i: number): Promise<unknown> => store.getBytes(keys[i % keys.length]!, { start: 0, end: sizeBytes });
  const viaSdk = async (i: number): Promise<void> => {
    const { Body } = await sdk.send(new GetObjectCommand({ Bucket: bucket, Key: keys[i % keys.length]!, Range: `bytes=0-${sizeBytes - 1}` }));
    await Body!.transformToByteArray();
  };
  for (const [name, run] of [['aws sdk', viaSdk], ['lean store', lean]] as const) {
    await measure(name, 300, run, false); // warm
    for (let round = 0; round < 3; round++) await measure(name, count, run, true);
  }

  const host = new URL(endpoint).host;
  const headers = (): Record<string, string> => ({ host, range: `bytes=0-${sizeBytes - 1}` });
  const own = new Signer();
  const library = new SignatureV4({ credentials, region: 'us-east-1', service: 's3', sha256: Sha256, uriEscapePath: false, applyChecksum: false });
  const signOwn = (i: number): Promise<void> => {
    own.sign('GET', `/${bucket}/${keys[i % keys.length]!}`, '', headers(), emptySha256, credentials, { region: 'us-east-1', service: 's3' }, Date.now());
    return Promise.resolve();
  };
  const signLibrary = async (i: number): Promise<void> => {
    await library.sign(new HttpRequest({ method: 'GET', hostname: host, path: `/${bucket}/${keys[i % keys.length]!}`, headers: { ...headers(), 'x-amz-content-sha256': emptySha256 } }));
  };
  for (const [name, run] of [['sign: @smithy/signature-v4', signLibrary], ['sign: own', signOwn]] as const) {
    await measure(name, 300, run, false);
    for (let round = 0; round < 3; round++) await measure(name, count * 5, run, true);
  }
  await store.close();
  sdk.destroy();
  child?.disconnect();
}

async function measure(name: string, requests: number, run: (i: number) => Promise<unknown>, print: boolean): Promise<void> {
  const startedMs = performance.now();
  const before = process.cpuUsage();
  let next = 0;
  await Promise.all(Array.from({ length: inFlight }, async () => {
    while (next < requests) await run(next++);
  }));
  const { user, system } = process.cpuUsage(before);
  const wallMs = performance.now() - startedMs;
  if (print) console.log(`${name.padEnd(28)} ${((user + system) / 1000 / requests).toFixed(3)} ms CPU per request, ${Math.round(requests / (wallMs / 1000))} requests/s`);
}
