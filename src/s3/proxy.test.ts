import { expect, test } from 'vitest';
import { proxyFor } from './proxy.js';

const s3 = { secure: true, hostname: 's3.eu-west-1.amazonaws.com', port: 443 };
const minio = { secure: false, hostname: 'minio.lan', port: 9000 };
const proxy = (target: typeof s3, env: Record<string, string>): string | undefined => proxyFor(target, env)?.href;

test('the variable of the scheme applies, then ALL_PROXY, in either case; a bare host is an http proxy', () => {
  const env = { HTTPS_PROXY: 'http://secure:1', http_proxy: 'plain:2', ALL_PROXY: 'https://any:3' };
  expect(proxy(s3, env)).toBe('http://secure:1/');
  expect(proxy(minio, env)).toBe('http://plain:2/');
  expect(proxy(s3, { ...env, HTTPS_PROXY: '' })).toBe('https://any:3/');
  expect(proxy(s3, { https_proxy: 'http://lower:1', HTTPS_PROXY: 'http://upper:1' })).toBe('http://lower:1/');
  expect(proxy(s3, {})).toBeUndefined();
});

test.each([
  ['amazonaws.com', true], ['.amazonaws.com', true], ['*.amazonaws.com', true], ['AMAZONAWS.COM', true], ['other.com, s3.eu-west-1.amazonaws.com:443', true], ['*', true],
  ['zonaws.com', false], ['amazonaws.com:80', false], ['other.com', false], ['', false], ['.', false],
])('NO_PROXY=%s excepts S3: %s', (list, isExcepted) => {
  expect(proxy(s3, { HTTPS_PROXY: 'http://p:1', NO_PROXY: list }) === undefined).toBe(isExcepted);
});

test.each([
  ['10.1.2.3', '10.0.0.0/8', true], ['10.1.2.3', '10.1.2.3', true], ['10.1.2.3', '10.1.2.3:9000', true], ['10.1.2.3', '10.1.2.3:9001', false], ['11.1.2.3', '10.0.0.0/8', false], ['10.1.2.3', '2.3', false],
  ['10.1.2.3', '10.0.0.0/99', false], ['fd00::5', 'fd00::/8', true], ['fd00::5', '[fd00::5]:9000', true], ['fe80::5', 'fd00::/8', false],
])('address %s with NO_PROXY=%s is excepted: %s', (hostname, list, isExcepted) => {
  expect(proxy({ secure: false, hostname, port: 9000 }, { HTTP_PROXY: 'http://p:1', no_proxy: list }) === undefined).toBe(isExcepted);
});

test('this machine is never asked of a proxy', () => {
  for (const hostname of ['localhost', 's3.localhost', '127.0.0.1', '127.1.2.3', '::1']) expect(proxy({ ...minio, hostname }, { HTTP_PROXY: 'http://p:1' })).toBeUndefined();
});

test('what is no HTTP proxy is refused with the name of the variable', () => {
  expect(() => proxy(s3, { HTTPS_PROXY: 'socks5://p:1' })).toThrow('HTTPS_PROXY is "socks5://p:1", which is not the URL of an HTTP proxy; it looks like http://proxy.example.com:3128');
});
