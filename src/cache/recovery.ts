/**
 * What a start has to find out about the content directory, off the start path: a million files are loaded and looked at in
 * small steps between which the event loop runs.
 */
import fs from 'node:fs';
import type { Disk } from '../base/disk.js';
import type { Db } from '../db/db.js';
import { errorCode } from '../base/errno.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { ContentDir } from './content-dir.js';
import { decodeMissing } from './content-file.js';
import type { ContentRows } from './content-rows.js';
import { Flag, type EvictionIndex } from './eviction-index.js';

export interface RecoveryReport {
  /** Files without a row, removed: creations and removals a crash cut in two. */
  readonly orphans: number;
  readonly orphanBytes: number;
  /** Ids of rows that hold data S3 lacks and have no file. */
  readonly lost: readonly number[];
  /** Clean rows without a file, removed. */
  readonly vanished: number;
  readonly files: number;
}

/** Rows per turn: about a millisecond. */
const loadBatch = 250;
const removedAtOnce = 1000;
const statsAtOnce = 32;
/** Of the files that were not found by their directory's listing: looked for on the spot, so few in a row. */
const missingAtOnce = 64;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Reads all rows into the index, oldest first; rows it knows already are left alone. */
export async function loadIndex(rows: ContentRows, index: EvictionIndex, signal: AbortSignal): Promise<void> {
  for (let last = 0; ; ) {
    await turn();
    if (signal.aborted) return;
    const batch = rows.after(last, loadBatch);
    for (const row of batch) {
      if (!index.has(row.id)) index.add(row.id, { bytes: row.allocated, hits: row.hits, queue: row.queue === 1 ? 1 : 0, usedAtMs: row.used_at, dirty: row.dirty === 1, pinned: row.pinned === 1 });
    }
    if (batch.length < loadBatch) return;
    last = batch.at(-1)!.id;
  }
}

/** After a power cut: what was written over bytes that are in S3, and not synced, is taken for lost; then files that are gone are made again. */
export function restoreFiles(ids: readonly number[], db: Db, rows: ContentRows, files: ContentDir, disk: Disk, log: Log): void {
  db.tx(() => {
    for (const { id, missing, unsynced } of rows.withUnsynced()) {
      const ranges = decodeMissing(id, missing);
      for (const { start, end } of decodeMissing(id, unsynced)) ranges.add(start, end);
      rows.setMissing(id, ranges.encode(), null);
    }
  });
  for (const id of ids) restoreFile(id, rows, files, disk, log);
  // A clean one that is gone is fetched again, but one that lost its length would seem to be whole
  for (const id of rows.incomplete()) if (fs.existsSync(files.path(id))) restoreFile(id, rows, files, disk, log);
}

/**
 * A file whose name did not reach the disk before the power was cut, or not its length, held nothing there that was synced: it is made again as its row
 * has it. What the row says is missing is in S3; the rest is lost, and was never *journaled*.
 */
