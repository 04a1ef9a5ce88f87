/** What the kernel keeps by itself: cached names and data until it is told otherwise (K10, K16), and files it reads without us (K5 to K7). */
import fs from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { canMount, ToyMount, until } from '../support/toy-mount.js';

describe.skipIf(!canMount)('the kernel cache', () => {
  let mount: ToyMount;
  afterEach(async () => { await mount.close(); });

  it('keeps names and data for their time, until a notification says otherwise', async () => {
    mount = await ToyMount.start({ transient: true });
    const show = async (): Promise<string> => (await mount.run('cat data; cat negative-1 2>/dev/null; stat -c %s data')).out;
    await mount.run('echo old > data');
    expect(await show()).toBe('old\n4');
    process.kill(mount.daemonPid, 'SIGUSR2');
    await until(() => /notified .*notices=3 failed=0/.test(mount.log));
    expect(await show()).toBe('new and longerit is here14');
  });

  it('does not hear of changes it was not told of', async () => {
    mount = await ToyMount.start({ toy: { files: { big: 1 << 20 } } });
    await mount.run('cat big negative-1 > /dev/null; cat big negative-1 > /dev/null; cat big negative-1 > /dev/null');
    process.kill(mount.supervisorPid, 'SIGTERM');
    await mount.supervisorGone();
    expect(/reads=(\d+)/.exec(mount.log)![1]).not.toBe('0');
    expect(mount.log).toMatch(/lookups=[2-4] /); // `big` may come with its directory; `negative-1` is asked for once
  });

  it('reads and writes passthrough files itself (K5)', async () => {
    mount = await ToyMount.start({ toy: { files: { f: 1 << 20 }, passthrough: true } });
    expect(await mount.run('head -c 300000 /dev/urandom > /tmp/$$; cat /tmp/$$ > f && cmp f /tmp/$$ && rm /tmp/$$ && echo same')).toMatchObject({ code: 0, out: 'same' });
    process.kill(mount.supervisorPid, 'SIGTERM');
    await mount.supervisorGone();
    expect(mount.log).toMatch(/reads=0 writes=0/);
  });

  it('goes on with an open passthrough file over the death of a daemon (K13)', async () => {
    mount = await ToyMount.start({ toy: { files: { f: 1 << 20 }, passthrough: true } });
    const using = mount.run(`exec 9<> f; touch ${mount.dir}/opened; while [ ! -e ${mount.dir}/killed ]; do sleep 0.05; done; echo abc >&9 && head -c 4 <&9 | wc -c`);
    await until(() => fs.existsSync(`${mount.dir}/opened`));
    await mount.killDaemon();
    fs.writeFileSync(`${mount.dir}/killed`, '');
    expect(await using).toMatchObject({ code: 0, out: '4' });
    process.kill(mount.supervisorPid, 'SIGTERM');
    await mount.supervisorGone();
    expect(mount.log).toMatch(/reads=0 writes=0/);
  });
});
