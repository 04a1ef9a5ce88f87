import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { ago, printable, table } from '../format.js';
import { locateArgument } from '../mounts.js';

export const conflicts: CommandSpec = {
  name: 'conflicts', usage: '[PATH]', summary: 'files that two writers changed, and where the loser was kept',
  flags: [jsonFlag], positionalsMax: 1,
  async run(args, world) {
    const { items } = await locateArgument(args, world).client.call('conflicts', {}, { signal: world.signal });
    if (args.flags.get('json')) printJson(items, world);
    else if (items.length === 0) world.out.write('No conflicts.\n');
    else {
      const rows = items.map((item) => [ago(item.at, world.clock.now()), printable(item.key), item.keptAs === null ? '' : printable(item.keptAs), item.reason]);
      world.out.write(table(['when', 'file', 'this mount’s version kept as', 'what happened'], rows));
    }
    return 0;
  },
};
