/**
 * The contract against a real server, when S3_ENDPOINT, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name one (Ceph: tools/rgw.sh).
 * HEARTHFS_TEST_BUCKET may name an existing bucket; else one is made.
 */
import { randomBytes } from 'node:crypto';
import { describe, test } from 'vitest';
import { silentLog } from '../../src/base/log.js';
import { openS3Store } from '../../src/s3/s3-store.js';
import { objectStoreContract, type Subject } from './object-store.js';

const endpoint = process.env['S3_ENDPOINT'];
const settings = { pathStyle: true, connectionsMax: 32, requestTimeoutMs: 20_000, deadlineMs: 30_000, region: process.env['AWS_REGION'] ?? 'us-east-1' };

async function bucketName(): Promise<string> {
  const given = process.env['HEARTHFS_TEST_BUCKET'];
  if (given !== undefined) return given;
  const { CreateBucketCommand, S3Client } = await import('@aws-sdk/client-s3');
  const client = new S3Client({ endpoint: endpoint!, region: settings.region, forcePathStyle: true });
  const bucket = 'hearthfs-contract';
  await client.send(new CreateBucketCommand({ Bucket: bucket })).catch((error: unknown) => {
    if (!(error instanceof Error) || !error.name.startsWith('BucketAlready')) throw error;
  });
  client.destroy();
  return bucket;
}

if (endpoint !== undefined) {
  objectStoreContract(`s3-store on ${endpoint}`, async (): Promise<Subject> => {
    const common = { ...settings, endpoint, prefix: `run-${randomBytes(4).toString('hex')}/`, log: silentLog };
    const store = await openS3Store({ ...common, bucket: await bucketName() });
    const missingBucket = await openS3Store({ ...common, bucket: `no-such-bucket-${randomBytes(4).toString('hex')}` });
    return { store, missingBucket, close: async () => { await Promise.all([store.close(), missingBucket.close()]); } };
  });
} else {
  describe.skip('ObjectStore contract on a real server: set S3_ENDPOINT to run it', () => {
    test('is skipped', () => undefined);
  });
}
