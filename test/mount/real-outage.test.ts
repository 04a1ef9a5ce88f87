/** Promise 5: S3 goes away. Writers and readers of cached data do not notice; nothing is answered wrongly; later everything is uploaded. */
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { PendingItem } from '../../src/control/api.js';
import { delay, run, sh, until } from '../support/child.js';
import { mountedAt } from '../support/mount.js';
import { treeDifferences, treeOf } from '../support/tree.js';
import { cannotMount, scale, useWorld } from '../support/world.js';

describe.skipIf(cannotMount)('outages of S3', { timeout: 120_000 + (scale >= 1 ? 180_000 : 0) }, () => {
  const world = useWorld();
  const outageMs = scale >= 1 ? 120_000 : 6_000;

  for (const kind of ['refused', 'silent'] as const) {
    it(`S3 away (${kind}) for ${outageMs / 1000} s during writes and cached reads: no program notices, all is uploaded afterwards`, async () => {
      const gate = await world.gate();
      const mount = await world.mount({ endpoint: gate.endpoint, args: ['--deadline', '3s', '--ttl', '2s'] });
      await sh(`cd ${mount.path} && mkdir -p cached && for i in $(seq 50); do head -c 20000 /dev/urandom > cached/f$i; done`);
      await mount.sync();
      const before = await treeOf(mount.in('cached'));
      if (kind === 'refused') await gate.stop();
      else gate.silence();
      const end = performance.now() + outageMs;
      let n = 0;
      while (performance.now() < end || n < 3) {
        await sh(`cd ${mount.path} && mkdir -p work/d${n} && for i in $(seq 20); do head -c 10000 /dev/urandom > work/d${n}/f$i; done && mv work/d${n}/f1 work/d${n}/renamed && rm work/d${n}/f2 && chmod 600 work/d${n}/f3 && echo more >> cached/f${(n % 49) + 1} && ls -lR cached > /dev/null && cat cached/* > /dev/null`, { timeoutMs: 20_000 });
        n++;
        await delay(300);
      }
      const wanted = await treeOf(mount.path);
      const status = await mount.status();
      expect(status.pending).toBeGreaterThan(0);
      expect(['offline', 'degraded']).toContain(status.state);
      expect(treeDifferences(before.filter((entry) => entry.path === 'f50'), wanted.filter((entry) => entry.path === 'cached/f50').map((entry) => ({ ...entry, path: 'f50' })))).toEqual([]);
      await gate.start();
      await mount.sync(100_000);
      expect(treeDifferences(wanted, await treeOf(mount.path))).toEqual([]);
      const second = await world.mount({ bucket: mount.bucket });
      expect(treeDifferences(wanted.filter((entry) => entry.type === 'file'), (await treeOf(second.path)).filter((entry) => entry.type === 'file'))).toEqual([]);
      await until('state ok', async () => (await mount.status()).state === 'ok', 30_000);
      await second.unmount();
      await mount.unmount();
    });
  }

  it('an outage never says ENOENT: what is not cached fails with EIO by the deadline, and works again afterwards', async () => {
    const gate = await world.gate();
    const bucket = world.bucket.newPrefix();
    await bucket.put('there', 'content');
    await bucket.put('dir/x', 'x');
    const mount = await world.mount({ endpoint: gate.endpoint, bucket, args: ['--deadline', '2s', '--ttl', '1s'] });
    await gate.stop();
    const started = performance.now();
    for (const attempt of [() => stat(mount.in('there')), () => stat(mount.in('not-there')), () => readdir(mount.in('dir')), () => readFile(mount.in('there'))]) {
      await expect(attempt()).rejects.toThrow('EIO');
    }
    expect(performance.now() - started).toBeLessThan(20_000);
    await gate.start();
    expect(await until('it answers again', () => readFile(mount.in('there'), 'utf8'))).toBe('content');
    await expect(stat(mount.in('not-there'))).rejects.toThrow('ENOENT');
    expect(await readdir(mount.in('dir'))).toEqual(['x']);
    // known and cached: served although the TTL is long over and S3 does not answer
    await gate.stop();
    await delay(1_200);
    expect(await readFile(mount.in('there'), 'utf8')).toBe('content');
    await gate.start();
    await mount.unmount();
  });

  it('a mount right after umount(8) is not refused because the daemon before still waits for S3, and uploads what that one had left', async () => {
    const gate = await world.gate();
    const mount = await world.mount({ endpoint: gate.endpoint });
    const { bucket, cacheDir } = mount;
    await sh(`echo cached > ${mount.in('cached')}`);
    await mount.sync();
    await gate.stop();
    await sh(`echo left > ${mount.in('left')} && umount ${mount.path}`);
    const next = await world.mount({ bucket, cacheDir, endpoint: gate.endpoint });
    expect(await readFile(next.in('left'), 'utf8')).toBe('left\n');
    await gate.start();
    await next.sync();
    expect(String(await bucket.get('left'))).toBe('left\n');
    await next.unmount();
  });

  it('unmount with S3 away says what S3 lacks, and the next mount uploads it', async () => {
    const gate = await world.gate();
    const mount = await world.mount({ endpoint: gate.endpoint });
    expect(await readdir(mount.path)).toEqual([]); // what is in a directory that was never listed nobody can say without S3
    await gate.stop();
    await writeFile(mount.in('left.txt'), 'not uploaded');
    const result = await mount.cli('unmount', ['--drain-timeout', '1s'], { check: false, timeoutMs: 30_000 });
    expect(result.code).toBe(1);
    expect(result.stdout + result.stderr).toContain('left.txt');
    expect(result.stderr).toMatch(/safe in the cache directory/);
    await until('it is unmounted', () => !mountedAt(mount.path));
    await gate.start();
    expect(await mount.bucket.keys()).toEqual([]);
    const again = await world.mount({ endpoint: gate.endpoint, bucket: mount.bucket, cacheDir: mount.cacheDir });
    expect(await readFile(again.in('left.txt'), 'utf8')).toBe('not uploaded');
    await again.unmount();
    expect(String(await mount.bucket.get('left.txt'))).toBe('not uploaded');
  });

  it('unmount drains: what was written a moment ago is in S3 when it returns', async () => {
    const mount = await world.mount({ args: ['--upload-delay', '30s'] });
    await sh(`cd ${mount.path} && for i in $(seq 100); do echo $i > f$i; done; head -c 12000000 /dev/urandom > big`);
    const sum = (await run('sha256sum', [mount.in('big')])).stdout.slice(0, 64);
    await mount.unmount();
    expect(await mount.bucket.keys()).toHaveLength(101);
    expect(await mount.bucket.sha256('big')).toBe(sum);
  });

  it('a mount with dirty data starts while S3 is away and serves what it has', async () => {
    const gate = await world.gate();
    const mount = await world.mount({ endpoint: gate.endpoint });
    await writeFile(mount.in('known'), 'known');
    await mount.sync();
    await gate.stop();
    await writeFile(mount.in('dirty'), 'dirty');
    await mount.cli('unmount', ['--drain-timeout', '0'], { check: false });
    await until('it is unmounted', () => !mountedAt(mount.path));
    const again = await world.mount({ endpoint: gate.endpoint, bucket: mount.bucket, cacheDir: mount.cacheDir });
    expect(await readFile(again.in('dirty'), 'utf8')).toBe('dirty');
    expect(await readFile(again.in('known'), 'utf8')).toBe('known');
    expect((await again.cliJson<PendingItem[] | { items: PendingItem[] }>('pending'))).toBeTruthy();
    await gate.start();
    await again.sync();
    expect(await mount.bucket.keys()).toEqual(['dirty', 'known']);
    await again.unmount();
  });
});
