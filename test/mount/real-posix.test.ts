/** System calls in a mount, by a C program and by shell tools; sizes, names, many files. */
import { readFile, readdir } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { lacks, run, sh } from '../support/child.js';
import type { TestMount } from '../support/mount.js';
import { cannotMount, scale, scaled, useWorld } from '../support/world.js';

const source = new URL('../support/posix-tool.c', import.meta.url).pathname;

describe.skipIf(cannotMount)('system calls', { timeout: 120_000 }, () => {
  const world = useWorld();
  let mount: TestMount;
  beforeAll(async () => {
    mount = await world.mount();
  });

  describe.skipIf(lacks('gcc'))('by a C program', () => {
    let tool: string;
    beforeAll(async () => {
      tool = world.temp('posix-tool');
      await run('gcc', ['-O1', '-o', tool, source]);
    });
    const cases = {
      mmap: 'mmap: shared writes, one page cache with write(), stores after the last close', unlinked: 'an unlinked open file lives on, and a new one of its name is another',
      append: 'O_APPEND by two writers, truncate down and up, O_TRUNC, short reads at the end', sparse: 'sparse files, SEEK_DATA and SEEK_HOLE, fallocate, punched holes',
      copy: 'copy_file_range', unseen: 'truncate, O_TRUNC, SEEK_HOLE, copy_file_range right after writes that nobody told the daemon about (K8)', rename: 'rename: NOREPLACE, EXCHANGE, over an open file, of directories', attributes: 'times to the nanosecond and before 1970, OMIT and NOW, chmod, chown clears suid, xattrs, symlink, fifo',
      excl: 'O_EXCL, ENOENT, ENOTDIR, ENAMETOOLONG and a name of 255 bytes',
    };
    for (const [name, what] of Object.entries(cases)) {
      it(what, async () => {
        await run('mkdir', ['-p', mount.in(name)]);
        await run(tool, [name, mount.in(name)]);
        await mount.sync();
      });
    }

    it('what mmap wrote after the last close is in S3', async () => {
      await mount.sync();
      const local = await readFile(mount.in('mmap/mapped'));
      const stored = await mount.bucket.get('mmap/mapped');
      expect(stored.equals(local)).toBe(true);
      expect(stored.subarray(5, 9).toString()).toBe('late');
    });
  });

  it('O_DIRECT writes and reads', async () => {
    const file = mount.in('direct');
    const random = world.temp('random');
    await sh(`head -c 8388608 /dev/urandom > ${random}; dd if=${random} of=${file} bs=1M oflag=direct status=none; dd if=${file} bs=1M iflag=direct status=none | cmp - ${random}; cmp ${file} ${random}
      dd if=/dev/zero of=${file} bs=4096 seek=10 count=1 conv=notrunc oflag=direct status=none; dd if=/dev/zero of=${random} bs=4096 seek=10 count=1 conv=notrunc status=none; cmp ${file} ${random}`);
    await mount.sync();
    expect((await mount.bucket.get('direct')).equals(await readFile(random))).toBe(true);
  });

  it('files of 0, 1, 5 MiB - 1, 5 MiB and 100 MiB are in S3 byte for byte and come back into an empty cache', async () => {
    const sizes = [0, 1, 5 * 1024 ** 2 - 1, 5 * 1024 ** 2, 100 * 1024 ** 2];
    await sh(`mkdir ${mount.in('sizes')} && cd ${mount.in('sizes')} && for s in ${sizes.join(' ')}; do head -c $s /dev/urandom > $s; done`);
    await mount.sync();
    const sums = new Map((await sh(`cd ${mount.in('sizes')} && sha256sum *`)).stdout.trim().split('\n').map((line) => [line.slice(66), line.slice(0, 64)]));
    for (const size of sizes) {
      expect((await mount.bucket.head(`sizes/${size}`)).ContentLength).toBe(size);
      expect(await mount.bucket.sha256(`sizes/${size}`)).toBe(sums.get(String(size)));
    }
    const second = await world.mount({ bucket: mount.bucket, args: ['--read-only'] });
    expect((await sh(`cd ${second.in('sizes')} && sha256sum *`)).stdout.trim().split('\n').map((line) => line.slice(0, 64))).toEqual([...sums.values()]);
    // a small change inside a big file
    await sh(`printf changed | dd of=${mount.in('sizes/104857600')} bs=1 seek=50000000 conv=notrunc status=none`);
    await mount.sync();
    expect(await mount.bucket.sha256('sizes/104857600')).toBe((await run('sha256sum', [mount.in('sizes/104857600')])).stdout.slice(0, 64));
    await second.unmount();
  });

  it.skipIf(scale < 1)('a sparse file of 6 GiB', { timeout: 900_000 }, async () => {
    await sh(`cd ${mount.path} && truncate -s 6G huge && printf middle | dd of=huge bs=1 seek=5000000000 conv=notrunc status=none && printf end >> huge`);
    await mount.sync(800_000);
    expect((await mount.bucket.head('huge')).ContentLength).toBe(6 * 1024 ** 3 + 3);
    const second = await world.mount({ bucket: mount.bucket });
    expect((await sh(`dd if=${second.in('huge')} bs=1 skip=5000000000 count=6 status=none; tail -c 3 ${second.in('huge')}`)).stdout).toBe('middleend');
    await second.unmount();
  });

  it('10,000 files in one directory', async () => {
    const count = scaled(10_000, 2_000);
    await sh(`mkdir ${mount.in('many')} && cd ${mount.in('many')} && seq -f 'file-%06g' 1 ${count} | while read -r f; do printf '%s' "$f" > "$f"; done`, { timeoutMs: 100_000 });
    expect(await readdir(mount.in('many'))).toHaveLength(count);
    await mount.sync(100_000);
    expect((await mount.bucket.keys('many/file-')).length).toBe(count);
    const second = await world.mount({ bucket: mount.bucket });
    expect((await sh(`cd ${second.in('many')} && ls -l | wc -l; cat file-000001 file-00${count}`.replace('00' + count, String(count).padStart(6, '0')), { timeoutMs: 100_000 })).stdout).toBe(`${count + 1}\nfile-000001file-${String(count).padStart(6, '0')}`);
    await second.unmount();
    await sh(`rm -r ${mount.in('many')}`, { timeoutMs: 100_000 });
    await mount.sync(100_000);
    expect(await mount.bucket.keys('many')).toEqual([]);
  });

  it('names with spaces, quotes, unicode, %, +, line feeds, 255 bytes', async () => {
    const names = [
      'with  spaces ', ' leading', '100%', '%41%2F', 'a+b', 'a&b=c?d#e', 'line\nfeed', 'tab\there', 'back\\slash', "quote'\"s", 'ünïcödé', 'e\u0301 and \u00e9', '日本語', '😀', '*', '~', '-rf', '...', '.hidden', 'CAPS', 'caps',
      'x'.repeat(255), 'é'.repeat(127), '\u0001\u007f', '<&>"', '$(id)', 'a:b;c,d', '[x]{y}^z|', '@!',
    ];
    await run('mkdir', [mount.in('names')]);
    for (const name of names) await run('tee', ['--', mount.in('names', name)], { input: name });
    expect(new Set(await readdir(mount.in('names')))).toEqual(new Set(names));
    await mount.sync();
    expect(await mount.bucket.keys('names/')).toEqual(names.map((name) => `names/${name}`).concat('names/').sort().filter((key, at, all) => all.indexOf(key) === at));
    for (const name of names) expect(String(await mount.bucket.get(`names/${name}`)), JSON.stringify(name)).toBe(name);
    const second = await world.mount({ bucket: mount.bucket });
    for (const name of names) expect((await run('cat', ['--', second.in('names', name)])).stdout, JSON.stringify(name)).toBe(name);
    expect(new Set(await readdir(second.in('names')))).toEqual(new Set(names));
    await second.unmount();
    for (const name of names) await run('mv', ['--', mount.in('names', name), mount.in('names', `${Buffer.from(name).subarray(0, 100).toString('hex')}`)]);
    await mount.sync();
    for (const name of names) expect(String(await mount.bucket.get(`names/${Buffer.from(name).subarray(0, 100).toString('hex')}`))).toBe(name);
    await sh(`rm -r -- ${mount.in('names')}`);
    await mount.sync();
    expect(await mount.bucket.keys('names')).toEqual([]);
  });
});
