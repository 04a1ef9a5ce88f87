/** Daemons die, the mount stays (promise 4; K11, K12, K15, K17). */
import fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { canMount, isAlive, shell, ToyMount, until } from '../support/toy-mount.js';

describe.skipIf(!canMount)('the supervisor', () => {
  let mounts: ToyMount[] = [];
  const start = async (...args: Parameters<typeof ToyMount.start>): Promise<ToyMount> => {
    const mount = await ToyMount.start(...args);
    mounts.push(mount);
    return mount;
  };
  afterEach(async () => {
    for (const mount of mounts) await mount.close();
    mounts = [];
  });

  it('a reader and a writer do not notice that daemons are killed under them', async () => {
    const mount = await start({ toy: { files: { zero: 256 << 20 } } });
    const reading = mount.run('dd if=zero of=/dev/null bs=64k iflag=direct', { seconds: 40 });
    const writing = mount.run('head -c 100000000 /dev/urandom > /tmp/$$ && dd if=/tmp/$$ of=w bs=100k status=none && cmp w /tmp/$$ && rm /tmp/$$ && echo same', { seconds: 40 });
    for (let i = 0; i < 3; i++) await mount.killDaemon();
    expect(await reading).toMatchObject({ code: 0 });
    expect((await reading).err).toContain('268435456 bytes');
    expect(await writing).toMatchObject({ code: 0, out: 'same' });
    expect(mount.log.match(/the daemon died/g)!.length).toBe(3);
  });

  it('a log that cannot be written costs its lines, not the mount', async () => {
    const mount = await start({ config: { logFile: '/dev/full' } });
    for (let i = 0; i < 2; i++) await mount.killDaemon();
    expect(await mount.run('echo x > a; cat a')).toMatchObject({ code: 0, out: 'x' });
    expect(isAlive(mount.supervisorPid)).toBe(true);
  });

  it('a call that waits in a dead daemon is sent to the next one', async () => {
    const mount = await start({ toy: { files: { block: 10 } } });
    const waiting = mount.run(`cat block & p=$!; while [ ! -e ${mount.dir}/release ]; do sleep 0.05; done; kill $p; wait $p; echo $?`);
    await mount.run('until grep -qs request_wait_answer /proc/$(pgrep -nx cat)/stack; do sleep 0.05; done');
    await mount.killDaemon();
    fs.writeFileSync(`${mount.dir}/release`, '');
    expect(await waiting).toMatchObject({ code: 0, out: '143' });
  });

  it('a start that fails says why and leaves nothing', async () => {
    await expect(start({ toy: { failWith: 'The bucket is gone: create it' } })).rejects.toMatchObject({ message: 'The bucket is gone: create it', leftMounted: false });
  });

  it('SIGTERM unmounts, the daemon ends by itself, and its exit ends the supervisor', async () => {
    const mount = await start();
    const daemon = mount.daemonPid;
    process.kill(mount.supervisorPid, 'SIGTERM');
    await mount.supervisorGone();
    expect([mount.isMounted, isAlive(daemon)]).toEqual([false, false]);
    expect(mount.log).toContain('ended reason=unmounted');
  });

  it('a second SIGTERM detaches a mount that is in use; what is open goes on', async () => {
    const mount = await start({ toy: { files: { zero: 1 << 20 } } });
    const holder = shell(`exec 9< '${mount.mountpoint}/zero'; touch ${mount.dir}/opened; while [ ! -e ${mount.dir}/release ]; do sleep 0.05; done; cat <&9 | wc -c`);
    await until(() => fs.existsSync(`${mount.dir}/opened`));
    process.kill(mount.supervisorPid, 'SIGTERM');
    await until(() => mount.log.includes('EBUSY'));
    process.kill(mount.supervisorPid, 'SIGTERM');
    await until(() => !mount.isMounted);
    fs.writeFileSync(`${mount.dir}/release`, '');
    expect(await holder).toMatchObject({ code: 0, out: '1048576' });
    await mount.supervisorGone();
  });

  it('a daemon asked to end has the supervisor unmount', async () => {
    const mount = await start();
    process.kill(mount.daemonPid, 'SIGTERM');
    await mount.supervisorGone();
    expect(mount.isMounted).toBe(false);
  });

  it('neither supervisor nor daemon holds a descriptor or its working directory in the mount (K15)', async () => {
    const mount = await start();
    for (const pid of [mount.supervisorPid, mount.daemonPid]) {
      expect(fs.readlinkSync(`/proc/${pid}/cwd`)).toBe('/');
      const open = fs.readdirSync(`/proc/${pid}/fd`).map((fd) => { try { return fs.readlinkSync(`/proc/${pid}/fd/${fd}`); } catch { return ''; } });
      expect(open.filter((path) => path.startsWith(mount.mountpoint))).toEqual([]);
      // the notifier's, a second one of the daemon, comes with its first notice; helper programs inherit neither
      expect(open.filter((path) => path === '/dev/fuse')).toHaveLength(1);
    }
  });

  it('a dead mount of ours is detached by the next one (K17)', async () => {
    const mount = await start();
    const { supervisorPid, daemonPid } = mount;
    process.kill(supervisorPid, 'SIGKILL');
    process.kill(daemonPid, 'SIGKILL');
    await until(() => !isAlive(supervisorPid) && !isAlive(daemonPid));
    expect((await mount.run('true')).err).toContain('Transport endpoint is not connected');
    const { detachDeadMount, probeOwnMount } = await import('../../src/fuse/mount.js');
    expect(await probeOwnMount(mount.mountpoint)).toBe('dead');
    expect(await detachDeadMount(mount.mountpoint)).toBe(true);
    expect([mount.isMounted, await detachDeadMount(mount.mountpoint)]).toEqual([false, false]);
  });
});

describe.skipIf(!canMount)('an unprivileged mount', () => {
  // udev makes it 0666 on ordinary systems; bare machines do not have udev
  const mode = canMount ? fs.statSync('/dev/fuse').mode & 0o777 : 0;
  beforeAll(() => { fs.chmodSync('/dev/fuse', 0o666); });
  afterAll(() => { fs.chmodSync('/dev/fuse', mode); });

  it('works as nobody through fusermount3, survives its daemon, and is private (K18)', async () => {
    const mount = await ToyMount.start({ user: 'nobody', toy: { files: { zero: 64 << 20 } } });
    try {
      expect(await mount.run('echo hi > f && cat f && stat -c %u f && ls', { user: 'nobody' })).toMatchObject({ code: 0, out: 'hi\n65534\nf\nzero' });
      expect((await mount.run('ls')).err).toContain('Permission denied'); // not even root, without allow_other
      const reading = mount.run('dd if=zero of=/dev/null bs=64k iflag=direct', { user: 'nobody' });
      await mount.killDaemon();
      expect(await reading).toMatchObject({ code: 0 });
      process.kill(mount.supervisorPid, 'SIGTERM');
      await mount.supervisorGone();
      expect(mount.isMounted).toBe(false);
    } finally {
      await mount.close();
    }
  });

  it('--allow-other without user_allow_other says what to do', async () => {
    await expect(ToyMount.start({ user: 'nobody', config: { allowOther: true } })).rejects.toThrow(/user_allow_other/);
  });
});
