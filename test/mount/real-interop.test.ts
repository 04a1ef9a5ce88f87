/** s3fs and rclone on the same bucket: they read what hearthfs wrote, and hearthfs reads what they wrote. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { lacks, run, sh, until } from '../support/child.js';
import { mountedAt } from '../support/mount.js';
import type { TestBucket } from '../support/s3.js';
import { cannotMount, useWorld } from '../support/world.js';

describe.skipIf(cannotMount)('other tools', { timeout: 120_000 }, () => {
  const world = useWorld();
  const mounted: string[] = [];
  afterAll(async () => {
    for (const where of mounted) if (mountedAt(where)) await run('umount', ['-l', where], { check: false });
  });

  async function s3fs(bucket: TestBucket): Promise<{ path: string; unmount(): Promise<void> }> {
    const { credentials, endpoint, region } = bucket.s3;
    const passwd = world.temp('passwd');
    await writeFile(passwd, `${credentials.accessKeyId}:${credentials.secretAccessKey}\n`);
    await chmod(passwd, 0o600);
    const path = world.temp('s3fs');
    await mkdir(path);
    await run('s3fs', [`${bucket.name}:/${bucket.prefix.replace(/\/$/, '')}`, path, '-o', `url=${endpoint},use_path_request_style,passwd_file=${passwd},endpoint=${region},sigv4,use_xattr,max_stat_cache_size=0,attr_timeout=0,entry_timeout=0`], { cwd: '/' });
    mounted.push(path);
    await until('s3fs is mounted', () => mountedAt(path));
    return {
      path,
      unmount: async () => {
        await run('fusermount3', ['-u', path], { cwd: '/' });
        await until('s3fs ended', async () => (await run('pgrep', ['-f', path], { check: false })).code === 1); // it uploads in the background, and belongs to nobody
      },
    };
  }
  function rclone(bucket: TestBucket, args: readonly string[]): Promise<{ stdout: string }> {
    const { credentials, endpoint, region } = bucket.s3;
    return run('rclone', [...args, '--config', '/dev/null', '--s3-provider', 'Other', '--s3-endpoint', endpoint, '--s3-access-key-id', credentials.accessKeyId, '--s3-secret-access-key', credentials.secretAccessKey,
      '--s3-region', region, '--s3-force-path-style'], { without: ['AWS_CA_BUNDLE'] }); // it has its own way with transports
  }
  const remote = (bucket: TestBucket): string => `:s3:${bucket.name}/${bucket.prefix}`;

  it.skipIf(lacks('s3fs'))('s3fs shows what hearthfs wrote: types, modes, owners, times, targets, xattrs, bytes', async () => {
    const mount = await world.mount();
    await sh(`cd ${mount.path}; umask 022; mkdir d; printf hello > d/file; chmod 640 d/file; chown 1234:5678 d/file; ln -s d/file link; mkfifo fifo; chmod 700 d; setfattr -n user.color -v blue d/file
      head -c 3000000 /dev/urandom > big; touch -d '2020-02-02 02:02:02' d/file; echo linked > h1; ln h1 h2; mkdir empty`);
    await mount.sync();
    const theirs = await s3fs(mount.bucket);
    const show = `find . -mindepth 1 ! -type d -printf '%p %y %m %U:%G %s %TY-%Tm-%Td %TH:%TM:%.2TS %l\\n' | sort; find . -mindepth 1 -type d -printf '%p %m %U:%G\\n' | sort; sha256sum big d/file h1 h2; getfattr -n user.color --only-values d/file`;
    expect((await sh(`cd ${theirs.path}; ${show}`)).stdout).toBe((await sh(`cd ${mount.path}; ${show}`)).stdout);
    await theirs.unmount();
    await mount.unmount();
  });

  it.skipIf(lacks('s3fs'))('hearthfs shows what s3fs wrote, keeps what it changes readable for s3fs, and a write by s3fs breaks a hard link instead of being lost', async () => {
    const bucket = world.bucket.newPrefix();
    await bucket.put('', '');
    const theirs = await s3fs(bucket);
    await sh(`cd ${theirs.path}; umask 022; mkdir d; printf hello > d/file; chmod 640 d/file; chown 1234:5678 d/file; ln -s d/file link; mkfifo fifo; chmod 700 d; setfattr -n user.color -v blue d/file
      head -c 3000000 /dev/urandom > big; touch -d '2020-02-02 02:02:02' d/file; sync`);
    const mount = await world.mount({ bucket, args: ['--ttl', '0'] });
    const show = `find . -mindepth 1 ! -type d -printf '%p %y %m %U:%G %s %TY-%Tm-%Td %TH:%TM:%.2TS %l\\n' | sort; find . -mindepth 1 -type d -printf '%p %m %U:%G\\n' | sort; sha256sum big d/file; getfattr -n user.color --only-values d/file`;
    expect((await sh(`cd ${mount.path}; ${show}`)).stdout).toBe((await sh(`cd ${theirs.path}; ${show}`)).stdout);
    await sh(`cd ${mount.path}; echo more >> d/file; chmod 604 big; ln big linked; setfattr -n user.more -v x d/file`);
    await mount.sync();
    const changed = await sh(`cd ${theirs.path}; cat d/file; stat -c '%a %s' big linked; getfattr -n user.color --only-values d/file; getfattr -n user.more --only-values d/file`);
    expect(changed.stdout).toBe('hellomore\n604 3000000\n604 3000000\nbluex');
    await sh(`cd ${theirs.path}; printf theirs > linked`);
    await theirs.unmount();
    await sh(`cd ${mount.path}; [ "$(cat linked)" = theirs ]; [ "$(stat -c '%s %h' big)" = '3000000 1' ]`);
    await mount.unmount();
  });

  it.skipIf(lacks('rclone'))('rclone lists sizes and times of what hearthfs wrote, and hearthfs shows the times of what rclone wrote', async () => {
    const mount = await world.mount({ args: ['--ttl', '0'] });
    await sh(`cd ${mount.path}; mkdir d; printf hello > d/file; touch -d '2020-02-02 02:02:02.123456789 UTC' d/file`);
    await mount.sync();
    expect((await rclone(mount.bucket, ['lsl', remote(mount.bucket)])).stdout.trim()).toMatch(/^5 2020-02-02 0\d:02:02\.123456789 d\/file$/);
    const source = world.temp('source');
    await sh(`mkdir ${source}; echo by rclone > ${source}/theirs; touch -d '2019-01-01 01:01:01.987654321 UTC' ${source}/theirs; head -c 200000 /dev/urandom > ${source}/random`);
    await rclone(mount.bucket, ['copy', source, `${remote(mount.bucket)}from`]);
    expect((await sh(`cd ${mount.path}; cat from/theirs; TZ=UTC stat -c %y from/theirs; cmp from/random ${source}/random`)).stdout).toBe('by rclone\n2019-01-01 01:01:01.987654321 +0000\n');
    await rclone(mount.bucket, ['check', source, `${remote(mount.bucket)}from`]);
    // rclone finds nothing to do after a chmod by hearthfs: size and time are as they were
    await sh(`chmod 600 ${mount.in('from/theirs')}`);
    await mount.sync();
    expect((await rclone(mount.bucket, ['sync', '--dry-run', source, `${remote(mount.bucket)}from`])).stdout).toBe('');
    await mount.unmount();
  });
});
