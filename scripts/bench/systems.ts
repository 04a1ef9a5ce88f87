/**
 * What is measured side by side: ext4 itself, hearthfs, the peers, and a plain client. Every mount starts with an empty cache and leaves its files
 * in its place: removing them is the caller's, after what is measured.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { ControlClient } from '../../src/control/client.js';
import { controlSocketPath } from '../../src/daemon/mountpoint.js';
import { delay, until } from '../../test/support/child.js';
import { detach, orDetach, rclone, ready, s3fs, start } from './peers.js';
import { bucket, type S3Side } from './s3-side.js';

export type SystemName = 'ext4' | 'hearthfs' | 's3fs' | 'rclone' | 'client';

export interface Mounted {
  /** The directory; '' for the client, which has none. */
  readonly path: string;
  readonly pids: readonly number[];
  /** From the command's start until it served; 0 where that is not measured. */
  readonly mountMs: number;
  /** Resolves once S3 holds `count` files below the prefix. */
  uploaded(count: number): Promise<void>;
  unmount(): Promise<void>;
}

export interface Place {
  readonly dir: string;
  readonly prefix: string;
  readonly s3: S3Side;
  readonly profile: string | undefined;
  /** Of hearthfs, if not a new one. */
  readonly cacheDir: string | undefined;
  /** More options of `hearthfs mount`. */
  readonly hearthfsOptions: readonly string[];
}

export interface System {
  readonly name: SystemName;
  /** Options that bear on speed, for the table. */
  readonly options?: string;
  /** Why it cannot run here. */
  missing(): string | undefined;
  mount(place: Place): Promise<Mounted>;
}

/** From `dist/scripts/bench`. */
const program = path.resolve(import.meta.dirname, '../../../bin/hearthfs.js');

const ext4: System = {
  name: 'ext4',
  missing: () => undefined,
  async mount({ dir }) {
    const where = path.join(dir, 'files');
    await mkdir(where, { recursive: true });
    return { path: where, pids: [], mountMs: 0, uploaded: () => Promise.resolve(), unmount: () => Promise.resolve() };
  },
};

const client: System = {
  name: 'client',
  missing: () => undefined,
  mount: () => Promise.resolve({ path: '', pids: [], mountMs: 0, uploaded: () => Promise.resolve(), unmount: () => Promise.resolve() }),
};

const hearthfs: System = {
  name: 'hearthfs',
  missing: () => undefined,
  async mount(place) {
    const mountpoint = path.join(place.dir, 'mnt');
    const cacheDir = place.cacheDir ?? path.join(place.dir, 'cache');
    await mkdir(mountpoint, { recursive: true });
    const { server } = place.s3;
    const flags = place.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${place.profile}`];
    const started = performance.now();
    const child = start(process.execPath, [
      ...flags, program, 'mount', `s3://${bucket}/${place.prefix}`, mountpoint, '--endpoint', server.endpoint, '--path-style', '--cache-dir', cacheDir, '--cache-size', '20GiB', '--min-free', '1%', '--foreground', ...place.hearthfsOptions,
    ], place);
    const control = new ControlClient(controlSocketPath(mountpoint), mountpoint, { connectTimeoutMs: 0, silenceTimeoutMs: 120_000 });
    const status = await orDetach(child, mountpoint, async () => {
      await ready(child, mountpoint, place);
      return until('the mount serves', () => control.call('status', {}), 20_000, 10);
    });
    const mountMs = performance.now() - started;
    return {
      path: mountpoint, mountMs, pids: [status.supervisorPid, status.daemonPid],
      async uploaded() {
        const { remaining } = await control.call('sync', { wait: true, path: null });
        if (remaining > 0) throw new Error(`${remaining} changes could not be uploaded`);
      },
      async unmount() {
        const { unmounted, reason } = await control.call('unmount', { drainTimeoutMs: 300_000, lazy: false }).catch((error: unknown) => ({ unmounted: false, reason: String(error) }));
        for (let i = 0; i < 100 && unmounted && child.exitCode === null; i++) await delay(50);
        if (unmounted && child.exitCode !== null) return;
        await detach(child, mountpoint, [status.daemonPid]);
        throw new Error(`the mount did not end by itself: ${reason ?? 'its process stayed'}`);
      },
    };
  },
};

export const systems: readonly System[] = [ext4, hearthfs, s3fs, rclone, client];
