import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { OpenFlag } from '../fuse/ops.js';
import { FsHarness } from '../../test/support/fs-harness.js';
import { accessAclName, chmodAcl, decodeAcl, defaultAclName, encodeAcl, inheritAcl, isMinimal, modeOfAcl, type AclEntry } from './posix-acl.js';

const nobody = 65534;
const none = 0xffff_ffff;
/** `u:rwx,u65534:r-x,g:r-x,m:rwx,o:---` */
function acl(text: string): AclEntry[] {
  return text.split(',').map((part) => {
    const [who, perms] = part.split(':') as [string, string];
    const perm = [...perms].reduce((sum, char) => sum + ({ r: 4, w: 2, x: 1 }[char] ?? 0), 0);
    const named = who.length > 1;
    const tag = { u: named ? 2 : 1, g: named ? 8 : 4, m: 16, o: 32 }[who[0]!]!;
    return { tag, perm, id: named ? Number(who.slice(1)) : none };
  });
}

describe('lists', () => {
  it('are encoded as their extended attribute is, byte for byte as setfacl sends it', () => {
    const value = Buffer.from('AgAAAAEABwD/////AgAHAP7/AAAEAAUA/////xAABwD/////IAAFAP////8=', 'base64');
    const list = acl(`u:rwx,u${nobody}:rwx,g:r-x,m:rwx,o:r-x`);
    expect(decodeAcl(value)).toEqual(list);
    expect(encodeAcl(list)).toEqual(value);
  });

  it.each([
    ['empty', Buffer.alloc(0)], ['another version', Buffer.from([1, 0, 0, 0])], ['half an entry', encodeAcl(acl('u:r,g:r,o:r')).subarray(0, 10)],
    ['no owner', encodeAcl(acl('g:r,o:r'))], ['two owners', encodeAcl(acl('u:r,u:r,g:r,o:r'))], ['a named user without a mask', encodeAcl(acl('u:r,u7:r,g:r,o:r'))],
    ['an unknown tag', encodeAcl([...acl('u:r,g:r,o:r'), { tag: 64, perm: 0, id: 0 }])], ['permissions that are none', encodeAcl([...acl('u:r,g:r'), { tag: 32, perm: 8, id: none }])],
  ])('%s is EINVAL', (_what, value) => {
    expect(() => decodeAcl(value)).toThrow(expect.objectContaining({ errno: Errno.EINVAL }));
  });

  it('a list without entries is no list', () => {
    expect(decodeAcl(Buffer.from([2, 0, 0, 0]))).toBeNull();
  });

  it('the group bits of the mode are the mask if there is one', () => {
    expect(modeOfAcl(acl('u:rw,g:r,o:'), 0o100777).toString(8)).toBe('100640');
    expect(modeOfAcl(acl('u:rw,u7:rwx,g:r,m:rw,o:r'), 0o104000).toString(8)).toBe('104664');
    expect(chmodAcl(acl('u:rw,u7:rwx,g:rx,m:rw,o:r'), 0o705)).toEqual(acl('u:rwx,u7:rwx,g:rx,m:,o:rx'));
    expect(chmodAcl(acl('u:rw,g:rx,o:r'), 0o610)).toEqual(acl('u:rw,g:x,o:'));
  });

  it('a default list and the mode asked for limit each other', () => {
    expect(inheritAcl(acl('u:rwx,u7:rwx,g:rx,m:rwx,o:rx'), 0o100666)).toEqual({ mode: 0o100664, access: acl('u:rw,u7:rwx,g:rx,m:rw,o:r') });
    expect(inheritAcl(acl('u:rwx,g:rx,o:'), 0o100777)).toEqual({ mode: 0o100750, access: null });
    expect(isMinimal(acl('u:rwx,g:rx,o:'))).toBe(true);
  });
});

