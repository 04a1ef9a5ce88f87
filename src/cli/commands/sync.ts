import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { count } from '../format.js';
import { locateArgument } from '../mounts.js';
import { ProgressBar } from '../progress.js';
import { pendingTable } from './pending.js';

export const sync: CommandSpec = {
  name: 'sync', usage: '[PATH]', summary: 'push to S3 what it lacks, now',
  description: 'Without --wait the uploads are started and the command returns. With --wait it returns once S3 has everything below PATH, with exit code 1 if something is stuck. Ctrl-C stops the waiting, not the uploads.',
  flags: [jsonFlag, { name: 'wait', kind: 'boolean', help: 'return when everything is uploaded' }], positionalsMax: 1,
  async run(args, world) {
    const place = locateArgument(args, world);
    const wait = args.flags.get('wait') === true;
    const bar = new ProgressBar('uploading', world.err, world.clock);
    const result = await place.client
      .call('sync', { wait, path: place.inside === '' ? null : place.inside }, { signal: world.signal, onProgress: (p) => bar.update(p) })
      .finally(() => bar.finish());
    if (args.flags.get('json')) printJson(result, world);
    else if (result.remaining === 0) world.out.write('S3 has everything.\n');
    else if (!wait) world.out.write(`Pushing ${count(result.remaining, 'change')}; \`hearthfs sync --wait\` waits for them.\n`);
    else {
      if (result.parked.length > 0) world.out.write(pendingTable(result.parked));
      world.err.write(`hearthfs: S3 still lacks ${count(result.remaining, 'change')}${result.parked.length > 0 ? ', stuck for the reasons above' : ''}; \`hearthfs pending\` lists them\n`);
    }
    return wait && result.remaining > 0 ? 1 : 0;
  },
};
