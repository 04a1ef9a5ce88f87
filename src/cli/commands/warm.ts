import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { bytes, count, printable } from '../format.js';
import { locateArgument } from '../mounts.js';
import { ProgressBar } from '../progress.js';

export const warm: CommandSpec = {
  name: 'warm', usage: '[PATH]', summary: 'fetch a file or a tree into the cache',
  flags: [jsonFlag], positionalsMax: 1,
  async run(args, world) {
    const place = locateArgument(args, world);
    const bar = new ProgressBar('fetching', world.err, world.clock);
    const result = await place.client.call('warm', { path: place.inside }, { signal: world.signal, onProgress: (p) => bar.update(p) }).finally(() => bar.finish());
    if (args.flags.get('json')) printJson(result, world);
    else world.out.write(`Cached ${count(result.files, 'file')}, ${bytes(result.bytes)}.\n`);
    for (const { path, reason } of args.flags.get('json') ? [] : result.failed) world.err.write(`hearthfs: could not fetch ${printable(path)}: ${reason}\n`);
    return result.failed.length > 0 ? 1 : 0;
  },
};
