/** Runs one command line in a given world. Exit codes: 0 done, 1 it failed, 2 it was called wrongly. */
import { UserError } from '../base/user-error.js';
import { version } from '../daemon/version.js';
import { parseArgs } from './args.js';
import { commandTable } from './command-table.js';
import { commandHelp, overview } from './help.js';
import { nearest } from './parse.js';
import type { World } from './world.js';

export async function run(argv: readonly string[], world: World): Promise<number> {
  try {
    return await dispatch(argv, world);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const isUserError = error instanceof UserError;
    world.err.write(`hearthfs: ${message}${isUserError ? '' : ' (this is a bug in hearthfs; HEARTHFS_DEBUG=1 shows where)'}\n`);
    if (world.env['HEARTHFS_DEBUG'] === '1') world.err.write(`${stackOf(error)}\n`);
    return isUserError ? error.exitCode : 1;
  }
}

async function dispatch(argv: readonly string[], world: World): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined) {
    world.err.write(overview());
    return 2;
  }
  if (name === 'help' || name === '--help' || name === '-h') {
    if (rest[0] === undefined || name !== 'help') world.out.write(overview());
    else world.out.write(commandHelp(commandNamed(rest[0])));
    return 0;
  }
  if (name === 'version' || name === '--version' || name === '-V') {
    world.out.write(`hearthfs ${version}\n`);
    return 0;
  }
  const command = commandNamed(name);
  const args = parseArgs(command.name, rest, command.flags, command.positionalsMax);
  if (args.flags.get('help')) {
    world.out.write(commandHelp(command));
    return 0;
  }
  return command.run(args, world);
}

function commandNamed(name: string): (typeof commandTable)[number] {
  const found = commandTable.find((command) => command.name === name);
  if (found) return found;
  const guess = nearest(name, [...commandTable.map((command) => command.name), 'version', 'help']);
  throw new UserError(`There is no command ${JSON.stringify(name)}${guess ? `; did you mean \`hearthfs ${guess}\`?` : '; `hearthfs help` lists them'}`, 2);
}

function stackOf(error: unknown): string {
  let text = '';
  for (let at: unknown = error; at instanceof Error; at = at.cause) text += `${text ? '\ncaused by ' : ''}${at.stack ?? at.message}`;
  return text || String(error);
}
