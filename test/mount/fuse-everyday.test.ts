/** Everyday tools on a real mount: kernel, session, supervisor and mount(2) together. */
import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount, ToyMount, until } from '../support/toy-mount.js';

describe.skipIf(!canMount)('a mounted file system', () => {
  let mount: ToyMount;
  beforeAll(async () => { mount = await ToyMount.start({ transient: true, toy: { files: { block: 10, void: 0, big: 64 << 20 } } }); });
  afterAll(async () => { await mount.close(); });
  const ok = async (script: string): Promise<string> => {
    const result = await mount.run(script, { seconds: 28 });
    expect(result, script).toMatchObject({ code: 0 });
    return result.out;
  };

  it('ls, cat, cp, mv, rm, mkdir, ln, truncate, chmod, touch do what they say', async () => {
    expect(await ok('mkdir d && echo hello > d/a && cat d/a && cp d/a d/b && mv d/b d/c && ln -s c d/l && cat d/l && ln d/a d/h && stat -c %h d/a && ls d')).toBe('hello\nhello\n2\na\nc\nh\nl');
    expect(await ok('truncate -s 100 d/c && stat -c %s d/c && chmod 640 d/c && touch -d @1500000000.123456789 d/c && stat -c "%a %.9Y" d/c')).toBe('100\n640 1500000000.123456789');
    expect(await ok('rm d/a && ls d && rm -r d && ls')).toBe('c\nh\nl\nbig\nblock\nvoid');
  });

  it('errors arrive as themselves', async () => {
    const script = 'import os, errno\nfor f in (lambda: os.stat("none"), lambda: os.rmdir("full"), lambda: os.mkdir("full"), lambda: os.listdir("void"), lambda: os.stat("n" * 256)):\n  try: f()\n  except OSError as e: print(errno.errorcode[e.errno])';
    expect(await ok(`mkdir full && touch full/x && python3 -c '${script}'; rm -r full`)).toBe('ENOENT\nENOTEMPTY\nEEXIST\nENOTDIR\nENAMETOOLONG');
  });

  it('extended attributes', async () => {
    expect(await ok('touch x && setfattr -n user.a -v one x && setfattr -n user.b -v two x && getfattr --only-values -n user.a x && getfattr x 2>/dev/null | grep -c user && setfattr -x user.a x && getfattr x | grep -c user; rm x')).toBe('one2\n1');
  });

  it('names that are not UTF-8 come back as they were', async () => {
    expect(await ok('touch "$(printf "b\\377\\376")" && ls | od -An -tx1 | tr -d "\\n" | grep -o "62 ff fe" && rm "$(printf "b\\377\\376")"')).toBe('62 ff fe');
  });

  it('10,000 names are listed once each, with their attributes, by readdirplus', async () => {
    const make = 'import os\nos.mkdir("many")\nfor i in range(10000): os.mknod("many/file-%05d" % i)';
    const list = 'import os\nseen = [(e.name, e.stat().st_nlink) for e in os.scandir("many")]\nprint(len(seen), len(set(seen)), sum(n for _, n in seen))';
    expect(await ok(`python3 -c '${make}' && python3 -c '${list}' && ls many | sort -u | wc -l`)).toBe('10000 10000 10000\n10000');
  });

  it('what is written is what is read, in any sizes', async () => {
    expect(await ok('head -c 5000000 /dev/urandom > /tmp/$$ && cp /tmp/$$ r && cmp r /tmp/$$ && dd if=/tmp/$$ of=r2 bs=777 status=none && cmp r2 /tmp/$$ && dd if=r of=r3 bs=1M iflag=direct status=none && cmp r3 /tmp/$$ && rm r r2 r3 /tmp/$$ && echo same')).toBe('same');
  });

  it('writes and direct reads travel in requests of 1 MiB', async () => {
    const { out } = await mount.run('dd if=/dev/zero of=void bs=1M count=32 conv=notrunc status=none && dd if=big of=/dev/null bs=1M iflag=direct status=none');
    expect(out).toBe('');
    await mount.run('ls'); // counts are in the log at the end: see the last test
  });

  it('a killed reader is let go by INTERRUPT', async () => {
    const { code } = await mount.run('cat block & p=$!; sleep 0.3; kill $p; wait $p; [ $? = 143 ]', { seconds: 5 });
    expect(code).toBe(0);
  });

  it('O_TMPFILE, fallocate, SEEK_DATA, copy_file_range, RENAME_EXCHANGE reach the file system', async () => {
    const script = `
import os
fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(fd, b'abc'); os.lseek(fd, 0, os.SEEK_SET); print(os.read(fd, 9).decode()); os.close(fd)
fd = os.open('fa', os.O_RDWR | os.O_CREAT); os.posix_fallocate(fd, 0, 8192); print(os.fstat(fd).st_size, os.lseek(fd, 5, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE))
os.pwrite(fd, b'copied', 0); fd2 = os.open('fb', os.O_RDWR | os.O_CREAT); print(os.copy_file_range(fd, fd2, 6, 0, 0), os.pread(fd2, 10, 0).decode())
os.unlink('fa'); os.unlink('fb')
`;
    expect(await ok(`python3 - <<'PY'\n${script}\nPY`)).toBe('abc\n8192 5 8192\n6 copied');
  });

  it('readahead is set in sysfs (K4) to what a READ may be, and the mount is nosuid, nodev, with its source shown', async () => {
    expect(await ok('grep " $PWD " /proc/self/mountinfo | grep -o "nosuid,nodev.*fuse.hearthfs s3://toy/p .*default_permissions,allow_other"')).toMatch(/^nosuid/);
    expect(await ok('cat /sys/class/bdi/$(grep " $PWD " /proc/self/mountinfo | cut -d" " -f3)/read_ahead_kb')).toBe('1020');
    expect(await ok('grep " $PWD " /proc/self/mountinfo')).toContain('max_read=1044480');
  });

  it('a second mount at the same place is refused', async () => {
    const config = { bucket: 'x', prefix: '', mountpoint: mount.mountpoint, cacheDir: `${mount.dir}/cache`, logLevel: 'info' };
    const { startSupervisor } = await import('../../src/daemon/supervisor.js');
    await expect(startSupervisor(config as never, { foreground: false })).rejects.toThrow(/is already mounted \(s3:\/\/toy\/p\)/);
  });

  it('umount while it is in use is EBUSY and reported; afterwards it leaves nothing', async () => {
    const busy = mount.run(`exec 9< big; touch ${mount.dir}/opened; while [ ! -e ${mount.dir}/release ]; do sleep 0.05; done`);
    await until(() => fs.existsSync(`${mount.dir}/opened`));
    process.kill(mount.supervisorPid, 'SIGTERM');
    await until(() => /cannot unmount .*EBUSY/.test(mount.log));
    fs.writeFileSync(`${mount.dir}/release`, '');
    expect(await busy).toMatchObject({ code: 0 });
    expect(mount.isMounted).toBe(true);
    process.kill(mount.supervisorPid, 'SIGHUP');
    await ok('ls');
    await ok('cd / && umount "$OLDPWD"');
    await mount.supervisorGone();
    expect(mount.isMounted).toBe(false);
    const counts = /ended .*reads=(\d+) writes=(\d+) readdirplus=(\d+)/.exec(mount.log)!.slice(1).map(Number);
    expect(counts[1]).toBeLessThan(8000); // 4 KiB writes would be 8192 for `void` alone
    expect(counts[2]).toBeGreaterThan(0);
  });
});
