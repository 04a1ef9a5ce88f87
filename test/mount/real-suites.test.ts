/** System calls family by family, and the verifying stress programs Debian has. What bigger suites found, with commands and figures: docs/POSIX.md. */
import { mkdir } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { lacks, run, sh } from '../support/child.js';
import type { TestMount } from '../support/mount.js';
import { cannotMount, scaled, useWorld } from '../support/world.js';

const calls = new URL('../support/posix-calls.py', import.meta.url).pathname;

describe.skipIf(cannotMount)('POSIX', { timeout: 180_000 }, () => {
  const world = useWorld();
  let mount: TestMount;
  beforeAll(async () => {
    mount = await world.mount({ args: ['--allow-other'] });
  });

  describe.skipIf(lacks('python3'))('calls', () => {
    it.each([
      ['tmpfile', 'O_TMPFILE, and linkat that gives it a name'], ['renameat2', 'renameat2 with NOREPLACE, EXCHANGE, WHITEOUT'], ['statx', 'statx with all basic fields, and times to the nanosecond before and after 1970'],
      ['seeks', 'SEEK_DATA, SEEK_HOLE and every mode of fallocate'], ['copy_range', 'copy_file_range and sendfile'], ['locks', 'flock, POSIX and open-file-description locks between processes'],
      ['inotify', 'inotify sees what programs of this machine do'], ['scans', 'directories that change while they are read, telldir and seekdir'], ['unlinked', 'unlinked open files and directories'],
      ['setids', 'setuid, setgid and sticky bits'], ['xattrs', 'extended attributes: flags, limits, ctime'],
    ])('%s: %s', async (name) => {
      const directory = mount.in('calls');
      await mkdir(directory, { recursive: true });
      await run('python3', [calls, directory, name]);
      await mount.sync();
    });
  });

  it.skipIf(lacks('stress-ng'))('stress-ng: file-system stressors verify what they did', async () => {
    const directory = mount.in('stress');
    await mkdir(directory);
    const seconds = scaled(5);
    for (const stressor of ['hdd', 'copy-file', 'dentry', 'dir', 'dirdeep', 'fallocate', 'fpunch', 'getdent', 'iomix', 'link', 'lockf', 'mknod', 'rename', 'revio', 'seek', 'symlink', 'touch', 'utime', 'xattr']) {
      await run('stress-ng', ['--temp-path', directory, `--${stressor}`, '1', '--timeout', String(seconds), '--verify', '--oomable', '--no-rand-seed'], { timeoutMs: 60_000 });
    }
    await sh(`rm -rf ${directory}`);
  });

  it.skipIf(lacks('fio'))('fio: what was written at random reads back, through the page cache, O_DIRECT, mmap, and from S3 into a fresh mount', async () => {
    const size = `${scaled(64, 8)}m`;
    const job = (name: string, engine: string, direct: number, more: string[] = []): string[] => [
      `--name=${name}`, `--filename=${name}`, `--ioengine=${engine}`, `--direct=${direct}`, '--rw=randwrite', '--bsrange=4k-64k', '--blockalign=4k', `--size=${size}`, '--verify=crc32c', '--verify_fatal=1', '--randseed=7', '--end_fsync=1', '--verify_state_save=0', ...more,
    ];
    const directory = mount.in('fio');
    await mkdir(directory);
    const jobs = [job('cached', 'psync', 0), job('direct', 'psync', 1), job('mapped', 'mmap', 0, ['--bs=4k'])];
    for (const args of jobs) await run('fio', [`--directory=${directory}`, '--output-format=terse', ...args], { timeoutMs: 120_000 });
    await mount.sync();
    const fresh = await world.mount({ bucket: mount.bucket, args: ['--read-only'] });
    const sums = 'cd fio && sha256sum cached direct mapped';
    expect((await sh(sums, { cwd: fresh.path })).stdout).toBe((await sh(sums, { cwd: mount.path })).stdout);
    await fresh.unmount();
  });
});
