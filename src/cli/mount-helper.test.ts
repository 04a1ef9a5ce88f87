import { describe, expect, it } from 'vitest';
import { mountHelper, mountHelperArgs } from './mount-helper.js';

describe('mount.fuse.hearthfs', () => {
  it('turns a line of fstab into a mount command', () => {
    const options = 'rw,noauto,_netdev,x-systemd.automount,X-mount.mkdir,nosuid,nodev,endpoint=http://h:9000,cache_size=10GiB,cache-dir=/c,allow_other,ttl=exclusive,config=/etc/h.json';
    expect(mountHelperArgs(['s3://b/p', '/mnt', '-o', options])).toEqual([
      'mount', 's3://b/p', '/mnt', '--endpoint=http://h:9000', '--cache-size=10GiB', '--cache-dir=/c', '--allow-other', '--ttl=exclusive', '--config=/etc/h.json',
    ]);
  });

  it('understands ro in all its spellings, and -f as doing nothing', () => {
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'ro'])).toEqual(['mount', 's3://b', '/m', '--read-only']);
    expect(mountHelperArgs(['s3://b', '/m', '-nr', '-t', 'fuse.hearthfs'])).toEqual(['mount', 's3://b', '/m', '--read-only']);
    expect(mountHelperArgs(['s3://b', '/m', '-fv'])).toBeNull();
  });

  it('keeps an escaped comma in a value', () => {
    expect(mountHelperArgs(['s3://b', '/m', '-ocache_dir=/a\\,b,ro'])).toEqual(['mount', 's3://b', '/m', '--cache-dir=/a,b', '--read-only']);
  });

  it('refuses what it cannot do or does not know, instead of ignoring it', () => {
    expect(() => mountHelperArgs(['s3://b', '/m', '-o', 'noexec'])).toThrow('noexec is not supported');
    expect(() => mountHelperArgs(['s3://b', '/m', '-o', 'cache_sise=1'])).toThrow('did you mean cache_size?');
    expect(() => mountHelperArgs(['s3://b', '/m', '-o', 'ttl'])).toThrow('ttl=VALUE');
    expect(() => mountHelperArgs(['s3://b'])).toThrow('usage');
    expect(mountHelperArgs(['s3://b', '/m', '-s', '-o', 'cache_sise=1'])).toEqual(['mount', 's3://b', '/m']);
  });

  it('remounts: read-only or writable; what fstab says besides is checked, and has no effect', () => {
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'ro,remount'])).toEqual(['remount', '/m', '--read-only']);
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'ro,remount,cache_size=1GiB,rw'])).toEqual(['remount', '/m', '--no-read-only']);
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'remount,relatime'])).toBeNull();
    expect(() => mountHelperArgs(['s3://b', '/m', '-o', 'remount,ro,cache_sise=1'])).toThrow('did you mean cache_size?');
  });

  it('takes the last of ro and rw', () => {
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'rw,ro'])).toEqual(['mount', 's3://b', '/m', '--read-only']);
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'ro,rw'])).toEqual(['mount', 's3://b', '/m']);
  });

  it('lets setuid programs and devices work by names of its own, since mount(8) keeps suid and dev to itself', () => {
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'rw,allow_suid,allow_dev'])).toEqual(['mount', 's3://b', '/m', '--allow-suid', '--allow-dev']);
    expect(() => mountHelperArgs(['s3://b', '/m', '-o', 'suid'])).toThrow('use allow_suid');
    expect(() => mountHelperArgs(['s3://b', '/m', '-o', 'dev'])).toThrow('use allow_dev');
  });

  it('knows the spellings of mount(8) for atime; the last one counts', () => {
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'strictatime,nodiratime,noatime'])).toEqual(['mount', 's3://b', '/m', '--atime=noatime']);
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'noatime,atime=strictatime'])).toEqual(['mount', 's3://b', '/m', '--atime=strictatime']);
    expect(mountHelperArgs(['s3://b', '/m', '-o', 'noatime,relatime,ttl=5s'])).toEqual(['mount', 's3://b', '/m', '--atime=relatime', '--ttl=5s']);
  });

  it('ends with the exit codes of mount(8)', async () => {
    const quiet = (): void => undefined;
    expect(await mountHelper(['s3://b', '/m'], () => Promise.resolve(0), quiet)).toBe(0);
    expect(await mountHelper(['s3://b', '/m'], () => Promise.resolve(1), quiet)).toBe(32);
    expect(await mountHelper(['s3://b', '/m'], () => Promise.resolve(2), quiet)).toBe(1);
    let said = '';
    expect(await mountHelper([], () => Promise.resolve(0), (text) => { said += text; })).toBe(1);
    expect(said).toMatch(/^mount\.fuse\.hearthfs: usage/);
  });
});
