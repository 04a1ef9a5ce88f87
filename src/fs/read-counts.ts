/**
 * How well the cache served, in the operator's terms. A *miss* is what had to come from S3 because of this open of the file, prefetched or not; a *hit* is
 * what was here before.
 *
 * Files: `cache.hit_files` and `cache.miss_files`, per open for reading of a file that is not empty. Hits may be read in passthrough, without us, so this
 * is the only ratio that covers all reads. Requests and bytes: `cache.hit_requests`, `cache.hit_bytes` and their misses, of READs that come to the
 * daemon; what the kernel has in its page cache or reads in passthrough is not in them.
 */
import type { Metrics } from '../base/metrics.js';
import type { Range } from '../base/range-set.js';
import type { ContentFile } from '../cache/content-file.js';
import type { OpenFile } from './open-files.js';

/** A file in more pieces than this: only what is missing now is counted as a miss, which leaves out what was prefetched. */
const piecesMax = 1000;

export class ReadCounts {
  constructor(private readonly metrics: Metrics) {}

  /** @param content undefined: nothing is here. */
  opened(open: OpenFile, content: ContentFile | undefined, sizeBytes: number): void {
    if (sizeBytes === 0) return;
    const isHere = content?.isComplete ?? false;
    this.metrics.add(isHere ? 'cache.hit_files' : 'cache.miss_files');
    if (!isHere && content && !isInMorePieces(content.missing)) open.absent = content.missing.clone();
  }

  /** A READ of [start, end), before anything is fetched for it. */
  read(open: OpenFile | undefined, file: ContentFile, start: number, end: number): void {
    const missing = file.isComplete && !open?.absent ? 0 : lengthOf((open?.absent ?? file.missing).intersection(start, end));
    if (missing > 0) {
      open?.absent?.remove(start, end); // the next read of it finds it here
      this.metrics.add('cache.miss_bytes', missing);
    }
    if (missing < end - start) this.metrics.add('cache.hit_bytes', end - start - missing);
    this.metrics.add(missing > 0 ? 'cache.miss_requests' : 'cache.hit_requests');
  }
}

function isInMorePieces(ranges: Iterable<Range>): boolean {
  let count = 0;
  for (const _ of ranges) if (++count > piecesMax) return true;
  return false;
}

function lengthOf(ranges: readonly Range[]): number {
  return ranges.reduce((sum, range) => sum + range.end - range.start, 0);
}
