/** What every command consists of, and the flags many share. */
import type { FlagSpec, ParsedArgs } from './args.js';
import type { World } from './world.js';

export interface CommandSpec {
  readonly name: string;
  /** Positionals, as in `s3://BUCKET[/PREFIX] MOUNTPOINT`. */
  readonly usage: string;
  /** One line for the overview. */
  readonly summary: string;
  /** More, for `hearthfs help NAME`. */
  readonly description?: string;
  readonly flags: readonly FlagSpec[];
  readonly positionalsMax: number;
  /** @returns the exit code: 0, or 1 where the command says itself what failed. */
  run(args: ParsedArgs, world: World): Promise<number>;
}

export const jsonFlag: FlagSpec = { name: 'json', kind: 'boolean', help: 'print JSON, for programs' };

export function printJson(value: unknown, world: World): void {
  world.out.write(`${JSON.stringify(value, null, 2)}\n`);
}
