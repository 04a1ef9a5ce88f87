/**
 * `npm run bench`: hearthfs beside ext4, s3fs, rclone mount and a plain S3 client, on one S3 server process with added latency. Runs are interleaved
 * (all systems once, then again), each with a fresh mount and an empty cache; the median counts. Data is checked after each run. What is left of small
 * files stays until the end: a file system is still busy with thousands of deletions while the next run would be measured.
 * Needs root (mounts, drop_caches). Results: bench-results/latest.{md,json,svg}.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import path from 'node:path';
import { run } from '../../test/support/child.js';
import { removeTree } from '../../test/support/remove-tree.js';
import { chart } from './chart.js';
import { Dataset } from './dataset.js';
import { chosenWorkloads, parseOptions, usage, type BenchOptions } from './options.js';
import { json, markdown, short, type Figure, type Sample } from './report.js';
import { S3Side } from './s3-side.js';
import { systems, type System, type SystemName } from './systems.js';
import { Context, type Workload, type World } from './workload.js';
import { localWorkloads } from './workloads-local.js';
import { remoteWorkloads } from './workloads-remote.js';
import { scaleWorkloads } from './workloads-scale.js';

const workloads = [...localWorkloads, ...remoteWorkloads, ...scaleWorkloads];
const quickScale = 1 / 8;
const filesRemovedAtOnceMax = 300;
let mountCount = 0;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function main(): Promise<void> {
  let options: BenchOptions;
  let wanted: Workload[];
  try {
    options = parseOptions(process.argv.slice(2));
    wanted = chosenWorkloads(workloads, options.only);
  } catch (error) {
    say(`${error instanceof Error ? error.message : String(error)}\n${usage}`);
    process.exitCode = 2;
    return;
  }
  if (options.list) return workloads.forEach(({ id, title, unit }) => say(`${id.padEnd(17)} ${title} (${unit})`));
  if (process.getuid?.() !== 0) throw new Error('The benchmark mounts and drops caches: run it as root');
  const chosen = systems.filter((system) => options.systems.includes(system.name)).filter((system) => {
    const missing = system.missing();
    if (missing !== undefined) say(`skipping ${system.name}: ${missing}`);
    return missing === undefined;
  });
  mkdirSync(options.dir, { recursive: true });
  const dir = path.join(options.dir, String(process.pid));
  mkdirSync(dir);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void stopHere(dir));
  const s3 = await S3Side.start();
  const world: World = { s3, data: new Dataset(path.join(dir, 'data')), scale: options.quick ? quickScale : 1 };
  const figures: Figure[] = [];
  const about = await describe(options);
  try {
    for (const workload of wanted) {
      figures.push(...(await measure(workload, chosen, options, world, dir)));
      save(figures, about, options); // what is there is not lost if a later one hangs
    }
  } finally {
    await s3.close();
    await removeTree(dir);
  }
  say(`\n${markdown(figures, about)}`);
  if (figures.some((figure) => figure.failures.size > 0)) process.exitCode = 1;
}

/** Interrupted: daemons and server end with us (`start`). */
async function stopHere(dir: string): Promise<never> {
  await removeTree(dir).catch((error: unknown) => say(String(error)));
  process.exit(1);
}

async function measure(workload: Workload, chosen: readonly System[], options: BenchOptions, world: World, dir: string): Promise<Figure[]> {
  const taking = chosen.filter((system) => workload.systems.includes(system.name));
  const latencies = workload.local ? options.latenciesMs.slice(0, 1) : options.latenciesMs;
  const coldPrefix = `cold/${workload.id}/`;
  await world.s3.setLatency(0);
  if (workload.cold) await workload.cold(world, coldPrefix);
  const figures: Figure[] = [];
  for (const latencyMs of latencies) {
    const samples = new Map<SystemName, Sample[]>(taking.map(({ name }) => [name, []]));
    const failures = new Map<SystemName, string>();
    for (let round = 0; round < options.runs; round++) {
      for (const system of taking) {
        if (failures.has(system.name)) continue;
        try {
          const sample = await once(workload, system, latencyMs, workload.cold ? coldPrefix : undefined, options, world, dir);
          samples.get(system.name)!.push(sample);
          say(`${workload.id.padEnd(17)} ${String(latencyMs).padStart(3)} ms  ${system.name.padEnd(9)} ${short(sample.value)} ${workload.unit}${sample.cost ? `  (${sample.cost.cpuSeconds.toFixed(2)} s CPU, ${Math.round(sample.cost.peakRssBytes / 2 ** 20)} MiB)` : ''}`);
        } catch (error) {
          failures.set(system.name, `${error instanceof Error ? error.message : String(error)}\n${lastLog(path.join(dir, `m${mountCount}`))}`);
          say(`${workload.id.padEnd(17)} ${String(latencyMs).padStart(3)} ms  ${system.name.padEnd(9)} failed: ${failures.get(system.name)!.slice(0, 2000)}`);
        }
      }
    }
    figures.push({ workload, latencyMs, samples, failures });
  }
  await world.s3.setLatency(0);
  await world.s3.remove(coldPrefix);
  return figures;
}

