import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { startS3Process, type S3Process } from './child.js';

function clientOf(server: S3Process): S3Client {
  return new S3Client({ endpoint: server.endpoint, region: 'us-east-1', forcePathStyle: true, maxAttempts: 1, credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey } });
}

test('as a process it survives SIGKILL with everything it acknowledged, and is steered by its control port', async () => {
  const directory = fs.mkdtempSync(join(tmpdir(), 's3-child-'));
  let server = await startS3Process({ directory, buckets: ['b'] });
  try {
    await clientOf(server).send(new PutObjectCommand({ Bucket: 'b', Key: 'k', Body: 'kept' }));
    const { port } = server;
    await server.kill();
    server = await startS3Process({ directory, port });
    const client = clientOf(server);
    const get = async (): Promise<string> => (await client.send(new GetObjectCommand({ Bucket: 'b', Key: 'k' }))).Body!.transformToString();
    expect(await get()).toBe('kept');
    await server.setFaults([{ kinds: ['GET'], count: 1, fault: { type: 'status', status: 500 } }]);
    await expect(get()).rejects.toMatchObject({ $metadata: { httpStatusCode: 500 } });
    await server.down();
    await expect(get()).rejects.toThrow();
    await server.up();
    expect(await get()).toBe('kept');
    expect((await server.stats()).counters).toEqual({ GET: 3 });
    expect((await server.requests()).map((one) => one.status)).toEqual([200, 500, 200]);
  } finally {
    await server.stop();
    fs.rmSync(directory, { recursive: true });
  }
});
