/**
 * The mount tests at full scale, as the issue demands them (50 rounds of killed daemons, 6 GiB, two minutes of outage), one file after the other, with
 * a line per file. Arguments are parts of file names; `S3_ENDPOINT` etc. as for `npm test`.
 *
 *   npm run build && node dist/scripts/soak.js [crash] [outage] ...
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');
const wanted = process.argv.slice(2);
const files = readdirSync(path.join(root, 'test/mount')).filter((name) => name.startsWith('real-') && name.endsWith('.test.ts'))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
const results: string[] = [];
let failed = false;
for (const file of files) {
  const started = performance.now();
  const { status } = spawnSync(process.execPath, [path.join(root, 'node_modules/vitest/vitest.mjs'), 'run', `test/mount/${file}`], {
    cwd: root, stdio: 'inherit', env: { ...process.env, HEARTHFS_TEST_SCALE: process.env['HEARTHFS_TEST_SCALE'] ?? '1' },
  });
  failed ||= status !== 0;
  results.push(`${status === 0 ? 'ok  ' : 'FAIL'}  ${file}  ${Math.round((performance.now() - started) / 1000)} s`);
}
process.stdout.write(`\n${results.join('\n')}\n`);
process.exitCode = failed ? 1 : 0;