async function once(workload: Workload, system: System, latencyMs: number, coldPrefix: string | undefined, options: BenchOptions, world: World, dir: string): Promise<Sample> {
  const place = path.join(dir, `m${++mountCount}`);
  const prefix = coldPrefix ?? `w/${mountCount}/`;
  mkdirSync(place);
  await world.s3.setLatency(0);
  if (coldPrefix === undefined) await world.s3.putDirectory(prefix);
  const cacheDir = system.name === 'hearthfs' ? await workload.cacheDir?.(world, prefix) : undefined;
  await run('sync', [], { timeoutMs: 120_000 });
  const mounted = await system.mount({ dir: place, prefix, s3: world.s3, cacheDir, profile: options.profile, hearthfsOptions: workload.hearthfsOptions ?? [] });
  let result: Sample | undefined;
  let failure: unknown;
  try {
    const context = new Context(world, system.name, mounted, prefix, latencyMs);
    await context.dropCaches(3);
    await world.s3.setLatency(latencyMs);
    result = { ...(await workload.run(context)), cost: context.cost };
  } catch (error) {
    failure = error;
  }
  await world.s3.setLatency(0);
  await mounted.unmount().catch((error: unknown) => { failure ??= error; });
  if (coldPrefix === undefined) await world.s3.remove(prefix);
  if (failure !== undefined || result === undefined) throw failure instanceof Error ? failure : new Error(String(failure));
  if (isQuickToRemove(place)) await removeTree(place);
  return result;
}

/** Big files go at once, for there is no room for all of them. */
function isQuickToRemove(dir: string): boolean {
  let left = filesRemovedAtOnceMax;
  const look = (at: string): boolean => readdirSync(at, { withFileTypes: true }).every((entry) => left-- > 0 && (!entry.isDirectory() || look(path.join(at, entry.name))));
  return look(dir);
}

function lastLog(place: string): string {
  try {
    return readFileSync(path.join(place, 'log'), 'utf8').slice(-1500);
  } catch {
    return '';
  }
}

async function describe(options: BenchOptions): Promise<string[]> {
  const version = async (command: string, ...args: string[]): Promise<string> => {
    try {
      return (await run(command, args, { check: false })).stdout.split('\n')[0] ?? '';
    } catch {
      return 'not installed';
    }
  };
  return [
    `${cpus().length} x ${cpus()[0]?.model ?? '?'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.version}`,
    `${await version('s3fs', '--version')}; ${await version('rclone', 'version')}`,
    ...systems.flatMap(({ name, options: chosen }) => (chosen === undefined ? [] : [`${name} runs with ${chosen}`])),
    howMeasured(options),
    '≈: peers that need a round trip per file do a part of the work, and the time is calculated up; rates of peers are those of a tenth of the files',
    'Every run: fresh mount, empty cache unless the title says otherwise, kernel caches dropped; data compared afterwards',
  ];
}

function howMeasured({ runs, quick }: BenchOptions): string {
  return `${runs === 1 ? 'one run' : `${runs} interleaved runs, medians`}${quick ? '; quick: an eighth of the sizes in the titles' : ''}; S3 server, daemons and programs share the processors`;
}

function save(figures: readonly Figure[], about: readonly string[], options: BenchOptions): void {
  mkdirSync(options.outDir, { recursive: true });
  writeFileSync(path.join(options.outDir, 'latest.md'), markdown(figures, about));
  writeFileSync(path.join(options.outDir, 'latest.json'), json(figures, about));
  const latency = options.latenciesMs.includes(30) ? 30 : options.latenciesMs[0]!;
  const svg = chart(figures, latency, [about[0]!, howMeasured(options)]);
  writeFileSync(path.join(options.outDir, 'latest.svg'), svg);
  if (options.chart !== undefined) writeFileSync(options.chart, svg);
}

await main();
