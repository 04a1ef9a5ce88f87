/** A tree of everything POSIX knows, unmounted, its cache removed, mounted fresh: the same tree. And hard links and ACLs as programs use them. */
import { rm } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { lacks, sh } from '../support/child.js';
import type { TestMount } from '../support/mount.js';
import type { TestBucket } from '../support/s3.js';
import { cannotMount, useWorld } from '../support/world.js';

/** Everything a program can see of a tree, numbers of inodes apart. Directories' sizes, and times of directories that change when something is made in them, are included: they are stored. */
const describeTree = `
  umask 022
  find . -mindepth 1 -printf '%p|%y|%m|%U|%G|%s|%n|%T@|%l\\n' | grep -v '^[^|]*|d|.*' | sort
  find . -mindepth 1 -type d -printf '%p|%y|%m|%U|%G|%T@\\n' | sort
  find . -mindepth 1 -type c -o -type b | sort | xargs -r stat -c '%n %t:%T'
  find . -samefile links/a | sort
  find . -type f | sort | xargs -d '\\n' sha256sum
  find . -mindepth 1 ! -type l | sort | xargs -d '\\n' getfattr -d -m '^(user|trusted)' --absolute-names -e base64
  find . -mindepth 1 ! -type l | sort | xargs -d '\\n' getfacl -n --absolute-names`;

