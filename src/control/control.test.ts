import { mkdtempSync, rmSync, statSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../base/log.js';
import { UserError } from '../base/user-error.js';
import type { Progress } from './api.js';
import { ControlClient } from './client.js';
import { FakeTarget } from './fake-target.js';
import { LineReader } from './protocol.js';
import { serveControl, type ControlServer } from './server.js';

let dir: string;
let socketPath: string;
let servers: { close(): Promise<void> | void }[];
beforeEach(() => {
  dir = mkdtempSync(path.join(os.tmpdir(), 'hearthfs-control-'));
  socketPath = path.join(dir, 'sock');
  servers = [];
});
afterEach(async () => {
  for (const server of servers) await server.close();
  rmSync(dir, { recursive: true });
});

async function serve(target = new FakeTarget()): Promise<ControlServer> {
  const server = await serveControl({ socketPath, target, log: silentLog, graceMs: 50 });
  servers.push(server);
  return server;
}
const client = (): ControlClient => new ControlClient(socketPath, '/mnt/x', { connectTimeoutMs: 0, silenceTimeoutMs: 500 });
const fails = async (promise: Promise<unknown>): Promise<UserError> => {
  const error: unknown = await promise.then(() => undefined, (e: unknown) => e);
  expect(error).toBeInstanceOf(UserError);
  return error as UserError;
};

describe('the control socket', () => {
  it('answers a request with the result of the target', async () => {
    await serve();
    expect((await client().call('status', {})).mountpoint).toBe('/mnt/x');
    expect((await client().call('pending', { limit: 1 })).items).toHaveLength(1);
  });

  it('can be opened by its owner only (mode 0600)', async () => {
    await serve();
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  });

  it('delivers progress before the result, in order', async () => {
    await serve();
    const seen: Progress[] = [];
    const result = await client().call('warm', { path: 'a/b' }, { onProgress: (p) => seen.push(p) });
    expect(seen.map((p) => p.doneItems)).toEqual([1, 2, 3]);
    expect(result).toEqual({ files: 3, bytes: 300, failed: [] });
  });

  it('fires the signal of the target when the caller goes away', async () => {
    const target = new FakeTarget();
    await serve(target);
    const ctrlC = new AbortController();
    const call = client().call('sync', { wait: true, path: null }, { signal: ctrlC.signal, onProgress: () => ctrlC.abort() });
    expect((await fails(call)).message).toBe('Interrupted');
    await target.syncAborted;
  });

  it('passes on a UserError with its exit code, and no other error as one', async () => {
    const target = new FakeTarget();
    await serve(target);
    target.failWith = new UserError('Nothing is there', 2);
    const user = await fails(client().call('evict', { path: 'a', bytes: null }));
    expect([user.message, user.exitCode]).toEqual(['Nothing is there', 2]);
    target.failWith = new TypeError('x is undefined');
    expect((await fails(client().call('evict', { path: 'a', bytes: null }))).message).toMatch(/^The daemon failed: x is undefined/);
  });

  it.each(['/etc', 'a/../b', './a', 'a//b', 'a/'])('refuses the path %j, which is not relative and plain', async (bad) => {
    await serve();
    const error = await fails(client().call('warm', { path: bad }));
    expect([error.exitCode, error.message]).toEqual([2, expect.stringContaining('relative to the mountpoint')]);
  });

  it('says that no daemon answers where there is no socket', async () => {
    expect((await fails(client().call('status', {}))).message).toMatch(/^No daemon answers for \/mnt\/x/);
  });

  it('waits for a daemon that is just being replaced', async () => {
    const patient = new ControlClient(socketPath, '/mnt/x', { connectTimeoutMs: 10_000 });
    const call = patient.call('status', {});
    await serve();
    expect((await call).bucket).toBe('bucket');
  });

  it('replaces a socket file left by a dead daemon, and not that of a living one', async () => {
    const dead = net.createServer();
    await new Promise<void>((resolve) => dead.listen(socketPath, resolve));
    const server = await serveControl({ socketPath: path.join(dir, 'other'), target: new FakeTarget(), log: silentLog });
    servers.push(server);
    expect((await fails(serve())).message).toMatch(/Another daemon already answers/);
    // Closing removes the file; a crash does not, so put one back that nobody listens on.
    const { renameSync } = await import('node:fs');
    renameSync(socketPath, `${socketPath}.kept`);
    dead.close();
    renameSync(`${socketPath}.kept`, socketPath);
    await serve();
    expect((await client().call('status', {})).mountpoint).toBe('/mnt/x');
  });

  it('reports a daemon that dies while it answers, after one more try', async () => {
    let calls = 0;
    const server = http.createServer((_request, response) => {
      calls++;
      response.write('{"alive":true}\n', () => response.destroy());
    });
    await new Promise<void>((resolve) => server.listen(socketPath, resolve));
    servers.push({ close: () => void server.close() });
    expect((await fails(client().call('status', {}))).message).toMatch(/went away before it answered/);
    expect(calls).toBe(2);
  });

  it('reports a daemon that accepts and then says nothing', async () => {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(socketPath, resolve));
    servers.push({ close: () => void server.close() });
    expect((await fails(client().call('status', {}))).message).toMatch(/has not answered/);
  });

  it('refuses a socket path longer than the kernel takes', async () => {
    const error = await fails(serveControl({ socketPath: `/tmp/${'x'.repeat(120)}`, target: new FakeTarget(), log: silentLog }));
    expect(error.message).toMatch(/125 of 107 bytes/);
  });
});

describe('LineReader', () => {
  it('joins lines and characters that were cut anywhere', () => {
    const bytes = Buffer.from('{"result":"ä€𝄞"}\n{"alive":true}\n');
    for (let cut = 0; cut <= bytes.length; cut++) {
      const reader = new LineReader();
      expect([...reader.push(bytes.subarray(0, cut)), ...reader.push(bytes.subarray(cut))]).toEqual([{ result: 'ä€𝄞' }, { alive: true }]);
    }
  });
});
