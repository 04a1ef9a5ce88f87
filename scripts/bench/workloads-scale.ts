/** Workloads of size: a million files, a cache that holds them, files that come and go. What counts is memory, and how long somebody has to wait. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { compiledEntry } from '../../src/base/entry-url.js';
import { run, sh } from '../../test/support/child.js';
import { filledKey } from '../../test/s3-server/bucket-access.js';
import { Random } from './dataset.js';
import { filledPerDirectory } from './s3-side.js';
import { expect, median, scaledCount, type Context, type Workload, type World } from './workload.js';

const million = 1_000_000;
const fillTimeoutMs = 3_600_000;
const statSeconds = 10;
/** Nobody else writes: what is known is not asked for again, and S3 plays no part. */
const alone = ['--ttl', 'exclusive'];

/** Cache directories made in this run, by the prefix they are of. */
const caches = new Map<string, string>();

async function cacheOfMillion(world: World, prefix: string): Promise<string> {
  const known = caches.get(prefix);
  if (known !== undefined) return known;
  const dir = path.join(world.data.dir, 'million');
  const program = compiledEntry(import.meta.url, './fill-cache.js').pathname;
  const { files } = JSON.parse((await run(process.execPath, [program, dir, world.s3.server.endpoint, prefix], { timeoutMs: fillTimeoutMs })).stdout) as { files: number };
  expect(files === scaledCount(world, million), `${files} files in the cache`);
  caches.set(prefix, dir);
  return dir;
}

/** Names from everywhere among the files. */
function someNames(context: Context): string {
  const count = context.count(million);
  const random = new Random(count);
  const list = path.join(context.world.data.dir, `some-of-${count}`);
  writeFileSync(list, Array.from({ length: 5000 }, () => filledKey({ prefix: '', perDirectory: filledPerDirectory }, random.between(0, count))).join('\n'));
  return list;
}

async function stats(context: Context): Promise<{ statMs: number; longestStatMs: number }> {
  const { ms } = await context.probe<{ ms: number[] }>('stats', context.path, someNames(context), statSeconds);
  return { statMs: median(ms), longestStatMs: Math.max(...ms) };
}

export const scaleWorkloads: readonly Workload[] = [
  {
    id: 'million-files', title: 'find of a million files in 1,000 directories, cold', unit: 'files/s', local: true, systems: ['hearthfs'], targets: [], showsMemory: true, hearthfsOptions: alone,
    cold: (world, prefix) => world.s3.fill(prefix, scaledCount(world, million)),
    async run(context) {
      const count = context.count(million);
      return context.measured(async () => {
        const { stdout, ms } = await sh('find "$M" -type f | wc -l', { env: { M: context.path }, timeoutMs: 3_600_000 });
        expect(Number(stdout) === count, `${stdout.trim()} of ${count} files found`);
        return { value: count / (ms / 1000), more: await stats(context) };
      });
    },
  },
  {
    id: 'million-blocks', title: 'mount of a cache that holds a million files', unit: 's', local: true, systems: ['hearthfs'], targets: [{ limit: 1 }], showsMemory: true, hearthfsOptions: alone,
    cold: (world, prefix) => world.s3.fill(prefix, scaledCount(world, million)),
    cacheDir: cacheOfMillion,
    async run(context) {
      // At once: the daemon is still looking through the cache
      const more = await context.measured(() => stats(context));
      return { value: context.mounted.mountMs / 1000, more };
    },
  },
  {
    id: 'churn', title: '20,000 files made, renamed and removed again, one by one', unit: 'files/s', local: true, systems: ['ext4', 'hearthfs'], targets: [], showsMemory: true,
    async run(context) {
      const count = context.count(20_000);
      const { seconds } = await context.measured(() => context.probe<{ seconds: number }>('churn', context.path, count));
      await context.shell('test -z "$(ls "$M")"');
      return { value: count / seconds };
    },
  },
];
