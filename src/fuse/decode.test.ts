import { describe, expect, it } from 'vitest';
import { pack } from '../../test/support/fake-kernel.js';
import { AttrValid, Opcode } from './abi.js';
import { decodeRequest, decodeSupplementaryGroup, Frame } from './decode.js';

function frame(opcode: number, body: Buffer, extension: Buffer = Buffer.alloc(0)): Frame {
  const bytes = Buffer.concat([pack(40 + body.length + extension.length, opcode, 2n, 1n, 0, 0, 0, extension.length / 8), body, extension]);
  const loaded = new Frame(bytes);
  loaded.load(bytes.length);
  return loaded;
}
const decode = (opcode: number, body: Buffer, ext = true): unknown => decodeRequest(frame(opcode, body), ext);
const setattr = (valid: number): Buffer => pack(valid, 0, 9n, 100n, 0n, 11n, -12n, 13n, 1, 2, 3, 0o600, 0, 5, 6, 0);

describe('SETATTR', () => {
  it('names only what is valid, with times before the epoch', () => {
    const every = AttrValid.MODE | AttrValid.UID | AttrValid.GID | AttrValid.SIZE | AttrValid.ATIME | AttrValid.MTIME | AttrValid.CTIME | AttrValid.FH;
    expect(decode(Opcode.SETATTR, setattr(every))).toEqual({
      op: 'SETATTR',
      change: { fh: 9, sizeBytes: 100, atime: { sec: 11, nsec: 1 }, mtime: { sec: -12, nsec: 2 }, ctime: { sec: 13, nsec: 3 }, mode: 0o600, uid: 5, gid: 6, killSuidGid: false },
    });
    expect(decode(Opcode.SETATTR, setattr(AttrValid.ATIME | AttrValid.ATIME_NOW))).toEqual({ op: 'SETATTR', change: { atime: 'now', killSuidGid: false } });
  });

  it('without anything valid, or with KILL_SUIDGID, clears suid and sgid (K2)', () => {
    expect(decode(Opcode.SETATTR, setattr(0))).toEqual({ op: 'SETATTR', change: { killSuidGid: true } });
    expect(decode(Opcode.SETATTR, setattr(AttrValid.FH))).toEqual({ op: 'SETATTR', change: { fh: 9, killSuidGid: true } });
    expect(decode(Opcode.SETATTR, setattr(AttrValid.SIZE | AttrValid.KILL_SUIDGID))).toMatchObject({ change: { sizeBytes: 100, killSuidGid: true } });
  });
});

describe('numbers and names', () => {
  it('offsets past 2^53 are EFBIG, negative ones and foreign handles EINVAL', () => {
    const read = (fh: bigint, offset: bigint): unknown => decode(Opcode.READ, pack(fh, offset, 1, 0, 0n, 0, 0));
    expect(() => read(1n, 1n << 53n)).toThrow(expect.objectContaining({ errno: 27 }));
    expect(() => read(1n, -1n)).toThrow(expect.objectContaining({ errno: 22 }));
    expect(() => read(1n << 60n, 0n)).toThrow(expect.objectContaining({ errno: 22 }));
  });

  it('a seek goes anywhere: what is outside of all files stays outside, for the file system to answer ENXIO', () => {
    const seek = (offset: bigint): unknown => decode(Opcode.LSEEK, pack(1n, offset, 3, 0));
    expect(seek(7n)).toEqual({ op: 'LSEEK', fh: 1, offset: 7, whence: 3 });
    expect(seek(-1n)).toMatchObject({ offset: -1 });
    expect(seek(-(1n << 62n))).toMatchObject({ offset: -1 });
    expect(seek(1n << 60n)).toMatchObject({ offset: Number.MAX_SAFE_INTEGER });
  });

  it('names may have 255 bytes, not none and not 256', () => {
    expect(decode(Opcode.LOOKUP, pack('é'.repeat(127) + 'x'))).toMatchObject({ name: 'é'.repeat(127) + 'x' });
    expect(decode(Opcode.LOOKUP, pack('x'.repeat(255)))).toMatchObject({ name: 'x'.repeat(255) });
    expect(decode(Opcode.RENAME, pack(7n, 'a b', 'ü'))).toMatchObject({ name: 'a b', newName: 'ü' });
    expect(() => decode(Opcode.LOOKUP, pack('x'.repeat(256)))).toThrow(expect.objectContaining({ errno: 36 }));
    expect(() => decode(Opcode.LOOKUP, Buffer.from('unterminated'))).toThrow(expect.objectContaining({ errno: 22 }));
    expect(() => decode(Opcode.LOOKUP, pack('é'.repeat(128)))).toThrow(expect.objectContaining({ errno: 36 }));
    expect(() => decode(Opcode.LOOKUP, pack(''))).toThrow(expect.objectContaining({ errno: 22 }));
  });

  it('a copy of any length is a wish', () => {
    expect(decode(Opcode.COPY_FILE_RANGE, pack(1n, 2n, 3n, 4n, 5n, 1n << 62n, 0n))).toEqual({ op: 'COPY_FILE_RANGE', fh: 1, offset: 2, outIno: 3, outFh: 4, outOffset: 5, length: Number.MAX_SAFE_INTEGER });
  });
});

describe('SETXATTR', () => {
  it('has a short and a long form, by what was negotiated', () => {
    expect(decode(Opcode.SETXATTR, pack(2, 1, 'user.a', Buffer.from('xy')), false)).toEqual({ op: 'SETXATTR', name: 'user.a', value: Buffer.from('xy'), flags: 1, killSgid: false });
    expect(decode(Opcode.SETXATTR, pack(2, 1, 1, 0, 'user.a', Buffer.from('xy')))).toMatchObject({ name: 'user.a', killSgid: true });
    expect(() => decode(Opcode.SETXATTR, pack(3, 1, 1, 0, 'user.a', Buffer.from('xy')))).toThrow(/announces/);
  });
});

describe('BATCH_FORGET and extensions', () => {
  it('announcing more items than it has is EINVAL', () => {
    expect(decode(Opcode.BATCH_FORGET, pack(2, 0, 5n, 1n, 6n, 2n))).toEqual({ op: 'BATCH_FORGET', items: [{ ino: 5, count: 1 }, { ino: 6, count: 2 }] });
    expect(() => decode(Opcode.BATCH_FORGET, pack(3, 0, 5n, 1n, 6n, 2n))).toThrow(/announces 3/);
    expect(() => decode(Opcode.BATCH_FORGET, pack(0xffff_ffff, 0))).toThrow(/announces/);
  });

  it('a group is found behind other extensions; lying ones are EINVAL and never loop', () => {
    const group = (extension: Buffer): number | undefined => {
      const loaded = frame(Opcode.MKDIR, pack(0, 0, 'd'), extension);
      decodeRequest(loaded, true);
      return decodeSupplementaryGroup(loaded);
    };
    expect(group(pack(16, 7, 0, 0, 16, 32, 1, 4242))).toBe(4242);
    expect(group(pack(16, 32, 0, 0))).toBeUndefined();
    expect(() => group(pack(0, 7))).toThrow(/wrong size/);
    expect(() => group(pack(64, 32, 1, 1))).toThrow(/wrong size/);
    expect(() => group(pack(16, 32, 2, 1))).toThrow(/more groups/);
    const lying = frame(Opcode.MKDIR, pack(0, 0, 'd'));
    lying.buffer.writeUInt16LE(0xffff, 36);
    expect(() => decodeRequest(lying, true)).toThrow(/longer than the frame/);
  });
});
