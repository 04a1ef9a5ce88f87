import { describe, expect, it } from 'vitest';
import { mountAt, mountContaining, parseMountinfo, readMountinfo } from './mountinfo.js';

const text = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:44 / /mnt/a\\040b rw,nosuid,nodev,relatime shared:7 master:2 - fuse.hearthfs s3://bucket/with\\040space rw,user_id=0
41 27 0:45 / /mnt/a rw - tmpfs tmpfs rw
42 41 0:46 / /mnt/a rw - fuse.hearthfs s3://x ro
43 27 0:47 / /mnt/\\303\\244\\134 rw - tmpfs tmpfs rw
`;

describe('mountinfo', () => {
  const entries = parseMountinfo(text);

  it('undoes octal escapes in paths and sources, and is not confused by optional fields', () => {
    expect(entries.map((entry) => entry.mountpoint)).toEqual(['/proc', '/', '/mnt/a b', '/mnt/a', '/mnt/a', '/mnt/ä\\']);
    expect(entries[2]).toEqual({ id: 40, device: '0:44', mountpoint: '/mnt/a b', options: 'rw,nosuid,nodev,relatime', type: 'fuse.hearthfs', source: 's3://bucket/with space' });
  });

  it('the topmost of several mounts at a path counts', () => {
    expect(mountAt(entries, '/mnt/a')?.device).toBe('0:46');
    expect(mountAt(entries, '/mnt')).toBeUndefined();
  });

  it('a path belongs to the longest mountpoint that holds it, by whole components', () => {
    expect(mountContaining(entries, '/mnt/a/x/y')?.device).toBe('0:46');
    expect(mountContaining(entries, '/mnt/a b/x')?.device).toBe('0:44');
    expect(mountContaining(entries, '/mnt/ab')?.mountpoint).toBe('/');
    expect(mountContaining(entries, '/')?.mountpoint).toBe('/');
  });

  it('reads the real table', () => {
    expect(mountAt(readMountinfo(), '/proc')?.type).toBe('proc');
  });
});
