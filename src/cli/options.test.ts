import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/user-error.js';
import { parseArgs } from './args.js';
import { environmentName, mistypedVariables, mountOptions, optionsTable } from './options.js';
import { defaultCacheDir, resolveConfig } from './resolve.js';

let dir: string;
beforeAll(() => { dir = mkdtempSync(path.join(os.tmpdir(), 'hearthfs-options-')); });
afterAll(() => rmSync(dir, { recursive: true }));

const flags = [...Object.values(mountOptions), { name: 'config', kind: 'text', help: '' }] as const;
const TiB = 2 ** 40;
function resolve(argv: string[], over: { env?: Record<string, string>; uid?: number; diskBytes?: number; source?: string } = {}) {
  const world = { env: over.env ?? {}, uid: over.uid ?? 1000, gid: 1000, home: '/home/u', cwd: '/work', diskBytes: () => over.diskBytes ?? TiB };
  return resolveConfig(over.source ?? 's3://bucket', 'mnt', parseArgs('mount', argv, flags, 2).flags, world);
}
function failure(fn: () => unknown): UserError {
  try {
    fn();
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return error as UserError;
  }
  throw new Error('it did not fail');
}

describe('the options of mount', () => {
  it('have the documented defaults', () => {
    expect(resolve([])).toEqual({
      bucket: 'bucket', prefix: '', mountpoint: '/work/mnt', pathStyle: false, cacheDir: defaultCacheDir({ bucket: 'bucket', prefix: '', endpoint: undefined }, { uid: 1000, home: '/home/u' }),
      cacheSizeBytes: 20 * 2 ** 30, minFree: { percent: 5 }, writeMode: 'back', fsync: 'local', readMode: 'stream', ttlMs: 60_000, attributes: 'full', readOnly: false,
      uid: 1000, gid: 1000, umask: 0o022, allowOther: false, suid: false, dev: false, atime: 'relatime', transport: 'kernel', passthrough: 'auto', logLevel: 'info', foreground: false, deadlineMs: 10_000, uploadDelayMs: 1_000,
      journalIntervalMs: 1_000, transferWorkers: 2, uploadsMax: 64, downloadsMax: 64,
    });
  });

  it('can all be given as flags', () => {
    const config = resolve([
      '--endpoint', 'http://127.0.0.1:9000/', '--region=eu-west-1', '--profile', 'p', '--no-path-style', '--cache-dir', 'c', '--cache-size', '1.5GB', '--min-free', '10GiB',
      '--write-mode', 'through', '--fsync', 'remote', '--read-mode', 'store', '--ttl', 'exclusive', '--attributes', 'listing', '--read-only', '--uid', '5', '--gid', '6', '--umask', '0077',
      '--allow-other', '--atime', 'noatime', '--transport', 'kernel', '--passthrough', 'off', '--metrics', '[::1]:9090', '--log-level', 'debug', '--log-file', '/var/log/h.log', '--foreground', '--deadline', '500ms',
      '--upload-delay', '0', '--journal-interval', '2s', '--workers', '4', '--uploads', '8', '--downloads', '9',
    ], { source: 's3://bucket/a/b//' });
    expect(config).toEqual({
      bucket: 'bucket', prefix: 'a/b/', mountpoint: '/work/mnt', endpoint: 'http://127.0.0.1:9000', region: 'eu-west-1', profile: 'p', pathStyle: false, cacheDir: '/work/c',
      cacheSizeBytes: 1.5e9, minFree: { bytes: 10 * 2 ** 30 }, writeMode: 'through', fsync: 'remote', readMode: 'store', ttlMs: null, attributes: 'listing', readOnly: true,
      uid: 5, gid: 6, umask: 0o077, allowOther: true, suid: false, dev: false, atime: 'noatime', transport: 'kernel', passthrough: 'off', metrics: '[::1]:9090', logLevel: 'debug', logFile: '/var/log/h.log', foreground: true, deadlineMs: 500,
      uploadDelayMs: 0, journalIntervalMs: 2_000, transferWorkers: 4, uploadsMax: 8, downloadsMax: 9,
    });
  });

  it('are taken from the flag before the environment before the file before the default', () => {
    const config = path.join(dir, 'config.json');
    writeFileSync(config, JSON.stringify({ ttl: 5, 'read-only': true, uid: 7, umask: '027' }));
    const env = { HEARTHFS_CONFIG: config, HEARTHFS_TTL: '6', HEARTHFS_READ_ONLY: 'false', HEARTHFS_GID: '' };
    expect(resolve(['--ttl', '7'], { env })).toMatchObject({ ttlMs: 7_000, readOnly: false, uid: 7, umask: 0o027, gid: 1000 });
    expect(resolve([], { env })).toMatchObject({ ttlMs: 6_000 });
    expect(resolve(['--config', config])).toMatchObject({ ttlMs: 5_000, readOnly: true });
  });

  it.each([
    ['--cache-size', '20 apples'], ['--cache-size', '0'], ['--min-free', '100%'], ['--ttl', 'soon'], ['--ttl', '-1'], ['--umask', '9'], ['--umask', '7777'], ['--metrics', '9090'],
    ['--metrics', 'h:99999'], ['--write-mode', 'sideways'], ['--transport', 'fuse-native'], ['--endpoint', 'localhost:9000'], ['--endpoint', 'http://k:s@host'], ['--uid', 'root'], ['--workers', '0'],
    ['--deadline', '1ms'], ['--log-level', 'loud'],
  ])('refuses %s %s with exit code 2 and says what it must be', (flag, value) => {
    const error = failure(() => resolve([`${flag}=${value}`]));
    expect(error.exitCode).toBe(2);
    expect(error.message).toContain(flag);
  });

  it('names the environment variable or file a wrong value came from', () => {
    expect(failure(() => resolve([], { env: { HEARTHFS_TTL: 'soon' } })).message).toMatch(/^HEARTHFS_TTL is "soon"/);
    const config = path.join(dir, 'wrong.json');
    writeFileSync(config, '{"ttl": "soon"}');
    expect(failure(() => resolve(['--config', config])).message).toMatch(/^ttl in .*wrong.json is "soon"/);
    writeFileSync(config, '{"cachesize": "1G"}');
    expect(failure(() => resolve(['--config', config])).message).toMatch(/unknown key "cachesize"; did you mean "cache-size"\?$/);
    writeFileSync(config, '{');
    expect(failure(() => resolve(['--config', config])).message).toMatch(/not valid JSON/);
    expect(failure(() => resolve(['--config', '/nowhere.json'])).message).toMatch(/it does not exist/);
  });

  it('suggest the nearest name for an unknown flag', () => {
    expect(failure(() => resolve(['--cache-siez', '1G'])).message).toBe('`hearthfs mount` has no option --cache-siez; did you mean --cache-size?');
    expect(failure(() => resolve(['--readonly'])).message).toMatch(/did you mean --read-only\?$/);
    expect(failure(() => resolve(['--zzzzzzzz'])).message).toMatch(/see `hearthfs help mount`$/);
  });

  it('refuse a flag without its value, given twice, or a text switched off', () => {
    expect(failure(() => resolve(['--ttl'])).message).toMatch(/^--ttl needs a value: --ttl DURATION/);
    expect(failure(() => resolve(['--ttl', '1', '--ttl', '2'])).message).toMatch(/^--ttl is given 2 times/);
    expect(failure(() => resolve(['--no-ttl'])).exitCode).toBe(2);
  });

  it('warn of a variable that looks like one of theirs', () => {
    expect(mistypedVariables({ HEARTHFS_CASHE_SIZE: '1GB', HEARTHFS_TTL: '5m', HEARTHFS_CONFIG: 'f', HEARTHFS_SOMETHING_ELSE_ENTIRELY: '1', PATH: '' })).toEqual(['HEARTHFS_CASHE_SIZE is no option and has no effect; did you mean HEARTHFS_CACHE_SIZE?']);
  });

  it('use half of a small disk at most, unless a size is given', () => {
    expect(resolve([], { diskBytes: 10e9 }).cacheSizeBytes).toBe(5e9);
    expect(resolve(['--cache-size', '20GiB'], { diskBytes: 10e9 }).cacheSizeBytes).toBe(20 * 2 ** 30);
  });

  it('keep mounts of different buckets, prefixes and endpoints apart by default', () => {
    const user = { uid: 1000, home: '/home/u' };
    const dirs = [
      { bucket: 'a', prefix: '', endpoint: undefined }, { bucket: 'a', prefix: 'b/', endpoint: undefined }, { bucket: 'a-b', prefix: '', endpoint: undefined }, { bucket: 'a', prefix: '', endpoint: 'http://x' },
    ].map((of) => defaultCacheDir(of, user));
    expect(new Set(dirs).size).toBe(4);
    expect(dirs[1]).toMatch(/^\/home\/u\/\.cache\/hearthfs\/a-b-[0-9a-f]{12}$/);
    expect(defaultCacheDir({ bucket: 'a', prefix: '', endpoint: undefined }, { uid: 0, home: '/root' })).toMatch(/^\/var\/cache\/hearthfs\/a-/);
  });

  it('refuse a cache directory or log file inside the mountpoint (K17)', () => {
    expect(failure(() => resolve(['--cache-dir', 'mnt/cache'])).message).toMatch(/inside the mountpoint/);
    expect(failure(() => resolve(['--log-file', '/work/mnt/log'])).message).toMatch(/inside the mountpoint/);
    expect(resolve(['--cache-dir', '/work/mnt2']).cacheDir).toBe('/work/mnt2');
  });

  it('take the endpoint from the variables all AWS tools know', () => {
    expect(resolve([], { env: { AWS_ENDPOINT_URL: 'http://a' } })).toMatchObject({ endpoint: 'http://a', pathStyle: true });
    expect(resolve([], { env: { AWS_ENDPOINT_URL: 'http://a', AWS_ENDPOINT_URL_S3: 'http://b' } }).endpoint).toBe('http://b');
    expect(resolve(['--endpoint', 'http://c'], { env: { AWS_ENDPOINT_URL: 'http://a' } }).endpoint).toBe('http://c');
  });

  it('let setuid programs and device nodes work for root only', () => {
    expect(resolve(['--allow-suid', '--allow-dev'], { uid: 0 })).toMatchObject({ suid: true, dev: true });
    expect(failure(() => resolve(['--allow-suid'])).message).toMatch(/^--allow-suid needs root/);
    expect(failure(() => resolve(['--allow-dev'])).message).toMatch(/^--allow-dev needs root/);
  });

  it('have distinct names in flags and environment', () => {
    const names = Object.values(mountOptions).map(environmentName);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain('HEARTHFS_CACHE_SIZE');
  });

  it('are listed in README.md exactly as in the table', () => {
    const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
    const between = /<!-- options -->\n([\s\S]*?)\n<!-- \/options -->/.exec(readme)?.[1];
    expect(between, 'bring it up to date with `node dist/scripts/update-readme.js`').toBe(optionsTable());
  });
});

describe('s3:// URLs', () => {
  it.each([
    ['s3://abc', 'abc', ''], ['s3://abc/', 'abc', ''], ['s3://a.b-c/x', 'a.b-c', 'x/'], ['s3://abc/x/y/', 'abc', 'x/y/'], ['s3://abc/ü %2F', 'abc', 'ü %2F/'],
  ])('%s is bucket %s with prefix %j', (url, bucket, prefix) => {
    expect(resolve([], { source: url })).toMatchObject({ bucket, prefix });
  });
  it.each(['abc', 'S3:/abc', 's3://', 's3://ab', 's3://-abc', 's3://a..b', 's3://a b', 's3:///x', 's3://abc//x', 's3://abc/a/../b', 's3://abc/.', 'https://abc'])('%s is refused', (url) => {
    expect(failure(() => resolve([], { source: url })).exitCode).toBe(2);
  });
});
