/** Frames captured from Linux 6.18 (`capture-fuse-frames.ts`) and what they mean, reviewed by hand in `fuse-frames.decoded.txt`. */
import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FsError } from '../../src/base/fs-error.js';
import { Errno } from '../../src/base/errno.js';
import { decodeRequest, decodeSupplementaryGroup, Frame } from '../../src/fuse/decode.js';

const captured = JSON.parse(fs.readFileSync(new URL('./fuse-frames.json', import.meta.url), 'utf8')) as Record<string, { request: string; reply?: string }[]>;
const expected = fs.readFileSync(new URL('./fuse-frames.decoded.txt', import.meta.url), 'utf8').trimEnd().split('\n');
const all = Object.entries(captured).flatMap(([op, records]) => records.map(({ request }) => ({ op, bytes: Buffer.from(request, 'hex') })));

function load(bytes: Buffer): Frame {
  const frame = new Frame(bytes);
  frame.load(bytes.length);
  return frame;
}

function printable(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if ((value as { type?: string } | null)?.type === 'Buffer') return `hex:${Buffer.from((value as { data: number[] }).data).toString('hex')}`;
  return value;
}

describe('captured kernel frames', () => {
  it('decode to what the system call said', () => {
    expect(all.map(({ op, bytes }) => {
      const frame = load(bytes);
      const request = decodeRequest(frame, true);
      return `${op} ${JSON.stringify({ ino: frame.nodeid, uid: frame.uid, gid: frame.gid, request, group: decodeSupplementaryGroup(frame) }, printable)}`;
    })).toEqual(expected);
  });

  it('cut short anywhere answer EINVAL, whether their header knows it or not, and never read past their end', () => {
    let refused = 0;
    for (const { bytes } of all) {
      for (let length = 40; length < bytes.length; length++) {
        for (const honest of [true, false]) {
          // what follows the cut must not help: it is what an earlier request left in the reused buffer
          const frame = new Frame(Buffer.concat([bytes.subarray(0, length), Buffer.alloc(300, 0x41)]));
          if (honest) frame.buffer.writeUInt32LE(length, 0);
          frame.load(length);
          try {
            decodeRequest(frame, true);
            decodeSupplementaryGroup(frame);
            expect(honest).toBe(true); // such as a struct whose tail is padding: still whole
          } catch (error) {
            expect(error).toBeInstanceOf(FsError);
            expect((error as FsError).errno).toBe(Errno.EINVAL);
            refused++;
          }
        }
      }
    }
    expect(refused).toBeGreaterThan(1000);
  });

  it('name every opcode and error the kernel was answered with', () => {
    const errors = Object.fromEntries(Object.entries(captured).map(([op, records]) => [op, [...new Set(records.map(({ reply }) => (reply ? Buffer.from(reply, 'hex').readInt32LE(4) : null)))]]));
    expect(errors).toMatchObject({ INIT: [0], IOCTL: [-25], COPY_FILE_RANGE_64: [-38], COPY_FILE_RANGE: [0], STATX: [-38], INTERRUPT: [null], FORGET: [null], READ: [0, -4] });
  });
});
