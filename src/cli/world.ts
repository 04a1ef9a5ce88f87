/** What a command sees of the machine, in one object, so that tests can run commands in a made-up one. */
import type { Clock } from '../base/clock.js';
import type { ControlClient } from '../control/client.js';

export interface Output {
  write(text: string): void;
  readonly isTty: boolean;
  /** Columns of the terminal; 80 where there is none. */
  readonly columns: number;
}

export interface World {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly cwd: string;
  readonly clock: Clock;
  readonly out: Output;
  readonly err: Output;
  /** Fires at the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** The mountpoint of the hearthfs mount that `path` (absolute) lies in, by the mount table alone. */
  findMount(path: string): string | undefined;
  connect(mountpoint: string): ControlClient;
  /** Detaches a mount without asking its daemon. @throws UserError */
  detach(mountpoint: string): void;
  /** Changes what the kernel lets programs do. @throws UserError */
  remount(mountpoint: string, readOnly: boolean): Promise<void>;
  /** Size of the disk that holds `path`, or would once it is created. */
  diskBytes(path: string): number;
}
