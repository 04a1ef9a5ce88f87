/** What other S3 clients see of a mount, and a mount of other clients. */
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { ConflictItem, DoctorFacts } from '../../src/control/api.js';
import { delay, run, sh, until } from '../support/child.js';
import { TestBucket } from '../support/s3.js';
import { treeDifferences, treeOf } from '../support/tree.js';
import { cannotMount, useWorld } from '../support/world.js';

describe.skipIf(cannotMount)('a mount and other S3 clients', { timeout: 90_000 }, () => {
  const world = useWorld();

  it('after sync --wait another client sees exactly these objects, with the documented metadata', async () => {
    const mount = await world.mount();
    await sh(`cd ${mount.path} && mkdir -p dir/empty && printf 'hello\\n' > dir/page.html && head -c 100000 /dev/urandom > photo.jpg && printf x > unknown.zzz && printf x > none
      ln -s dir/page.html link && chmod 640 photo.jpg && chown 1234:5678 photo.jpg && touch -d '2020-02-02 02:02:02.000000002 UTC' photo.jpg && touch -d '2021-01-01 00:00:00 UTC' none
      rm -f gone; printf x > gone; rm gone; printf x > before; mv before after`);
    await mount.sync();
    expect(await mount.bucket.keys()).toEqual(['after', 'dir/', 'dir/empty/', 'dir/page.html', 'link', 'none', 'photo.jpg', 'unknown.zzz']);
    const photo = await mount.bucket.head('photo.jpg');
    expect(photo.Metadata).toMatchObject({ mode: String(0o100640), uid: '1234', gid: '5678', mtime: '1580608922.000000002' });
    expect((await mount.bucket.get('photo.jpg')).equals(await readFile(mount.in('photo.jpg')))).toBe(true);
    expect((await mount.bucket.head('none')).Metadata).toMatchObject({ mode: String(0o100644), uid: '0', gid: '0', mtime: '1609459200' });
    const types = new Map<string, string | undefined>();
    for (const key of ['dir/page.html', 'photo.jpg', 'unknown.zzz', 'dir/']) types.set(key, (await mount.bucket.head(key)).ContentType);
    expect(types.get('dir/page.html')).toMatch(/^text\/html/);
    expect(types.get('photo.jpg')).toBe('image/jpeg');
    expect(types.get('unknown.zzz')).toBe('application/octet-stream');
    expect(types.get('dir/')).toBe('application/x-directory');
    expect(String(await mount.bucket.get('link'))).toBe('dir/page.html');
    expect((await mount.bucket.head('link')).Metadata).toMatchObject({ mode: String(0o120777) });
    expect((await mount.bucket.head('dir/empty/')).Metadata).toMatchObject({ mode: String(0o040755) });
    // changes of attributes alone, a rewrite, a removal
    await sh(`cd ${mount.path} && chmod 600 dir/page.html && printf 'changed' > unknown.zzz && rm none && rmdir dir/empty`);
    await mount.sync();
    expect((await mount.bucket.head('dir/page.html')).Metadata).toMatchObject({ mode: String(0o100600) });
    expect(String(await mount.bucket.get('unknown.zzz'))).toBe('changed');
    expect(await mount.bucket.keys()).toEqual(['after', 'dir/', 'dir/page.html', 'link', 'photo.jpg', 'unknown.zzz']);
    await mount.unmount();
  });

  it('a second mount with an empty cache shows the same tree with the same attributes', async () => {
    const mount = await world.mount();
    await sh(`cd ${mount.path} && mkdir -p a/b/c 'x y' && for i in $(seq 30); do head -c $((i * 777)) /dev/urandom > a/b/f$i; done
      ln -s b/f1 a/link; chmod 4711 a/b/f1; chown 7:8 a/b/f2 a/b; chmod 2770 'x y'; touch -d '2001-01-01 01:01:01.111222333' a/b/f3 a/b/c; touch -d '1969-01-01 UTC' a/b/f4; mkfifo a/fifo; chmod 000 a/b/f5`);
    await mount.sync();
    const second = await world.mount({ bucket: mount.bucket });
    const wanted = await treeOf(mount.path);
    const ignoreTimesOfParents = wanted.map((entry) => (entry.type === 'dir' && entry.path !== 'a/b/c' ? { ...entry, mtimeNs: '' } : entry));
    const found = (await treeOf(second.path)).map((entry) => (entry.type === 'dir' && entry.path !== 'a/b/c' ? { ...entry, mtimeNs: '' } : entry));
    expect(treeDifferences(ignoreTimesOfParents, found)).toEqual([]);
    await second.unmount();
    await mount.unmount();
  });

  it('a bucket without prefix is mounted whole', async () => {
    const bucket = await world.s3.newBucket();
    await bucket.put('top', '1');
    await bucket.put('d/below', '2');
    const mount = await world.mount({ bucket });
    expect((await readdir(mount.path)).sort()).toEqual(['d', 'top']);
    await writeFile(mount.in('d/new'), '3');
    await mount.unmount();
    expect(await bucket.keys()).toEqual(['d/below', 'd/new', 'top']);
  });

  it('objects put, changed and deleted by another client appear within the TTL', async () => {
    const { bucket } = { bucket: world.bucket.newPrefix() };
    await bucket.put('a', 'one');
    await bucket.put('dir/x', 'x');
    const mount = await world.mount({ bucket, args: ['--ttl', '1s'] });
    expect(await readFile(mount.in('a'), 'utf8')).toBe('one');
    expect(await readdir(mount.in('dir'))).toEqual(['x']);
    await expect(stat(mount.in('b'))).rejects.toThrow('ENOENT');
    await bucket.put('b', 'new');
    await bucket.put('a', 'second version');
    await bucket.put('dir/deep/y', 'y');
    await bucket.delete('dir/x');
    await delay(1_300);
    expect(await readFile(mount.in('b'), 'utf8')).toBe('new');
    expect(await readFile(mount.in('a'), 'utf8')).toBe('second version');
    expect((await stat(mount.in('a'))).size).toBe(14);
    expect(await readdir(mount.in('dir'))).toEqual(['deep']);
    expect(await readFile(mount.in('dir/deep/y'), 'utf8')).toBe('y');
    await expect(readFile(mount.in('dir/x'))).rejects.toThrow('ENOENT');
    await bucket.delete('a');
    await bucket.delete('dir/deep/y');
    await delay(1_300);
    await expect(stat(mount.in('a'))).rejects.toThrow('ENOENT');
    expect(await readdir(mount.path)).toEqual(['b']);
    await mount.unmount();
  });

  it('objects of other tools: attributes by default, metadata and headers survive rewrites, renames and chmod', async () => {
    const bucket = world.bucket.newPrefix();
    await bucket.put('plain', 'plain', { ContentType: 'text/x-odd', CacheControl: 'max-age=5', Metadata: { colour: 'blue' } });
    await bucket.put('s3fs', 'target', { Metadata: { mode: String(0o120777), uid: '3', gid: '4', mtime: '1000000000' } });
    await bucket.put('rclone', 'r', { Metadata: { mtime: '1234567890.123456789' } });
    const mount = await world.mount({ bucket, args: ['--uid', '42', '--gid', '43', '--umask', '027'] });
    const { stdout } = await sh(`cd ${mount.path} && stat -c '%n %a %u %g %F %.9Y' plain s3fs rclone`);
    const lines = stdout.trim().split('\n');
    expect(lines[0]).toMatch(/^plain 640 42 43 regular file \d+\./);
    expect(lines[1]).toMatch(/^s3fs 777 3 4 symbolic link 1000000000\.000000000$/);
    expect(lines[2]).toBe('rclone 640 42 43 regular file 1234567890.123456789');
    await sh(`cd ${mount.path} && chmod 600 plain && mv plain moved && printf more >> moved`);
    await mount.unmount();
    const head = await bucket.head('moved');
    expect({ type: head.ContentType, cache: head.CacheControl, colour: head.Metadata?.['colour'], mode: head.Metadata?.['mode'] }).toEqual({ type: 'text/x-odd', cache: 'max-age=5', colour: 'blue', mode: String(0o100600) });
    expect(String(await bucket.get('moved'))).toBe('plainmore');
  });

  it('keys that are no paths: nothing crashes, nothing is lost, doctor explains', async () => {
    const bucket = await world.s3.newBucket();
    const odd = ['a', 'a/b', 'd//x', 'd/../y', 'd/./z', '/lead', `long/${'n'.repeat(300)}`, 'd/ok', 'dot/..', 'only//'];
    for (const key of odd) await bucket.put(key, key);
    const mount = await world.mount({ bucket });
    const { stdout } = await sh(`cd ${mount.path} && find . -type f | sort`);
    expect(stdout.trim().split('\n')).toEqual(['./a/b', './d/ok']);
    const doctor = JSON.parse((await mount.cli('doctor', ['--json'], { check: false })).stdout) as DoctorFacts;
    const told = JSON.stringify(doctor.checks.filter((check) => check.ok !== 'ok'));
    for (const key of ['d//', 'd/../', 'd/./', 'dot/..', 'only//', 'long/nnn']) expect(told).toContain(key); // a part below which all is hidden stands for it all
    await sh(`cd ${mount.path} && rm -rf d a/b && mkdir -p fine && echo > fine/file`);
    await mount.unmount();
    for (const key of odd.filter((key) => key !== 'a/b' && key !== 'd/ok')) expect(String(await bucket.get(key)), key).toBe(key);
  });

  it('a read-only mount refuses every change with EROFS and sends none', async () => {
    const bucket = world.bucket.newPrefix();
    await bucket.put('file', 'content');
    const mount = await world.mount({ bucket, args: ['--read-only'] });
    expect(await readFile(mount.in('file'), 'utf8')).toBe('content');
    for (const command of ['touch new', 'echo x > file', 'rm file', 'mkdir d', 'mv file g', 'chmod 600 file', 'ln -s x y', 'truncate -s 1 file', 'touch file']) {
      const result = await run('bash', ['-c', `cd ${mount.path} && ${command}`], { check: false });
      expect(result.code, command).not.toBe(0);
      expect(result.stderr, command).toMatch(/Read-only file system/);
    }
    await mount.unmount();
    expect(await bucket.keys()).toEqual(['file']);
  });

  it('two mounts change the same file: the loser is kept beside the winner and reported', async () => {
    const bucket = world.bucket.newPrefix();
    await bucket.put('shared', 'base');
    const first = await world.mount({ bucket });
    const second = await world.mount({ bucket });
    for (const mount of [first, second]) expect(await readFile(mount.in('shared'), 'utf8')).toBe('base');
    await writeFile(first.in('shared'), 'from the first');
    await first.sync();
    await writeFile(second.in('shared'), 'from the second');
    await second.cli('sync', ['--wait'], { check: false });
    const items = await until('the conflict is reported', async () => {
      const list = await second.cliJson<ConflictItem[]>('conflicts');
      return list.length > 0 && list;
    });
    await second.cli('sync', ['--wait']);
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({ key: 'shared' });
    expect(String(await bucket.get('shared'))).toBe('from the first');
    expect(items[0]!.keptAs).toMatch(/^shared\.conflict-/);
    expect(String(await bucket.get(items[0]!.keptAs!))).toBe('from the second');
    expect(await readFile(second.in('shared'), 'utf8')).toBe('from the first');
    expect(await readFile(second.in(items[0]!.keptAs!), 'utf8')).toBe('from the second');
    expect((await second.status()).conflicts).toBe(1);
    await second.unmount();
    await first.unmount();
  });

  it('a file deleted here and changed by another client is not deleted in S3', async () => {
    const bucket = world.bucket.newPrefix();
    await bucket.put('kept', 'old');
    const mount = await world.mount({ bucket, args: ['--upload-delay', '3s'] });
    await run('cat', [mount.in('kept')]);
    await run('rm', [mount.in('kept')]);
    await bucket.put('kept', 'new by another');
    await mount.cli('sync', ['--wait'], { check: false });
    expect(String(await bucket.get('kept'))).toBe('new by another');
    expect(await until('it shows again', () => readFile(mount.in('kept'), 'utf8'))).toBe('new by another');
    await mount.unmount();
  });

  it('the root of another prefix is not touched', async () => {
    const outside = new TestBucket(world.s3, world.bucket.name, '');
    await outside.put('outside', 'o');
    const mount = await world.mount();
    await sh(`cd ${mount.path} && echo > x && rm -rf -- *`);
    await mount.unmount();
    expect(String(await outside.get('outside'))).toBe('o');
  });
});
