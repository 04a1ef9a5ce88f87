import { describe, expect, test } from 'vitest';
import { Signer, emptySha256 } from './signer.js';
import { decodeKey, encodeKey, encodeQuery } from './uri.js';

const credentials = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' };
const scope = { region: 'us-east-1', service: 's3' };
const may24 = Date.UTC(2013, 4, 24);

describe('the signer makes the signatures of the S3 API reference', () => {
  test('GET with a range', () => {
    const headers: Record<string, string> = { host: 'examplebucket.s3.amazonaws.com', range: 'bytes=0-9' };
    new Signer().sign('GET', '/test.txt', '', headers, emptySha256, credentials, scope, may24);
    expect(headers['authorization']).toBe(
      'AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, ' +
      'Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    );
  });

  test('GET of a listing', () => {
    const headers: Record<string, string> = { host: 'examplebucket.s3.amazonaws.com' };
    new Signer().sign('GET', '/', encodeQuery({ prefix: 'J', 'max-keys': '2' }), headers, emptySha256, credentials, scope, may24);
    expect(headers['authorization']).toMatch(/Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7$/);
  });

  test('a presigned GET', () => {
    const query = new Signer().presign('/test.txt', 'examplebucket.s3.amazonaws.com', 86_400, credentials, scope, may24);
    expect(query).toMatch(/X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404$/);
  });

  test('the cached key is not used for another day, region or secret', () => {
    const signer = new Signer();
    const sign = (with_: typeof credentials, region: string, at: number): string => {
      const headers: Record<string, string> = { host: 'h' };
      signer.sign('GET', '/', '', headers, emptySha256, with_, { region, service: 's3' }, at);
      return headers['authorization']!;
    };
    const fresh = (with_: typeof credentials, region: string, at: number): string => {
      const headers: Record<string, string> = { host: 'h' };
      new Signer().sign('GET', '/', '', headers, emptySha256, with_, { region, service: 's3' }, at);
      return headers['authorization']!;
    };
    const variants: [typeof credentials, string, number][] = [[credentials, 'a', 0], [credentials, 'b', 0], [{ ...credentials, secretAccessKey: 'x' }, 'b', 0], [credentials, 'a', 86_400_000]];
    for (const variant of variants) {
      expect(sign(...variant)).toBe(fresh(...variant));
    }
  });
});

test('keys are encoded byte by byte, slashes and dots survive', () => {
  expect(encodeKey("a//b/../c d+e'(ü)*")).toBe('a//b/../c%20d%2Be%27%28%C3%BC%29%2A');
  expect(() => encodeKey('\ud800')).toThrow(/not valid Unicode/);
});

test('keys of listings are decoded, and what is no UTF-8 is no key', () => {
  expect(decodeKey('a+b%2Bc%C3%BC')).toBe('a b+cü');
  expect(decodeKey('%ff')).toBeUndefined();
});
