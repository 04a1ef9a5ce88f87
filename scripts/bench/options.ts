/** Command line of the benchmark. */
import { parseArgs } from 'node:util';
import type { SystemName } from './systems.js';

export interface BenchOptions {
  /** Ids of workloads, or parts of them; empty: all. */
  readonly only: readonly string[];
  readonly systems: readonly SystemName[];
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

const systemNames: readonly SystemName[] = ['ext4', 'hearthfs', 's3fs', 'rclone', 'client'];

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
    only: words(values.only), systems: words(values.systems).map(systemNamed), latenciesMs: words(values.latency).map((text) => count('--latency', text, 0)), runs: count('--runs', values.runs ?? (values.quick ? '1' : '3'), 1),
    quick: values.quick, dir: values.dir, outDir: values.out, chart: values.chart, list: values.list, profile: values.profile,
  };
}

function systemNamed(text: string): SystemName {
  const name = systemNames.find((one) => one === text);
  if (name === undefined) throw new Error(`--systems knows no ${text}: it is one of ${systemNames.join(', ')}`);
  return name;
}

function count(option: string, text: string, min: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min) throw new Error(`${option} is a whole number from ${min}, not ${text}`);
  return value;
}

/** Those that `--only` names, by id or by what ids begin with (`cold` is `cold-read`, `cold-tar`...). @throws if it names one that is not there. */
export function chosenWorkloads<W extends { readonly id: string }>(all: readonly W[], only: readonly string[]): W[] {
  const isId = (word: string): boolean => all.some(({ id }) => id === word);
  const means = (word: string, { id }: W): boolean => id === word || (!isId(word) && id.startsWith(`${word}-`));
  const unknown = only.filter((word) => !all.some((one) => means(word, one)));
  if (unknown.length > 0) throw new Error(`There is no workload ${unknown.join(', ')}: it is one of ${all.map(({ id }) => id).join(', ')}`);
  return all.filter((one) => only.length === 0 || only.some((word) => means(word, one)));
}
