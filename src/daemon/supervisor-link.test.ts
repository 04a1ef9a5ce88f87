import { execFileSync, fork } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
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

it('a daemon that cannot start says so and ends, also while its S3 settings are in a file system that does not answer', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'hearthfs-link-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const silent = join(directory, 'aws'); // whoever opens it waits for a writer
  execFileSync('mkfifo', [silent]);
  const cacheDir = join(directory, 'cache');
  writeFileSync(cacheDir, 'a file');
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('AWS_')));
  const config = { bucket: 'bucket', prefix: '', mountpoint: join(directory, 'mnt'), cacheDir, pathStyle: true, transferWorkers: 2, logLevel: 'error', deadlineMs: 1000 };
  const device = openSync('/dev/null', 'r+');
  const daemon = fork(compiledEntry(import.meta.url, './daemon-main.js').pathname, [], {
    execArgv: [], stdio: ['ignore', 'ignore', 'ignore', device, 'ipc'],
    env: { ...env, AWS_CONFIG_FILE: silent, AWS_SHARED_CREDENTIALS_FILE: silent, AWS_EC2_METADATA_DISABLED: 'true', [configVariable]: JSON.stringify(config), [generationVariable]: '0' },
  });
  onTestFinished(() => void daemon.kill('SIGKILL'));
  closeSync(device);
  const said: FromDaemon[] = [];
  daemon.on('message', (message: FromDaemon) => said.push(message));
  await new Promise((resolve) => daemon.once('close', resolve));
  expect(said).toEqual([{ type: 'failed', message: expect.stringContaining(cacheDir) as string, exitCode: 1 }]);
});
