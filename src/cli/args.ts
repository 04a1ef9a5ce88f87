/** Words of the command line into flags and positionals. Everything wrong here is exit code 2 and says what was probably meant. */
import { UserError } from '../base/user-error.js';
import { nearest, parseBoolean } from './parse.js';

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
 * `--name VALUE`, `--name=VALUE`; `--switch`, `--no-switch`, `--switch=false`, `--switch false`; `-h`; after `--` all is positional. A value begins with a
 * dash only if it is a number. Of a switch that is given more than once the last counts.
 *
 * @param command for messages. Every command also knows `--help`.
 */
export function parseArgs(command: string, argv: readonly string[], specs: readonly FlagSpec[], positionalsMax: number): ParsedArgs {
  const all = new Map([...specs, { name: 'help', kind: 'boolean', help: '' } as const].map((spec) => [spec.name, spec]));
  const positionals: string[] = [];
  const texts = new Map<string, string[]>();
  const switches = new Map<string, boolean>();
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === '--') {
      positionals.push(...argv.slice(i + 1));
      break;
    }
    if (word === '-' || !word.startsWith('-')) {
      positionals.push(word);
      continue;
    }
    const [name, value] = splitFlag(word);
    const spec = all.get(name);
    const negated = spec === undefined && value === undefined && name.startsWith('no-') ? all.get(name.slice('no-'.length)) : undefined;
    if (negated?.kind === 'text') throw new UserError(`--${negated.name} cannot be switched off; leave it out instead`, 2);
    if (negated) switches.set(negated.name, false);
    else if (!spec) throw unknownFlag(command, name, all);
    else if (spec.kind === 'boolean') {
      const next = argv[i + 1];
      const isNext = value === undefined && (next === 'true' || next === 'false');
      switches.set(name, isNext ? next === 'true' : value === undefined || parseBoolean(value, `--${name}`));
      if (isNext) i++;
    } else {
      const given = value ?? argv[i + 1];
      if (value === undefined) i++;
      if (given === undefined || given === '' || (value === undefined && /^-(?![0-9])/.test(given))) throw new UserError(`--${name} needs a value: --${name} ${spec.unit ?? 'VALUE'}`, 2);
      texts.set(name, [...(texts.get(name) ?? []), given]);
    }
  }
  for (const [name, values] of texts) if (values.length > 1) throw new UserError(`--${name} is given ${values.length} times; give it once`, 2);
  if (positionals.length > positionalsMax) {
    throw new UserError(`\`hearthfs ${command}\` does not expect ${JSON.stringify(positionals[positionalsMax])}; see \`hearthfs help ${command}\``, 2);
  }
  return { positionals, flags: new Map<string, string | boolean>([...switches, ...[...texts].map(([name, values]) => [name, values[0]!] as const)]) };
}

/** Without its dashes, and at the first `=`. */
function splitFlag(word: string): [name: string, value: string | undefined] {
  if (!word.startsWith('--')) {
    const letters = word.slice(1);
    return letters === 'h' ? ['help', undefined] : [[...letters].find((letter) => letter !== 'h') ?? 'h', undefined];
  }
  const at = word.indexOf('=');
  return at < 0 ? [word.slice(2), undefined] : [word.slice(2, at), word.slice(at + 1)];
}

function unknownFlag(command: string, name: string, known: ReadonlyMap<string, FlagSpec>): UserError {
  const dashes = name.length === 1 ? '-' : '--';
  const guess = nearest(name, [...known.keys()]);
  return new UserError(`\`hearthfs ${command}\` has no option ${dashes}${name}${guess ? `; did you mean --${guess}?` : `; see \`hearthfs help ${command}\``}`, 2);
}
