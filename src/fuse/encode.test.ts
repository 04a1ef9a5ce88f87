import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nameFromBytes } from '../base/file-name.js';
import { Frame } from './decode.js';
import { DirentPacker, putI64, putOpen, Reply } from './encode.js';
import { deleteEntry, invalEntry, invalInode } from './notice.js';
import type { Attr } from './ops.js';

const attr: Attr = {
  ino: 0x1_2345_6789_abcd, sizeBytes: 2 ** 40 + 1, blocks: 7, atime: { sec: 1, nsec: 2 }, mtime: { sec: -1, nsec: 999_999_999 }, ctime: { sec: 2 ** 33, nsec: 3 },
  mode: 0o100644, nlink: 4, uid: 5, gid: 0xffff_fffe, rdev: 0x11032c, blksize: 4096,
};

describe('replies, byte by byte as in fuse.h', () => {
  it('fuse_attr_out', () => {
    const reply = new Reply();
    expect(reply.attr({ attr, attrValidMs: 1500 })).toBe(104);
    const b = reply.buffer.subarray(16);
    expect([b.readBigUInt64LE(0), b.readUInt32LE(8), b.readUInt32LE(12)]).toEqual([1n, 500_000_000, 0]);
    const a = b.subarray(16);
    expect([0, 8, 16, 24, 32, 40].map((at) => a.readBigInt64LE(at))).toEqual([0x1_2345_6789_abcdn, 2n ** 40n + 1n, 7n, 1n, -1n, 2n ** 33n]);
    expect([48, 52, 56, 60, 64, 68, 72, 76, 80, 84].map((at) => a.readUInt32LE(at))).toEqual([2, 999_999_999, 3, 0o100644, 4, 5, 0xffff_fffe, 0x11032c, 4096, 0]);
  });

  it('fuse_statx_out, with device numbers taken apart', () => {
    const reply = new Reply();
    expect(reply.statx({ attr, attrValidMs: 0 })).toBe(288);
    const s = reply.buffer.subarray(16 + 32);
    expect([s.readUInt32LE(0), s.readUInt32LE(4), s.readUInt32LE(16), s.readUInt32LE(20), s.readUInt16LE(28)]).toEqual([0x7ff, 4096, 4, 5, 0o100644]);
    expect([32, 40, 48, 64, 96, 112].map((at) => s.readBigInt64LE(at))).toEqual([BigInt(attr.ino), BigInt(attr.sizeBytes), 7n, 1n, 2n ** 33n, -1n]);
    expect([s.readUInt32LE(128), s.readUInt32LE(132)]).toEqual([259, 300]);
  });

  it('fuse_entry_out and fuse_open_out of CREATE; what an earlier reply left in the buffer does not show', () => {
    const reply = new Reply();
    reply.buffer.fill(0xff);
    expect(reply.create({ attr, entryValidMs: 2000, attrValidMs: 1, fh: 9, keepCache: true })).toBe(144);
    const b = reply.buffer.subarray(16);
    expect([b.readBigUInt64LE(0), b.readBigUInt64LE(8), b.readBigUInt64LE(16), b.readBigUInt64LE(24), b.readUInt32LE(32), b.readUInt32LE(36)]).toEqual([BigInt(attr.ino), 0n, 2n, 0n, 0, 1_000_000]);
    expect([b.readBigUInt64LE(128), b.readUInt32LE(136), b.readInt32LE(140)]).toEqual([9n, 2, 0]);
    reply.buffer.fill(0xff);
    reply.entry({ attr: null, entryValidMs: 1000, attrValidMs: 0 });
    expect(b.readBigUInt64LE(0)).toBe(0n);
    expect(b.subarray(40, 128).every((byte) => byte === 0)).toBe(true);
  });

  it('the generation is that of the reply; the root and what is not there have none', () => {
    const reply = new Reply();
    reply.generation = 7;
    const generations = [attr, { ...attr, ino: 1 }, null].map((each) => {
      reply.entry({ attr: each, entryValidMs: 1, attrValidMs: 1 });
      return Number(reply.buffer.readBigUInt64LE(16 + 8));
    });
    expect(generations).toEqual([7, 0, 0]);
    const into = Buffer.alloc(300);
    new DirentPacker(into, true, 7).add('name', attr.ino, attr.mode, 1, { attr, entryValidMs: 1, attrValidMs: 1 });
    expect(Number(into.readBigUInt64LE(8))).toBe(7);
  });

  it('fuse_statfs_out', () => {
    const reply = new Reply();
    reply.buffer.fill(0xff);
    expect(reply.statfs({ blocks: 2 ** 40, blocksFree: 2, blocksAvailable: 3, files: 4, filesFree: 5, blockSizeBytes: 4096, nameBytesMax: 255 })).toBe(80);
    const b = reply.buffer.subarray(16);
    expect([0, 8, 16, 24, 32].map((at) => b.readBigUInt64LE(at))).toEqual([2n ** 40n, 2n, 3n, 4n, 5n]);
    expect([40, 44, 48, 52].map((at) => b.readUInt32LE(at))).toEqual([4096, 255, 4096, 0]);
  });

  it('a passthrough open never says KEEP_CACHE (K6)', () => {
    const view = new DataView(new ArrayBuffer(16));
    putOpen(view, 0, { fh: 1, keepCache: true, backingId: 3 });
    expect([view.getUint32(8, true), view.getInt32(12, true)]).toEqual([128, 3]);
    putOpen(view, 0, { fh: 1, keepCache: true, directIo: true, nonSeekable: true, cacheDir: true });
    expect([view.getUint32(8, true), view.getInt32(12, true)]).toEqual([15, 0]);
  });
});

