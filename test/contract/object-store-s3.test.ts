/** The contract against the embedded server as AWS answers, directly and through the worker pool, and as a server that ignores conditions. */
import { randomBytes } from 'node:crypto';
import { silentLog } from '../../src/base/log.js';
import { ConditionalStore } from '../../src/s3/conditional-store.js';
import { probeCapabilities } from '../../src/s3/capabilities.js';
import { openS3Store, type S3StoreOptions } from '../../src/s3/s3-store.js';
import { openTransferPool } from '../../src/transfer/transfer-pool.js';
import { cephCapabilities } from '../s3-server/capabilities.js';
import { startS3Server, type S3Server, type S3ServerOptions } from '../s3-server/server.js';
import { objectStoreContract, type Subject } from './object-store.js';

const bucket = 'contract';

async function server(options: S3ServerOptions = {}): Promise<{ server: S3Server; settings: Omit<S3StoreOptions, 'bucket' | 'prefix'> }> {
  const accessKeyId = 'contract-key';
  const secretAccessKey = randomBytes(12).toString('hex');
  const started = await startS3Server({ accessKeyId, secretAccessKey, region: 'eu-central-1', storage: 'memory', buckets: [bucket], ...options });
  process.env['AWS_ACCESS_KEY_ID'] = accessKeyId;
  process.env['AWS_SECRET_ACCESS_KEY'] = secretAccessKey;
  delete process.env['AWS_SESSION_TOKEN'];
  return { server: started, settings: { endpoint: started.endpoint, region: 'eu-central-1', pathStyle: true, connectionsMax: 16, requestTimeoutMs: 10_000, deadlineMs: 20_000, log: silentLog } };
}

objectStoreContract('s3-store on the embedded server', async (): Promise<Subject> => {
  const { server: s3, settings } = await server();
  const store = await openS3Store({ ...settings, bucket, prefix: 'mount/here/' });
  const missingBucket = await openS3Store({ ...settings, bucket: 'not-there', prefix: '' });
  return { store, missingBucket, close: async () => { await Promise.all([store.close(), missingBucket.close()]); await s3.close(); } };
});

objectStoreContract('transfer pool on the embedded server', async (): Promise<Subject> => {
  const { server: s3, settings } = await server();
  const store = await openTransferPool({ ...settings, bucket, prefix: 'pool/' }, 2);
  const missingBucket = await openTransferPool({ ...settings, bucket: 'not-there', prefix: '' }, 1);
  return { store, missingBucket, close: async () => { await Promise.all([store.close(), missingBucket.close()]); await s3.close(); } };
});

objectStoreContract('conditions emulated over a server like Ceph, which ignores most (O2)', async (): Promise<Subject> => {
  const { server: s3, settings } = await server({ capabilities: cephCapabilities() });
  const inner = await openS3Store({ ...settings, bucket, prefix: '' });
  const store = new ConditionalStore(inner, await probeCapabilities(inner));
  return { store, close: async () => { await store.close(); await s3.close(); } };
});
