import { describe, expect, it } from 'vitest';
import { UserError } from '../base/user-error.js';
import { parseArgs, type FlagSpec } from './args.js';

const specs: readonly FlagSpec[] = [
  { name: 'ttl', kind: 'text', unit: 'DURATION', help: '' }, { name: 'cache-dir', kind: 'text', help: '' }, { name: 'read-only', kind: 'boolean', help: '' },
];

function parsed(...argv: string[]): { positionals: readonly string[]; flags: Record<string, string | boolean> } {
  const { positionals, flags } = parseArgs('mount', argv, specs, 2);
  return { positionals, flags: Object.fromEntries(flags) };
}

function refused(...argv: string[]): string {
  try {
    parseArgs('mount', argv, specs, 2);
  } catch (error) {
    if (error instanceof UserError && error.exitCode === 2) return error.message;
    throw error;
  }
  throw new Error(`${argv.join(' ')} was not refused`);
}

describe('a command line', () => {
  it('has values after a space or an equals sign, as they are written', () => {
    for (const argv of [['--ttl', '007'], ['--ttl=007']]) expect(parsed(...argv).flags).toEqual({ ttl: '007' });
    expect(parsed('--cache-dir', 'a b', '--ttl', '-5').flags).toEqual({ 'cache-dir': 'a b', ttl: '-5' });
    expect(parsed('--ttl=a=b').flags).toEqual({ ttl: 'a=b' });
    expect(parsed('--ttl=--x').flags).toEqual({ ttl: '--x' });
  });

  it('has switches that can be switched off, of which the last one counts', () => {
    for (const argv of [['--read-only'], ['--read-only=true'], ['--read-only', 'true'], ['--read-only=yes'], ['--no-read-only', '--read-only']]) expect(parsed(...argv)).toEqual({ positionals: [], flags: { 'read-only': true } });
    for (const argv of [['--no-read-only'], ['--read-only=false'], ['--read-only', 'false'], ['--read-only', '--no-read-only']]) expect(parsed(...argv)).toEqual({ positionals: [], flags: { 'read-only': false } });
    expect(refused('--read-only=perhaps')).toContain('--read-only');
  });

  it('has positionals anywhere, a dash among them, and all that follows two dashes', () => {
    expect(parsed('a', '--read-only', 'b')).toEqual({ positionals: ['a', 'b'], flags: { 'read-only': true } });
    expect(parsed('-', '--', '--ttl')).toEqual({ positionals: ['-', '--ttl'], flags: {} });
    expect(refused('a', 'b', 'c')).toBe('`hearthfs mount` does not expect "c"; see `hearthfs help mount`');
  });

  it('asks for help with -h and --help', () => {
    for (const word of ['-h', '--help']) expect(parsed(word).flags).toEqual({ help: true });
  });

  it('refuses a value that is not there, also where the next flag stands or nothing at all', () => {
    for (const argv of [['--ttl'], ['--ttl='], ['--ttl', ''], ['--ttl', '--read-only'], ['--ttl', '-h'], ['--ttl', '--', 'x']]) expect(refused(...argv)).toBe('--ttl needs a value: --ttl DURATION');
    expect(refused('--cache-dir')).toBe('--cache-dir needs a value: --cache-dir VALUE');
  });

  it('refuses a value given twice, and one that is switched off', () => {
    expect(refused('--ttl', 'a', '--ttl', 'b')).toBe('--ttl is given 2 times; give it once');
    expect(refused('--no-ttl')).toBe('--ttl cannot be switched off; leave it out instead');
  });

  it('refuses what it does not know, with a guess', () => {
    expect(refused('--readonly')).toBe('`hearthfs mount` has no option --readonly; did you mean --read-only?');
    expect(refused('--cacheDir', 'x')).toContain('did you mean --cache-dir?');
    expect(refused('-hx')).toBe('`hearthfs mount` has no option -x; see `hearthfs help mount`');
    expect(refused('-tt')).toContain('has no option -t');
    for (const word of ['--no-bogus', '--bogus=3', '--no-read-only=true', '--constructor', '--__proto__', '---ttl', '-x=3']) expect(refused(word)).toMatch(/^`hearthfs mount` has no option -/);
  });
});
