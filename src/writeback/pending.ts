import type { JournalRow } from '../journal/journal.js';
import type { Key } from '../s3/object-store.js';
import { desired } from './desired.js';
import type { TreeWorld } from './world.js';

/** One thing S3 lacks, for people. */
export interface PendingRow {
  readonly key: Key;
  /** Below the mount; undefined for what has no name any more. */
  readonly path: string | undefined;
  readonly what: 'upload' | 'metadata' | 'copy' | 'delete';
  readonly sizeBytes: number;
  readonly sinceMs: number;
  readonly tries: number;
  readonly parkedReason: string | null;
  readonly error: string | null;
  readonly waitsFor: string | null;
}

export function pendingItem(row: JournalRow, world: TreeWorld, isBusy: (ino: number) => boolean): PendingRow {
  const inode = world.wants(row.key);
  let what: PendingRow['what'] = inode === undefined ? 'delete' : 'upload';
  let waitsFor: string | null = null;
  try {
    const action = desired(row.key, world);
    if (action.do === 'copy') what = action.metadataOnly ? 'metadata' : 'copy';
    else if (action.do === 'put' && action.metadataOnly) what = 'metadata';
    else if (action.do === 'wait') waitsFor = action.forKey ?? 'the program that has it open';
    else if (inode && isBusy(inode.ino)) waitsFor = 'the program that is writing it';
  } catch {
    // Lost content: the row's own error says so.
  }
  return {
    key: row.key, path: inode && row.key.replace(/\/$/, ''), what, sizeBytes: inode !== undefined && !row.key.endsWith('/') ? inode.sizeBytes : 0,
    sinceMs: row.sinceMs, tries: row.tries, parkedReason: row.parked, error: row.error, waitsFor,
  };
}
