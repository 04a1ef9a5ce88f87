/** What goes wrong when a mount is started: each ends within seconds with one sentence that says what to do, exit code 1 (2 for a wrong call), no stack trace. */
import { mkdir, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { run, sh, type RunResult } from '../support/child.js';
import { mountedAt, program } from '../support/mount.js';
import { cannotMount, useWorld } from '../support/world.js';

describe.skipIf(cannotMount)('errors of mount', { timeout: 60_000 }, () => {
  const world = useWorld();
  let mountpoint: string;
  beforeAll(async () => {
    mountpoint = world.temp('mountpoint');
    await mkdir(mountpoint);
  });

  function hearthfs(args: readonly string[], env: Record<string, string> = {}, without: readonly string[] = []): Promise<RunResult> {
    return run(process.execPath, [program, ...args], { env: { ...world.s3.environment, ...env }, without, check: false, cwd: '/', timeoutMs: 30_000 });
  }
  /** In the background, as users mount; a mount that came about all the same is taken away. */
  async function tryMount(args: readonly string[], env: Record<string, string> = {}, without: readonly string[] = []): Promise<RunResult> {
    const endpoint = args.includes('--endpoint') ? [] : ['--endpoint', world.s3.endpoint];
    const result = await hearthfs(['mount', ...args, ...endpoint, '--min-free', '1%'], env, without);
    if (mountedAt(mountpoint)) await hearthfs(['unmount', '--lazy', mountpoint]);
    return result;
  }

  function expectSentence(result: RunResult, code: 1 | 2, pattern: RegExp, withinMs = 15_000): void {
    const said = result.stderr.trim();
    expect({ code: result.code, stdout: result.stdout }, said).toEqual({ code, stdout: '' });
    expect(said).toMatch(pattern);
    expect(said.split('\n'), said).toHaveLength(1);
    expect(said).toMatch(/^hearthfs: /);
    expect(said).not.toMatch(/\n\s+at |Error:|undefined|\[object|bug in hearthfs/);
    expect(result.ms).toBeLessThan(withinMs);
  }

  const bucket = (): string => `s3://${world.bucket.name}/errors`;
  const cache = (): string[] => ['--cache-dir', world.temp('cache')];

  it('no or wrong arguments and flags: exit code 2 and what would be right', async () => {
    expectSentence(await hearthfs(['mount']), 2, /needs a bucket and a directory/, 5_000);
    expectSentence(await tryMount([bucket(), mountpoint, '--cachesize', '1GiB']), 2, /--cache-size/, 5_000);
    expectSentence(await tryMount([bucket(), mountpoint, '--cache-size', 'lots']), 2, /--cache-size/, 5_000);
    expectSentence(await tryMount([bucket(), mountpoint, '--ttl', '-3']), 2, /--ttl/, 5_000);
    expectSentence(await tryMount([bucket(), mountpoint, '--write-mode', 'sideways']), 2, /back/, 5_000);
    expectSentence(await tryMount([bucket(), mountpoint, '--endpoint', 'not a url']), 2, /endpoint/, 5_000);
    expectSentence(await tryMount(['http://bucket', mountpoint]), 2, /s3:\/\//, 5_000);
    expectSentence(await hearthfs(['mout', bucket(), mountpoint]), 2, /hearthfs mount/, 5_000);
    expectSentence(await tryMount([bucket(), mountpoint], { HEARTHFS_TTL: 'soon' }), 2, /HEARTHFS_TTL/, 5_000);
  });

  it('a missing bucket', async () => {
    expectSentence(await tryMount(['s3://hearthfs-no-such-bucket-anywhere', mountpoint, ...cache()]), 1, /hearthfs-no-such-bucket-anywhere.*not exist|no bucket/i);
  });

  it('bad credentials: an unknown key, a wrong secret, none at all', async () => {
    expectSentence(await tryMount([bucket(), mountpoint, ...cache()], { AWS_ACCESS_KEY_ID: 'UNKNOWNKEY' }), 1, /credential|access key|AWS_ACCESS_KEY_ID/i);
    expectSentence(await tryMount([bucket(), mountpoint, ...cache()], { AWS_SECRET_ACCESS_KEY: 'wrong' }), 1, /secret|signature|credential/i);
    const none = { AWS_EC2_METADATA_DISABLED: 'true', HOME: world.directory, AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' };
    expectSentence(await tryMount([bucket(), mountpoint, ...cache()], none), 1, /credential/i);
  });

  it('a bucket that never worked claims no cache directory; credentials are checked also where the cache knows the bucket', async () => {
    const mount = await world.mount();
    await mount.unmount();
    const known = [mount.bucket.url.replace(/\/$/, ''), mountpoint, '--cache-dir', mount.cacheDir];
    expectSentence(await tryMount(known, { AWS_SECRET_ACCESS_KEY: 'wrong' }), 1, /secret|signature|credential/i);
    const fresh = cache();
    expectSentence(await tryMount(['s3://hearthfs-mistyped-bucket', mountpoint, ...fresh]), 1, /no bucket/i);
    expect(await tryMount([bucket(), mountpoint, ...fresh])).toMatchObject({ code: 0 });
  });

  it('a profile that does not exist', async () => {
    expectSentence(await tryMount([bucket(), mountpoint, ...cache(), '--profile', 'nobody-has-it'], { HOME: world.directory }, ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']), 1, /nobody-has-it|credential|profile/i);
  });

  it('a mount point that is a file, is not empty, or is missing', async () => {
    const file = world.temp('file');
    await writeFile(file, 'x');
    expectSentence(await tryMount([bucket(), file, ...cache()]), 1, /is not a directory/, 8_000);
    const full = world.temp('full');
    await mkdir(path.join(full, 'x'), { recursive: true });
    expectSentence(await tryMount([bucket(), full, ...cache()]), 1, /not empty/, 8_000);
    expectSentence(await tryMount([bucket(), world.temp('missing'), ...cache()]), 1, /does not exist.*mkdir/, 8_000);
    expectSentence(await tryMount([bucket(), path.join(file, 'below'), ...cache()]), 1, /does not exist|part of its path is a file/, 8_000);
  });

  it('a mount point that is mounted already', async () => {
    const mount = await world.mount();
    expectSentence(await tryMount([bucket(), mount.path, ...cache()]), 1, /already mounted/);
    expect(await readdir(mount.path)).toEqual([]);
    await mount.unmount();
  });

  it('an unreachable endpoint: refused, silent, unknown host', async () => {
    expectSentence(await tryMount([bucket(), mountpoint, ...cache(), '--endpoint', 'http://127.0.0.1:9']), 1, /127\.0\.0\.1:9/, 25_000);
    const gate = await world.gate();
    gate.silence();
    expectSentence(await tryMount([bucket(), mountpoint, ...cache(), '--endpoint', gate.endpoint]), 1, /answer|reach|respond/i, 25_000);
    expectSentence(await tryMount([bucket(), mountpoint, ...cache(), '--endpoint', 'http://no-such-host.invalid']), 1, /no-such-host\.invalid/, 25_000);
  });

  it('an endpoint that is no S3 server', async () => {
    const server = (await import('node:http')).createServer((_request, response) => response.writeHead(404, { 'content-type': 'text/html' }).end('<html>hello</html>'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    try {
      expectSentence(await tryMount([bucket(), mountpoint, ...cache(), '--endpoint', `http://127.0.0.1:${port}`]), 1, /./);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it('a cache directory of another bucket, in use by another mount, inside a mount, unusable', async () => {
    const mount = await world.mount();
    expectSentence(await tryMount([bucket(), mountpoint, '--cache-dir', mount.cacheDir]), 1, /in use|another (mount|daemon|process)|used by/i);
    expectSentence(await tryMount([bucket(), mountpoint, '--cache-dir', mount.in('inside')]), 1, /inside|FUSE|local disk/i);
    await mount.unmount();
    expectSentence(await tryMount([bucket(), mountpoint, '--cache-dir', mount.cacheDir]), 1, /belongs to s3:\/\//);
    const file = world.temp('file');
    await writeFile(file, 'x');
    expectSentence(await tryMount([bucket(), mountpoint, '--cache-dir', file]), 1, /cache directory/i);
    expectSentence(await tryMount([bucket(), mountpoint, '--cache-dir', path.join(mountpoint, 'cache')]), 2, /inside the mountpoint/);
  });

  for (const [name, damage] of Object.entries({
    'garbage in its first pages': 'dd if=/dev/urandom of=state.db bs=4096 count=4 conv=notrunc status=none; rm -f state.db-wal state.db-shm',
    'garbage throughout': 'head -c 200000 /dev/urandom > state.db; rm -f state.db-wal state.db-shm', 'text': 'echo hello > state.db; rm -f state.db-wal state.db-shm',
  })) {
    it(`a damaged database: ${name}`, async () => {
      const mount = await world.mount();
      await sh(`cd ${mount.path} && for i in $(seq 300); do echo $i > f$i; done`);
      await mount.unmount();
      expect(await readdir(mount.cacheDir)).toContain('state.db');
      await sh(damage, { cwd: mount.cacheDir });
      const url = mount.bucket.url.replace(/\/$/, '');
      expectSentence(await tryMount([url, mountpoint, '--cache-dir', mount.cacheDir]), 1, /damaged|not a database|corrupt/i);
      await rm(mount.cacheDir, { recursive: true });
    });
  }

  it('a truncated database is refused or recovered, never a crash', async () => {
    const mount = await world.mount();
    await sh(`cd ${mount.path} && for i in $(seq 500); do echo $i > f$i; done`);
    await mount.unmount();
    await truncate(path.join(mount.cacheDir, 'state.db'), 12_288 + 100);
    expectSentence(await tryMount([mount.bucket.url.replace(/\/$/, ''), mountpoint, '--cache-dir', mount.cacheDir]), 1, /damaged|corrupt|malformed/i);
  });

  it('commands about what is no mount', async () => {
    for (const command of ['status', 'stats', 'sync', 'pending', 'unmount', 'conflicts', 'warm', 'evict']) {
      expectSentence(await hearthfs([command, world.directory]), 1, /not in a hearthfs mount/, 5_000);
    }
  });

  it('a dead mount of its own is detached by the next mount', async () => {
    const mount = await world.mount();
    const { supervisorPid, daemonPid } = await mount.status();
    process.kill(supervisorPid, 'SIGKILL');
    process.kill(daemonPid, 'SIGKILL');
    await run('bash', ['-c', `for i in $(seq 100); do kill -0 ${daemonPid} 2> /dev/null || break; sleep 0.05; done`]);
    expect((await run('ls', [mount.path], { check: false })).code).not.toBe(0);
    const next = await world.mount({ bucket: mount.bucket, cacheDir: mount.cacheDir, mountpoint: mount.path });
    expect(await readdir(next.path)).toEqual([]);
    await next.unmount();
  });

  it('mount returns once it serves, in the background; unmount ends it', async () => {
    const args = [bucket(), mountpoint, ...cache(), '--endpoint', world.s3.endpoint, '--min-free', '1%'];
    const result = await hearthfs(['mount', ...args]);
    try {
      expect(result, result.stderr).toMatchObject({ code: 0 });
      await writeFile(path.join(mountpoint, 'file'), 'text');
    } finally {
      if (mountedAt(mountpoint)) expect(await hearthfs(['unmount', mountpoint])).toMatchObject({ code: 0 });
    }
    expect(mountedAt(mountpoint)).toBe(false);
    expect(await world.bucket.keys('errors/')).toEqual(['errors/file']);
  });
});
