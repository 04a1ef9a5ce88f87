/**
 * What supervisor and daemon say to each other over the IPC channel, and the daemon's end of it. The daemon finds the mounted device
 * as descriptor 3 and its configuration in the environment.
 *
 *     daemon: prepared -> supervisor: mounted -> daemon: serving          (a failed start: failed instead, then exit)
 *     daemon: unmount  -> supervisor: unmount-result                      (the daemon then sees ENODEV, drains and exits 0)
 *
 * Exit 0 means "the mount is gone and all is committed"; any other end makes the supervisor start the next generation.
 */
import { assert } from '../base/assert.js';
import { fcntl } from '../base/libc.js';
import { UserError } from '../base/user-error.js';
import type { MountConfig } from './config.js';

export const deviceDescriptor = 3;
export const configVariable = 'HEARTHFS_DAEMON_CONFIG';
export const generationVariable = 'HEARTHFS_DAEMON_GENERATION';

export type FromDaemon =
  | { readonly type: 'prepared' }
  | { readonly type: 'serving' }
  | { readonly type: 'failed'; readonly message: string; readonly exitCode: number }
  | { readonly type: 'unmount'; readonly id: number; readonly lazy: boolean };

export type ToDaemon =
  | { readonly type: 'mounted' }
  /** `errno` undefined: unmounted. */
  | { readonly type: 'unmount-result'; readonly id: number; readonly errno?: number };

/** How the daemon was started: what it is to serve, and how many served the mount before it. */
export function startedWith(): { readonly config: MountConfig; readonly generation: number } {
  const config = process.env[configVariable];
  assert(process.send !== undefined && config !== undefined, 'the daemon is started by its supervisor');
  return { config: JSON.parse(config) as MountConfig, generation: Number(process.env[generationVariable] ?? 0) };
}

export class SupervisorLink {
  readonly device = deviceDescriptor;
  /** 0 for the first daemon of a mount. Above: an earlier one died; take over (K11, K12). */
  readonly generation: number;
  readonly config: MountConfig;
  readonly supervisorPid = process.ppid;
  private mounted: (() => void) | undefined;
  private readonly unmounts = new Map<number, (errno: number | undefined) => void>();
  private nextId = 1;

  static connect(started = startedWith()): SupervisorLink {
    return new SupervisorLink(started);
  }

  private constructor(started: ReturnType<typeof startedWith>) {
    ({ config: this.config, generation: this.generation } = started);
    fcntl(deviceDescriptor, 2 /* F_SETFD */, 1 /* FD_CLOEXEC */); // no helper program of ours may keep the connection open
    process.on('message', (message: ToDaemon) => {
      if (message.type === 'mounted') this.mounted?.();
      else {
        this.unmounts.get(message.id)?.(message.errno);
        this.unmounts.delete(message.id);
      }
    });
    // a lost supervisor is no reason to stop serving: only `unmount` needs it
    process.on('disconnect', () => {
      for (const answer of this.unmounts.values()) answer(32 /* EPIPE */);
      this.unmounts.clear();
    });
    process.channel?.unref();
  }

  /**
   * Everything slow is done; resolves once the device is mounted. Reading it earlier fails with EPERM. If the supervisor dies over it: the first
   * daemon of a mount gives up, or it would hold the cache directory for a mount that never comes; a later one goes on, its mount is there.
   */
  prepared(): Promise<void> {
    process.channel?.ref();
    return new Promise((resolve, reject) => {
      const done = (): void => {
        process.off('disconnect', lost);
        process.channel?.unref();
        resolve();
      };
      const lost = (): void => {
        if (this.generation > 0) done();
        else reject(new UserError('The supervisor ended before the mount was there; mount again'));
      };
      if (!process.connected) return lost();
      process.once('disconnect', lost);
      this.mounted = done;
      this.send({ type: 'prepared' });
    });
  }

  serving(): void {
    this.send({ type: 'serving' });
  }

  /** Reports a failed start; the caller then exits with `exitCode`. Resolves when the message has left. */
  failed(message: string, exitCode: number): Promise<void> {
    return new Promise((resolve) => {
      if (!process.connected) return resolve();
      process.send!({ type: 'failed', message, exitCode } satisfies FromDaemon, undefined, undefined, () => resolve());
    });
  }

  /** @returns undefined once unmounted, else the errno: EBUSY (16) if something is open in it and not `lazy`, EPIPE (32) without a supervisor. */
  unmount(lazy: boolean): Promise<number | undefined> {
    if (!process.connected) return Promise.resolve(32);
    return new Promise((resolve) => {
      const id = this.nextId++;
      this.unmounts.set(id, resolve);
      this.send({ type: 'unmount', id, lazy });
    });
  }

  private send(message: FromDaemon): void {
    if (process.connected) process.send!(message);
  }
}
