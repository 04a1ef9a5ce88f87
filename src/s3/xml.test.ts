import { expect, test } from 'vitest';
import { parseListing } from './xml.js';

const listing = (inside: string): string => `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><EncodingType>url</EncodingType>${inside}</ListBucketResult>`;
const contents = '<Key>p/a%20b</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&#49;&quot;</ETag><Size>7</Size><Owner><ID>x</ID><DisplayName>Key</DisplayName></Owner><StorageClass>GLACIER</StorageClass>';
const object = { key: 'a b', etag: 'e1', sizeBytes: 7, lastModifiedMs: Date.UTC(2024, 0, 1), storageClass: 'GLACIER' };

test('objects are read the same with and without the short cut', () => {
  const rest = '<CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>';
  const expected = { objects: [object], prefixes: ['d/'], token: 't' };
  expect(parseListing(listing(`<Contents>${contents}</Contents>${rest}`), 'p/')).toEqual(expected);
  expect(parseListing(listing(`<!-- a comment: the parser does it --><Contents>${contents}</Contents>${rest}`), 'p/')).toEqual(expected);
  expect(parseListing(listing(`<Contents some="attribute">${contents}</Contents>${rest}`), 'p/')).toEqual(expected);
});

test('an empty listing, and one cut off in the middle', () => {
  expect(parseListing(listing('<IsTruncated>false</IsTruncated>'), 'p/')).toEqual({ objects: [], prefixes: [] });
  expect(() => parseListing('<html>no S3</html>', 'p/')).toThrow('not S3');
});
