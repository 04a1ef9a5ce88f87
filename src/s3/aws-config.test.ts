import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { compiledEntry } from '../base/entry-url.js';
import { loadAwsConfig, sdkConfig, type ConnectionOptions } from './aws-config.js';
import { environmentConfig } from './environment-config.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'hearthfs-aws-'));
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_') && !name.includes('NODE_VERSION')) vi.stubEnv(name, undefined);
  vi.stubEnv('AWS_CONFIG_FILE', join(directory, 'config'));
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(directory, 'credentials'));
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

test('without any configuration the region is us-east-1 until the bucket says otherwise', async () => {
  const aws = await loadAwsConfig({ bucket: 'photos', pathStyle: false });
  expect(aws).toMatchObject({ region: 'us-east-1', customEndpoint: false });
  expect(await aws.endpointFor('eu-west-1')).toEqual({
    secure: true, hostname: 'photos.s3.eu-west-1.amazonaws.com', port: 443, host: 'photos.s3.eu-west-1.amazonaws.com', basePath: '', scope: { region: 'eu-west-1', service: 's3' },
  });
});

test('a bucket with dots and path style go into the path', async () => {
  expect(await (await loadAwsConfig({ bucket: 'my.photos', region: 'us-west-2', pathStyle: false })).endpointFor('us-west-2')).toMatchObject({ host: 's3.us-west-2.amazonaws.com', basePath: '/my.photos' });
  expect(await (await loadAwsConfig({ bucket: 'photos', region: 'us-west-2', pathStyle: true })).endpointFor('us-west-2')).toMatchObject({ host: 's3.us-west-2.amazonaws.com', basePath: '/photos' });
});

test('an endpoint is taken from the option, then from AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL', async () => {
  vi.stubEnv('AWS_ENDPOINT_URL', 'http://general:1');
  const general = await loadAwsConfig({ bucket: 'b', pathStyle: true });
  expect(general.customEndpoint).toBe(true);
  expect(await general.endpointFor('us-east-1')).toMatchObject({ secure: false, hostname: 'general', port: 1, host: 'general:1', basePath: '/b' });
  vi.stubEnv('AWS_ENDPOINT_URL_S3', 'http://special:2');
  expect(await (await loadAwsConfig({ bucket: 'b', pathStyle: true })).endpointFor('us-east-1')).toMatchObject({ hostname: 'special' });
  expect(await (await loadAwsConfig({ bucket: 'b', pathStyle: true, endpoint: 'https://given/base/' })).endpointFor('us-east-1')).toMatchObject({ secure: true, hostname: 'given', basePath: '/base/b' });
});

test('a profile gives region, credentials, endpoint and dualstack, and is read again when asked freshly', async () => {
  writeFileSync(join(directory, 'config'), '[profile work]\nregion = eu-central-1\nuse_dualstack_endpoint = true\n[profile own]\nregion = x\nendpoint_url = http://minio:9000\n');
  writeFileSync(join(directory, 'credentials'), '[work]\naws_access_key_id = k1\naws_secret_access_key = s1\n');
  const aws = await loadAwsConfig({ bucket: 'photos', profile: 'work', pathStyle: false });
  expect(aws.region).toBe('eu-central-1');
  expect(await aws.endpointFor(aws.region)).toMatchObject({ host: 'photos.s3.dualstack.eu-central-1.amazonaws.com' });
  expect(await aws.loadCredentials(false)).toMatchObject({ accessKeyId: 'k1' });
  writeFileSync(join(directory, 'credentials'), '[work]\naws_access_key_id = k2\naws_secret_access_key = s2\n');
  expect(await aws.loadCredentials(true)).toMatchObject({ accessKeyId: 'k2' });
  expect(await (await loadAwsConfig({ bucket: 'b', profile: 'own', pathStyle: true })).endpointFor('x')).toMatchObject({ hostname: 'minio', port: 9000 });
});

