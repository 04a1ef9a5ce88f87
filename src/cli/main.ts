/** The real world for `run`: this process's environment, terminal, signals and mount table. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { systemClock } from '../base/clock.js';
import { UserError } from '../base/user-error.js';
import { ControlClient } from '../control/client.js';
import { controlSocketPath, findMount } from '../daemon/mountpoint.js';
import { run } from './run.js';
import type { Output } from './world.js';

/** @returns the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  // `once`: a second Ctrl-C kills at once. `mount --foreground` and `demo` install their own handlers beside these.
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  // The reader of a pipe went away (`hearthfs stats --watch | head`): end as a program does that SIGPIPE ends.
  process.stdout.on('error', () => process.exit(0));
  process.stderr.on('error', () => undefined);
  try {
    return await run(argv, {
      env: process.env, uid: process.getuid!(), gid: process.getgid!(), home: os.homedir(), cwd: workingDirectory(), clock: systemClock,
      out: output(process.stdout), err: output(process.stderr), signal: interrupt.signal,
      findMount: (where) => findMount(where),
      connect: (mountpoint) => new ControlClient(socketOf(mountpoint), mountpoint),
      remount: async (mountpoint, readOnly) => (await import('../daemon/remount.js')).remount(mountpoint, readOnly),
      detach, diskBytes,
    });
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

function output(stream: NodeJS.WriteStream): Output {
  return { write: (text) => void stream.write(text), isTty: stream.isTTY === true, columns: stream.columns || 80 };
}

/** getcwd(2) fails where the directory is gone; commands with absolute paths work all the same. */
function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return '/';
  }
}

/**
 * A daemon's socket lies in the runtime directory of the user who mounted (`user_id=` in the mount table). Root may talk to all daemons.
 * @throws UserError for the mount of another user
 */
function socketOf(mountpoint: string): string {
  const uid = process.getuid!();
  const own = controlSocketPath(mountpoint);
  const owner = ownerOf(mountpoint);
  if (owner === undefined || owner === uid) return own;
  if (uid !== 0) throw new UserError(`${mountpoint} was mounted by ${owner === 0 ? 'root' : `uid ${owner}`}, who alone may talk to its daemon (and root); run the command as that user`);
  const candidates = [`/run/user/${owner}/hearthfs`, `/tmp/hearthfs-${owner}`].map((dir) => path.join(dir, path.basename(own)));
  return candidates.find((file) => existsSync(file)) ?? candidates[0]!;
}

function ownerOf(mountpoint: string): number | undefined {
  // mountinfo escapes space, tab, newline and backslash as octal (proc(5)); of several mounts at one place the last is on top
  const escaped = mountpoint.replace(/[ \t\n\\]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  const line = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((text) => text.split(' ')[4] === escaped).at(-1);
  const found = /\buser_id=(\d+)/.exec(line ?? '');
  return found ? Number(found[1]) : undefined;
}

function detach(mountpoint: string): void {
  const [command, ...args] = process.getuid!() === 0 ? ['umount', '-l', mountpoint] : ['fusermount3', '-uz', mountpoint];
  const result = spawnSync(command!, args, { encoding: 'utf8' });
  if (result.status !== 0) throw new UserError(`Cannot detach ${mountpoint}: ${(result.stderr || result.error?.message || '').trim()}`);
}

function diskBytes(where: string): number {
  let existing = where;
  while (!existsSync(existing) && path.dirname(existing) !== existing) existing = path.dirname(existing);
  const info = statfsSync(existing);
  return info.blocks * info.bsize;
}
