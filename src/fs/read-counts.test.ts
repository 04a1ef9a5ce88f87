import { expect, test } from 'vitest';
import { Metrics } from '../base/metrics.js';
import { RangeSet } from '../base/range-set.js';
import type { ContentFile } from '../cache/content-file.js';
import type { OpenFile } from './open-files.js';
import { ReadCounts } from './read-counts.js';
import { StreamState } from '../prefetch/stream-state.js';

function content(missing: RangeSet): ContentFile {
  return { missing, get isComplete() { return missing.isEmpty; } } as unknown as ContentFile;
}
const open = (): OpenFile => ({ fh: 1, ino: 2, writable: false, stream: new StreamState(() => 0) });
const counted = (metrics: Metrics): Record<string, number> => metrics.snapshot().counters;

test('what was prefetched since the file was opened is a miss when it is read, and a hit when it is read again', () => {
  const metrics = new Metrics();
  const counts = new ReadCounts(metrics);
  const missing = RangeSet.of({ start: 100, end: 1000 });
  const [file, handle] = [content(missing), open()];
  counts.opened(handle, file, 1000);
  missing.remove(0, 1000); // prefetched
  counts.read(handle, file, 0, 400);
  expect(counted(metrics)).toEqual({ 'cache.miss_files': 1, 'cache.miss_requests': 1, 'cache.miss_bytes': 300, 'cache.hit_bytes': 100 });
  counts.read(handle, file, 0, 400);
  expect(counted(metrics)).toMatchObject({ 'cache.hit_requests': 1, 'cache.miss_bytes': 300, 'cache.hit_bytes': 500 });
  const later = open();
  counts.opened(later, file, 1000);
  counts.read(later, file, 0, 1000);
  expect(counted(metrics)).toMatchObject({ 'cache.hit_files': 1, 'cache.miss_bytes': 300, 'cache.hit_bytes': 1500 });
});

test('a file of which nothing is here is a miss, an empty one is nothing, and a handle of an earlier daemon is judged by what is missing now', () => {
  const metrics = new Metrics();
  const counts = new ReadCounts(metrics);
  counts.opened(open(), undefined, 10);
  counts.opened(open(), undefined, 0);
  counts.read(undefined, content(RangeSet.of({ start: 0, end: 5 })), 0, 10);
  expect(counted(metrics)).toEqual({ 'cache.miss_files': 1, 'cache.miss_requests': 1, 'cache.miss_bytes': 5, 'cache.hit_bytes': 5 });
});
