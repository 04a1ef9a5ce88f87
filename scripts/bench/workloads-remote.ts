/** Workloads that need S3: cold files, listings, uploads. The plain client says what the server and the network allow. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { quote, sh } from '../../test/support/child.js';
import { smallFiles, type SmallFile } from './dataset.js';
import { inParallel } from './s3-side.js';
import { archive, big } from './workloads-local.js';
import { expect, median, scaledCount, type Context, type Workload, type World } from './workload.js';

const GiB = 2 ** 30;
const MB = 1e6;
const mounts = ['hearthfs', 's3fs', 'rclone'] as const;
const mountsAndClient = [...mounts, 'client'] as const;
const randomBytes = 256 << 10;
const randomReaders = 16;
const firstByteFiles = 9;
const scatteredBytes = 64 << 10;
const scatteredAtOnce = 20;
const scatteredFiles = 1200;
/** So much of `stat` is timed: passes enough that the first does not decide, and over before any system forgets what S3 said. */
const statSeconds = 3;

/** Two trees: peers that need a round trip per file read the smaller one, so that the run ends this day. */
async function coldTrees(world: World, prefix: string, full: number, low: number, high: number): Promise<void> {
  for (const [name, share] of [['all', 1], ['few', 0.1]] as const) {
    const files = smallFiles(Math.ceil(scaledCount(world, full) * share), low, high);
    const { dir } = await world.data.tree(`cold-${low}-${high}-${files.length}`, files);
    await world.s3.putTree(`${prefix}${name}/`, dir, files);
  }
  await world.s3.putDirectory(prefix);
}

function coldTree(context: Context, full: number, low: number, high: number): { below: string; count: number; source: string; files: SmallFile[] } {
  const count = context.fewerForPeers(full);
  return { below: context.isPeer ? 'few' : 'all', count, source: path.join(context.world.data.dir, `cold-${low}-${high}-${count}`), files: smallFiles(count, low, high) };
}

async function coldBig(world: World, prefix: string): Promise<void> {
  await world.s3.putDirectory(prefix);
  await world.s3.upload(`${prefix}big`, big(world, GiB).path);
}

function walks(suffix: string, fields: Pick<Workload, 'systems' | 'targets' | 'hearthfsOptions'>): Workload[] {
  const how = fields.hearthfsOptions === undefined ? '' : `, ${fields.hearthfsOptions.join(' ')}`;
  return (['find', 'ls -lR'] as const).map((command) => ({
    id: (command === 'find' ? 'cold-find' : 'cold-ls') + suffix, title: `${command} of 10,000 files in 100 directories, cold${how}`, unit: 'files/s', ...fields,
    cold: (world, prefix) => coldTrees(world, prefix, 10_000, 1, 32),
    async run(context) {
      const { below, count } = coldTree(context, 10_000, 1, 32);
      const { stdout, ms } = await context.measured(() => sh(command === 'find' ? `find "$M/${below}" -type f | wc -l` : `ls -lR "$M/${below}" | grep -c '^-'`, { env: { M: context.path }, timeoutMs: 1_800_000 }));
      expect(Number(stdout) === count, `${stdout.trim()} of ${count} files found`);
      return { value: count / (ms / 1000) };
    },
  }));
}

function randomReads(suffix: string, title: string, [command, ...readers]: [string, ...number[]]): Workload {
  return {
    id: `cold-random${suffix}`, title, unit: 'ops/s', systems: mounts, targets: [{ of: 'best peer', ratio: 2 }], cold: coldBig,
    async run(context) {
      const count = context.count(400);
      await context.shell('ls "$M" > /dev/null');
      const before = await context.world.s3.bytesOut();
      const { seconds } = await context.measured(() => context.probe<{ seconds: number }>(command, path.join(context.path, 'big'), big(context.world, GiB).path, count, randomBytes, ...readers));
      const fetched = (await context.world.s3.bytesOut()) - before;
      return { value: count / seconds, more: { bytesFetchedPerByteRead: fetched / (count * randomBytes) } };
    },
  };
}

