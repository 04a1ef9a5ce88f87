import path from 'node:path';
import { UserError } from '../../base/user-error.js';
import type { CommandSpec } from '../command.js';
import { realPath } from '../mounts.js';
import { mistypedVariables, mountOptions } from '../options.js';
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
    for (const warning of mistypedVariables(world.env)) world.err.write(`hearthfs: ${warning}\n`);
    const { startSupervisor } = await import('../../daemon/supervisor.js');
    const started = startSupervisor(config, { foreground: config.foreground });
    if (config.foreground) {
      await started; // until the mount is gone; it takes Ctrl-C as the wish to unmount
      return 0;
    }
    const onAbort = (): void => world.err.write('hearthfs: interrupted; the mount will be taken down as soon as it has come up\n');
    world.signal.addEventListener('abort', onAbort, { once: true });
    const { supervisorPid } = await started.finally(() => world.signal.removeEventListener('abort', onAbort));
    if (!world.signal.aborted) return 0;
    process.kill(supervisorPid, 'SIGTERM');
    throw new UserError('Interrupted; nothing is mounted');
  },
};
