import { describe, expect, it } from 'vitest';
import type { MountConfig } from './config.js';
import { maySpeakTls, restartDelayMs } from './supervisor.js';

describe('restartDelayMs()', () => {
  it('is nothing for a first death, grows, and stays at 2 s', () => {
    expect([1, 2, 3, 4, 6, 7, 100].map(restartDelayMs)).toEqual([0, 100, 200, 400, 1600, 2000, 2000]);
  });
});

describe('maySpeakTls()', () => {
  const config = { bucket: 'bucket', endpoint: 'http://minio:9000', pathStyle: true } as MountConfig;
  const keys = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 's', AWS_REGION: 'us-east-1' };

  it('is false where the endpoint is plain and the environment has the keys', () => {
    expect(maySpeakTls(config, keys)).toBe(false);
  });

  it('is true for other endpoints, keys from elsewhere, and proxies', () => {
    expect(maySpeakTls({ ...config, endpoint: 'https://minio:9000' }, keys)).toBe(true);
    expect(maySpeakTls({ bucket: 'bucket', pathStyle: false } as MountConfig, keys)).toBe(true);
    expect(maySpeakTls({ ...config, profile: 'work' }, keys)).toBe(true);
    expect(maySpeakTls(config, { AWS_REGION: 'us-east-1' })).toBe(true);
    for (const name of ['HTTP_PROXY', 'https_proxy']) expect(maySpeakTls(config, { ...keys, [name]: 'https://proxy' })).toBe(true);
  });
});
