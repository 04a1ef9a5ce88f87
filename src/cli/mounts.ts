/** From the path a person gives to the mount it lies in. The mount table is asked first, since touching a dead mount fails or hangs (K17). */
import { realpathSync } from 'node:fs';
import path from 'node:path';
import { UserError } from '../base/user-error.js';
import type { ControlClient } from '../control/client.js';
import type { ParsedArgs } from './args.js';
import type { World } from './world.js';

export interface Place {
  readonly mountpoint: string;
  /** The path inside the mount, `''` for the mountpoint itself. */
  readonly inside: string;
  readonly client: ControlClient;
}

/** @throws UserError if the path lies in no hearthfs mount. */
export function locate(text: string, world: World): Place {
  const place = find(text, world);
  if (!place) throw new UserError(`${text} is not in a hearthfs mount; \`findmnt -t fuse.hearthfs\` lists the mounts of this machine`);
  return place;
}

export function find(text: string, world: World): Place | undefined {
  const absolute = path.resolve(world.cwd, text);
  const direct = world.findMount(absolute);
  if (direct !== undefined) return placeIn(direct, absolute, world);
  // The mount table holds real paths; follow symbolic links of the part that exists.
  const real = realPath(absolute);
  const mountpoint = real === absolute ? undefined : world.findMount(real);
  return mountpoint === undefined ? undefined : placeIn(mountpoint, real, world);
}

/** The one positional of most commands; the working directory if it is left out. */
export function locateArgument(args: ParsedArgs, world: World): Place {
  return locate(args.positionals[0] ?? '.', world);
}

/** Real path of the longest part that exists, with the rest appended. */
export function realPath(absolute: string): string {
  try {
    return realpathSync(absolute);
  } catch {
    const parent = path.dirname(absolute);
    return parent === absolute ? absolute : path.join(realPath(parent), path.basename(absolute));
  }
}

function placeIn(mountpoint: string, absolute: string, world: World): Place {
  return { mountpoint, inside: path.relative(mountpoint, absolute), client: world.connect(mountpoint) };
}
