/**
 * Which parts a big object is made of when some of its bytes are in S3 already: a pure function of what is unchanged.
 *
 * S3's rules: every part but the last has at least `partBytesMin`, and there are at most 10,000. So a small change takes some unchanged bytes along,
 * and an unchanged stretch between two changes that is no part by itself is sent.
 */
import type { Range } from '../base/range-set.js';

export interface PlannedPart extends Range {
  /** Copied inside S3 from the same offsets of the base object; else sent. */
  readonly isCopy: boolean;
}

export interface PlanLimits {
  readonly partBytesMin: number;
  /** Sent parts are cut at multiples of it. */
  readonly partBytes: number;
  readonly copyPartBytes: number;
}

export const partsMax = 10_000;

/**
 * @param unchanged ascending, disjoint, within the object and within its base.
 * @returns parts in order without gaps; null if there would be too many.
 */
export function planParts(sizeBytes: number, unchanged: Iterable<Range>, limits: PlanLimits): PlannedPart[] | null {
  const parts: PlannedPart[] = [];
  let at = 0;
  for (const { start, end } of copies(unchanged, limits.partBytesMin)) {
    send(parts, at, start, limits.partBytesMin, limits);
    copy(parts, start, end, limits.copyPartBytes);
    if (parts.length > partsMax) return null;
    at = end;
  }
  send(parts, at, sizeBytes, 0, limits);
  return parts.length > partsMax ? null : parts;
}

/** The unchanged stretches that can be parts, cut back so that what lies between them can be parts, too. */
function copies(unchanged: Iterable<Range>, least: number): Range[] {
  const runs: { start: number; end: number }[] = [];
  let at = 0; // where the bytes that must be sent begin
  for (const range of unchanged) {
    // What is sent before it grows to the least size at this run's expense.
    const start = range.start === at ? at : Math.max(range.start, at + least);
    if (range.end - start < least) continue;
    runs.push({ start, end: range.end });
    at = range.end;
  }
  return runs; // what is left behind the last one may be short: it is the last part
}

function copy(parts: PlannedPart[], start: number, end: number, largest: number): void {
  const count = Math.ceil((end - start) / largest);
  const size = Math.ceil((end - start) / count);
  for (let at = start; at < end; at += size) parts.push({ start: at, end: Math.min(end, at + size), isCopy: true });
}

/** @param least of the last of them; 0: it is the last of all. */
function send(parts: PlannedPart[], start: number, end: number, least: number, { partBytes, partBytesMin }: PlanLimits): void {
  let at = start;
  while (end - at > partBytes + least && parts.length <= partsMax) {
    let cut = Math.floor((at + partBytes) / partBytes) * partBytes;
    if (cut - at < partBytesMin) cut += partBytes;
    if (end - cut < least) cut = at + Math.ceil((end - at) / 2); // both halves are large enough
    parts.push({ start: at, end: cut, isCopy: false });
    at = cut;
  }
  if (at < end) parts.push({ start: at, end, isCopy: false });
}
