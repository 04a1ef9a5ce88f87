/** What flags of a mount, given at its start or by a remount, change for programs. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { run, sh } from '../support/child.js';
import { program } from '../support/mount.js';
import { cannotMount, useWorld } from '../support/world.js';

describe.skipIf(cannotMount)('flags of a mount', { timeout: 120_000 }, () => {
  const world = useWorld();

  it('setuid programs and device nodes work with --suid and --dev only', async () => {
    const plain = await world.mount();
    const open = await world.mount({ args: ['--suid', '--dev'] });
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
    const mount = await world.mount({ args: ['--dev', '--upload-delay', '3s'] });
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
});
