/** The cache: its limit, eviction, what survives a restart; and access by other users. */
import { chmod, chown, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { lacks, run, sh, until } from '../support/child.js';
import { treeDifferences, treeOf } from '../support/tree.js';
import { cannotMount, useWorld } from '../support/world.js';

const MiB = 1024 * 1024;

describe.skipIf(cannotMount)('cache and users', { timeout: 120_000 }, () => {
  const world = useWorld();

  it('a cache of 64 MiB holds 200 MiB of data: the limit is kept, everything stays readable', async () => {
    const mount = await world.mount({ args: ['--cache-size', '64MiB'] });
    const source = world.temp('source');
    await sh(`mkdir ${source} && cd ${source} && for i in $(seq 40); do head -c 5242880 /dev/urandom > f$i; done`);
    const copy = sh(`cp ${source}/* ${mount.path}`, { timeoutMs: 100_000 });
    let largest = 0;
    let done = false;
    copy.finally(() => (done = true)).catch(() => undefined);
    while (!done) {
      largest = Math.max(largest, (await mount.status()).cacheBytes, Number((await run('du', ['-sB1', mount.cacheDir])).stdout.split('\t')[0]));
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await copy;
    await mount.sync();
    // the database and the ballast lie in the directory, too, and a passthrough file is counted when it is closed (SEMANTICS 8)
    expect(largest).toBeLessThan((64 + 64 + 40) * MiB);
    await until('the cache is within its limit', async () => (await mount.status()).cacheBytes <= 64 * MiB);
    const wanted = (await treeOf(source)).map((entry) => ({ ...entry, mtimeNs: '' }));
    for (let i = 0; i < 2; i++) expect(treeDifferences(wanted, (await treeOf(mount.path)).map((entry) => ({ ...entry, mtimeNs: '' })))).toEqual([]);
    expect((await mount.status()).cacheBytes).toBeLessThanOrEqual(64 * MiB);
    await mount.unmount();
  });

  it('what is cached needs no S3: read again, also after a restart, without a single GET; evict and warm say what they did', async () => {
    const bucket = world.bucket.newPrefix();
    for (let i = 0; i < 20; i++) await bucket.put(`f${i}`, Buffer.alloc(100_000 + i, `${i} `));
    const gate = await world.gate();
    const mount = await world.mount({ bucket, endpoint: gate.endpoint, args: ['--ttl', 'exclusive'] });
    const first = await treeOf(mount.path);
    await mount.unmount();
    const again = await world.mount({ bucket, endpoint: gate.endpoint, cacheDir: mount.cacheDir, args: ['--ttl', 'exclusive'] });
    await gate.stop();
    expect(treeDifferences(first, await treeOf(again.path))).toEqual([]);
    await gate.start();
    const evicted = JSON.parse((await again.cli('evict', ['--json'])).stdout) as { files: number };
    expect(evicted.files).toBe(20);
    expect((await again.status()).cacheBytes).toBeLessThan(1 * MiB);
    const warmed = JSON.parse((await again.cli('warm', ['--json'])).stdout) as { files: number; bytes: number; failed: unknown[] };
    expect(warmed).toMatchObject({ files: 20, failed: [] });
    await gate.stop();
    expect(treeDifferences(first, await treeOf(again.path))).toEqual([]);
    await gate.start();
    await again.unmount();
  });

  it('dirty files are never evicted', async () => {
    const gate = await world.gate();
    const mount = await world.mount({ endpoint: gate.endpoint, args: ['--cache-size', '96MiB'] });
    await readdir(mount.path);
    await gate.stop();
    await sh(`head -c 30000000 /dev/urandom > ${mount.in('dirty')}`);
    const sum = (await run('sha256sum', [mount.in('dirty')])).stdout.slice(0, 64);
    await mount.cli('evict', [], { check: false });
    expect((await run('sha256sum', [mount.in('dirty')])).stdout.slice(0, 64)).toBe(sum);
    await gate.start();
    await mount.sync();
    expect(await mount.bucket.sha256('dirty')).toBe(sum);
    await mount.unmount();
  });

  it('with S3 away and the cache full of dirty data writers get ENOSPC, nothing is lost, and it goes on when S3 is back', async () => {
    const gate = await world.gate();
    const mount = await world.mount({ endpoint: gate.endpoint, args: ['--cache-size', '64MiB', '--deadline', '2s'] });
    await readdir(mount.path);
    await gate.stop();
    const result = await sh(`cd ${mount.path}; for i in $(seq 40); do head -c 5242880 /dev/zero > f$i || { echo "failed at $i"; exit 1; }; done`, { check: false, timeoutMs: 100_000 });
    expect(result.code, result.stderr).toBe(1);
    expect(result.stderr).toMatch(/No space left on device/);
    const failedAt = Number(/failed at (\d+)/.exec(result.stdout)?.[1]);
    expect(failedAt).toBeGreaterThan(4);
    await gate.start();
    await mount.sync();
    for (let i = 1; i < failedAt; i++) expect((await mount.bucket.head(`f${i}`)).ContentLength).toBe(5 * MiB);
    await sh(`head -c 5242880 /dev/zero > ${mount.in('again')}`);
    await mount.unmount();
    expect((await mount.bucket.head('again')).ContentLength).toBe(5 * MiB);
  });

  it.skipIf(lacks('setpriv'))('--allow-other: the kernel checks every caller by uid and gid', async () => {
    const mount = await world.mount({ args: ['--allow-other'] });
    const as = (uid: number, script: string): Promise<{ code: number | null; stdout: string; stderr: string }> =>
      run('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', 'bash', '-c', script], { check: false, cwd: '/' });
    await chmod(world.directory, 0o755);
    await mkdir(mount.in('home'));
    await chown(mount.in('home'), 65534, 65534);
    await writeFile(mount.in('secret'), 'root only');
    await chmod(mount.in('secret'), 0o600);
    await writeFile(mount.in('public'), 'for all');
    expect((await as(65534, `cat ${mount.in('secret')}`)).stderr).toMatch(/Permission denied/);
    expect(await as(65534, `cat ${mount.in('public')}`)).toMatchObject({ code: 0, stdout: 'for all' });
    expect((await as(65534, `echo x >> ${mount.in('public')}`)).stderr).toMatch(/Permission denied/);
    expect((await as(65534, `rm -f ${mount.in('public')}`)).stderr).toMatch(/Permission denied/);
    expect(await as(65534, `cd ${mount.in('home')} && umask 027 && echo mine > f && mkdir d && ln -s f l && stat -c '%u %g %a' f d`)).toMatchObject({ code: 0, stdout: '65534 65534 640\n65534 65534 750\n' });
    expect((await as(1234, `cat ${mount.in('home/f')}`)).stderr).toMatch(/Permission denied/);
    expect((await as(1234, `chmod 777 ${mount.in('home/f')}`)).stderr).toMatch(/Operation not permitted/);
    await sh(`mkdir ${mount.in('drop')} && chmod 1777 ${mount.in('drop')} && install -d -m 2777 -g 4321 ${mount.in('group')}`);
    expect((await as(1234, `echo a > ${mount.in('drop/a')}`)).code).toBe(0);
    expect((await as(65534, `rm -f ${mount.in('drop/a')}`)).stderr).toMatch(/Operation not permitted/);
    expect(await as(1234, `touch ${mount.in('group/x')} && stat -c %g ${mount.in('group/x')}`)).toMatchObject({ stdout: '4321\n' });
    await mount.sync();
    expect((await mount.bucket.head('home/f')).Metadata).toMatchObject({ uid: '65534', gid: '65534', mode: String(0o100640) });
    await mount.unmount();
  });

  it('--write-mode through: close returns when the object is in S3, and fails if it cannot be', async () => {
    const gate = await world.gate();
    const mount = await world.mount({ endpoint: gate.endpoint, args: ['--write-mode', 'through', '--deadline', '2s'] });
    await writeFile(mount.in('file'), 'text');
    expect(String(await mount.bucket.get('file'))).toBe('text');
    await sh(`cp ${mount.in('file')} ${mount.in('copy')}`);
    expect(String(await mount.bucket.get('copy'))).toBe('text');
    await gate.stop();
    expect((await run('cp', [mount.in('file'), mount.in('not')], { check: false, timeoutMs: 60_000 })).code).not.toBe(0);
    await gate.start();
    await mount.sync();
    await mount.unmount();
  });

  it('--read-mode store and --attributes listing read the same bytes', async () => {
    const bucket = world.bucket.newPrefix();
    const bytes = Buffer.alloc(12 * MiB, 'abcdefghijk');
    await bucket.put('big', bytes, { Metadata: { mode: String(0o100600), uid: '5' } });
    const mount = await world.mount({ bucket, args: ['--read-mode', 'store', '--attributes', 'listing', '--umask', '077', '--uid', '9'] });
    expect((await readFile(mount.in('big'))).equals(bytes)).toBe(true);
    expect((await sh(`stat -c '%s %u' ${mount.in('big')}`)).stdout).toMatch(/^12582912 \d+\n$/);
    await mount.unmount();
  });

  it('fsync --fsync remote: the object is in S3 when fsync returns', async () => {
    const mount = await world.mount({ args: ['--fsync', 'remote', '--upload-delay', '60s'] });
    await sh(`dd if=/dev/zero of=${mount.in('synced')} bs=1000 count=3 conv=fsync status=none`);
    expect((await mount.bucket.head('synced')).ContentLength).toBe(3000);
    await mount.unmount();
  });
});
