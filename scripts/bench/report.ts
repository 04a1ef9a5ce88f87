/** The results as Markdown, JSON and a chart. */
import type { Cost } from './processes.js';
import type { SystemName } from './systems.js';
import { median, type Result, type Target, type Workload } from './workload.js';

export interface Sample extends Result { readonly cost: Cost | undefined }

/** Of supervisor and daemon together. */
const memoryMiBMax = 300;

/** All runs of one workload at one latency. */
export interface Figure {
  readonly workload: Workload;
  readonly latencyMs: number;
  readonly samples: ReadonlyMap<SystemName, readonly Sample[]>;
  readonly failures: ReadonlyMap<SystemName, string>;
}

export function isRate(workload: Workload): boolean {
  return workload.unit.endsWith('/s');
}

export function valueOf(figure: Figure, system: SystemName): number | undefined {
  const samples = figure.samples.get(system);
  return samples === undefined || samples.length === 0 ? undefined : median(samples.map((sample) => sample.value));
}

export function bestPeer(figure: Figure): number | undefined {
  const values = (['s3fs', 'rclone'] as const).map((system) => valueOf(figure, system)).filter((value) => value !== undefined);
  if (values.length === 0) return undefined;
  return isRate(figure.workload) ? Math.max(...values) : Math.min(...values);
}

export function targetsOf(figure: Figure): { text: string; met: boolean }[] {
  const own = valueOf(figure, 'hearthfs');
  if (own === undefined) return [];
  const memory = figure.samples.get('hearthfs')!.map((sample) => sample.cost?.peakRssBytes ?? 0);
  const peakMiB = Math.max(0, ...memory) / 2 ** 20;
  const isTooMuch = peakMiB > memoryMiBMax;
  const used = isTooMuch || figure.workload.showsMemory ? [{ text: `${Math.round(peakMiB)} MiB of memory (<= ${memoryMiBMax})`, met: !isTooMuch }] : [];
  return [...figure.workload.targets.flatMap((target) => targetText(figure, target, own)), ...used];
}

function targetText(figure: Figure, target: Target, own: number): { text: string; met: boolean }[] {
  const sign = isRate(figure.workload) ? '>=' : '<=';
  const reaches = (value: number, wanted: number): boolean => (isRate(figure.workload) ? value >= wanted : value <= wanted);
  if ('limit' in target) return [{ text: `${short(own)} ${figure.workload.unit} (${sign} ${target.limit})`, met: reaches(own, target.limit) }];
  const { ratio } = target;
  const name = 'of' in target ? target.of : target.ofMore;
  const other = 'ofMore' in target ? median(figure.samples.get('hearthfs')!.map((sample) => sample.more?.[name] ?? NaN)) : target.of === 'best peer' ? bestPeer(figure) : valueOf(figure, target.of);
  if (other === undefined) return [];
  const reached = own / other;
  return [{ text: `${short(reached)} x ${name} (${sign} ${ratio})`, met: reaches(reached, ratio) }];
}

export function short(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en');
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

const columns: readonly SystemName[] = ['ext4', 'hearthfs', 's3fs', 'rclone', 'client'];

export function markdown(figures: readonly Figure[], about: readonly string[]): string {
  const lines = ['# hearthfs beside its peers', '', ...about.map((line) => `- ${line}`)];
  for (const latencyMs of [...new Set(figures.map((figure) => figure.latencyMs))]) {
    lines.push('', `## ${latencyMs} ms added to the first byte of each answer`, '', `| work | unit | ${columns.map((name) => (name === 'client' ? 'plain client' : name)).join(' | ')} | hearthfs is |`, `|---|---|${columns.map(() => '---:|').join('')}---|`);
    for (const figure of figures.filter((one) => one.latencyMs === latencyMs)) {
      const cells = columns.map((system) => {
        const value = valueOf(figure, system);
        if (value === undefined) return figure.failures.has(system) ? 'failed' : '';
        return `${figure.samples.get(system)!.some((sample) => sample.scaled) ? '≈ ' : ''}${short(value)}`;
      });
      lines.push(`| ${figure.workload.title} | ${figure.workload.unit} | ${cells.join(' | ')} | ${targetsOf(figure).map(({ text, met }) => `${text}${met ? '' : ' **short**'}`).join(', ')} |`);
    }
    lines.push('', `### What the daemons cost meanwhile`, '', '| work | system | CPU seconds | peak RSS, MiB | more |', '|---|---|---:|---:|---|');
    for (const figure of figures.filter((one) => one.latencyMs === latencyMs)) {
      for (const [system, samples] of figure.samples) {
        const costs = samples.map((sample) => sample.cost).filter((cost) => cost !== undefined);
        if (costs.length === 0 || system === 'ext4') continue;
        const more = Object.entries(samples[0]!.more ?? {}).map(([name, value]) => `${name} ${short(value)}`).join(', ');
        lines.push(`| ${figure.workload.title} | ${system} | ${median(costs.map((cost) => cost.cpuSeconds)).toFixed(2)} | ${Math.round(Math.max(...costs.map((cost) => cost.peakRssBytes)) / 2 ** 20)} | ${more} |`);
      }
    }
    const failures = figures.filter((one) => one.latencyMs === latencyMs).flatMap((figure) => [...figure.failures].map(([system, why]) => `- ${figure.workload.title}, ${system}: ${why.split('\n')[0]!.slice(0, 200)}`));
    if (failures.length > 0) lines.push('', '### Failures', '', ...failures);
  }
  return `${lines.join('\n')}\n`;
}

export function json(figures: readonly Figure[], about: readonly string[]): string {
  return JSON.stringify({
    about,
    figures: figures.map((figure) => ({
      id: figure.workload.id, title: figure.workload.title, unit: figure.workload.unit, latencyMs: figure.latencyMs, targets: targetsOf(figure),
      systems: Object.fromEntries([...figure.samples].map(([system, samples]) => [system, { median: valueOf(figure, system), runs: samples }])), failures: Object.fromEntries(figure.failures),
    })),
  }, null, 2);
}
