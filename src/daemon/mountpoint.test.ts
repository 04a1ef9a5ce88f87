import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseMountinfo } from '../fuse/mountinfo.js';
import { controlSocketPath, findMount } from './mountpoint.js';
import { prepareMountpoint } from './prepare-mountpoint.js';

let dir: string;
beforeEach(() => { dir = fs.mkdtempSync(path.join(os.tmpdir(), 'hearthfs-mountpoint-')); });
afterEach(() => { fs.rmSync(dir, { recursive: true }); });

describe('prepareMountpoint()', () => {
  it('accepts an empty directory, and one that is not empty on request', async () => {
    await prepareMountpoint(dir);
    fs.writeFileSync(path.join(dir, 'f'), '');
    await expect(prepareMountpoint(dir)).rejects.toThrow(/not empty/);
    await prepareMountpoint(dir, { nonempty: true });
  });

  it('refuses what is missing, a file, a path through a file, and /', async () => {
    fs.writeFileSync(path.join(dir, 'f'), '');
    await expect(prepareMountpoint(path.join(dir, 'none'))).rejects.toThrow(/does not exist: create it with/);
    await expect(prepareMountpoint(path.join(dir, 'f'))).rejects.toThrow(/not a directory/);
    await expect(prepareMountpoint(path.join(dir, 'f', 'g'))).rejects.toThrow(/does not exist/);
    await expect(prepareMountpoint('/')).rejects.toThrow(/Cannot mount on \//);
  });

  it('refuses a cache or log inside the mount (K17)', async () => {
    await expect(prepareMountpoint(dir, { inside: [path.join(dir, 'cache')] })).rejects.toThrow(/lies inside the mount point/);
    await prepareMountpoint(dir, { inside: [`${dir}-cache`] });
  });
});

describe('findMount()', () => {
  it('answers the mountpoint for paths inside a mount of ours only', () => {
    const entries = parseMountinfo('1 1 0:1 / / rw - ext4 x rw\n2 1 0:2 / /m rw - fuse.hearthfs s3://b rw\n3 2 0:3 / /m/sub rw - tmpfs t rw\n');
    expect(['/m', '/m/a/b', '/m/sub/x', '/mm', '/'].map((at) => findMount(at, entries))).toEqual(['/m', '/m', undefined, undefined, undefined]);
  });
});

describe('controlSocketPath()', () => {
  it('fits a socket address, is stable, and differs between mountpoints', () => {
    const long = `/mnt/${'x'.repeat(3000)}`;
    expect(controlSocketPath(long).length).toBeLessThan(107);
    expect(controlSocketPath(long)).toBe(controlSocketPath(long));
    expect(controlSocketPath('/mnt/a')).not.toBe(controlSocketPath('/mnt/b'));
  });
});
