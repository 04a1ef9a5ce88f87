/**
 * What a suite of mount tests needs: an S3 server, a directory for everything temporary, mounts. Registers its own hooks: after a failed test the
 * tails of all logs are printed, and the suite ends by asserting that nothing is left mounted or running.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { Gate } from './gate.js';
import { mountsBelow, TestMount, type MountOptions } from './mount.js';
import { TestS3, type TestBucket } from './s3.js';
import { patience } from './scale.js';

export { scale, scaled } from './scale.js';

/** Mount tests need the device and root. Says loudly when they cannot run. */
export const cannotMount = ((): boolean => {
  try {
    readFileSync('/proc/self/mountinfo');
    readdirSync('/sys/fs/fuse');
    if (process.getuid?.() === 0) return false;
  } catch {
    // told below
  }
  process.stderr.write('SKIPPED: mount tests need root and /dev/fuse\n');
  return true;
})();

export class MountWorld {
  readonly mounts: TestMount[] = [];
  private readonly gates: Gate[] = [];
  s3!: TestS3;
  bucket!: TestBucket;
  /** Outside of all mounts. */
  directory!: string;
  private count = 0;

  async open(): Promise<void> {
    this.directory = await mkdtemp(path.join(os.tmpdir(), 'hearthfs-mount-'));
    this.s3 = await TestS3.start();
    this.bucket = await this.s3.newBucket();
  }

  /** A path nobody uses. */
  temp(name = 'temp'): string {
    return path.join(this.directory, `${name}-${++this.count}`);
  }

  /** Of a new prefix, unless the options name a bucket. */
  async mount(options: Partial<MountOptions> = {}): Promise<TestMount> {
    const mount = await TestMount.start(this.directory, { bucket: options.bucket ?? this.bucket.newPrefix(), ...options });
    this.mounts.push(mount);
    return mount;
  }

  async gate(): Promise<Gate> {
    const gate = await Gate.to(this.s3.endpoint);
    this.gates.push(gate);
    return gate;
  }

  logs(): string {
    return this.mounts.slice(-3).map((mount) => mount.log()).join('\n');
  }

  async close(): Promise<string[]> {
    const left: string[] = [];
    for (const mount of this.mounts.reverse()) await mount.close();
    for (const gate of this.gates) await gate.stop();
    left.push(...mountsBelow(this.directory).map((where) => `mounted: ${where}`));
    left.push(...processesNaming(this.directory).map((line) => `running: ${line}`));
    await this.s3?.close();
    if (left.length === 0) await rm(this.directory, { recursive: true, force: true });
    return left;
  }
}

export function useWorld(): MountWorld {
  const world = new MountWorld();
  beforeAll(() => world.open(), 60_000 * patience);
  afterEach((context) => {
    if (context.task.result?.state === 'fail' && world.mounts.length > 0) process.stderr.write(`\n${context.task.name}\n${world.logs()}\n`);
  });
  afterAll(async () => {
    expect(await world.close()).toEqual([]);
  }, 120_000 * patience);
  return world;
}

function processesNaming(text: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      if (Number(pid) !== process.pid && line.includes(text)) found.push(`${pid} ${line.slice(0, 200)}`);
    } catch {
      continue;
    }
  }
  return found;
}