describe('numbers', () => {
  it('safe integers of either sign survive 64 bits', () => {
    const view = new DataView(new ArrayBuffer(8));
    fc.assert(fc.property(fc.maxSafeInteger(), (value) => {
      putI64(view, 0, value);
      expect(view.getBigInt64(0, true)).toBe(BigInt(value));
    }));
  });

  it('ids and offsets come back from a frame as they were put in', () => {
    const frame = new Frame(Buffer.alloc(64));
    fc.assert(fc.property(fc.nat({ max: Number.MAX_SAFE_INTEGER }), (value) => {
      putI64(frame.view, 40, value);
      expect([frame.id(40), frame.offset(40)]).toEqual([value, value]);
    }));
    frame.buffer.writeBigUInt64LE(2n ** 53n, 40);
    expect(() => frame.id(40)).toThrow(/not one of ours/);
    expect(() => frame.offset(40)).toThrow(/beyond/);
    frame.buffer.writeBigInt64LE(-1n, 40);
    expect(() => frame.offset(40)).toThrow(/negative/);
  });
});

describe('DirentPacker', () => {
  const anyName = fc.oneof(fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme' }), fc.uint8Array({ minLength: 1, maxLength: 255 }).map(nameFromBytes));

  it('packs any names into aligned records, never beyond its buffer, and reads back the same', () => {
    fc.assert(fc.property(fc.array(anyName, { maxLength: 40 }), fc.integer({ min: 0, max: 3000 }), fc.boolean(), (names, room, plus) => {
      const into = Buffer.alloc(room, 0xee);
      const packer = new DirentPacker(into, plus);
      const taken: string[] = [];
      for (const [i, name] of names.entries()) {
        if (!packer.add(name, i + 10, 0o100000, i + 1, { attr: { ...attr, ino: i + 10 }, entryValidMs: 0, attrValidMs: 0 })) break;
        taken.push(name);
      }
      expect(packer.length % 8).toBe(0);
      expect(into.subarray(packer.length).every((byte) => byte === 0xee)).toBe(true);
      const read: string[] = [];
      for (let at = 0; at < packer.length;) {
        const dirent = at + (plus ? 128 : 0);
        const length = into.readUInt32LE(dirent + 16);
        const name = nameFromBytes(into.subarray(dirent + 24, dirent + 24 + length));
        expect([Number(into.readBigUInt64LE(dirent)), into.readUInt32LE(dirent + 20)]).toEqual([read.length + 10, 8]);
        if (plus) expect(Number(into.readBigUInt64LE(at))).toBe(name === '.' || name === '..' ? 0 : read.length + 10);
        read.push(name);
        at = dirent + ((24 + length + 7) & ~7);
      }
      expect(read).toEqual(taken);
      expect(packer.lookups.length).toBe(plus ? taken.filter((name) => name !== '.' && name !== '..').length : 0);
    }));
  });
});

describe('notifications', () => {
  it('INVAL_ENTRY, INVAL_INODE and DELETE have the lengths and codes the kernel checks', () => {
    const entry = invalEntry(7, 'näme', true);
    expect([entry.readUInt32LE(0), entry.readInt32LE(4), entry.readBigUInt64LE(8)]).toEqual([16 + 16 + 5 + 1, 3, 0n]);
    expect([entry.readBigUInt64LE(16), entry.readUInt32LE(24), entry.readUInt32LE(28), entry.toString('utf8', 32)]).toEqual([7n, 5, 1, 'näme\0']);
    const inode = invalInode(7, -1, 0);
    expect([inode.length, inode.readInt32LE(4), inode.readBigInt64LE(24), inode.readBigInt64LE(32)]).toEqual([40, 2, -1n, 0n]);
    const deleted = deleteEntry(7, 8, 'x');
    expect([deleted.length, deleted.readInt32LE(4), deleted.readBigUInt64LE(24), deleted.readUInt32LE(32), deleted.readUInt32LE(36)]).toEqual([16 + 24 + 2, 6, 8n, 1, 0]);
  });
});
