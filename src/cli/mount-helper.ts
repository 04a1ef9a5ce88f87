/**
 * `mount -t fuse.hearthfs SRC DIR -o OPTS` and fstab: mount(8) calls `/sbin/mount.fuse.hearthfs SRC DIR [-sfnv] [-o OPTS]` (mount(8),
 * EXTERNAL HELPERS). Translates that into a `hearthfs mount` command line. Exit codes are those of mount(8): 1 called wrongly, 32 mount failed.
 */
import { UserError } from '../base/user-error.js';
import { mountOptions } from './options.js';
import { nearest } from './parse.js';

/** Options that are mount(8)'s or systemd's own business, or describe what is always so. */
const ignored = new Set([
  'defaults', 'auto', 'noauto', 'nofail', '_netdev', 'user', 'users', 'nouser', 'owner', 'group', 'rw', 'exec', 'nosuid', 'nodev', 'async', 'norelatime', 'nostrictatime', 'nodiratime',
  'lazytime', 'nolazytime', 'diratime', 'silent', 'loud', 'default_permissions',
]);

/** How mount(8) names the values of --atime. */
const atimes: Readonly<Record<string, string>> = { atime: 'relatime', relatime: 'relatime', noatime: 'noatime', strictatime: 'strictatime' };

/** Options that would promise something hearthfs does not do. */
const refused: Readonly<Record<string, string>> = {
  // mount(8) does not pass these on, as they are what it takes for granted; who calls this program himself is told
  suid: 'use allow_suid', dev: 'use allow_dev',
  noexec: 'noexec is not supported', sync: 'use write_mode=through instead', dirsync: 'use write_mode=through instead', bind: 'a bucket cannot be bind-mounted',
};

/** @returns arguments for `hearthfs`, or null for `-f` (fake: nothing to do). @throws UserError */
export function mountHelperArgs(argv: readonly string[]): string[] | null {
  const positionals: string[] = [];
  let options: string[] = [];
  let fake = false;
  let sloppy = false;
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === '-o' || word === '-t' || word === '-N') {
      const value = argv[++i];
      if (value === undefined) throw new UserError(`${word} needs a value`, 2);
      if (word === '-o') options = options.concat(splitOptions(value));
    } else if (word.startsWith('-o')) options = options.concat(splitOptions(word.slice(2)));
    else if (/^-[sfnvwr]+$/.test(word)) {
      fake ||= word.includes('f');
      sloppy ||= word.includes('s');
      if (word.includes('r')) options.push('ro');
    } else positionals.push(word);
  }
  const [source, directory] = positionals;
  if (source === undefined || directory === undefined || positionals.length > 2) throw new UserError('usage: mount.fuse.hearthfs s3://BUCKET[/PREFIX] DIRECTORY [-o OPTION[=VALUE],...]', 2);
  if (options.includes('remount')) {
    // mount(8) adds what fstab says: all else is for a new mount, and without effect here as in the kernel
    for (const option of options) if (option !== 'remount') toFlag(option, sloppy);
    const access = options.findLast((option) => option === 'ro' || option === 'rw');
    return fake || access === undefined ? null : ['remount', directory, access === 'ro' ? '--read-only' : '--no-read-only'];
  }
  const flags = options.filter((option, i) => !(option === 'ro' && options.indexOf('rw', i) > i)).flatMap((option) => toFlag(option, sloppy)); // of ro and rw the last one counts
  const atime = flags.findLastIndex((flag) => flag.startsWith('--atime='));
  return fake ? null : ['mount', source, directory, ...flags.filter((flag, i) => i === atime || !flag.startsWith('--atime='))];
}

/** Commas separate; `\,` is a comma in a value. */
function splitOptions(text: string): string[] {
  return text.split(/(?<!\\),/).map((option) => option.replaceAll('\\,', ',')).filter((option) => option !== '');
}

function toFlag(option: string, sloppy: boolean): string[] {
  const at = option.indexOf('=');
  const name = at < 0 ? option : option.slice(0, at);
  const value = at < 0 ? undefined : option.slice(at + 1);
  if (ignored.has(name) || name.startsWith('x-') || name.startsWith('X-') || name === 'comment') return [];
  const reason = refused[name];
  if (reason !== undefined) throw new UserError(`The mount option ${name} cannot be used: ${reason}`, 2);
  if (name === 'ro') return ['--read-only'];
  const atime = value === undefined ? atimes[name] : undefined;
  if (atime !== undefined) return [`--atime=${atime}`];
  const flag = name.replaceAll('_', '-');
  const known = [...Object.values(mountOptions).map((spec) => ({ name: spec.name as string, kind: spec.kind })), { name: 'config', kind: 'text' }];
  const spec = known.find((candidate) => candidate.name === flag);
  if (!spec || flag === 'foreground') {
    if (sloppy) return [];
    const guess = nearest(flag, known.map((candidate) => candidate.name));
    throw new UserError(`The mount option ${name} is unknown${guess ? `; did you mean ${guess.replaceAll('-', '_')}?` : ''}`, 2);
  }
  if (spec.kind === 'text' && value === undefined) throw new UserError(`The mount option ${name} needs a value: ${name}=VALUE`, 2);
  return [value === undefined ? `--${flag}` : `--${flag}=${value}`];
}

/** Everything the helper program does. `main` is that of the command line. */
export async function mountHelper(argv: readonly string[], main: (argv: readonly string[]) => Promise<number>, write: (text: string) => void): Promise<number> {
  let args: string[] | null;
  try {
    args = mountHelperArgs(argv);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    write(`mount.fuse.hearthfs: ${error.message}\n`);
    return 1;
  }
  const code = args === null ? 0 : await main(args);
  return code === 0 ? 0 : code === 2 ? 1 : 32;
}
