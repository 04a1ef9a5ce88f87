import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contentTypeOf } from './content-type.js';
import { decodeHeaderText, encodeHeaderText } from './header-text.js';
import { MetadataTooLarge, decodeAttributes, encodeAttributes, metadataBytesMax, metadataSizeBytes, withoutContentDigests, type FileAttributes } from './metadata-codec.js';
import { decodeTime, encodeTime } from './metadata-time.js';
import type { ObjectAttributes, ObjectHead } from './object-store.js';

const file: FileAttributes = {
  mode: 0o100644, uid: 1000, gid: 100, rdev: 0, mtime: { sec: 1_700_000_000, nsec: 5 }, atime: { sec: 1, nsec: 0 }, ctime: { sec: 2, nsec: 120_000_000 }, xattrs: null,
};
const head = (metadata: Record<string, string>, more: Partial<ObjectHead> & { contentType?: string } = {}): ObjectHead => ({
  key: 'a', etag: 'e', sizeBytes: 10, lastModifiedMs: 0, ...more, attributes: { metadata, ...(more.contentType !== undefined && { contentType: more.contentType }) },
});

describe('file attributes in metadata', () => {
  test('are written as s3fs and rclone read them', () => {
    expect(encodeAttributes(file, null, 'n1').metadata).toEqual({
      mode: '33188', uid: '1000', gid: '100', mtime: '1700000000.000000005', atime: '1', ctime: '2.120000000', 'hearthfs-nonce': 'n1',
    });
  });

  test('come back as they were', () => {
    const full: FileAttributes = {
      ...file, mode: 0o020600, rdev: 0x103, xattrs: new Map([['user.ä', Buffer.from([0, 255])], ['user.empty', Buffer.alloc(0)]]), linkId: 'x:1', linkGeneration: 7,
    };
    const decoded = decodeAttributes(head({ ...encodeAttributes(full, null, 'nonce').metadata }));
    const { foreign, nonce, ...rest } = decoded;
    expect(rest).toEqual({ ...full });
    expect(nonce).toBe('nonce');
    expect(foreign.metadata).toEqual({});
  });

  test('foreign metadata and headers are carried, ours are replaced (J12)', () => {
    const before = head({ mode: '33152', project: 'x', 'hearthfs-nonce': 'old', 'hearthfs-link': '1:a' });
    const attributes: ObjectAttributes = { ...before.attributes, cacheControl: 'max-age=1', contentType: 'image/x' };
    const { foreign } = decodeAttributes({ ...before, attributes });
    const after = encodeAttributes(file, foreign, 'new');
    expect(after).toMatchObject({ cacheControl: 'max-age=1', contentType: 'image/x' });
    expect(after.metadata).toMatchObject({ project: 'x', mode: '33188', 'hearthfs-nonce': 'new' });
    expect(after.metadata['hearthfs-link']).toBeUndefined();
  });

  test('digests of the old content are not carried to new content', () => {
    expect(withoutContentDigests({ metadata: { md5chksum: 'x', other: 'y' } }).metadata).toEqual({ other: 'y' });
  });

  test('an xattr value nobody understands is carried until xattrs are set here', () => {
    const { foreign, xattrs } = decodeAttributes(head({ xattr: '%7Bbroken' }));
    expect(xattrs).toBeUndefined();
    expect(encodeAttributes(file, foreign).metadata['xattr']).toBe('%7Bbroken');
    expect(encodeAttributes({ ...file, xattrs: new Map() }, foreign).metadata['xattr']).toBeUndefined();
  });

  test('the xattr field is that of s3fs', () => {
    const { xattrs } = decodeAttributes(head({ xattr: '%7b%22user.k%22%3a%22dmFs%22%7d' }));
    expect(xattrs).toEqual(new Map([['user.k', Buffer.from('val')]]));
  });

  test('more than 2 KB is refused, exactly 2 KB is not', () => {
    const room = metadataBytesMax - metadataSizeBytes(encodeAttributes(file, null).metadata) - 1;
    expect(() => encodeAttributes(file, { metadata: { x: 'y'.repeat(room) } })).not.toThrow();
    expect(() => encodeAttributes(file, { metadata: { x: 'y'.repeat(room + 1) } })).toThrow(MetadataTooLarge);
  });

  test.each([
    ['33188', 0o100644], ['420', 0o100644], ['0644', 0o100644], ['100644', 0o100644], ['40755', 0o100755], ['0100600', 0o100600],
    ['41471', 0o120777], ['-1', undefined], ['rw', undefined], ['99999999', undefined], ['', undefined],
  ])('mode %j of another tool is read as %o', (text, mode) => {
    expect(decodeAttributes(head({ mode: text })).mode).toBe(mode);
  });

  test('a key ending in / is a directory whatever its mode says, and no other key is', () => {
    expect(decodeAttributes(head({ mode: '33188' }, { key: 'd/' })).mode).toBe(0o040644);
    expect(decodeAttributes(head({ mode: '16877' })).mode).toBe(0o100755);
  });

  test('a symlink without a possible target is a file', () => {
    expect(decodeAttributes(head({ mode: '41471' }, { sizeBytes: 0 })).mode).toBe(0o100777);
    expect(decodeAttributes(head({ mode: '41471' }, { sizeBytes: 5000 })).mode).toBe(0o100777);
  });

  test.each([0o010644, 0o020600, 0o060600, 0o120777, 0o140644])('an object bigger than any symlink is a file, also with mode %o', (mode) => {
    expect(decodeAttributes(head({ mode: String(mode) }, { sizeBytes: 4096 })).mode).toBe(0o100000 | (mode & 0o7777));
    expect(decodeAttributes(head({ mode: String(mode) }, { sizeBytes: 4095 })).mode).toBe(mode);
  });

  test.each([['1000', 1000], ['1000.0', 1000], ['0x3e8', 1000], ['-1', undefined], ['4294967295', undefined], ['1e99', undefined], ['root', undefined], [' ', undefined]])('uid %j is %s', (text, uid) => {
    expect(decodeAttributes(head({ uid: text })).uid).toBe(uid);
  });

  test('never throws on garbage', () => {
    const names = ['mode', 'uid', 'gid', 'mtime', 'atime', 'ctime', 'xattr', 'hearthfs-rdev', 'hearthfs-link', 'file-permissions'];
    fc.assert(fc.property(fc.dictionary(fc.constantFrom(...names), fc.oneof(fc.string(), fc.double().map(String), fc.integer().map(String))), (metadata) => {
      decodeAttributes(head(metadata));
    }));
  });
});

