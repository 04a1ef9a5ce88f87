import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { silentLog } from '../base/log.js';
import { ControlClient } from '../control/client.js';
import { FakeTarget } from '../control/fake-target.js';
import { serveControl, type ControlServer } from '../control/server.js';
import { commandTable } from './command-table.js';
import { run } from './run.js';
import type { World } from './world.js';

let dir: string;
let target: FakeTarget;
let server: ControlServer;
let mounted: boolean;
let detached: string[];
let remounted: [string, boolean][];
beforeEach(async () => {
  dir = mkdtempSync(path.join(os.tmpdir(), 'hearthfs-cli-'));
  target = new FakeTarget();
  mounted = true;
  detached = [];
  remounted = [];
  server = await serveControl({ socketPath: path.join(dir, 'sock'), target, log: silentLog, graceMs: 50 });
});
afterEach(async () => {
  await server.close();
  rmSync(dir, { recursive: true });
});

async function hearthfs(argv: string[], over: Partial<World> = {}): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await run(argv, {
    env: {}, uid: 0, gid: 0, home: '/root', cwd: '/mnt/x/sub', clock: new ManualClock(Date.parse('2025-01-02T04:04:05.000Z')), signal: new AbortController().signal,
    out: { write: (text) => void (out += text), isTty: false, columns: 80 }, err: { write: (text) => void (err += text), isTty: false, columns: 80 },
    findMount: (at) => (mounted && (at === '/mnt/x' || at.startsWith('/mnt/x/')) ? '/mnt/x' : undefined),
    connect: (mountpoint) => new ControlClient(path.join(dir, 'sock'), mountpoint, { connectTimeoutMs: 0 }),
    detach: (mountpoint) => void detached.push(mountpoint), remount: (mountpoint, readOnly) => {
      remounted.push([mountpoint, readOnly]);
      return Promise.resolve();
    }, diskBytes: () => 2 ** 40, ...over,
  });
  return { code, out, err };
}

describe('status', () => {
  it('prints aligned lines for people', async () => {
    const { code, out } = await hearthfs(['status', '/mnt/x']);
    expect(code).toBe(0);
    expect(out).toBe([
      'mount          s3://bucket/photos/ on /mnt/x',
      'endpoint       AWS',
      'state          ok for 1 h',
      'not yet in S3  2 changes, 1.5 KiB, 1 of them stuck (`hearthfs pending` says why)',
      'conflicts      1 (`hearthfs conflicts` lists them)',
      'cache          5 GiB of 20 GiB',
      'transport      kernel, passthrough on',
      'processes      supervisor 10, daemon 11',
      'version        0.1.0, up 1 h 2 m', '',
    ].join('\n'));
  });

  it('prints the fields of the contract as JSON', async () => {
    const fields = Object.keys(JSON.parse((await hearthfs(['status', '--json', '/mnt/x'])).out) as object);
    expect(fields).toEqual(expect.arrayContaining([
      'mountpoint', 'bucket', 'prefix', 'endpoint', 'state', 'since', 'supervisorPid', 'daemonPid', 'transport', 'passthrough', 'pending', 'dirtyBytes', 'cacheBytes', 'cacheLimitBytes', 'parked', 'conflicts',
    ]));
  });

  it('finds the mount of the working directory, and through a symbolic link', async () => {
    expect((await hearthfs(['status'])).code).toBe(0);
    mkdirSync(path.join(dir, 'real'));
    symlinkSync(path.join(dir, 'real'), path.join(dir, 'link'));
    const findMount = (at: string) => (at.startsWith(path.join(dir, 'real')) ? path.join(dir, 'real') : undefined);
    expect((await hearthfs(['warm', path.join(dir, 'link', 'a', 'b')], { findMount })).code).toBe(0);
    expect(target.requests).toEqual([{ path: 'a/b' }]);
  });

  it('says so where there is no mount', async () => {
    expect(await hearthfs(['status', '/etc'])).toEqual({ code: 1, out: '', err: expect.stringMatching(/^hearthfs: \/etc is not in a hearthfs mount; .*\n$/) as string });
  });
});

