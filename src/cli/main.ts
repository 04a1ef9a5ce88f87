/** The real world for `run`: this process's environment, terminal, signals and mount table. */
import { spawnSync } from 'node:child_process';
import { existsSync, statfsSync } from 'node:fs';
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
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined); // the reader of a pipe went away
  try {
    return await run(argv, {
      env: process.env, uid: process.getuid!(), gid: process.getgid!(), home: os.homedir(), cwd: workingDirectory(), clock: systemClock,
      out: output(process.stdout), err: output(process.stderr), signal: interrupt.signal,
      findMount: (where) => findMount(where),
      connect: (mountpoint) => new ControlClient(controlSocketPath(mountpoint), mountpoint),
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
