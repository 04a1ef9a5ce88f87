/** Checksums of clean files: computed in quiet moments, compared on request. */
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { checksumBlockBytes, computeChecksums } from './checksums.js';
import type { ContentFile } from './content-file.js';
import type { ContentRows } from './content-rows.js';

const queuedMax = 10_000;
/** Blocks a round of upkeep computes, about 64 MiB: keeps a round short. */
const blocksPerRound = 512;

export interface IntegrityHost {
  find(id: number): ContentFile | undefined;
  isDirty(id: number): boolean;
  isUnsynced(id: number): boolean;
  evict(what: { readonly ids: readonly number[] }): Promise<{ files: number }>;
}

export class Integrity {
  /** Files to compute; past its bound newcomers are left without checksums until they are synced or cleaned again. */
  private readonly queue = new Set<number>();
  /** Files came since the last round: whoever makes or reads them needs the processor more. */
  private isBusy = false;

  constructor(
    private readonly host: IntegrityHost,
    private readonly rows: ContentRows,
    private readonly signal: AbortSignal,
    private readonly log: Log,
    private readonly metrics: Metrics,
  ) {}

  want(id: number): void {
    if (this.queue.size >= queuedMax) return;
    this.queue.add(id);
    this.isBusy = true;
  }

  forget(id: number): void {
    this.queue.delete(id);
  }

  /** Waits for a round without newcomers, as long as there is room for more of them. */
  async computeSome(): Promise<void> {
    const { isBusy } = this;
    this.isBusy = false;
    if (isBusy && this.queue.size < queuedMax / 2) return;
    let budget = blocksPerRound;
    for (const id of this.queue) {
      if (budget <= 0 || this.signal.aborted) return;
      this.queue.delete(id);
      const file = this.host.find(id);
      if (!file || !file.isComplete || this.host.isUnsynced(id) || this.host.isDirty(id) || this.rows.checksums(id)) continue;
      const { version } = file;
      const unchanged = (): boolean => file.version === version && !file.removed && !this.host.isDirty(id) && !this.signal.aborted;
      budget -= 1 + Math.ceil(file.sizeBytes / checksumBlockBytes);
      const checksums = await computeChecksums(file.path, unchanged);
      if (checksums && unchanged()) this.rows.setChecksums(id, checksums);
    }
  }

  /** See `ContentStore.verify`. */
  async verify(file: ContentFile): Promise<boolean> {
    if (file.removed) return true;
    const { version } = file;
    const expected = this.rows.checksums(file.id);
    let readable = true;
    let actual: Buffer | undefined;
    try {
      actual = await computeChecksums(file.path, () => file.version === version && !file.removed);
    } catch (error) {
      if (file.removed) return true;
      readable = false;
      this.log.error('a content file cannot be read', { room: 'cache', id: file.id, error });
    }
    if (readable && (actual === undefined || expected === undefined || file.version !== version || actual.equals(expected))) return true;
    this.metrics.add('cache.damaged_files');
    if (this.host.isDirty(file.id)) {
      this.log.error('a file that S3 lacks is damaged on disk', { room: 'cache', id: file.id, path: file.path });
      return false;
    }
    this.log.warn('a cached file is damaged on disk and will be fetched again', { room: 'cache', id: file.id, path: file.path });
    // In use it cannot go: then all of it is missing from now on, and what is fetched replaces it in place.
    if ((await this.host.evict({ ids: [file.id] })).files === 0 && !file.removed) file.markMissing({ start: 0, end: file.sizeBytes });
    return false;
  }
}
