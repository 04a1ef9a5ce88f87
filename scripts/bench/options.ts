/** Command line of the benchmark. */
import { parseArgs } from 'node:util';

export interface BenchOptions {
  /** Ids of workloads, or parts of them; empty: all. */
  readonly only: readonly string[];
  readonly systems: readonly string[];
  readonly latenciesMs: readonly number[];
  readonly runs: number;
  readonly quick: boolean;
  /** Where mounts, caches and source files live; must be a local disk, for it is what ext4 is measured on. */
  readonly dir: string;
  readonly outDir: string;
  /** The chart is also written here. */
  readonly chart: string | undefined;
  readonly list: boolean;
  /** Directory for CPU profiles of the hearthfs daemon. */
  readonly profile: string | undefined;
}

export const usage = `npm run bench -- [options]
  --only ID[,ID]        workloads (--list shows them)
  --systems NAME[,...]  of ext4, hearthfs, s3fs, rclone, client
  --latency MS[,MS]     added to the first byte of each answer of the S3 server; default 0,30,80
  --runs N              interleaved runs per figure, of which the median counts; default 3, with --quick 1
  --quick               an eighth of the sizes
  --dir DIR             default /tmp/hearthfs-bench
  --chart FILE          write the chart there, too
  --profile DIR         write CPU profiles of the hearthfs daemons there
  --list`;

export function parseOptions(args: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', default: '' }, systems: { type: 'string', default: 'ext4,hearthfs,s3fs,rclone,client' }, latency: { type: 'string', default: '0,30,80' }, runs: { type: 'string' },
      quick: { type: 'boolean', default: false }, dir: { type: 'string', default: '/tmp/hearthfs-bench' }, out: { type: 'string', default: 'bench-results' },
      chart: { type: 'string' }, list: { type: 'boolean', default: false }, profile: { type: 'string' },
    },
  });
  const words = (text: string): string[] => text.split(',').filter(Boolean);
  return {
    only: words(values.only), systems: words(values.systems), latenciesMs: words(values.latency).map(Number), runs: Number(values.runs ?? (values.quick ? 1 : 3)),
    quick: values.quick, dir: values.dir, outDir: values.out, chart: values.chart, list: values.list, profile: values.profile,
  };
}
