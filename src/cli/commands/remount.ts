import { UserError } from '../../base/user-error.js';
import type { CommandSpec } from '../command.js';
import { locate } from '../mounts.js';

export const remount: CommandSpec = {
  name: 'remount', usage: 'MOUNTPOINT --read-only|--no-read-only', summary: 'make a mount read-only for programs, or writable again',
  description: 'What was written before still goes to S3. Fails while something has a file open for writing. The same as `mount -o remount,ro`.',
  flags: [{ name: 'read-only', kind: 'boolean', help: 'refuse all changes from now on; --no-read-only: allow them again' }], positionalsMax: 1,
  async run(args, world) {
    const [where] = args.positionals;
    const readOnly = args.flags.get('read-only');
    if (where === undefined || typeof readOnly !== 'boolean') throw new UserError('`hearthfs remount` needs a mountpoint, and --read-only or --no-read-only', 2);
    const { mountpoint, inside, client } = locate(where, world);
    if (inside !== '') throw new UserError(`${where} is inside the mount ${mountpoint}: give the mountpoint itself`, 2);
    // A daemon that was started to read only uploads nothing, and may lack the right to
    if (!readOnly && (await client.call('status', {}, { signal: world.signal })).readOnly) throw new UserError(`${mountpoint} was mounted to be read only: unmount it and mount it again`);
    await world.remount(mountpoint, readOnly);
    return 0;
  },
};