describe('the other commands', () => {
  it('pending lists what S3 lacks and why', async () => {
    expect((await hearthfs(['pending'])).out).toBe([
      'what       size    since  tries  path     why',
      'upload  1.5 KiB  1 m 5 s      3  a.txt    stuck: access-denied (AccessDenied)',
      'delete               1 s         b/c.txt  its turn comes', '',
    ].join('\n'));
    expect((JSON.parse((await hearthfs(['pending', '--json', '--limit', '1'])).out) as unknown[]).length).toBe(1);
    target.pendingItems = [];
    expect((await hearthfs(['pending'])).out).toBe('S3 has everything.\n');
  });

  it('stats shows counters, hit ratios and latencies', async () => {
    const { out } = await hearthfs(['stats']);
    expect(out).toMatch(/files opened that were here +87\.5 %/);
    expect(out).toMatch(/bytes read that were here +50(\.0)? %/);
    expect(out).toMatch(/cache\.hit_bytes +6\.84 KiB/);
    expect(out).toMatch(/fuse\.request_latency +4 +25 µs +16 µs +64 µs +70 µs/);
    expect(JSON.parse((await hearthfs(['stats', '--json'])).out)).toMatchObject({ counters: { 's3.requests_get': 12 }, hitRatio: 0.875 });
  });

  it('stats --watch prints again until it is interrupted, with changes per second', async () => {
    const stop = new AbortController();
    let screens = 0;
    let text = '';
    const write = (part: string): void => {
      text += part;
      if (part.includes('files opened') && ++screens === 2) stop.abort();
    };
    const { code } = await hearthfs(['stats', '--watch', '--interval', '100ms'], { out: { write, isTty: false, columns: 80 }, signal: stop.signal });
    expect([code, screens]).toEqual([0, 2]);
    expect(text).toContain('per second');
  });

  it('sync without --wait returns at once; with --wait and everything stuck it is exit code 1', async () => {
    expect((await hearthfs(['sync'])).out).toMatch(/^Pushing 2 changes/);
    target.pendingItems = [];
    expect(await hearthfs(['sync', '--wait'])).toMatchObject({ code: 0, out: 'S3 has everything.\n' });
    expect(target.requests.at(-1)).toEqual({ wait: true, path: 'sub' });
  });

  it('warm, evict and conflicts report what they did', async () => {
    expect((await hearthfs(['warm', '/mnt/x'])).out).toBe('Cached 3 files, 300 B.\n');
    expect((await hearthfs(['evict', '--bytes', '1MiB'])).out).toBe('Dropped 2 files, 2 KiB; 1 file not yet in S3, open or pinned stayed.\n');
    expect(target.requests.at(-1)).toEqual({ path: undefined, bytes: 2 ** 20 });
    await hearthfs(['evict', '/mnt/x/a b/c']);
    expect(target.requests.at(-1)).toEqual({ path: 'a b/c', bytes: undefined });
    expect((await hearthfs(['conflicts'])).out).toMatch(/1 h ago +a\.txt +a\.hearthfs-conflict-1\.txt +replaced by another writer/);
  });

  it('unmount takes the mountpoint only, and passes on how long to drain', async () => {
    expect(await hearthfs(['unmount', '/mnt/x/sub'])).toMatchObject({ code: 2, err: expect.stringContaining('run `hearthfs unmount /mnt/x`') as string });
    expect(await hearthfs(['unmount', '/mnt/x', '--drain-timeout', '5m'])).toMatchObject({ code: 0, out: 'Unmounted /mnt/x.\n' });
    expect(target.requests).toEqual([{ drainTimeoutMs: 300_000, lazy: false }]);
  });

  it('unmount lists what could not be uploaded and ends with exit code 1', async () => {
    target.unmount = () => Promise.resolve({ unmounted: true, remaining: target.pendingItems, reason: null });
    const { code, out, err } = await hearthfs(['unmount', '/mnt/x']);
    expect([code, out, err]).toEqual([1, expect.stringContaining('a.txt'), expect.stringContaining('S3 lacks 2 changes')]);
  });

  it('unmount --lazy detaches a mount whose daemon is dead; without --lazy it says how', async () => {
    await server.close();
    expect(await hearthfs(['unmount', '/mnt/x'])).toMatchObject({ code: 1, err: expect.stringContaining('hearthfs unmount --lazy /mnt/x') as string });
    expect(detached).toEqual([]);
    expect((await hearthfs(['unmount', '--lazy', '/mnt/x'])).code).toBe(0);
    expect(detached).toEqual(['/mnt/x']);
  });

  it('doctor adds what the daemon knows to what the machine shows', async () => {
    const { out } = await hearthfs(['doctor', '/mnt/x', '--json']);
    const { checks } = JSON.parse(out) as { checks: { name: string; advice: string | null }[] };
    expect(checks.map((check) => check.name)).toEqual(['device', 'kernel', 'privileges', 'fusermount3', 'request timeout', 'hidden keys']);
    expect((await hearthfs(['doctor', '/mnt/x'])).out).toContain('WARN  hidden keys: 2 keys are no paths: a//b, ..\n      -> rename them with an S3 tool\n');
  });
});

