import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { bytes, count } from '../format.js';
import { locateArgument } from '../mounts.js';
import { parseSize } from '../parse.js';
import { ProgressBar } from '../progress.js';

export const evict: CommandSpec = {
  name: 'evict', usage: '[PATH]', summary: 'drop cached files that S3 has, to free disk space',
  description: 'Files that S3 lacks, that are open or pinned stay. With --bytes the coldest files of the whole mount go until that much is free.',
  flags: [jsonFlag, { name: 'bytes', kind: 'text', unit: 'SIZE', help: 'free this much, coldest files first, instead of everything below PATH' }], positionalsMax: 1,
  async run(args, world) {
    const place = locateArgument(args, world);
    const size = args.flags.get('bytes') as string | undefined;
    const request = { path: size === undefined && place.inside !== '' ? place.inside : null, bytes: size === undefined ? null : parseSize(size, '--bytes') };
    const bar = new ProgressBar('evicting', world.err, world.clock);
    const result = await place.client.call('evict', request, { signal: world.signal, onProgress: (p) => bar.update(p) }).finally(() => bar.finish());
    if (args.flags.get('json')) printJson(result, world);
    else world.out.write(`Dropped ${count(result.files, 'file')}, ${bytes(result.bytes)}${result.skipped > 0 ? `; ${count(result.skipped, 'file')} not yet in S3, open or pinned stayed` : ''}.\n`);
    return 0;
  },
};
