import { sleep } from '../../base/backoff.js';
import { UserError } from '../../base/user-error.js';
import type { Stats } from '../../control/api.js';
import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { bytes, duration, integer, micros, percent, table } from '../format.js';
import { locateArgument } from '../mounts.js';
import { parseDurationMs } from '../parse.js';

export const stats: CommandSpec = {
  name: 'stats', usage: '[PATH]', summary: 'counters: hits, misses, requests to S3, queues, latencies',
  description: 'The first ratio is of files opened for reading: were they in the cache, whole? The second is of bytes read through the daemon: what the kernel reads from its own cache, or in passthrough, is not in it. With --watch the change per second is shown. With --json the names are those of the Prometheus endpoint; --watch --json prints one line per interval.',
  flags: [
    jsonFlag,
    { name: 'watch', kind: 'boolean', help: 'show again every interval until Ctrl-C' },
    { name: 'interval', kind: 'text', unit: 'DURATION', help: 'interval of --watch (default 1s)' },
  ],
  positionalsMax: 1,
  async run(args, world) {
    const { client } = locateArgument(args, world);
    const json = args.flags.get('json') === true;
    const intervalMs = parseDurationMs(100)((args.flags.get('interval') as string | undefined) ?? '1s', '--interval');
    if (args.flags.has('interval') && !args.flags.get('watch')) throw new UserError('--interval needs --watch', 2);
    let answer = await client.call('stats', {}, { signal: world.signal });
    if (!args.flags.get('watch')) {
      if (json) printJson(answer, world);
      else world.out.write(describe(answer, undefined, 0));
      return 0;
    }
    let before: Stats | undefined;
    while (!world.signal.aborted) {
      if (json) world.out.write(`${JSON.stringify(answer)}\n`);
      else world.out.write(`${world.out.isTty ? '\x1b[H\x1b[J' : before ? '\n' : ''}${describe(answer, before, intervalMs)}`);
      await sleep(intervalMs, world.signal);
      if (world.signal.aborted) break;
      before = answer;
      answer = await client.call('stats', {}, { signal: world.signal });
    }
    return 0;
  },
};

/** Grouped by room, as the names are. `before` adds a column with the change per second. */
export function describe(now: Stats, before: Stats | undefined, intervalMs: number): string {
  const header = before ? ['', '>value', '>per second'] : ['', '>value'];
  const ratio = (value: number | null): string => (value === null ? 'no reads yet' : percent(value));
  const rows: string[][] = [['up', duration(now.uptimeMs)], ['files opened that were here', ratio(now.hitRatio)], ['bytes read that were here', ratio(now.hitRatioBytes)]];
  const values = { ...now.counters, ...now.gauges };
  for (const name of Object.keys(values).sort()) {
    const row = [name, amount(name, values[name]!)];
    const counter = now.counters[name];
    // A counter that fell belongs to a new daemon: its own value is the change.
    if (before && counter !== undefined) {
      const old = before.counters[name] ?? 0;
      const change = counter >= old ? counter - old : counter;
      row.push(change === 0 ? '' : amount(name, change / (intervalMs / 1000)));
    }
    rows.push(row);
  }
  const latencies = Object.entries(now.latencies).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, l]) => [
    name.replace(/_us(?=\.|$)/, ''), integer(l.count), micros(l.count === 0 ? 0 : l.sumUs / l.count), micros(l.p50Us), micros(l.p99Us), micros(l.maxUs),
  ]);
  return table(header, rows) + (latencies.length === 0 ? '' : `\n${table(['latency', '>count', '>mean', '>median', '>99 %', '>max'], latencies)}`);
}

function amount(name: string, value: number): string {
  return /(?:^|[._])bytes(?:[._]|$)/.test(name) ? bytes(value) : integer(value);
}
