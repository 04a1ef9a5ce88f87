/** Workloads on files that are local: they should cost what the local disk costs. */
import path from 'node:path';
import { quote } from '../../test/support/child.js';
import { smallFiles, type SmallFile } from './dataset.js';
import { expect, median, scaledCount, type Context, type Workload, type World } from './workload.js';

const GiB = 2 ** 30;
const MB = 1e6;
const all = ['ext4', 'hearthfs', 's3fs', 'rclone'] as const;

const bigs = new Map<number, { path: string; sha256: string }>();
export function big(world: World, bytes: number): { path: string; sha256: string; sizeBytes: number } {
  const sizeBytes = Math.max(2 ** 20, scaledCount(world, bytes / 2 ** 20) * 2 ** 20);
  let made = bigs.get(sizeBytes);
  if (!made) bigs.set(sizeBytes, (made = world.data.big(sizeBytes)));
  return { ...made, sizeBytes };
}

/** A big file that is in the cache and in S3. */
async function cachedFile(context: Context): Promise<{ file: string; source: ReturnType<typeof big> }> {
  const source = big(context.world, GiB);
  const file = path.join(context.path, 'big');
  await context.shell(`cp ${quote(source.path)} "$M/big"`);
  await context.mounted.uploaded(1);
  await context.settleDisk();
  await context.probe('read', file); // into the page cache
  return { file, source };
}

const archiveFiles = (count: number): SmallFile[] => smallFiles(count, 512, 8192);
export async function archive(context: Context, count: number): Promise<{ dir: string; tar: string; files: SmallFile[] }> {
  const files = archiveFiles(count);
  return { ...(await context.world.data.tree(`archive-${count}`, files)), files };
}

export const localWorkloads: readonly Workload[] = [
  {
    id: 'cached-read', title: 'sequential read, cached', unit: 'MB/s', local: true, systems: all, targets: [{ of: 'ext4', ratio: 0.9 }],
    async run(context) {
      const { file, source } = await cachedFile(context);
      const read = await context.measured(() => context.probe<{ seconds: number; bytes: number }>('read', file));
      expect(read.bytes === source.sizeBytes, 'bytes read');
      await context.expectSha256(file, source.sha256);
      return { value: source.sizeBytes / MB / read.seconds };
    },
  },
  {
    id: 'ordinary-read', title: 'sequential read, cached, without passthrough', unit: 'MB/s', local: true, systems: ['ext4', 'hearthfs'], targets: [{ of: 'ext4', ratio: 0.3 }], hearthfsOptions: ['--passthrough', 'off'],
    async run(context) {
      const { file, source } = await cachedFile(context);
      // The mount's own pages go, those of the cache file stay: every byte comes through the daemon
      if (context.system === 'hearthfs') await context.shell('dd if="$M/big" iflag=nocache count=0 status=none');
      const read = await context.measured(() => context.probe<{ seconds: number; bytes: number }>('read', file));
      await context.expectSha256(file, source.sha256);
      return { value: read.bytes / MB / read.seconds };
    },
  },
  {
    id: 'cached-random', title: '4 KiB random reads, cached', unit: 'ops/s', local: true, systems: all, targets: [{ of: 'ext4', ratio: 0.9 }],
    async run(context) {
      const { file, source } = await cachedFile(context);
      const count = context.count(200_000);
      const { seconds } = await context.measured(() => context.probe<{ seconds: number }>('random', file, source.path, count, 4096));
      return { value: count / seconds };
    },
  },
  {
    id: 'overwrite', title: 'overwrite of a cached file', unit: 'MB/s', local: true, systems: all, targets: [{ of: 'ext4', ratio: 0.9 }],
    async run(context) {
      const { file } = await cachedFile(context);
      const source = big(context.world, GiB);
      const { seconds } = await context.measured(() => context.probe<{ seconds: number }>('overwrite', file, source.path));
      await context.expectSha256(file, source.sha256);
      return { value: source.sizeBytes / MB / seconds };
    },
  },
  {
    id: 'new-file', title: 'new file of 1 GiB, write and close', unit: 'MB/s', systems: all, targets: [{ of: 'ext4', ratio: 0.8 }],
    async run(context) {
      const source = big(context.world, GiB);
      await context.settleDisk();
      await context.haveMemory(source.path, 1);
      const file = path.join(context.path, 'new');
      const { seconds } = await context.measured(() => context.probe<{ seconds: number }>('write', file, source.path));
      await context.expectSha256(file, source.sha256);
      return { value: source.sizeBytes / MB / seconds };
    },
  },
  {
    id: 'fsync', title: 'fsync of a new 4 KiB file', unit: 'ms', systems: all, targets: [{ of: 'ext4', ratio: 3 }],
    async run(context) {
      await context.settleDisk();
      const { ms } = await context.measured(() => context.probe<{ ms: number[] }>('fsync', context.path, context.isPeer ? 20 : 200));
      return { value: median(ms) };
    },
  },
  {
    id: 'untar', title: 'untar of 5,000 small files', unit: 'files/s', systems: all, targets: [{ of: 'ext4', ratio: 0.25 }, { of: 'best peer', ratio: 20 }],
    async run(context) {
      const count = context.fewerForPeers(5000);
      const { dir, tar } = await archive(context, count);
      await context.settleDisk();
      const seconds = await context.measured(() => context.shell(`tar xf ${quote(tar)} -C "$M"`));
      await context.expectSameTree(dir);
      return { value: count / seconds };
    },
  },
  {
    id: 'rm', title: 'rm -r of 5,000 small files', unit: 'files/s', systems: all, targets: [{ of: 'ext4', ratio: 0.25 }, { of: 'best peer', ratio: 20 }],
    async run(context) {
      const count = context.fewerForPeers(5000);
      const { tar } = await archive(context, count);
      await context.shell(`mkdir "$M/t"; tar xf ${quote(tar)} -C "$M/t"`);
      await context.mounted.uploaded(count);
      await context.settleDisk();
      const seconds = await context.measured(() => context.shell('rm -r "$M/t"'));
      await context.shell('test ! -e "$M/t"');
      return { value: count / seconds };
    },
  },
  {
    id: 'rename-dir', title: 'rename of a directory of 10,000 files', unit: 'ms', systems: all, targets: [{ limit: 50 }],
    async run(context) {
      const full = context.count(10_000);
      const count = context.isPeer ? Math.ceil(full / 50) : full;
      const { tar, dir } = await archive(context, count);
      await context.shell(`mkdir "$M/t"; tar xf ${quote(tar)} -C "$M/t"`);
      await context.mounted.uploaded(count);
      await context.settleDisk();
      const { seconds } = await context.measured(() => context.probe<{ seconds: number }>('rename', path.join(context.path, 't'), path.join(context.path, 'u')));
      await context.expectSameTree(dir, '/u');
      return { value: (seconds * 1000 * full) / count, ...(count !== full && { scaled: true }) };
    },
  },
];
