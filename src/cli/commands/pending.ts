import type { PendingItem } from '../../control/api.js';
import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { bytes, duration, integer, printable, table } from '../format.js';
import { locateArgument } from '../mounts.js';
import { parseCount } from '../parse.js';

export const pending: CommandSpec = {
  name: 'pending', usage: '[PATH]', summary: 'what S3 lacks, and why',
  flags: [jsonFlag, { name: 'limit', kind: 'text', unit: 'NUMBER', help: 'show at most this many (default 100; with --json 100000)' }], positionalsMax: 1,
  async run(args, world) {
    const json = args.flags.get('json') === true;
    const limit = parseCount(1, 1_000_000)((args.flags.get('limit') as string | undefined) ?? (json ? '100000' : '100'), '--limit');
    const { client } = locateArgument(args, world);
    const { items } = await client.call('pending', { limit }, { signal: world.signal });
    if (json) printJson(items, world);
    else if (items.length === 0) world.out.write('S3 has everything.\n');
    else {
      world.out.write(pendingTable(items));
      if (items.length === limit) {
        const { pending: all } = await client.call('status', {}, { signal: world.signal });
        if (all > limit) world.out.write(`and ${integer(all - limit)} more; see --limit\n`);
      }
    }
    return 0;
  },
};

export function pendingTable(items: readonly PendingItem[]): string {
  return table(
    ['what', '>size', '>since', '>tries', 'path', 'why'],
    items.map((item) => [item.what, item.what === 'delete' ? '' : bytes(item.sizeBytes), duration(item.sinceMs), item.tries === 0 ? '' : String(item.tries), printable(item.path ?? item.key), why(item)]),
  );
}

function why(item: PendingItem): string {
  if (item.parkedReason) return `stuck: ${item.parkedReason}${item.error ? ` (${printable(item.error)})` : ''}`;
  if (item.error) return `will be tried again: ${printable(item.error)}`;
  return item.waitsFor ? `waits for ${printable(item.waitsFor)}` : 'its turn comes';
}
