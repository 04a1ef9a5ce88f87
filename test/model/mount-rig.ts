/**
 * What outlives a sequence of the model test on real mounts: one mount of each kind, used again and again with a fresh directory per sequence. One that a
 * failed sequence left in doubt is replaced.
 */
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { Hands } from '../support/hands.js';
import type { TestMount } from '../support/mount.js';
import type { TestBucket } from '../support/s3.js';
import type { MountWorld } from '../support/world.js';
import { Pair, type MountKeeper, type MountKind } from './mount-pair.js';

/** Short of everything, so that uploads, expiry and what follows from them happen within a sequence. */
export const mountKinds: readonly MountKind[] = [
  { name: 'passthrough', args: ['--upload-delay', '150ms'] },
  { name: 'through the daemon', args: ['--upload-delay', '30ms', '--passthrough', 'off'] },
  { name: 'passthrough, shared', args: ['--upload-delay', '30ms', '--ttl', '300ms'], ttlMs: 300 },
  { name: 'through the daemon, shared', args: ['--upload-delay', '150ms', '--ttl', '300ms', '--passthrough', 'off'], ttlMs: 300 },
];

export class MountRig {
  private readonly standing = new Map<string, Standing>();
  private sequences = 0;

  constructor(private readonly world: MountWorld) {}

  /** A sequence on a mount of that kind. After a failure the mount is not used again. */
  async run(kind: MountKind, work: (pair: Pair) => Promise<void>): Promise<void> {
    const standing = this.standing.get(kind.name) ?? (await Standing.open(this.world, kind));
    this.standing.set(kind.name, standing);
    const pair = new Pair(standing.plain, standing.mounted, standing, kind, `s${++this.sequences}`);
    try {
      await pair.begin();
      await work(pair);
      await pair.finish();
      await standing.cleared(pair.directory);
    } catch (error) {
      this.standing.delete(kind.name);
      const log = standing.mount.log(3000);
      await standing.close();
      const steps = pair.trace.map((line, index) => `  ${index + 1}. ${line}`).join('\n');
      throw new Error(`${error instanceof Error ? error.message : String(error)}\non a mount "${kind.name}" (${kind.args.join(' ')}), in ${pair.directory}, after\n${steps}\n${log}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    for (const each of this.standing.values()) await each.close();
    this.standing.clear();
  }
}

/** A mount, a plain directory, and who works in both. */
class Standing implements MountKeeper {
  private constructor(private readonly world: MountWorld, private readonly kind: MountKind, readonly plain: Hands, readonly mounted: Hands, readonly mountpoint: string, private readonly bucket: TestBucket, public mount: TestMount) {}

  static async open(world: MountWorld, kind: MountKind): Promise<Standing> {
    const [plain, mountpoint, cacheDir] = [world.temp('plain'), world.temp('model'), world.temp('model-cache')];
    await Promise.all([plain, mountpoint].map((each) => mkdir(each)));
    const bucket = world.bucket.newPrefix();
    const mount = await world.mount({ bucket, mountpoint, cacheDir, args: [...kind.args] });
    return new Standing(world, kind, new Hands(plain), new Hands(mountpoint), mountpoint, bucket, mount);
  }

  async again(how: 'orderly' | 'empty cache' | 'killed'): Promise<void> {
    const { cacheDir } = this.mount;
    if (how === 'killed') await this.mount.kill9All();
    else await this.mount.unmount();
    if (how === 'empty cache') await rm(cacheDir, { recursive: true });
    this.mount = await this.world.mount({ bucket: this.bucket, mountpoint: this.mountpoint, cacheDir, args: [...this.kind.args] });
  }

  /** The next sequence finds nothing of this one but what is still on its way to S3. */
  async cleared(directory: string): Promise<void> {
    for (const hands of [this.plain, this.mounted]) {
      await hands.must('enter', '');
      await hands.must('remove', directory);
    }
  }

  async close(): Promise<void> {
    await this.mounted.close();
    await this.plain.close();
    await this.mount.close();
    await rm(path.join(this.plain.root), { recursive: true, force: true });
  }
}
