/** Words of the command line into flags and positionals. Everything wrong here is exit code 2 and says what was probably meant. */
import { Parser } from 'yargs/helpers';
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

/** @param command for messages. Every command also knows `--help`. */
export function parseArgs(command: string, argv: readonly string[], specs: readonly FlagSpec[], positionalsMax: number): ParsedArgs {
  const all: readonly FlagSpec[] = [...specs, { name: 'help', kind: 'boolean', help: '' }];
  const boolean = all.filter((spec) => spec.kind === 'boolean').map((spec) => spec.name);
  const string = all.filter((spec) => spec.kind === 'text').map((spec) => spec.name);
  // Of yargs its parser only: the rest of it, which takes longest to load, would be help and commands, and those are ours
  const { argv: parsed, error } = Parser.detailed(withSwitches(argv, boolean), {
    boolean, string, alias: { help: ['h'] },
    configuration: {
      'camel-case-expansion': false, 'dot-notation': false, 'parse-numbers': false, 'parse-positional-numbers': false, 'strip-aliased': true,
      'short-option-groups': true, 'populate--': false, 'boolean-negation': true, 'duplicate-arguments-array': true, 'greedy-arrays': false,
    },
  });
  if (error) throw new UserError(error.message || 'The command line cannot be read', 2);
  const flags = new Map<string, string | boolean>();
  for (const [name, value] of Object.entries(parsed)) {
    if (name === '_' || name === '$0') continue;
    const spec = all.find((candidate) => candidate.name === name);
    if (!spec) throw unknownFlag(command, name, all);
    if (value === undefined) continue;
    if (Array.isArray(value)) throw new UserError(`--${name} is given ${value.length} times; give it once`, 2);
    if (value === '' && spec.kind === 'text') throw new UserError(`--${name} needs a value: --${name} ${spec.unit ?? 'VALUE'}`, 2);
    if (typeof value === 'boolean' && spec.kind === 'text') throw new UserError(`--${name} cannot be switched off; leave it out instead`, 2);
    flags.set(name, value as string | boolean);
  }
  const positionals = parsed._.map(String);
  if (positionals.length > positionalsMax) {
    throw new UserError(`\`hearthfs ${command}\` does not expect ${JSON.stringify(positionals[positionalsMax])}; see \`hearthfs help ${command}\``, 2);
  }
  return { positionals, flags };
}

/** `--switch=yes` as `--switch`: for yargs whatever is not `true` is false. */
function withSwitches(argv: readonly string[], switches: readonly string[]): string[] {
  const end = argv.includes('--') ? argv.indexOf('--') : argv.length;
  return argv.map((word, i) => {
    const [, name, value] = /^--([^=]+)=(.*)$/s.exec(word) ?? [];
    if (i >= end || name === undefined || !switches.includes(name)) return word;
    return parseBoolean(value!, `--${name}`) ? `--${name}` : `--no-${name}`;
  });
}

function unknownFlag(command: string, name: string, known: readonly FlagSpec[]): UserError {
  const dashes = name.length === 1 ? '-' : '--';
  const guess = nearest(name, known.map((spec) => spec.name));
  return new UserError(`\`hearthfs ${command}\` has no option ${dashes}${name}${guess ? `; did you mean --${guess}?` : `; see \`hearthfs help ${command}\``}`, 2);
}
