/**
 * Room inside one file: parts of a clean, incomplete file go back to being missing. Only for files bigger than the cache, where no
 * other file is left to evict. It never served as backing, being incomplete, so punching it is allowed (D6).
 */
import type { Range } from '../base/range-set.js';
import type { ContentFile, ContentHost } from './content-file.js';

const pageBytes = 4096;
/** What is decided at once: in use or not. */
const stepBytes = 1024 * 1024;
const PUNCH_AND_KEEP_SIZE = 3;

/** @param isBusy somebody reads or fetches there now. Answers the bytes given up. */
export async function shedRanges(host: ContentHost, file: ContentFile, ranges: readonly Range[], isBusy: (range: Range) => boolean): Promise<number> {
  const size = file.sizeBytes;
  const going: Range[] = [];
  for (const range of ranges) {
    const end = Math.min(range.end, size);
    for (let at = Math.ceil(range.start / pageBytes) * pageBytes; at < end; at += stepBytes) {
      const part = { start: at, end: Math.min(end, at + stepBytes) };
      if (!file.missing.covers(part.start, part.end) && !isBusy(part)) going.push(part);
    }
  }
  if (going.length === 0) return 0;
  file.markMissing(...going);
  // The presence must be durably gone before the bytes are: otherwise a power cut would leave zeros that count as data.
  await host.db.durable();
  let bytes = 0;
  for (const part of going) {
    // Since then they may have been written, or be on their way again.
    if (file.removed || !file.missing.covers(part.start, part.end) || isBusy(part)) continue;
    host.disk.fallocate('content.shed', host.fds.get(file, true), PUNCH_AND_KEEP_SIZE, part.start, part.end - part.start);
    bytes += part.end - part.start;
  }
  host.fds.closeWriter(file);
  return bytes;
}
