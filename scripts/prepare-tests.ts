/**
 * Programs that the tests use as ordinary users would. Installs what is missing where that is possible (root, apt-get), else names it; tests
 * that need a missing program then fail or say that they were skipped. `--strict`: missing is an error.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';

const needed: readonly { readonly file: string; readonly package: string }[] = [
  { file: 'fusermount3', package: 'fuse3' }, { file: 'rsync', package: 'rsync' }, { file: 'getfattr', package: 'attr' }, { file: 'getfacl', package: 'acl' }, { file: 'strace', package: 'strace' },
  { file: 'sqlite3', package: 'sqlite3' }, { file: 'git', package: 'git' }, { file: 'make', package: 'make' }, { file: 'gcc', package: 'gcc' }, { file: '/usr/include/stdio.h', package: 'libc6-dev' },
  { file: 'tar', package: 'tar' }, { file: 'findmnt', package: 'util-linux' }, { file: 'diff', package: 'diffutils' },
  { file: 's3fs', package: 's3fs' }, { file: 'rclone', package: 'rclone' }, { file: 'fio', package: 'fio' }, { file: 'stress-ng', package: 'stress-ng' }, { file: 'python3', package: 'python3' },
];

function isThere(file: string): boolean {
  if (file.startsWith('/')) return existsSync(file);
  const dirs = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  return dirs.some((dir) => existsSync(path.join(dir, file)));
}

const missing = (): string[] => needed.filter((one) => !isThere(one.file)).map((one) => one.package);

function install(packages: readonly string[]): void {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const run = (args: readonly string[]): boolean => spawnSync('apt-get', args, { env, stdio: ['ignore', 'ignore', 'inherit'] }).status === 0;
  process.stdout.write(`Installing ${packages.join(', ')} for the tests\n`);
  const args = ['install', '-y', '--no-install-recommends', ...packages];
  if (!run(args)) run(['update']) && run(args); // a fresh container has no package lists yet
}

let lacking = missing();
if (lacking.length > 0 && process.getuid?.() === 0 && isThere('apt-get')) {
  install(lacking);
  lacking = missing();
}
if (lacking.length > 0) process.stderr.write(`Some tests need packages that are not installed: ${lacking.join(' ')}; install them as root with \`apt-get install ${lacking.join(' ')}\`\n`);

let device = true;
try {
  accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
} catch {
  device = false;
  process.stderr.write('/dev/fuse cannot be opened, so tests with real mounts cannot run; in a container, start it with `--device /dev/fuse --cap-add SYS_ADMIN`\n');
}
process.exitCode = process.argv.includes('--strict') && (lacking.length > 0 || !device) ? 1 : 0;