export const remoteWorkloads: readonly Workload[] = [
  {
    id: 'cold-read', title: 'sequential read of 1 GiB, cold', unit: 'MB/s', systems: mountsAndClient, targets: [{ of: 'client', ratio: 0.8 }], cold: coldBig,
    async run(context) {
      const source = big(context.world, GiB);
      if (context.system !== 'client') await context.haveMemory(source.path, 2); // pages of the cache's file and of the mount's
      if (context.system === 'client') {
        const started = performance.now();
        const bytes = await context.world.s3.download(`${context.prefix}big`);
        const seconds = (performance.now() - started) / 1000;
        expect(bytes === source.sizeBytes, 'bytes read');
        return { value: bytes / MB / seconds };
      }
      const file = path.join(context.path, 'big');
      const { seconds, bytes } = await context.measured(() => context.probe<{ seconds: number; bytes: number }>('read', file));
      expect(bytes === source.sizeBytes, 'bytes read');
      await context.expectSha256(file, source.sha256);
      return { value: bytes / MB / seconds };
    },
  },
  {
    id: 'first-byte', title: 'open and first 4 KiB of a listed cold file of 16 MiB', unit: 'ms', systems: mountsAndClient, targets: [{ of: 'client', ratio: 1.3 }],
    async cold(world, prefix) {
      await world.s3.putDirectory(prefix);
      for (let i = 0; i < firstByteFiles; i++) await world.s3.upload(`${prefix}f${i}`, world.data.big(16 << 20).path);
    },
    async run(context) {
      if (context.system !== 'client') {
        await context.shell('ls -l "$M" > /dev/null; sleep 1');
        return { value: median((await context.measured(() => context.probe<{ ms: number[] }>('first-byte', context.path))).ms) };
      }
      const times: number[] = [];
      for (let i = 0; i < firstByteFiles; i++) {
        const started = performance.now();
        await context.world.s3.get(`${context.prefix}f${i}`, 0, 4096);
        times.push(performance.now() - started);
      }
      return { value: median(times) };
    },
  },
  {
    id: 'stat', title: 'stat of 5,000 known files, kernel caches empty', unit: 'ops/s', systems: mounts, targets: [{ of: 'best peer', ratio: 2 }],
    cold: (world, prefix) => coldTrees(world, prefix, 5000, 1, 64),
    async run(context) {
      const files = smallFiles(context.count(5000), 1, 64);
      const list = path.join(context.world.data.dir, `names-${files.length}`);
      writeFileSync(list, files.map((file) => file.name).join('\n'));
      const below = path.join(context.path, 'all');
      await context.world.s3.setLatency(0); // a peer that asks for each file would forget the first ones before it knows the last
      await context.shell('ls -lR "$M/all" > /dev/null');
      await context.probe('stat', below, list); // known now
      await context.world.s3.setLatency(context.latencyMs);
      await context.settleDisk();
      const { passes } = await context.measured(() => context.probe<{ passes: number[] }>('stats-forgotten', below, list, statSeconds));
      return { value: files.length / median(passes), more: { firstPass: files.length / passes[0]!, worstPass: files.length / Math.max(...passes), passes: passes.length } };
    },
  },
  randomReads('', 'random 256 KiB reads of a cold 1 GiB file', ['random']),
  randomReads('-readers', `random 256 KiB reads of a cold 1 GiB file, ${randomReaders} readers at once`, ['random-at-once', randomReaders]),
  {
    id: 'cold-tar', title: 'tar c of 2,000 files of 4 to 64 KiB, cold', unit: 'files/s', systems: mounts, targets: [{ of: 'best peer', ratio: 10 }],
    cold: (world, prefix) => coldTrees(world, prefix, 2000, 4096, 65536),
    async run(context) {
      const { below, count, source } = coldTree(context, 2000, 4096, 65536);
      const seconds = await context.measured(() => context.shell(`tar cf - -C "$M/${below}" . | cat > /dev/null`));
      await context.expectSameTree(source, `/${below}`);
      return { value: count / seconds };
    },
  },
  ...walks('', { systems: mounts, targets: [{ of: 'best peer', ratio: 5 }] }),
  // What the operator may choose, and rclone does: no attributes but those that a listing shows
  ...walks('-listing', { systems: ['hearthfs', 'rclone'], targets: [], hearthfsOptions: ['--attributes', 'listing'] }),
  {
    id: 'cold-flat', title: 'listing of one directory of 100,000 objects, cold', unit: 's', systems: mounts, targets: [{ limit: 6 }],
    async cold(world, prefix) {
      await world.s3.putDirectory(prefix);
      await world.s3.putMany(`${prefix}all/`, scaledCount(world, 100_000));
      await world.s3.putMany(`${prefix}few/`, Math.ceil(scaledCount(world, 100_000) / 10));
    },
    async run(context) {
      const full = context.count(100_000);
      const count = context.fewerForPeers(100_000);
      const listed = await context.measured(() => context.probe<{ seconds: number; count: number }>('list', path.join(context.path, context.isPeer ? 'few' : 'all')));
      expect(listed.count === count, `${listed.count} of ${count} names`);
      return { value: (listed.seconds * full) / count, ...(count !== full && { scaled: true }) };
    },
  },
  {
    id: 'streams', title: '64 cold files of 16 MiB read at the same time', unit: 'MB/s', systems: mounts, targets: [], showsMemory: true,
    async cold(world, prefix) {
      await world.s3.putDirectory(prefix);
      const source = world.data.big(16 << 20).path;
      for (let i = 0; i < scaledCount(world, 64); i++) await world.s3.upload(`${prefix}f${i}`, source);
    },
    async run(context) {
      const { seconds } = await context.measured(() => context.probe<{ seconds: number }>('streams', context.path));
      return { value: (context.count(64) * (16 << 20)) / MB / seconds };
    },
  },
  {
    id: 'upload-big', title: '1 GiB written and uploaded', unit: 'MB/s', systems: mountsAndClient, targets: [{ of: 'client', ratio: 0.8 }],
    async run(context) {
      const source = big(context.world, GiB);
      await context.haveMemory(source.path, 1);
      const started = performance.now();
      let writeSeconds = 0;
      if (context.system === 'client') await context.world.s3.upload(`${context.prefix}big`, source.path);
      else {
        await context.measured(async () => {
          writeSeconds = await context.shell(`cp ${quote(source.path)} "$M/big"`);
          await context.mounted.uploaded(1);
        });
      }
      const seconds = (performance.now() - started) / 1000;
      const [object] = (await context.world.s3.list(context.prefix)).filter(({ key }) => key === 'big');
      expect(object?.sizeBytes === source.sizeBytes, 'size of the object');
      return { value: source.sizeBytes / MB / seconds, more: { writeSeconds, uploadSeconds: seconds - writeSeconds } };
    },
  },
  {
    id: 'read-while-upload', title: 'cold 64 KiB files read one by one while 1 GiB is uploaded', unit: 'ms', systems: mounts, targets: [{ ofMore: 'msAlone', ratio: 2 }],
    async run(context) {
      const { s3 } = context.world;
      const source = big(context.world, GiB);
      await s3.setLatency(0);
      await s3.putDirectory(`${context.prefix}cold/`);
      await inParallel(Array.from({ length: scatteredFiles }, (_, i) => i), (i) => s3.putBytes(`${context.prefix}cold/f${i}`, Buffer.alloc(scatteredBytes, i & 0xff)));
      await s3.setLatency(context.latencyMs);
      await context.settleDisk();
      let batch = 0;
      const read = async (): Promise<number[]> => (await context.probe<{ ms: number[] }>('scattered', path.join(context.path, 'cold'), scatteredAtOnce, batch++)).ms;
      await read(); // the directory is known
      const msAlone = median(await read());
      const ms: number[] = [];
      const uploadSeconds = await context.measured(async () => {
        const started = performance.now();
        let isDone = false;
        const upload = async (): Promise<void> => {
          await context.shell(`cp ${quote(source.path)} "$M/big"`);
          await context.mounted.uploaded(1);
        };
        const uploaded = upload().finally(() => (isDone = true));
        while (!isDone && batch * scatteredAtOnce < scatteredFiles) ms.push(...(await read()));
        await uploaded;
        return (performance.now() - started) / 1000;
      });
      return { value: median(ms), more: { msAlone, reads: ms.length, uploadSeconds } };
    },
  },
  {
    id: 'upload-small', title: '2,000 small files written and uploaded', unit: 'files/s', systems: mountsAndClient, targets: [{ of: 'client', ratio: 0.8 }],
    async run(context) {
      const count = context.fewerForPeers(2000);
      const { dir, tar, files } = await archive(context, count);
      const started = performance.now();
      let writeSeconds = 0;
      if (context.system === 'client') await context.world.s3.uploadTree(context.prefix, dir, files);
      else {
        await context.measured(async () => {
          writeSeconds = await context.shell(`tar xf ${quote(tar)} -C "$M"`);
          await context.mounted.uploaded(count);
        });
      }
      const seconds = (performance.now() - started) / 1000;
      const arrived = new Map((await context.world.s3.list(context.prefix)).map(({ key, sizeBytes }) => [key, sizeBytes]));
      expect(files.every((file) => arrived.get(file.name) === file.sizeBytes), 'objects in S3');
      return { value: count / seconds, more: { writeSeconds, uploadSeconds: seconds - writeSeconds } };
    },
  },
];
