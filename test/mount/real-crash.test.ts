/** Promises 1 and 4: nobody notices a daemon's death, and nothing whose system call returned is lost when everything dies. */
import { spawn } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { delay, killGroup, quote, run, sh, until } from '../support/child.js';
import { inParallel } from '../support/s3.js';
import { treeDifferences, treeOf } from '../support/tree.js';
import { patience } from '../support/scale.js';
import { cannotMount, scaled, useWorld } from '../support/world.js';

const seed = Number(process.env['HEARTHFS_TEST_SEED'] ?? Date.now() % 100_000);

/** Mulberry32. */
function random(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

describe.skipIf(cannotMount)(`killed daemons (HEARTHFS_TEST_SEED=${seed})`, { timeout: 120_000 * patience }, () => {
  const world = useWorld();
  const next = random(seed);

  const files = scaled(2_000, 150);
  const rounds = scaled(50, 3);
  it(`kill -9 of the daemon during cp -r of ${files} files, ${rounds} rounds: no error, every file in S3`, { timeout: (120_000 + rounds * (60_000 + files * 50)) * patience }, async () => {
    const source = world.temp('source');
    await sh(`mkdir -p ${source} && cd ${source} && for i in $(seq 1 ${files}); do d=d$((i % 20)); mkdir -p $d; head -c $((RANDOM % 8192)) /dev/urandom > $d/f$i; done; head -c 20000000 /dev/urandom > big`, { timeoutMs: 60_000 });
    const mount = await world.mount();
    const wanted = await treeOf(source);
    let kills = 0;
    for (let round = 0; round < rounds; round++) {
      const target = mount.in(`round${round}`);
      let done = false;
      const copy = run('cp', ['-r', '--preserve=all', source, target], { timeoutMs: 90_000 + files * 50 }).finally(() => (done = true));
      copy.catch(() => undefined); // reported below
      // not more: the supervisor waits longer with every quick death, up to 5 s
      for (let left = 1 + Math.floor(next() * 3); left > 0 && !done; left--) {
        await delay(kills === 0 ? 20 : 20 + next() * Math.min(900, files)); // a file takes a millisecond at least
        if (done) break;
        const pid = await mount.kill9Daemon();
        kills++;
        // at times the next one dies while it recovers
        if (next() < 0.3) await delay(next() * 300);
        else await Promise.race([mount.nextDaemon(pid, 60_000), copy]);
      }
      await copy;
      expect(treeDifferences(wanted, await treeOf(target))).toEqual([]);
      if (round < rounds - 1 && round % 3 !== 0) await sh(`rm -r ${target}`, { timeoutMs: 60_000 + files * 20 });
    }
    expect(kills).toBeGreaterThan(0);
    await mount.sync(120_000 + files * 50);
    const last = `round${rounds - 1}`;
    const objects = await mount.bucket.list(`${last}/`);
    const expected = wanted.filter((entry) => entry.type === 'file');
    expect([...objects.keys()].filter((key) => !key.endsWith('/')).sort()).toEqual(expected.map((entry) => `${last}/${entry.path}`).sort());
    const wrong: string[] = [];
    await inParallel(8, expected, async (entry) => {
      if ((await mount.bucket.sha256(`${last}/${entry.path}`)) !== entry.sha256) wrong.push(entry.path);
    });
    expect(wrong).toEqual([]);
    const second = await world.mount({ bucket: mount.bucket });
    expect(treeDifferences(wanted, await treeOf(second.in(last), { timeoutMs: 120_000 }), ['mtimeNs'])).toEqual([]);
    await second.unmount();
    await mount.unmount();
  });

  it('a program with open files goes on over the death of the daemon: reads, writes, fsync, append, unlinked files', async () => {
    const mount = await world.mount();
    const script = `
import os, sys, time
d = ${JSON.stringify(mount.path)}
a = os.open(d + '/log', os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
u = os.open(d + '/unlinked', os.O_RDWR | os.O_CREAT, 0o644)
os.write(u, b'still here'); os.unlink(d + '/unlinked')
i = 0
end = time.time() + 4
while time.time() < end:
    os.write(a, b'%08d\\n' % i); i += 1
    if i % 50 == 0: os.fsync(a)
    if i % 20 == 0:
        assert os.pread(u, 10, 0) == b'still here'
        with open(d + '/f%d' % (i % 200), 'w') as f: f.write('x' * i)
        os.rename(d + '/f%d' % (i % 200), d + '/g%d' % (i % 200))
        os.stat(d + '/g%d' % (i % 200))
assert os.fstat(a).st_size == 9 * i, (os.fstat(a).st_size, i)
data = os.pread(a, 9 * i, 0)
assert data == b''.join(b'%08d\\n' % n for n in range(i))
assert os.pread(u, 10, 0) == b'still here' and os.fstat(u).st_nlink == 0
print(i)
`;
    const work = run('python3', ['-c', script], { timeoutMs: 60_000 });
    work.catch(() => undefined);
    for (let i = 0; i < 4; i++) {
      await delay(300 + next() * 600);
      await mount.kill9Daemon();
    }
    const count = Number((await work).stdout);
    expect(count).toBeGreaterThan(0);
    await mount.sync();
    expect((await mount.bucket.head('log')).ContentLength).toBe(9 * count);
    await mount.unmount();
  });

  it('a read of a big file goes on over the death of the daemon', async () => {
    const bucket = world.bucket.newPrefix();
    const bytes = Buffer.alloc(40 * 1024 * 1024, 'some text that repeats with a prime length');
    await bucket.put('big', bytes);
    const mount = await world.mount({ bucket });
    const reading = sh(`dd if=${mount.in('big')} bs=64k status=none | { head -c 5000000 | sha256sum > /dev/null; sleep 1; cat > /dev/null; }; sha256sum < ${mount.in('big')}`, { timeoutMs: 60_000 });
    reading.catch(() => undefined);
    await delay(400);
    await mount.kill9Daemon();
    expect((await reading).stdout.slice(0, 64)).toBe(await bucket.sha256('big'));
    await mount.unmount();
  });

  it(`kill -9 of supervisor and daemon together: every file whose close returned is intact in a new mount (${scaled(20, 3)} rounds)`, { timeout: (60_000 + scaled(20, 3) * 30_000) * patience }, async () => {
    let mount = await world.mount();
    const { bucket, cacheDir } = mount;
    const record = world.temp('record');
    appendFileSync(record, '');
    const written = new Map<string, string>();
    for (let round = 0; round < scaled(20, 3); round++) {
      // a name goes into the record after its close returned; the record is outside of the mount
      const writer = spawn('bash', ['-c', `cd ${quote(mount.path)} && mkdir -p r${round}/sub && for i in $(seq 1 100000); do
          f=r${round}/sub/f$i; head -c $((RANDOM % 50000)) /dev/urandom > /tmp/hearthfs-w$$; s=$(sha256sum < /tmp/hearthfs-w$$); cat /tmp/hearthfs-w$$ > $f || exit
          if [ $((i % 5)) = 0 ]; then mv $f r${round}/m$i || exit; f=r${round}/m$i; fi
          if [ $((i % 7)) = 0 ]; then chmod 600 $f || exit; fi
          echo "\${s:0:64} $f" >> ${quote(record)}
        done; rm -f /tmp/hearthfs-w$$`], { detached: true, stdio: 'ignore' });
      try {
        await delay(700 + next() * 1_500);
        await mount.kill9All();
      } finally {
        killGroup(writer.pid);
        await run('rm', ['-f', `/tmp/hearthfs-w${writer.pid}`]);
      }
      for (const line of readFileSync(record, 'utf8').split('\n')) if (line.length > 65) written.set(line.slice(65), line.slice(0, 64));
      mount = await world.mount({ bucket, cacheDir });
      const found = new Map((await treeOf(mount.path)).map((entry) => [entry.path, entry]));
      for (const [path, sum] of written) {
        expect(found.get(path)?.sha256, path).toBe(sum);
        if (Number(/\d+$/.exec(path)![0]) % 7 === 0) expect(found.get(path)?.mode, path).toBe('600');
      }
    }
    expect(written.size).toBeGreaterThan(10);
    await mount.sync(120_000);
    const wrong: string[] = [];
    await inParallel(8, [...written], async ([path, sum]) => {
      if ((await bucket.sha256(path)) !== sum) wrong.push(path);
    });
    expect(wrong).toEqual([]);
    await mount.unmount();
  });

  it('kill -9 of everything while S3 is away, then a new mount: nothing is lost, all is uploaded', async () => {
    const gate = await world.gate();
    const mount = await world.mount({ endpoint: gate.endpoint });
    await sh(`cd ${mount.path} && mkdir d && echo old > d/changed && echo old > removed && echo old > d/renamed`);
    await mount.sync();
    await gate.stop();
    await sh(`cd ${mount.path} && echo new > d/changed && rm removed && mv d/renamed d/other && for i in $(seq 50); do echo $i > d/n$i; done && mv d e`);
    await mount.kill9All();
    const again = await world.mount({ endpoint: gate.endpoint, bucket: mount.bucket, cacheDir: mount.cacheDir });
    expect((await sh(`cd ${again.path} && cat e/changed e/other e/n50 && ls | tr '\\n' ' '`)).stdout).toBe('new\nold\n50\ne ');
    await gate.start();
    await again.sync();
    expect((await mount.bucket.keys()).filter((key) => !key.endsWith('/'))).toEqual(['e/changed', ...Array.from({ length: 50 }, (_, i) => `e/n${i + 1}`), 'e/other'].sort());
    expect(String(await mount.bucket.get('e/changed'))).toBe('new\n');
    await again.unmount();
  });

  it('the daemon is replaced within a second, and status says so', async () => {
    const mount = await world.mount();
    const pid = await mount.kill9Daemon();
    const started = performance.now();
    await run('stat', [mount.path]);
    await mount.nextDaemon(pid);
    expect(performance.now() - started).toBeLessThan(5_000 * patience);
    expect((await until('ok again', async () => (await mount.status()).state === 'ok' && mount.status())).supervisorPid).toBe(mount.supervisorPid);
    await mount.unmount();
  });
});
