import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { algorithms, createChecksum, isCrc, joinCrc, type Algorithm } from './checksums.js';

function sum(algorithm: Algorithm, ...pieces: Buffer[]): Buffer {
  const checksum = createChecksum(algorithm);
  for (const piece of pieces) checksum.update(piece);
  return checksum.digest();
}

describe('checksums', () => {
  test.each([['CRC32', 'cbf43926'], ['CRC32C', 'e3069283'], ['CRC64NVME', 'ae8b14860a799888']] as const)('%s of "123456789" is the catalogue check value', (algorithm, expected) => {
    expect(sum(algorithm, Buffer.from('123456789')).toString('hex')).toBe(expected);
  });

  test('the sum does not depend on how the bytes are cut', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, at) => {
      const whole = Buffer.from(bytes);
      for (const algorithm of algorithms) expect(sum(algorithm, whole.subarray(0, at), whole.subarray(at))).toEqual(sum(algorithm, whole));
    }));
  });

  test('joined CRCs of two parts are the CRC of both together', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), fc.uint8Array({ maxLength: 100 }), (left, right) => {
      const [a, b] = [Buffer.from(left), Buffer.from(right)];
      for (const algorithm of algorithms) if (isCrc(algorithm)) expect(joinCrc(algorithm, sum(algorithm, a), sum(algorithm, b), b.length)).toEqual(sum(algorithm, Buffer.concat([a, b])));
    }));
  });
});