describe.skipIf(cannotMount)('what survives', { timeout: 120_000 }, () => {
  const world = useWorld();

  /** Unmounts, forgets everything local, and mounts the bucket again. */
  async function afresh(mount: TestMount, args: readonly string[] = []): Promise<TestMount> {
    await mount.unmount();
    await rm(mount.cacheDir, { recursive: true, force: true });
    return world.mount({ bucket: mount.bucket, args });
  }

  it.skipIf(lacks('getfattr', 'getfacl', 'setfacl'))('a zoo of files is the same tree after the cache is gone', async () => {
    const mount = await world.mount();
    await sh(`cd ${mount.path}; umask 022
      mkdir -p empty/inner dirs/sticky dirs/setgid dirs/private links acl times
      chmod 1777 dirs/sticky; chgrp 1234 dirs/setgid; chmod 2775 dirs/setgid; chmod 0700 dirs/private; chown 4321:8765 dirs/private
      echo inherits > dirs/setgid/file; mkdir dirs/setgid/sub
      for m in 0000 0400 0644 0755 4755 2755 6711 1644; do echo $m > mode-$m; chmod $m mode-$m; done
      echo owned > owned; chown 65534:65534 owned; chown -h 12:34 owned
      : > empty-file; printf 'no newline' > text; head -c 300000 /dev/urandom > binary
      truncate -s 50M sparse; printf data | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
      ln -s text links/relative; ln -s /nowhere/at/all links/dangling; ln -s "$(printf 'x%.0s' $(seq 1 1000))" links/long; chown -h 7:8 links/dangling; touch -h -d @123456789.123456789 links/relative
      echo linked > links/a; ln links/a links/b; ln links/a links/c; ln links/dangling links/dangling2
      mkfifo fifo; chmod 600 fifo; mknod socket-like p; mknod char c 5 1; mknod block b 259 70000; chmod 640 block
      python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind("socket")'
      touch -d '2001-02-03 04:05:06.789012345' times/nano; touch -d @-1.5 times/before; touch -d @4102444800 times/later; touch -a -d @1000000000.5 times/later; touch -d @0 times
      setfattr -n user.plain -v value text; setfattr -n user.binary -v 0x00ff0a0d text; setfattr -n user.empty text; setfattr -n trusted.t -v root text; setfattr -n user.dir -v d dirs; setfattr -n user.ünïcödé -v ü text
      setfacl -m u:65534:rwx,g:1234:r text; setfacl -d -m u:65534:rwx acl; echo x > acl/inherited; mkdir acl/sub; setfacl -m m::r acl/inherited
      printf x > "$(printf 'not utf-8 \\377\\376')"; printf y > 'ünïcödé name with  spaces'; printf z > $'line\\nfeed' ; rm $'line\\nfeed'
      touch -d @1500000000.25 dirs/setgid dirs empty/inner empty`);
    const before = await sh(`cd ${mount.path}; ${describeTree}`);
    expect(before.stdout).toContain('not utf-8');
    expect(before.stdout).toContain('default:user:65534:rwx');
    const fresh = await afresh(mount);
    const after = await sh(`cd ${fresh.path}; ls -lR > /dev/null; ${describeTree}`);
    expect(after.stdout.split('\n')).toEqual(before.stdout.split('\n'));
    expect((await fresh.cliJson<{ pending: number }>('status')).pending).toBe(0);
    // A sparse file costs nothing here before it is read, and holes stay holes of zeros
    expect((await sh(`cmp -n 20000000 ${fresh.in('sparse')} /dev/zero; dd if=${fresh.in('sparse')} bs=1 skip=20000000 count=4 status=none`)).stdout).toBe('data');
    await fresh.unmount();
  });

  it('hard links: writes through either name, rename and unlink of names, and a fresh mount sees one file with the right bytes', async () => {
    const mount = await world.mount();
    await sh(`cd ${mount.path}; mkdir d; echo one > a; ln a b; ln a d/c; ln b gone; echo two >> b; echo three >> d/c
      [ "$(stat -c %h a)" = 4 ]; mv b d/b; rm gone; [ "$(cat a)" = $'one\\ntwo\\nthree' ]; [ "$(stat -c %i a)" = "$(stat -c %i d/b)" ]; chmod 600 d/b`);
    const fresh = await afresh(mount);
    for (const key of ['a', 'd/b', 'd/c']) expect(String(await fresh.bucket.get(key)), key).toBe('one\ntwo\nthree\n');
    await sh(`cd ${fresh.path}; find . > /dev/null; stat a d/b d/c > /dev/null
      [ "$(stat -c '%i %h %a' a d/b d/c | sort -u | wc -l)" = 1 ]; [ "$(stat -c '%h %a' a)" = '3 600' ]; [ "$(find . -samefile a | wc -l)" = 3 ]
      printf replaced > d/c; [ "$(cat a)" = replaced ]; [ "$(cat d/b)" = replaced ]; ln a again; [ "$(stat -c %h d/c)" = 4 ]; rm a`);
    await fresh.sync();
    expect(await fresh.bucket.keys()).toEqual(['again', 'd/', 'd/b', 'd/c']);
    for (const key of ['again', 'd/b', 'd/c']) expect(String(await fresh.bucket.get(key)), key).toBe('replaced');
    const tar = world.temp('tar');
    const third = await afresh(fresh);
    await sh(`cd ${third.path}; tar cf ${tar} .; tar tvf ${tar} | grep -c 'link to' | grep -qx 2`);
    // another client writes one name: that link is broken, reported, and the others are untouched
    await third.bucket.put('d/b', 'by others');
    const fourth = await afresh(third);
    await sh(`cd ${fourth.path}; stat again d/b d/c > /dev/null; [ "$(cat d/b)" = 'by others' ]; [ "$(cat d/c)" = replaced ]; [ "$(stat -c %h d/b)" = 1 ]; [ "$(stat -c %h again d/c | sort -u)" = 2 ]`);
    await fourth.unmount();
  });

  it('a tree of paths far longer than a key: moved nearer and farther, found by a fresh mount each time, and removed without a trace', async () => {
    const mount = await world.mount();
    // Names of up to 250 bytes in several alphabets, 4,000 bytes down; each step goes on from where the last one is, as programs do at PATH_MAX
    await sh(`cd ${mount.path}; umask 022; mkdir top; cd top; echo start > start
      for i in $(seq 1 15); do
        case $((i % 3)) in 0) n=$(printf 'ü%.0s' $(seq 1 120))$i;; 1) n=$(printf '%%20%.0s' $(seq 1 81))$i;; 2) n=$(printf 'd%.0s' $(seq 1 245))$i;; esac
        mkdir "$n"; cd "$n"; echo "at $i" > file; ln -s ../file link; [ $i != 4 ] || ln file hard; [ $i != 9 ] || mkdir empty
      done
      echo longest > "$(printf 'f%.0s' $(seq 1 255))"; mkfifo fifo; chmod 600 file; touch -d @1234567890.5 file; setfattr -n user.a -v b file
      [ "$(pwd | wc -c)" -gt 3700 ]; ln "${mount.path}/top/start" hard; ln file hard2`);
    // find descends without ever naming a whole path; -execdir works where the file is
    const describe = (path: string): Promise<string> => sh(`cd ${path}
      find . -mindepth 1 \\( -type d -printf 'd|%m|%U|%f|%d\\n' -o -printf '%y|%m|%U|%s|%n|%T@|%l|%f|%d\\n' \\) | sort
      find . -type f -execdir sha256sum {} + | sort; find . -samefile start -printf '%f %d\\n' | sort; find . -name file -execdir getfattr -d {} +`).then(({ stdout }) => stdout);
    const keysOf = async (bucket: TestBucket): Promise<string[]> => [...(await bucket.list()).keys()].filter((key) => !key.startsWith('.hearthfs-probe-'));
    const before = await describe(mount.in('top'));
    expect(before).toContain('user.a="b"');
    expect(before).toContain('hard 16');
    let at = mount;
    let top = 'top';
    for (const next of ['t', 'é'.repeat(127), 'top']) {
      at = await afresh(at);
      await sh(`mv ${at.in(top)} ${at.in(next)}`);
      top = next;
      expect(await describe(at.in(top))).toBe(before);
      await at.sync();
      for (const key of await keysOf(at.bucket)) expect(Buffer.byteLength(key)).toBeLessThanOrEqual(1024);
    }
    at = await afresh(at);
    expect(await describe(at.in(top))).toBe(before);
    // Another client looks on while it goes
    const other = await world.mount({ bucket: at.bucket, args: ['--ttl', '1'] });
    expect(await describe(other.in('top'))).toBe(before);
    await sh(`cd ${at.path}; [ "$(ls -A top | grep -c hearthfs)" = 0 ]; rm -rf top; [ -z "$(ls -A)" ]`);
    await at.sync();
    expect(await keysOf(at.bucket)).toEqual([]);
    await sh(`for i in $(seq 100); do [ -z "$(ls -A ${other.path})" ] && break; sleep 0.1; done; [ -z "$(ls -A ${other.path})" ]`);
    await other.unmount();
    await at.unmount();
  }, 300_000);

  it('a remote write to one name while it is mounted breaks that link and is listed as a conflict', async () => {
    const mount = await world.mount({ args: ['--ttl', '1'] });
    await sh(`cd ${mount.path}; echo one > a; ln a b; ln a c`);
    await mount.sync();
    await mount.bucket.put('b', 'theirs');
    await sh(`cd ${mount.path}; for i in $(seq 50); do [ "$(cat b)" = theirs ] && break; sleep 0.1; done; [ "$(cat b)" = theirs ]; [ "$(cat a)" = one ]; [ "$(stat -c %h a)" = 2 ]; [ "$(stat -c %i a)" = "$(stat -c %i c)" ]`);
    const conflicts = JSON.stringify(await mount.cliJson('conflicts'));
    expect(conflicts).toContain('link-broken-by-others');
    await mount.unmount();
  });

  it('cp -al and rsync -H make and keep links', async () => {
    const mount = await world.mount();
    await sh(`cd ${mount.path}; mkdir t; for i in $(seq 20); do echo $i > t/$i; done; cp -al t t2; rsync -aH t t2 r/; [ "$(find . -samefile t/7 | wc -l)" = 2 ]; [ "$(stat -c %h r/t/7)" = 2 ]`);
    const fresh = await afresh(mount);
    await sh(`cd ${fresh.path}; find . -ls > /dev/null; for i in $(seq 20); do [ "$(find . -samefile t/$i | wc -l)" = 2 ]; [ "$(find . -samefile r/t/$i | wc -l)" = 2 ]; done`);
    await fresh.unmount();
  });

  it.skipIf(lacks('setfacl', 'setpriv'))('ACLs are enforced by the kernel, inherited, and follow chmod', async () => {
    const mount = await world.mount({ args: ['--allow-other'] });
    const nobody = 'setpriv --reuid 65534 --regid 65534 --clear-groups --';
    await sh(`cd ${mount.path}; umask 027; echo secret > f; chmod 600 f
      ! ${nobody} cat f 2>/dev/null; setfacl -m u:65534:r f; ${nobody} cat f; ! ${nobody} sh -c 'echo x >> f' 2>/dev/null
      [ "$(stat -c %a f)" = 640 ]; chmod 600 f; ! ${nobody} cat f 2>/dev/null; chmod 640 f; ${nobody} cat f
      [ "$(stat -c %a .)" != 777 ] && ! ${nobody} touch x 2>/dev/null
      mkdir d; setfacl -m u:65534:rwx d; setfacl -d -m u:65534:rwx d; echo x > d/f; mkdir d/s; ${nobody} sh -c 'echo more >> d/f; echo new > d/s/new'; [ "$(stat -c %u d/s/new)" = 65534 ]
      touch plain; [ "$(stat -c %a plain)" = 640 ]; setfacl -m u:65534:rw plain; cp -a plain copy; getfacl -c copy | grep -q nobody:rw-`);
    const fresh = await afresh(mount, ['--allow-other']);
    await sh(`cd ${fresh.path}; ${nobody} cat f; ${nobody} sh -c 'echo again >> d/f'; ! ${nobody} sh -c 'echo x >> f' 2>/dev/null; setfacl -b f; ! ${nobody} cat f 2>/dev/null`);
    await fresh.unmount();
  });
});
