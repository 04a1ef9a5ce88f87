import { fork } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { expect, it } from 'vitest';
import { compiledEntry } from '../base/entry-url.js';
import { configVariable, generationVariable, type FromDaemon } from './supervisor-link.js';

it('a daemon whose supervisor dies before the mount is there ends: it would hold the cache directory for nobody', async () => {
  const device = openSync('/dev/null', 'r+');
  const daemon = fork(compiledEntry(import.meta.url, '../../test/support/toy-daemon.js').pathname, [], {
    execArgv: [], stdio: ['ignore', 'ignore', 'ignore', device, 'ipc'], env: { ...process.env, [configVariable]: '{}', [generationVariable]: '0' },
  });
  closeSync(device);
  const ended = new Promise<number | null>((resolve) => daemon.once('exit', resolve));
  const first = await new Promise<FromDaemon>((resolve) => daemon.once('message', resolve));
  expect(first).toEqual({ type: 'prepared' });
  daemon.disconnect();
  expect(await ended).not.toBe(0);
});
