/** Words of the command line into flags and positionals. Everything wrong here is exit code 2 and says what was probably meant. */
import { parseArgs as splitWords } from 'node:util';
import { UserError } from '../base/user-error.js';
import { nearest } from './parse.js';

export interface FlagSpec {
  readonly name: string;
  readonly kind: 'boolean' | 'text';
  /** What a value looks like, for help. */
  readonly unit?: string;
  readonly help: string;
}

export interface ParsedArgs {
  readonly positionals: readonly string[];
  /** Values as written; booleans as `true`, or `false` for `--no-x` and `--x=false`. */
  readonly flags: ReadonlyMap<string, string | boolean>;
}

/**
 * `--x VALUE`, `--x=VALUE`, `--x`, `--no-x`, `--x=false`, `-h`; after `--` only positionals.
 * @param command for messages. Every command also knows `--help`.
 */
export function parseArgs(command: string, argv: readonly string[], specs: readonly FlagSpec[], positionalsMax: number): ParsedArgs {
  const all: readonly FlagSpec[] = [...specs, { name: 'help', kind: 'boolean', help: '' }];
  const { tokens } = splitWords({
    args: [...argv], strict: false, tokens: true, allowPositionals: true,
    options: Object.fromEntries(all.map(({ name, kind }) => [name, { type: kind === 'text' ? 'string' as const : 'boolean' as const, ...(name === 'help' && { short: 'h' }) }])),
  });
  const flags = new Map<string, string | boolean>();
  const times = new Map<string, number>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const spec = specOf(token.name, all);
    if (!spec) throw unknownFlag(command, token.name, all);
    flags.set(spec.name, spec.kind === 'text' ? textOf(token, spec) : switchOf(token, spec));
    times.set(spec.name, (times.get(spec.name) ?? 0) + 1);
  }
  for (const [name, count] of times) if (count > 1) throw new UserError(`--${name} is given ${count} times; give it once`, 2);
  if (positionals.length > positionalsMax) {
    throw new UserError(`\`hearthfs ${command}\` does not expect ${JSON.stringify(positionals[positionalsMax])}; see \`hearthfs help ${command}\``, 2);
  }
  return { positionals, flags };
}

interface OptionToken { readonly name: string; readonly value?: string | undefined; readonly inlineValue?: boolean | undefined }

function specOf(name: string, all: readonly FlagSpec[]): FlagSpec | undefined {
  return all.find((spec) => spec.name === name) ?? all.find((spec) => name === `no-${spec.name}`);
}

function textOf(token: OptionToken, spec: FlagSpec): string {
  if (token.name !== spec.name) throw new UserError(`--${spec.name} cannot be switched off; leave it out instead`, 2);
  const isNextFlag = token.inlineValue === false && /^-./.test(token.value ?? '');
  if (token.value === undefined || token.value === '' || isNextFlag) throw new UserError(`--${spec.name} needs a value: --${spec.name} ${spec.unit ?? 'VALUE'}`, 2);
  return token.value;
}

function switchOf({ name, value }: OptionToken, spec: FlagSpec): boolean {
  if (value !== undefined && value !== 'true' && value !== 'false') throw new UserError(`--${name} takes no value but true or false`, 2);
  return (value !== 'false') === (name === spec.name);
}

function unknownFlag(command: string, name: string, known: readonly FlagSpec[]): UserError {
  const dashes = name.length === 1 ? '-' : '--';
  const guess = nearest(name, known.map((spec) => spec.name));
  return new UserError(`\`hearthfs ${command}\` has no option ${dashes}${name}${guess ? `; did you mean --${guess}?` : `; see \`hearthfs help ${command}\``}`, 2);
}
