import { UserError } from '../../base/user-error.js';
import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { count } from '../format.js';
import { locateArgument } from '../mounts.js';
import { parseDurationMs } from '../parse.js';
import { ProgressBar } from '../progress.js';
import { pendingTable } from './pending.js';

export const unmount: CommandSpec = {
  name: 'unmount', usage: '[MOUNTPOINT]', summary: 'upload what is left, then detach',
  description: 'What could not be uploaded in time stays safe in the cache directory, is listed, and is uploaded by the next mount with the same cache directory; the exit code is then 1. --lazy detaches even if files are open, or if the daemon is dead.',
  flags: [
    jsonFlag,
    { name: 'drain-timeout', kind: 'text', unit: 'DURATION', help: 'how long to wait for uploads (default 60s; 0: not at all)' },
    { name: 'lazy', kind: 'boolean', help: 'detach even if busy' },
  ],
  positionalsMax: 1,
  async run(args, world) {
    const { mountpoint, inside, client } = locateArgument(args, world);
    if (inside !== '') throw new UserError(`${args.positionals[0] ?? world.cwd} is inside the mount, not its mountpoint; run \`hearthfs unmount ${mountpoint}\``, 2);
    const drainTimeoutMs = parseDurationMs(0)((args.flags.get('drain-timeout') as string | undefined) ?? '60s', '--drain-timeout');
    const lazy = args.flags.get('lazy') === true;
    const bar = new ProgressBar('uploading', world.err, world.clock);
    let result;
    try {
      result = await client.call('unmount', { drainTimeoutMs, lazy }, { onProgress: (p) => bar.update(p), signal: world.signal }).finally(() => bar.finish());
    } catch (error) {
      if (world.findMount(mountpoint) === undefined) result = { unmounted: true, remaining: [], reason: null }; // it went with the connection
      else if (!lazy || world.signal.aborted) throw error;
      else {
        world.detach(mountpoint);
        result = { unmounted: true, remaining: [], reason: 'the daemon did not answer; what it had not uploaded is in its cache directory' };
      }
    }
    if (args.flags.get('json')) printJson(result, world);
    else {
      if (result.remaining.length > 0) world.out.write(pendingTable(result.remaining));
      if (result.unmounted) world.out.write(`Unmounted ${mountpoint}${result.reason ? `: ${result.reason}` : ''}.\n`);
      else world.err.write(`hearthfs: ${mountpoint} is still mounted: ${result.reason ?? 'it is busy; close what uses it, or use --lazy'}\n`);
      if (result.remaining.length > 0) {
        world.err.write(`hearthfs: S3 lacks ${count(result.remaining.length, 'change')} (above); ${result.remaining.length === 1 ? 'it is' : 'they are'} safe in the cache directory, and the next mount of it uploads what is left\n`);
      }
    }
    return result.unmounted && result.remaining.length === 0 ? 0 : 1;
  },
};