test('what cannot work is refused with a sentence', async () => {
  await expect(loadAwsConfig({ bucket: 'b', endpoint: 'minio', pathStyle: true })).rejects.toThrow('The endpoint "minio" is not a URL');
  await expect((await loadAwsConfig({ bucket: 'b', pathStyle: true })).loadCredentials(false)).rejects.toMatchObject({ kind: 'bad-credentials' });
  const directoryBucket = await loadAwsConfig({ bucket: 'b--use1-az4--x-s3', region: 'us-east-1', pathStyle: false });
  await expect(async () => directoryBucket.endpointFor('us-east-1')).rejects.toThrow(/directory bucket/);
});

test('users never see the Node version warning of the SDK', () => {
  const { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: _, ...env } = process.env;
  const script = `const { loadAwsConfig } = await import(${JSON.stringify(compiledEntry(import.meta.url, './aws-config.js').href)});
    await loadAwsConfig({ bucket: 'b', region: 'us-east-1', pathStyle: true }); console.log('loaded');`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { env, encoding: 'utf8' });
  expect(stdout).toBe('loaded\n');
  expect(stderr).toBe('');
});

const keys = { AWS_ACCESS_KEY_ID: 'k', AWS_SECRET_ACCESS_KEY: 's' };

test.each<[string, Partial<ConnectionOptions>, Record<string, string>]>([
  ['http and a port', { endpoint: 'http://127.0.0.1:9000' }, {}],
  ['https, a path and a region', { endpoint: 'https://s3.example.com/base/', region: 'eu-west-3' }, {}],
  ['an IPv6 address and a token', { endpoint: 'http://[::1]:9000' }, { AWS_SESSION_TOKEN: 't' }],
  ['a port that is the default, a bucket with dots and a region of the environment', { endpoint: 'https://minio:443', bucket: 'my.photos' }, { AWS_REGION: 'here' }],
])('what the environment says needs no SDK, and is what the SDK says: %s', async (_, options, env) => {
  for (const [name, value] of Object.entries({ ...keys, ...env })) vi.stubEnv(name, value);
  const all = { bucket: 'photos', pathStyle: true, ...options };
  const [own, sdk] = [environmentConfig(all, process.env)!, await sdkConfig(all)];
  expect(own).toMatchObject({ region: sdk.region, customEndpoint: sdk.customEndpoint });
  for (const region of [sdk.region, 'elsewhere']) expect(await own.endpointFor(region)).toEqual(await sdk.endpointFor(region));
  expect(await own.loadCredentials(false)).toEqual(await sdk.loadCredentials(false));
});

test('what may be in a file, or has rules of its own, is asked of the SDK', () => {
  const plain = { bucket: 'photos', pathStyle: true, endpoint: 'http://127.0.0.1:9000' };
  const env = { ...process.env, ...keys };
  expect(environmentConfig(plain, env)).toBeDefined();
  const asked: [Partial<ConnectionOptions>, Record<string, string | undefined>][] = [
    [{ profile: 'work' }, {}], [{}, { AWS_PROFILE: 'work' }], [{ pathStyle: false }, {}], [{ endpoint: 'ftp://x' }, {}], [{ endpoint: 'minio' }, {}], [{ bucket: 'arn:aws:s3:::x' }, {}],
    [{ region: 'aws-global' }, {}], [{}, { AWS_SECRET_ACCESS_KEY: undefined }], [{}, { AWS_CREDENTIAL_EXPIRATION: '2030-01-01T00:00:00Z' }], [{}, { AWS_USE_FIPS_ENDPOINT: 'true' }],
  ];
  for (const [options, change] of asked) expect(environmentConfig({ ...plain, ...options }, { ...env, ...change })).toBeUndefined();
  writeFileSync(join(directory, 'config'), '[default]\nregion = eu-central-1\n');
  expect(environmentConfig(plain, env)).toBeUndefined();
  expect(environmentConfig({ ...plain, region: 'eu-west-1' }, env)).toMatchObject({ region: 'eu-west-1' });
});
