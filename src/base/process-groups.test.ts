import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { groupsOfProcess } from './process-groups.js';

test.skipIf(process.getuid!() !== 0)('the supplementary groups of a process are read while it lives', async () => {
  const child = spawn('setpriv', ['--groups', '5,70000', 'sh', '-c', 'echo ready; cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  expect(groupsOfProcess(child.pid!)).toEqual([5, 70_000]);
  child.stdin.end();
  await once(child, 'close');
  expect(groupsOfProcess(child.pid!)).toEqual([]);
});

test('a process that the kernel would not name has none', () => {
  expect(groupsOfProcess(0)).toEqual([]);
});
