import type { Status } from '../../control/api.js';
import { jsonFlag, printJson, type CommandSpec } from '../command.js';
import { ago, bytes, count, duration, integer, pairs, printable } from '../format.js';
import { locateArgument } from '../mounts.js';

export const status: CommandSpec = {
  name: 'status', usage: '[PATH]', summary: 'how a mount is doing',
  description: 'States: ok; degraded (works, but something needs attention); offline (S3 does not answer; writes and cached reads go on); draining (being unmounted).',
  flags: [jsonFlag], positionalsMax: 1,
  async run(args, world) {
    const answer = await locateArgument(args, world).client.call('status', {}, { signal: world.signal });
    if (args.flags.get('json')) printJson(answer, world);
    else world.out.write(describe(answer, world.clock.now()));
    return 0;
  },
};

function describe(s: Status, nowMs: number): string {
  const parked = s.parked > 0 ? `, ${integer(s.parked)} of them stuck (\`hearthfs pending\` says why)` : '';
  return pairs([
    ['mount', `s3://${s.bucket}/${s.prefix} on ${s.mountpoint}${s.readOnly ? ' (read-only)' : ''}`],
    ['endpoint', s.endpoint ?? 'AWS'],
    ['state', `${s.state} for ${duration(Math.max(0, nowMs - Date.parse(s.since)))}`],
    ['not yet in S3', s.pending === 0 ? 'nothing' : `${count(s.pending, 'change')}, ${bytes(s.dirtyBytes)}${parked}`],
    ['conflicts', s.conflicts === 0 ? undefined : `${integer(s.conflicts)} (\`hearthfs conflicts\` lists them)`],
    ['cache', `${bytes(s.cacheBytes)} of ${bytes(s.cacheLimitBytes)}`],
    ['last error', s.lastError ? `${printable(s.lastError.message)} (${ago(s.lastError.at, nowMs)})` : undefined],
    ['transport', `${s.transport}, passthrough ${s.passthrough ? 'on' : 'off'}`],
    ['processes', `supervisor ${s.supervisorPid}, daemon ${s.daemonPid}`],
    ['version', `${s.version}, up ${duration(s.uptimeMs)}`],
  ]);
}
