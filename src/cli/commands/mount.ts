import { lstatSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { errorCode } from '../../base/errno.js';
import { UserError } from '../../base/user-error.js';
import type { MountConfig } from '../../daemon/config.js';
import type { CommandSpec } from '../command.js';
import { realPath } from '../mounts.js';
import { mountOptions } from '../options.js';
import { resolveConfig } from '../resolve.js';

export const mount: CommandSpec = {
  name: 'mount', usage: 's3://BUCKET[/PREFIX] MOUNTPOINT', summary: 'mount a bucket as a directory',
  description: 'Returns once the mount serves. Every option is also an environment variable (--cache-size: HEARTHFS_CACHE_SIZE) and a key of the JSON configuration file. Credentials come from the AWS SDK’s standard chain only.',
  flags: [...Object.values(mountOptions), { name: 'config', kind: 'text', unit: 'FILE', help: 'JSON file with options, such as {"ttl": "5m"} (also HEARTHFS_CONFIG)' }],
  positionalsMax: 2,
  async run(args, world) {
    const [source, mountpoint] = args.positionals;
    if (source === undefined || mountpoint === undefined) throw new UserError('`hearthfs mount` needs a bucket and a directory: hearthfs mount s3://BUCKET[/PREFIX] MOUNTPOINT', 2);
    // The directory that holds the mountpoint may be reached by a symbolic link; the mount table will show its real path. Its last
    // part is not resolved: that may be a dead mount.
    const given = path.resolve(world.cwd, mountpoint);
    const real = path.join(realPath(path.dirname(given)), path.basename(given));
    const config = resolveConfig(source, real, args.flags, world);
    if (world.findMount(real) !== real) checkMountpoint(config);
    const { startSupervisor } = await import('../../daemon/supervisor.js');
    await startSupervisor(config, { foreground: config.foreground });
    return 0;
  },
};

function checkMountpoint(config: MountConfig): void {
  const { mountpoint } = config;
  try {
    if (!lstatSync(mountpoint).isDirectory()) throw new UserError(`The mountpoint ${mountpoint} is not a directory; give one that is, or create it with \`mkdir\``);
    if (readdirSync(mountpoint).length > 0) throw new UserError(`The mountpoint ${mountpoint} is not empty; mounting would hide its files. Move them or give another directory`);
  } catch (error) {
    switch (errorCode(error)) {
      case 'ENOENT': throw new UserError(`The mountpoint ${mountpoint} does not exist; create it with \`mkdir -p ${mountpoint}\``, 1, { cause: error });
      case 'EACCES': throw new UserError(`The mountpoint ${mountpoint} may not be read by this user; give one you own`, 1, { cause: error });
      case 'ENOTDIR': throw new UserError(`The mountpoint ${mountpoint} does not exist: a part of its path is a file`, 1, { cause: error });
      case 'ENOTCONN': throw new UserError(`${mountpoint} is a dead mount of another program; detach it with \`umount -l ${mountpoint}\``, 1, { cause: error });
      default: throw error;
    }
  }
}

