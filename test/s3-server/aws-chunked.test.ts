import { hash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AwsChunkedDecoder } from './aws-chunked.js';
import { hmac } from './sigv4.js';

const signing = { key: Buffer.from('key'), amzDate: '20240101T000000Z', scope: '20240101/us-east-1/s3/aws4_request', seed: '0'.repeat(64) };

function encode(chunks: readonly Buffer[], signed: boolean, trailer = ''): Buffer {
  let previous = signing.seed;
  const out: Buffer[] = [];
  for (const chunk of [...chunks, Buffer.alloc(0)]) {
    previous = hmac(signing.key, `AWS4-HMAC-SHA256-PAYLOAD\n${signing.amzDate}\n${signing.scope}\n${previous}\n${hash('sha256', '')}\n${hash('sha256', chunk)}`).toString('hex');
    out.push(Buffer.from(`${chunk.length.toString(16)}${signed ? `;chunk-signature=${previous}` : ''}\r\n`), chunk, ...(chunk.length > 0 ? [Buffer.from('\r\n')] : []));
  }
  return Buffer.concat([...out, Buffer.from(`${trailer}\r\n`)]);
}

function decode(decoder: AwsChunkedDecoder, body: Buffer, step: number): Buffer {
  const out: Buffer[] = [];
  for (let at = 0; at < body.length; at += step) decoder.push(body.subarray(at, at + step), (data) => out.push(Buffer.from(data)));
  decoder.finish();
  return Buffer.concat(out);
}

describe('aws-chunked', () => {
  test('the content comes out whole however the body is cut, signed or not', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 5 }), fc.boolean(), fc.integer({ min: 1, max: 50 }), (arrays, signed, step) => {
      const chunks = arrays.map((one) => Buffer.from(one));
      const decoder = new AwsChunkedDecoder(signed ? signing : undefined, false);
      expect(decode(decoder, encode(chunks, signed), step)).toEqual(Buffer.concat(chunks));
    }));
  });

  test('trailers are read', () => {
    const decoder = new AwsChunkedDecoder(undefined, true);
    expect(decode(decoder, encode([Buffer.from('hi')], false, 'x-amz-checksum-crc32:abc=\r\n'), 3).toString()).toBe('hi');
    expect(decoder.trailers.get('x-amz-checksum-crc32')).toBe('abc=');
  });

  test('one changed byte of content is a wrong signature', () => {
    const body = encode([Buffer.from('hello')], true);
    body[body.indexOf('hello')]! ^= 1;
    expect(() => decode(new AwsChunkedDecoder(signing, false), body, 1000)).toThrow(/signature/);
  });

  test('a body that ends early is incomplete', () => {
    const body = encode([Buffer.from('hello')], false);
    expect(() => decode(new AwsChunkedDecoder(undefined, false), body.subarray(0, body.length - 8), 4)).toThrow(/terminated/);
  });
});
