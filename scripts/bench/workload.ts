/** What a workload is, and what it gets to run with. */
import { compiledEntry } from '../../src/base/entry-url.js';
import { run, sh, quote } from '../../test/support/child.js';
import type { Dataset } from './dataset.js';
import { CostMeter, type Cost } from './processes.js';
import type { S3Side } from './s3-side.js';
import type { Mounted, SystemName } from './systems.js';

export interface Result {
  readonly value: number;
  /** Work done in a smaller amount and calculated up. */
  readonly scaled?: boolean;
  /** Other figures worth keeping. */
  readonly more?: Readonly<Record<string, number>>;
}

/** hearthfs must reach at least (rates) or at most (times) this share of another system in the same run, or of one of its own other figures, or this value. */
export type Target = { readonly of: SystemName | 'best peer'; readonly ratio: number } | { readonly ofMore: string; readonly ratio: number } | { readonly limit: number };

export interface Workload {
  readonly id: string;
  readonly title: string;
  readonly unit: 'MB/s' | 'files/s' | 'ops/s' | 'ms' | 's';
  /** S3 plays no part in it: measured at the first latency only. */
  readonly local?: boolean;
  /** Systems for which it makes sense; default: all that have a directory. */
  readonly systems: readonly SystemName[];
  readonly targets: readonly Target[];
  /** More options of `hearthfs mount` for it. */
  readonly hearthfsOptions?: readonly string[];
  /** Its memory is what it is about: shown also where it is within bounds. */
  readonly showsMemory?: boolean;
  /** The cache directory hearthfs starts with; made by the first call. Default: an empty one. */
  readonly cacheDir?: (world: World, prefix: string) => Promise<string>;
  /** Puts objects into S3 that all runs read, below `prefix`; those runs write nothing. */
  readonly cold?: (world: World, prefix: string) => Promise<void>;
  readonly run: (context: Context) => Promise<Result>;
}

export interface World {
  readonly s3: S3Side;
  readonly data: Dataset;
  /** 1, or less for a quick run. */
  readonly scale: number;
}

const peerShare = 0.1;
/** What a probe can have under way at the same time: with Node's four threads, 64 streams are four. */
const readersMax = 64;

export class Context {
  cost: Cost | undefined;

  constructor(readonly world: World, readonly system: SystemName, readonly mounted: Mounted, readonly prefix: string, readonly latencyMs: number) {}

  get path(): string { return this.mounted.path; }
  get isPeer(): boolean { return this.system === 's3fs' || this.system === 'rclone'; }

  /** So many files in this run. */
  count(full: number): number { return scaledCount(this.world, full); }
  /** The same, but peers that need a round trip per file get a tenth. */
  fewerForPeers(full: number): number { return this.isPeer ? Math.ceil(this.count(full) * peerShare) : this.count(full); }

  /** The part that counts. */
  async measured<T>(work: () => Promise<T>): Promise<T> {
    const meter = new CostMeter(this.mounted.pids);
    const result = await work();
    this.cost = meter.read();
    return result;
  }

  /** Runs a shell command with `$M` the mounted directory. @returns seconds */
  async shell(script: string): Promise<number> {
    return (await sh(script, { env: { M: this.path }, timeoutMs: 1_800_000 })).ms / 1000;
  }

  async probe<T>(...args: (string | number)[]): Promise<T> {
    const program = compiledEntry(import.meta.url, './probe.js').pathname;
    const env = { UV_THREADPOOL_SIZE: String(readersMax) };
    return JSON.parse((await run(process.execPath, [program, ...args.map(String)], { env, timeoutMs: 1_800_000 })).stdout) as T;
  }

  /** The kernel forgets names and attributes (`2`), or pages, too (`3`); dirty pages are written first. */
  async dropCaches(what: 2 | 3): Promise<void> {
    await sh(`sync; echo ${what} > /proc/sys/vm/drop_caches`);
  }

  /** Dirty pages of what was prepared must not be written while we measure. */
  async settleDisk(): Promise<void> {
    await run('sync', [], { timeoutMs: 120_000 });
  }

  /**
   * `sizeBytes` of a source are in the page cache, and `times` as much memory was in use a moment ago. A virtual machine gives memory that is free for some seconds back to
   * its host, and each page of it that is touched again costs 10 us: the first GiB written after a pause takes 3.5 s here, to ext4 or anything else, the next 0.3 s.
   */
  async haveMemory(source: string, times: number): Promise<void> {
    const scratch = `${source}.scratch`;
    const copies = Array.from({ length: times }, (_, i) => quote(`${scratch}${i}`));
    await sh(`cat ${quote(source)} > /dev/null; ${copies.map((copy) => `cp ${quote(source)} ${copy}`).join('; ')}; rm ${copies.join(' ')}`, { timeoutMs: 600_000 });
  }

  async expectSameTree(source: string, below = ''): Promise<void> {
    await sh(`diff -r ${quote(source)} "$M"${below}`, { env: { M: this.path }, timeoutMs: 1_800_000 });
  }

  async expectSha256(file: string, wanted: string): Promise<void> {
    const { sha256 } = await this.probe<{ sha256: string }>('sha256', file);
    if (sha256 !== wanted) throw new Error(`${this.system}: ${file} has wrong content`);
  }
}

export function scaledCount(world: World, full: number): number {
  return Math.max(1, Math.round(full * world.scale));
}

export function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(`Wrong result: ${what}`);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
