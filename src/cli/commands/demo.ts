import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../../base/project-root.js';
import { UserError } from '../../base/user-error.js';
import type { CommandSpec } from '../command.js';

export const demo: CommandSpec = {
  name: 'demo', usage: '', summary: 'a tour on this machine: own S3 server, real mount, crash and outage included',
  description: 'Starts the embedded S3 server (demo and test equipment, not for data), mounts a bucket of it, shows with ordinary programs what happens, and leaves the mount up until Ctrl-C. Everything lives in one temporary directory and is removed at the end.',
  flags: [{ name: 'wait', kind: 'boolean', help: 'leave the mount up after the tour until Ctrl-C (default); --no-wait ends at once' }],
  positionalsMax: 0,
  async run(args) {
    // The tour is equipment outside the product rooms, so it is a program of its own.
    const script = path.join(projectRoot(), 'dist/scripts/demo.js');
    if (!existsSync(script)) throw new UserError('The demo is not part of this installation; run it from a checkout with `npm run demo`');
    const child = spawn(process.execPath, [script, ...(args.flags.get('wait') === false ? ['--no-wait'] : [])], { stdio: 'inherit' });
    // A terminal's Ctrl-C reaches the child by itself; a SIGTERM to this process does not.
    const pass = (): void => void child.kill('SIGTERM');
    const ignore = (): void => undefined;
    process.on('SIGTERM', pass).on('SIGINT', ignore);
    try {
      return await new Promise<number>((resolve, reject) => child.once('error', reject).once('exit', (code, signal) => resolve(signal ? 1 : code ?? 1)));
    } finally {
      process.off('SIGTERM', pass).off('SIGINT', ignore);
    }
  },
};