describe('in the file system', () => {
  let fs: FsHarness;
  beforeEach(async () => {
    fs = await FsHarness.open();
  });
  afterEach(async () => {
    expect(fs.daemon.errors).toEqual([]);
    await fs.close();
  });
  const set = (path: string, name: string, text: string, killSgid = false): Promise<void> =>
    fs.at(path, (ino) => fs.fs.setxattr(fs.context(), ino, name, encodeAcl(acl(text)), 0, killSgid));
  const get = (mount: FsHarness, path: string, name: string): Promise<AclEntry[] | null> => mount.at(path, async (ino) => {
    const value = await mount.fs.getxattr(mount.context(), ino, name);
    if (value === undefined) throw new FsError(Errno.ENODATA);
    return decodeAcl(value);
  });
  const permissions = async (path: string, mount = fs): Promise<string> => ((await mount.stat(path)).mode & 0o7777).toString(8);
  const missing = expect.objectContaining({ errno: Errno.ENODATA }) as Error;

  it('setting an access list sets the mode; one that says no more than the mode is not kept', async () => {
    await fs.writeFile('f', 'x');
    await set('f', accessAclName, 'u:rw,u7:rwx,g:r,m:rwx,o:');
    expect(await permissions('f')).toBe('670');
    await set('f', accessAclName, 'u:rw,g:r,o:');
    expect(await permissions('f')).toBe('640');
    await expect(get(fs, 'f', accessAclName)).rejects.toEqual(missing);
  });

  it('chmod moves the mask', async () => {
    await fs.writeFile('f', 'x');
    await set('f', accessAclName, 'u:rw,u7:rwx,g:r,m:rwx,o:');
    await fs.chmod('f', 0o700);
    expect(await get(fs, 'f', accessAclName)).toEqual(acl('u:rwx,u7:rwx,g:r,m:,o:'));
  });

  it('killSgid takes setgid away with the new list', async () => {
    await fs.writeFile('f', 'x');
    await fs.chmod('f', 0o2755);
    await set('f', accessAclName, 'u:rwx,g:rx,o:rx', false);
    expect(await permissions('f')).toBe('2755');
    await set('f', accessAclName, 'u:rwx,g:rx,o:rx', true);
    expect(await permissions('f')).toBe('755');
  });

  it('a default list is for directories only, is inherited by what is made in them, and replaces the umask', async () => {
    await fs.mkdir('d');
    await fs.writeFile('f', 'x');
    await expect(set('f', defaultAclName, 'u:rwx,g:rx,o:')).rejects.toMatchObject({ errno: Errno.EACCES });
    await set('d', defaultAclName, 'u:rwx,u7:rwx,g:rx,m:rwx,o:rx');
    await fs.at('d', async (ino) => {
      await fs.fs.mkdir(fs.context(), ino, 'sub', 0o777, 0o077);
      const made = await fs.fs.create(fs.context(), ino, 'file', OpenFlag.RDWR | OpenFlag.CREAT, 0o666, 0o077);
      fs.fs.release(fs.context(), made.attr!.ino, made.fh);
      await fs.fs.mknod(fs.context(), ino, 'fifo', 0o010660, 0, 0o077);
      await fs.fs.symlink(fs.context(), ino, 'link', Buffer.from('x'));
    });
    expect(await Promise.all(['d/sub', 'd/file', 'd/fifo', 'd/link'].map((path) => permissions(path)))).toEqual(['775', '664', '660', '777']);
    expect(await get(fs, 'd/sub', defaultAclName)).toEqual(acl('u:rwx,u7:rwx,g:rx,m:rwx,o:rx'));
    expect(await get(fs, 'd/file', accessAclName)).toEqual(acl('u:rw,u7:rwx,g:rx,m:rw,o:r'));
    await expect(get(fs, 'd/link', accessAclName)).rejects.toEqual(missing);
  });

  it('without a default list the umask applies', async () => {
    await fs.at('', async (ino) => {
      await fs.fs.mkdir(fs.context(), ino, 'd', 0o1777, 0o027);
      await fs.fs.mknod(fs.context(), ino, 'p', 0o010666, 0, 0o027);
    });
    expect([await permissions('d'), await permissions('p')]).toEqual(['1750', '640']);
  });

  it('lists survive a fresh mount', async () => {
    await fs.mkdir('d');
    await set('d', defaultAclName, 'u:rwx,u7:rwx,g:rx,m:rwx,o:rx');
    await fs.writeFile('d/f', 'x');
    await fs.sync();
    const other = await fs.freshMount();
    expect(await get(other, 'd', defaultAclName)).toEqual(acl('u:rwx,u7:rwx,g:rx,m:rwx,o:rx'));
    expect(await get(other, 'd/f', accessAclName)).toEqual(acl('u:rw,u7:rwx,g:rx,m:r,o:r'));
    expect(await permissions('d/f', other)).toBe('644');
    await other.close();
  });

  it('what S3 cannot store is ENOSPC, counted for the directories that will inherit it', async () => {
    await fs.mkdir('d');
    const users = (count: number): string => `u:rwx,${Array.from({ length: count }, (_, index) => `u${index + 1000}:rwx`).join(',')},g:rx,m:rwx,o:rx`;
    await expect(set('d', defaultAclName, users(80))).rejects.toMatchObject({ errno: Errno.ENOSPC });
    await set('d', defaultAclName, users(40));
    await fs.at('d', (ino) => fs.fs.mkdir(fs.context(), ino, 'sub', 0o777, 0));
    await fs.sync();
  });

  it('removing a list leaves the mode', async () => {
    await fs.writeFile('f', 'x');
    await set('f', accessAclName, 'u:rw,u7:rwx,g:r,m:rwx,o:');
    await fs.at('f', (ino) => fs.fs.removexattr(fs.context(), ino, accessAclName));
    expect(await permissions('f')).toBe('670');
    await fs.at('f', (ino) => fs.fs.removexattr(fs.context(), ino, accessAclName));
  });
});