describe('times', () => {
  test('survive the round trip, also before 1970', () => {
    fc.assert(fc.property(fc.integer({ min: -1e10, max: 1e11 }), fc.integer({ min: 0, max: 999_999_999 }), (sec, nsec) => {
      expect(decodeTime(encodeTime({ sec, nsec }))).toEqual({ sec, nsec });
    }));
  });

  test.each([
    ['1.5', { sec: 1, nsec: 500_000_000 }], ['-1.5', { sec: -2, nsec: 500_000_000 }], ['1595002920000000000ns', { sec: 1_595_002_920, nsec: 0 }],
    ['2020-07-17T16:22:00.25Z', { sec: 1_595_002_920, nsec: 250_000_000 }], ['1.6e9', { sec: 1_600_000_000, nsec: 0 }],
    ['1600000000.1234567891', { sec: 1_600_000_000, nsec: 123_456_789 }], ['now', undefined], ['', undefined], ['1e400', undefined], ['9999999999999999', undefined],
  ])('%j is read as %j', (text, time) => {
    expect(decodeTime(text)).toEqual(time);
  });
});

describe('text in headers', () => {
  test('survives, whatever it is', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }).filter((text) => Buffer.from(text).toString() === text && !text.includes('=?')), (text) => {
      const sent = encodeHeaderText(text);
      expect(sent).toMatch(/^[\x20-\x7e]*$/);
      expect(decodeHeaderText(sent)).toBe(text);
    }));
  });

  test('is read from raw UTF-8, latin1 and RFC 2047', () => {
    expect(decodeHeaderText(Buffer.from('grün').toString('latin1'))).toBe('grün');
    expect(decodeHeaderText('gr\xfcn')).toBe('grün');
    expect(decodeHeaderText('=?UTF-8?Q?gr=C3=BCn_x?=')).toBe('grün x');
  });
});

test('content types go by the extension of the last name', () => {
  expect(contentTypeOf('a.d/photo.JPG')).toBe('image/jpeg');
  expect(contentTypeOf('a.jpg/')).toBe('application/x-directory');
  expect(contentTypeOf('a.jpg/x')).toBe('application/octet-stream');
  expect(contentTypeOf('.css')).toBe('application/octet-stream');
});
