/**
 * Empty content files made ahead, with names that are durable already: whoever makes a file pays neither for its inode nor, at its first fsync, for the sync
 * of a directory. There are none until files are made, more the faster that goes, and none again some time after.
 *
 * What fails here costs only speed, for then the caller makes its file itself, unless it is a sync (D4). After a crash they are files without rows, which recovery removes.
 */
import { timeFromMs, type Clock } from '../base/clock.js';
import type { Disk } from '../base/disk.js';
import { errorCode } from '../base/errno.js';
import { setFileTimes } from '../base/libc.js';
import { rootShard, type ContentDir } from './content-dir.js';
import type { ContentIds } from './content-ids.js';
import type { FileSync } from './file-sync.js';

export interface SpareFile {
  readonly id: number;
  readonly path: string;
  /** Open for reading and writing. */
  readonly fd: number;
  /** Open for reading, as the kernel is to see the file. */
  reader?: number | undefined;
}

const wantedMin = 8;
/** Asked for again sooner than this: too few are kept. */
const hurryMs = 1000;
const idleMs = 30_000;
const pauseMs = 10_000;

export class SpareFiles {
  private ready: SpareFile[] = [];
  private wanted = wantedMin;
  private filling: Promise<void> | undefined;
  private takenAtMs = -Infinity;
  private emptyAtMs = -Infinity;
  private pausedUntilMs = -Infinity;
  private isClosed = false;
  /** Opens a file for the kernel; undefined: the kernel reads none by itself. */
  openReader: ((path: string) => Promise<number>) | undefined;

  /** @param max 0 for none. */
  constructor(private readonly disk: Disk, private readonly files: ContentDir, private readonly ids: ContentIds, private readonly syncs: Pick<FileSync, 'named' | 'syncDirectories'>, private readonly clock: Clock, private readonly max: number) {}

  /** One that is the caller's from now on, or undefined. Its times are now. */
  take(): SpareFile | undefined {
    const now = this.clock.monotonic();
    this.takenAtMs = now;
    const spare = this.ready.pop();
    if (!spare && this.wanted > 0) {
      if (now < this.emptyAtMs + hurryMs) this.wanted = Math.min(this.max, this.wanted * 2);
      this.emptyAtMs = now;
    }
    if (this.ready.length <= this.wanted / 2) this.fill(now);
    if (!spare) return undefined;
    const time = timeFromMs(this.clock.now());
    try {
      setFileTimes(spare.fd, time, time);
    } catch {
      void this.remove([spare]);
      return undefined;
    }
    return spare;
  }

  /** Now and then: gives them up where nobody makes files any more. */
  async upkeep(): Promise<void> {
    await this.filling;
    if (this.ready.length > 0 && this.clock.monotonic() >= this.takenAtMs + idleMs) await this.drop();
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await this.filling;
    await this.drop();
  }

  private fill(now: number): void {
    if (this.filling || this.isClosed || this.max === 0 || now < this.pausedUntilMs) return;
    this.filling = this.make(Math.min(this.max, this.wanted) - this.ready.length)
      .catch(() => void (this.pausedUntilMs = this.clock.monotonic() + pauseMs))
      .finally(() => (this.filling = undefined));
  }

  private async make(count: number): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve)); // not in the caller's transaction
    const made: SpareFile[] = [];
    const shards = new Set<number>();
    try {
      const ids = Array.from({ length: count }, () => this.ids.next());
      for (const id of ids) {
        const shard = this.files.shardOf(id);
        if (!shards.has(shard) && this.files.makeShard(id)) this.syncs.named(rootShard);
        shards.add(shard);
      }
      const tries = await Promise.allSettled(ids.map(async (id) => {
        const path = this.files.path(id);
        const spare: SpareFile = { id, path, fd: await this.disk.create('content.spare', path, 0o600) };
        made.push(spare);
        this.syncs.named(this.files.shardOf(id));
        spare.reader = await this.openReader?.(path).catch(() => undefined);
      }));
      const failed = tries.find((result): result is PromiseRejectedResult => result.status === 'rejected' && errorCode(result.reason) !== 'EEXIST');
      if (failed) throw failed.reason;
      await this.syncs.syncDirectories(shards);
    } catch (error) {
      await this.remove(made);
      throw error;
    }
    this.ready.push(...made);
    if (this.isClosed) await this.drop();
  }

  private async drop(): Promise<void> {
    const spares = this.ready;
    this.ready = [];
    this.wanted = Math.min(wantedMin, this.max);
    await this.remove(spares);
  }

  private async remove(spares: readonly SpareFile[]): Promise<void> {
    for (const { fd, reader } of spares) {
      this.disk.close(fd);
      if (reader !== undefined) this.disk.close(reader);
    }
    await Promise.allSettled(spares.map(({ path }) => this.disk.unlink('content.spare', path)));
  }
}
