/** Everyday programs in a mount: they must not notice that it is none of the usual file systems. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { lacks, run, sh } from '../support/child.js';
import type { TestMount } from '../support/mount.js';
import { treeDifferences, treeOf } from '../support/tree.js';
import { cannotMount, scaled, useWorld } from '../support/world.js';

describe.skipIf(cannotMount)('real programs', { timeout: 120_000 }, () => {
  const world = useWorld();
  let mount: TestMount;
  beforeAll(async () => {
    mount = await world.mount();
  });
  const git = { GIT_AUTHOR_NAME: 'A', GIT_AUTHOR_EMAIL: 'a@example.org', GIT_COMMITTER_NAME: 'A', GIT_COMMITTER_EMAIL: 'a@example.org', GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' };

  it.skipIf(lacks('git'))('git: clone of a repository with history, commits, gc and a clean fsck', async () => {
    const origin = world.temp('origin');
    await sh(`git init -q -b main ${origin} && cd ${origin}
      for i in $(seq 1 ${scaled(300, 25)}); do
        mkdir -p d$((i % 7)); for j in 1 2 3; do echo "version $i of $j, $RANDOM" > d$((i % 7))/f$j-$((i % 11)); done
        git add -A && git commit -q -m "change $i"
      done`, { env: git, timeoutMs: 90_000 });
    const clone = mount.in('clone');
    await sh(`git clone -q --no-local ${origin} ${clone} && cd ${clone}
      test -z "$(git status --porcelain)"
      git log --oneline | wc -l
      for i in 1 2 3; do echo "$i" >> d1/new; git add -A; git commit -q -m "here $i"; done
      git mv d1/new d2/moved && git commit -q -m moved
      git checkout -q -b side HEAD~2 && echo side > side && git add side && git commit -q -m side && git checkout -q main && git merge -q -m merged side
      git stash list; git gc -q --prune=now; git repack -adq; git fsck --full --strict
      test -z "$(git status --porcelain)"`, { env: git, timeoutMs: 90_000 });
    await mount.sync();
    // S3 holds a whole repository, too: downloaded by another client it is as clean
    const copy = world.temp('download');
    for (const key of await mount.bucket.keys('clone/')) {
      if (key.endsWith('/')) await mkdir(`${copy}/${key}`, { recursive: true });
      else {
        await mkdir(`${copy}/${key}`.replace(/\/[^/]*$/, ''), { recursive: true });
        await writeFile(`${copy}/${key}`, await mount.bucket.get(key));
      }
    }
    await sh(`cd ${copy}/clone && git fsck --full --strict && test "$(git rev-parse HEAD)" = "$(git -C ${clone} rev-parse HEAD)" && git diff --quiet HEAD`, { env: { ...git, GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'core.fileMode', GIT_CONFIG_VALUE_0: 'false' } });
  });

  it.skipIf(lacks('make', 'gcc'))('make: a C project is built, and nothing is built twice', async () => {
    const project = mount.in('project');
    await sh(`mkdir -p ${project}/src && cd ${project}
      for i in $(seq 1 ${scaled(200, 8)}); do printf 'int f%d(void) { return %d; }\\n' $i $i > src/f$i.c; done
      { for i in $(seq 1 ${scaled(200, 8)}); do echo "int f$i(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { int s = 0;'; for i in $(seq 1 ${scaled(200, 8)}); do echo "s += f$i();"; done; echo 'printf("%d\\n", s); return 0; }'; } > src/main.c
      printf 'objects := $(patsubst src/%%.c,obj/%%.o,$(wildcard src/*.c))\\nsum: $(objects)\\n\\tgcc -o $@ $^\\nobj/%%.o: src/%%.c | obj\\n\\tgcc -c -o $@ $<\\nobj:\\n\\tmkdir obj\\n' > Makefile
      make -s -j2
      test "$(./sum)" = "$(seq 1 ${scaled(200, 8)} | paste -sd+ | bc 2>/dev/null || python3 -c 'print(sum(range(1, ${scaled(200, 8)} + 1)))')"
      make -q
      touch src/f1.c; ! make -q; make | grep -c 'gcc -c' | grep -qx 1`, { timeoutMs: 110_000 });
  });

  describe.skipIf(lacks('sqlite3'))('sqlite3', () => {
    for (const mode of ['delete', 'truncate', 'persist', 'wal']) {
      it(`journal_mode=${mode}: transactions by two writers, integrity_check ok, also in S3`, async () => {
        const database = mount.in(`${mode}.db`);
        const rounds = scaled(1000, 60);
        await run('sqlite3', [database, `PRAGMA journal_mode=${mode}; CREATE TABLE t(writer, n, payload); CREATE INDEX i ON t(payload);`]);
        // a few processes in a row and two at a time, each statement a transaction of its own
        const writer = (name: string): Promise<unknown> =>
          run('sqlite3', [database], { input: `.timeout 20000\n${Array.from({ length: rounds }, (_, n) => `INSERT INTO t VALUES('${name}', ${n}, hex(randomblob(50)));`).join('\n')}\n`, timeoutMs: 100_000 });
        await Promise.all([writer('a'), writer('b')]);
        const { stdout } = await run('sqlite3', [database, 'PRAGMA integrity_check; SELECT count(*), count(DISTINCT writer) FROM t; PRAGMA wal_checkpoint(TRUNCATE);']);
        expect(stdout.split('\n').slice(0, 2)).toEqual(['ok', `${2 * rounds}|2`]);
        await mount.sync();
        const copy = world.temp('db');
        await writeFile(copy, await mount.bucket.get(`${mode}.db`));
        expect((await run('sqlite3', [copy, 'PRAGMA integrity_check; SELECT count(*) FROM t;'])).stdout).toBe(`ok\n${2 * rounds}\n`);
        expect(await mount.bucket.keys(`${mode}.db`)).not.toContain(`${mode}.db-wal`);
      });
    }
  });

  /** Modes, owners, times before 1970, links, odd names, empty directories. */
  async function sample(): Promise<string> {
    const directory = world.temp('sample');
    await sh(`mkdir -p ${directory} && cd ${directory}
      mkdir -p a/b/c empty 'with space/ünïcode'
      for i in $(seq 1 ${scaled(500, 40)}); do head -c $((RANDOM % 20000)) /dev/urandom > a/b/file$i; done
      head -c 3000000 /dev/urandom > a/big; : > a/zero; printf x > 'with space/ünïcode/100%+1'
      ln -s ../big a/b/link; ln -s /nowhere/at/all dangling
      chmod 600 a/zero; chmod 4755 a/big; chmod 711 a/b/c; chmod 1777 empty; chown 1234:5678 a/b/file1; chown -h 4321:8765 dangling
      touch -d '2001-02-03 04:05:06.123456789' a/big; touch -d '1969-12-31 23:59:58.5 UTC' a/zero; touch -h -d '2010-01-01 00:00:00.000000001' dangling
      touch -d '2011-11-11 11:11:11.111111111' a/b/c a/b empty`);
    return directory;
  }

  it.skipIf(lacks('tar'))('tar: extracted and archived again, all attributes equal', async () => {
    const source = await sample();
    const archive = world.temp('tar');
    await sh(`tar --format=posix -C ${source} -cf ${archive} . && mkdir ${mount.in('tar')} && tar -C ${mount.in('tar')} -xpf ${archive}`);
    const wanted = await treeOf(source);
    expect(treeDifferences(wanted, await treeOf(mount.in('tar')))).toEqual([]);
    const back = world.temp('back');
    await sh(`mkdir ${back} && tar --format=posix -C ${mount.in('tar')} -cf - . | tar -C ${back} -xpf -`);
    expect(treeDifferences(wanted, await treeOf(back))).toEqual([]);
  });

  it.skipIf(lacks('rsync'))('rsync -a --checksum: there and back, a second run has nothing to do', async () => {
    const source = await sample();
    const inside = mount.in('rsync');
    const exact = ['--modify-window=-1']; // else rsync leaves times alone that differ by less than a second
    await run('rsync', ['-aHS', ...exact, '--checksum', `${source}/`, `${inside}/`]);
    expect(treeDifferences(await treeOf(source), await treeOf(inside))).toEqual([]);
    expect((await run('rsync', ['-ain', ...exact, '--checksum', '--delete', `${source}/`, `${inside}/`])).stdout).toBe('');
    await sh(`cd ${source} && echo more >> a/b/file2 && rm a/b/file3 && mv a/b/file4 a/renamed`);
    await run('rsync', ['-a', ...exact, '--checksum', '--delete', `${source}/`, `${inside}/`]);
    expect(treeDifferences(await treeOf(source), await treeOf(inside))).toEqual([]);
    const back = world.temp('back');
    await run('rsync', ['-a', ...exact, '--checksum', `${inside}/`, `${back}/`]);
    expect(treeDifferences(await treeOf(source), await treeOf(back))).toEqual([]);
  });

  it('cp --preserve=all: in, within and out again', async () => {
    const source = await sample();
    const back = world.temp('back');
    await sh(`setfattr -n user.note -v hello ${source}/a/big 2>/dev/null || true
      cp -r --preserve=all ${source} ${mount.in('cp')} && cp -r --preserve=all ${mount.in('cp')} ${mount.in('cp2')} && cp -r --preserve=all ${mount.in('cp2')} ${back}`);
    const wanted = await treeOf(source);
    for (const copy of [mount.in('cp'), mount.in('cp2'), back]) expect(treeDifferences(wanted, await treeOf(copy))).toEqual([]);
  });

  it('sed -i, install, ln -sf, mktemp, touch, find, grep -r and du do their work', async () => {
    const directory = mount.in('small');
    await sh(`mkdir ${directory} && cd ${directory}
      printf 'one\\ntwo\\nthree\\n' > text && chmod 640 text && sed -i 's/two/2/' text && test "$(cat text)" = "$(printf 'one\\n2\\nthree')" && test "$(stat -c %a text)" = 640
      for i in 1 2 3 4 5; do sed -i.bak "s/^/$i/" text; done; grep -q 54321one text; test -e text.bak
      install -m 751 text installed && test "$(stat -c %a installed)" = 751
      ln -s text l && ln -sfn installed l && test "$(readlink l)" = installed
      t=$(mktemp -p . XXXXXX) && test "$(stat -c %a "$t")" = 600
      ln text hard 2>/dev/null && test "$(stat -c %h text)" = 2 && echo more >> hard && grep -q more text || true
      mkdir -p deep/er/est && echo needle > deep/er/est/hay && test "$(grep -rl needle .)" = ./deep/er/est/hay
      test "$(find . -name hay -printf '%s')" = 7; du -s . > /dev/null; rm -rf deep; ! test -e deep
      seq 100000 > numbers && sort -R numbers > shuffled && sort -n shuffled -o shuffled && cmp numbers shuffled
      split -n 10 numbers part. && cat part.* | cmp - numbers; truncate -s 1000 numbers; test "$(stat -c %s numbers)" = 1000
      df . | tail -1 | awk '{ exit $2 > 0 ? 0 : 1 }'`);
  });

  it.skipIf(lacks('vim'))('vim edits and saves a file, with swap and backup files', async () => {
    const file = mount.in('edited');
    await writeFile(file, 'first\nsecond\n');
    await run('vim', ['-es', '-u', 'NONE', '-i', 'NONE', '--cmd', 'set backup writebackup swapfile', file, '-c', '%s/second/2nd/', '-c', 'normal Gothird', '-c', 'wq'], { env: { TERM: 'dumb' } });
    expect(await readFile(file, 'utf8')).toBe('first\n2nd\nthird\n');
    await mount.sync();
    expect(String(await mount.bucket.get('edited'))).toBe('first\n2nd\nthird\n');
  });

  it('mv of a directory of 1,000 files returns at once, and S3 follows', async () => {
    await sh(`mkdir -p ${mount.in('thousand/sub')} && cd ${mount.in('thousand')} && for i in $(seq 1 500); do echo $i > f$i; echo $i > sub/g$i; done`);
    await mount.sync();
    const { ms } = await run('mv', [mount.in('thousand'), mount.in('moved')]);
    expect(ms).toBeLessThan(1_500);
    expect((await run('cat', [mount.in('moved/sub/g77')])).stdout).toBe('77\n');
    expect((await sh(`test ! -e ${mount.in('thousand')}; find ${mount.in('moved')} -type f | wc -l`)).stdout.trim()).toBe('1000');
    await mount.sync();
    expect(await mount.bucket.keys('thousand')).toEqual([]);
    expect((await mount.bucket.keys('moved/')).filter((key) => !key.endsWith('/'))).toHaveLength(1000);
    expect(String(await mount.bucket.get('moved/f500'))).toBe('500\n');
  });

  it('rm -rf leaves nothing in S3', async () => {
    await sh(`cd ${mount.path} && rm -rf -- * .[!.]*`);
    await mount.sync();
    expect(await mount.bucket.keys()).toEqual([]);
  });
});