function restoreFile(id: number, rows: ContentRows, files: ContentDir, disk: Disk, log: Log): void {
  const row = rows.get(id);
  const path = files.path(id);
  if (!row) return;
  const sizeBytes = [...decodeMissing(id, row.missing)].at(-1)?.end ?? 0;
  const found = fs.statSync(path, { throwIfNoEntry: false });
  if (found && found.size >= sizeBytes) return;
  files.makeShard(id);
  const fd = disk.open('content.restore', path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  try {
    disk.truncate('content.restore', fd, sizeBytes);
  } finally {
    disk.close(fd);
  }
  log.warn('a file that was being written when the power was cut did not reach the disk', { room: 'cache', id });
}

/**
 * '0' from a start after a crash until all files have been looked at, be it by a later run: until then the sizes in the rows are not what the disk holds, and an
 * orderly end, which may come before the look is through, does not make them right.
 */
const countedFact = 'content.counted';

/** Once per start, before anything changes. @returns whether the rows' sizes are right: the last run ended in order, and none before it left files uncounted. */
export function areBooksGood(db: Db): boolean {
  const counted = db.fact(countedFact);
  if (db.previous.clean) return counted === '1';
  if (counted !== '0') db.setFact(countedFact, '0'); // durable before this run's orderly end can be: durability is a prefix
  return false;
}

export interface ScanOptions {
  readonly db: Db;
  readonly rows: ContentRows;
  readonly index: EvictionIndex;
  readonly files: ContentDir;
  readonly disk: Disk;
  /** The other files were made by this run and are no business of recovery. */
  readonly isOfEarlierRun: (id: number) => boolean;
  readonly signal: AbortSignal;
  /** `areBooksGood`: the sizes of files need not be asked of the disk. */
  readonly booksAreGood: boolean;
  /** The row is gone and the file waits for its unlink (J3): not an orphan. */
  readonly isLeaving: (id: number) => boolean;
  readonly counted: (id: number) => void;
  readonly vanished: (ids: readonly number[]) => void;
  readonly log: Log;
  readonly metrics: Metrics;
}

export async function scanFiles(options: ScanOptions): Promise<RecoveryReport> {
  const report = await look(options);
  for (const id of report.lost) options.log.error('a file that S3 lacks is gone from the cache directory', { room: 'cache', id, path: options.files.path(id) });
  options.metrics.add('cache.lost_files', report.lost.length);
  options.metrics.add('cache.orphans_removed', report.orphans);
  if (!options.booksAreGood && !options.signal.aborted) options.db.setFact(countedFact, '1'); // what was corrected is written before an orderly end, and matters to no other
  return report;
}

async function look(options: ScanOptions): Promise<RecoveryReport> {
  const { rows, index, files, isOfEarlierRun } = options;
  const report = { orphans: 0, orphanBytes: 0, lost: [] as number[], vanished: 0, files: 0 };
  for (const shard of files.shards()) {
    const names = await fs.promises.readdir(files.shardPath(shard));
    const unsure: number[] = [];
    for (const name of names) {
      const id = Number(name);
      if (!Number.isSafeInteger(id) || id <= 0 || !isOfEarlierRun(id) || files.shardOf(id) !== shard) continue;
      if (!options.booksAreGood || !index.has(id)) unsure.push(id);
      else {
        index.see(id);
        report.files++;
      }
    }
    for (let at = 0; at < unsure.length; at += statsAtOnce) {
      if (options.signal.aborted) return report;
      await Promise.all(unsure.slice(at, at + statsAtOnce).map(async (id) => {
        const countedBytes = index.bytesOf(id);
        let stat = await fs.promises.stat(files.path(id)).catch(() => undefined);
        // What was counted meanwhile is newer. This look costs nothing: the file was looked at a moment ago
        if (index.bytesOf(id) !== countedBytes) stat = fs.statSync(files.path(id), { throwIfNoEntry: false });
        if (!stat || options.isLeaving(id)) return;
        report.files++;
        if (index.has(id)) {
          index.see(id);
          if (index.bytesOf(id) !== stat.blocks * 512) {
            index.setBytes(id, stat.blocks * 512);
            options.counted(id);
          }
          return;
        }
        if (rows.exists(id)) return;
        await options.disk.unlink('content.orphan', files.path(id)).catch((error: unknown) => {
          if (errorCode(error) !== 'ENOENT') throw error;
        });
        report.orphans++;
        report.orphanBytes += stat.blocks * 512;
      }));
    }
  }
  if (options.signal.aborted) return report;
  const vanished: number[] = [];
  let looked = 0;
  for (const id of index.unseen()) {
    if (++looked % missingAtOnce === 0) await turn();
    if (options.signal.aborted) return report;
    if (!isOfEarlierRun(id) || options.isLeaving(id) || fs.existsSync(files.path(id))) continue;
    if (index.isSet(id, Flag.dirty)) report.lost.push(id);
    else vanished.push(id);
  }
  for (let at = 0; at < vanished.length; at += removedAtOnce) {
    if (options.signal.aborted) return report;
    options.vanished(vanished.slice(at, at + removedAtOnce));
    await turn();
  }
  report.vanished = vanished.length;
  return report;
}