describe('mistakes', () => {
  it('are one sentence and exit code 2, with the nearest command', async () => {
    expect(await hearthfs(['staus'])).toEqual({ code: 2, out: '', err: 'hearthfs: There is no command "staus"; did you mean `hearthfs status`?\n' });
    expect((await hearthfs(['status', '--jsno'])).err).toBe('hearthfs: `hearthfs status` has no option --jsno; did you mean --json?\n');
    expect((await hearthfs(['status', '/mnt/x', '/mnt/y'])).err).toMatch(/does not expect "\/mnt\/y"/);
    expect((await hearthfs(['mount', 's3://bucket'])).code).toBe(2);
    expect((await hearthfs([])).code).toBe(2);
  });

  it('in a mountpoint are found before anything is started', async () => {
    writeFileSync(path.join(dir, 'file'), '');
    mkdirSync(path.join(dir, 'full/sub'), { recursive: true });
    for (const [name, says] of [['file', 'is not a directory'], ['full', 'is not empty'], ['none', 'does not exist: create it'], ['file/below', 'does not exist']] as const) {
      const { code, err } = await hearthfs(['mount', 's3://bucket', path.join(dir, name)]);
      expect([code, err]).toEqual([1, expect.stringContaining(says)]);
    }
  });

  it('show a stack trace only with HEARTHFS_DEBUG=1', async () => {
    expect((await hearthfs(['status', '/etc'])).err).not.toContain('    at ');
    expect((await hearthfs(['status', '/etc'], { env: { HEARTHFS_DEBUG: '1' } })).err).toContain('    at ');
  });
});

describe('help', () => {
  it('lists every command, and explains each with all its options', async () => {
    const { out } = await hearthfs(['help']);
    for (const command of commandTable) {
      expect(out).toContain(`  ${command.name} `);
      const help = await hearthfs(['help', command.name]);
      for (const flag of command.flags) expect(help.out).toContain(`--${flag.name}`);
      expect((await hearthfs([command.name, '--help'])).out).toBe(help.out);
      expect(Math.max(...help.out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(110);
    }
  });

  it('version prints the version of the package', async () => {
    expect((await hearthfs(['version'])).out).toMatch(/^hearthfs \d+\.\d+\.\d+\n$/);
  });
});

describe('remount', () => {
  it('makes a mount read-only, and writable again unless it was mounted to be read only', async () => {
    expect((await hearthfs(['remount', '/mnt/x', '--read-only'])).code).toBe(0);
    expect((await hearthfs(['remount', '/mnt/x', '--no-read-only'])).code).toBe(0);
    expect(remounted).toEqual([['/mnt/x', true], ['/mnt/x', false]]);
    target.over = { readOnly: true };
    expect((await hearthfs(['remount', '/mnt/x', '--no-read-only'])).err).toContain('was mounted to be read only');
    expect(remounted).toHaveLength(2);
  });

  it('wants to know which, and the mountpoint itself', async () => {
    expect(await hearthfs(['remount', '/mnt/x'])).toMatchObject({ code: 2, err: expect.stringContaining('--read-only or --no-read-only') as string });
    expect(await hearthfs(['remount', '/mnt/x/sub', '--read-only'])).toMatchObject({ code: 2, err: expect.stringContaining('give the mountpoint itself') as string });
    expect(remounted).toEqual([]);
  });
});
