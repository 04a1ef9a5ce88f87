import path from 'node:path';
import { UserError } from '../../base/user-error.js';
import type { DoctorCheck } from '../../control/api.js';
import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { cacheDirCheck, clockCheck, fail, machineChecks } from '../machine-checks.js';
import { mountOptions } from '../options.js';
import { printable } from '../format.js';
import { find } from '../mounts.js';
import { resolveConfig } from '../resolve.js';
import type { World } from '../world.js';
import type { ParsedArgs } from '../args.js';

const bucketFlags = (['endpoint', 'region', 'profile', 'pathStyle', 'cacheDir', 'cacheSize', 'readOnly'] as const).map((key) => mountOptions[key]);

export const doctor: CommandSpec = {
  name: 'doctor', usage: '[s3://BUCKET[/PREFIX] | PATH]', summary: 'check device, privileges, clock, credentials, bucket, server',
  description: 'For a bucket: everything a mount of it will need; a scratch object .hearthfs-… is written below the prefix and removed (not with --read-only). For a path in a mount: also what its daemon knows. Without either: this machine. Exit code 1 if a check fails.',
  flags: [jsonFlag, ...bucketFlags], positionalsMax: 1,
  async run(args, world) {
    const target = args.positionals[0];
    const checks = machineChecks(world);
    if (target?.startsWith('s3://')) checks.push(...(await bucketChecks(target, args, world)));
    else {
      const place = find(target ?? '.', world);
      if (place) checks.push(...(await mountChecks(place.client, place.mountpoint, world)));
      else if (target !== undefined) throw new UserError(`${target} is neither in a hearthfs mount nor a bucket (s3://BUCKET[/PREFIX])`);
    }
    if (args.flags.get('json')) printJson({ checks }, world);
    else for (const check of checks) world.out.write(line(check));
    return checks.some((check) => check.ok === 'fail') ? 1 : 0;
  },
};

async function bucketChecks(source: string, args: ParsedArgs, world: World): Promise<DoctorCheck[]> {
  const flags = new Map(args.flags);
  flags.delete('json');
  const config = resolveConfig(source, '/hearthfs-doctor-needs-no-mountpoint', flags, world);
  const { checkBucket } = await import('../../daemon/doctor.js');
  const found = await checkBucket(config, { signal: world.signal });
  return [...found.checks, ...(found.clockOffsetMs === undefined ? [] : [clockCheck(found.clockOffsetMs)]), cacheDirCheck(config.cacheDir, config.cacheSizeBytes)];
}

async function mountChecks(client: ReturnType<World['connect']>, mountpoint: string, world: World): Promise<DoctorCheck[]> {
  try {
    return [...(await client.call('doctor', {}, { signal: world.signal })).checks];
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return [fail('daemon', error.message, `look at the log, or \`hearthfs unmount --lazy ${path.resolve(mountpoint)}\` and mount again`)];
  }
}

function line(check: DoctorCheck): string {
  const mark = { ok: 'ok  ', warn: 'WARN', fail: 'FAIL' }[check.ok];
  return `${mark}  ${check.name}: ${printable(check.detail)}\n${check.advice === null ? '' : `      -> ${printable(check.advice)}\n`}`;
}
