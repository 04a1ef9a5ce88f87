/** What programs see of the mount itself: its flags, a remount, and file handles that outlive it. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { lacks, run, sh } from '../support/child.js';
import { program } from '../support/mount.js';
import { cannotMount, useWorld } from '../support/world.js';

describe.skipIf(cannotMount)('a mount', { timeout: 120_000 }, () => {
  const world = useWorld();

  it('setuid programs and device nodes work with --allow-suid and --allow-dev only', async () => {
    const plain = await world.mount();
    const open = await world.mount({ args: ['--allow-suid', '--allow-dev'] });
    const tryIn = async (dir: string): Promise<string> => {
      const { stdout } = await sh(`cd ${dir} && cp "$(command -v id)" id && chown nobody id && chmod 4755 id && ./id -un; mknod null c 1 3; if echo x 2>&- > null; then echo written; else echo refused; fi`);
      return stdout;
    };
    expect(await tryIn(plain.path)).toBe('root\nrefused\n');
    expect(await tryIn(open.path)).toBe('nobody\nwritten\n');
    await plain.unmount();
    await open.unmount();
  });

  it('remount makes a mount read-only and writable again; what was written before reaches S3', async () => {
    const mount = await world.mount({ args: ['--allow-dev', '--upload-delay', '3s'] });
    await sh(`echo before > ${mount.in('file')}`);
    await mount.cli('remount', ['--read-only']);
    expect((await sh(`echo no > ${mount.in('file')}`, { check: false })).stderr).toMatch(/Read-only file system/);
    expect((await sh(`mkdir ${mount.in('d')}`, { check: false })).stderr).toMatch(/Read-only file system/);
    await mount.sync();
    expect(String(await mount.bucket.get('file'))).toBe('before\n');
    await mount.cli('remount', ['--no-read-only']);
    expect((await readFile('/proc/self/mountinfo', 'utf8')).split('\n').find((line) => line.includes(` ${mount.path} `))).toMatch(/ rw,nosuid,relatime /); // and still with devices
    await sh(`echo after > ${mount.in('file')}`);
    await sh(`exec 3> ${mount.in('busy')}; ! ${process.execPath} ${program} remount ${mount.path} --read-only`);
    await mount.unmount();
    const reader = await world.mount({ bucket: mount.bucket, args: ['--read-only'] });
    expect((await reader.cli('remount', ['--no-read-only'], { check: false })).stderr).toMatch(/was mounted to be read only/);
    expect((await run('cat', [reader.in('file')])).stdout).toBe('after\n');
    await reader.unmount();
  });

  it.skipIf(lacks('gcc'))('a file handle, as an NFS server keeps it, outlives daemon and mount, and is stale with another cache', async () => {
    const tool = world.temp('file-handle');
    await run('gcc', ['-O1', '-o', tool, new URL('../support/file-handle.c', import.meta.url).pathname]);
    const mount = await world.mount();
    await sh(`mkdir -p ${mount.in('a/b')}; echo text > ${mount.in('a/b/file')}; echo x > ${mount.in('gone')}`);
    const save = async (name: string): Promise<string> => (await run(tool, ['save', mount.in(name)])).stdout.trim();
    const [file, directory, gone, root] = [await save('a/b/file'), await save('a/b'), await save('gone'), await save('.')];
    const ino = (await sh(`stat -c %i ${mount.in('a/b')}`)).stdout;
    await sh(`rm ${mount.in('gone')}; mv ${mount.in('a')} ${mount.in('c')}`);
    const check = async (at: string): Promise<void> => {
      expect((await run(tool, ['read', at, file])).stdout).toBe('text\n');
      expect((await run(tool, ['stat', at, directory])).stdout).toBe(ino);
      expect((await run(tool, ['stat', at, root])).stdout).toBe('1\n');
      expect((await run(tool, ['read', at, gone], { check: false })).code).toBe(116);
    };
    const daemon = await mount.kill9Daemon();
    await mount.nextDaemon(daemon);
    await check(mount.path);
    await mount.unmount();
    const { bucket, cacheDir } = mount;
    const second = await world.mount({ bucket, cacheDir });
    await check(second.path);
    await second.unmount();
    const other = await world.mount({ bucket });
    await sh(`ls -R ${other.path}`); // it gives inodes the same numbers
    expect((await run(tool, ['read', other.path, file], { check: false })).code).toBe(116);
    await other.unmount();
  });

  it('atime of files the kernel reads by itself follows --atime, also after a crash; a read-only mount leaves it alone', async () => {
    const first = await world.mount({ args: ['--atime', 'noatime'] });
    const { bucket, cacheDir } = first;
    await sh(`cd ${first.path} && for f in a b; do echo text > $f; touch -a -d '2001-02-03 04:05:06Z' $f; done`);
    const atimes = async (dir: string): Promise<string> => (await sh(`cd ${dir} && cat a b > /dev/null && stat -c %X a b | sort -u`)).stdout.trim();
    expect((await first.status()).passthrough).toBe(true);
    expect(await atimes(first.path)).toBe('981173106');
    const daemon = await first.kill9Daemon();
    await first.nextDaemon(daemon);
    expect(await atimes(first.path)).toBe('981173106');
    await first.unmount();
    const reader = await world.mount({ bucket, cacheDir, args: ['--read-only', '--atime', 'strictatime'] });
    expect(await atimes(reader.path)).toBe('981173106');
    await reader.unmount();
    const strict = await world.mount({ bucket, cacheDir, args: ['--atime', 'strictatime'] });
    await sh(`cd ${strict.path} && touch -a -d '2100-01-01 00:00:00Z' a && cat a > /dev/null`); // later than its other times: nothing new to relatime
    expect(Number((await sh(`stat -c %X ${strict.in('a')}`)).stdout)).toBeLessThan(Date.now() / 1000 + 60);
    await strict.unmount();
  });

  it('can be the upper layer of an overlay', async () => {
    const mount = await world.mount();
    const lower = world.temp('lower');
    const merged = world.temp('merged');
    await sh(`mkdir -p ${lower}/d ${merged} ${mount.in('upper')} ${mount.in('work')} && cd ${lower} && echo lower > d/kept && echo x > d/gone && echo x > renamed`);
    const overlay = `mount -t overlay overlay -o lowerdir=${lower},upperdir=${mount.in('upper')},workdir=${mount.in('work')} ${merged}`;
    try {
      await sh(`${overlay} && cd ${merged} && rm d/gone && mv renamed d/new && echo upper >> d/kept && mkdir made && touch made/file`);
      await sh(`umount ${merged} && ${overlay}`);
      expect((await sh(`cd ${merged} && find . | sort && cat d/kept`)).stdout).toBe('.\n./d\n./d/kept\n./d/new\n./made\n./made/file\nlower\nupper\n');
    } finally {
      await sh(`umount ${merged}`, { check: false });
    }
    await mount.unmount();
  });
});
