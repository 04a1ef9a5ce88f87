/** The results as Markdown, JSON and a chart. */
import type { Cost } from './processes.js';
import type { SystemName } from './systems.js';
import { median, type Result, type Workload } from './workload.js';

export interface Sample extends Result { readonly cost: Cost | undefined }

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
  return figure.workload.targets.flatMap(({ of, ratio }) => {
    const other = of === 'best peer' ? bestPeer(figure) : valueOf(figure, of);
    if (other === undefined) return [];
    const reached = own / other;
    const met = isRate(figure.workload) ? reached >= ratio : reached <= ratio;
    return [{ text: `${short(reached)} x ${of} (${isRate(figure.workload) ? '>=' : '<='} ${ratio})`, met }];
  });
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
