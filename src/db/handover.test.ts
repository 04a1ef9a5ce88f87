import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { announceLeaving, awaitHandover } from './handover.js';
import { claimDirectory, lockDirectory } from './state-dir.js';

let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync(join(tmpdir(), 'hearthfs-handover-'));
  claimDirectory(dir);
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

test('who waits tells the daemon that leaves, gets the lock once it is free, and no hint is left', async () => {
  const unlock = lockDirectory(dir);
  const leaving = announceLeaving(dir);
  let isOver = false;
  const waiting = awaitHandover(dir).then(() => (isOver = true));
  await new Promise((resolve) => leaving.wanted.addEventListener('abort', resolve));
  expect(isOver).toBe(false);
  leaving.close();
  unlock();
  await waiting;
  lockDirectory(dir)();
  expect(fs.readdirSync(dir).sort()).toEqual(['hearthfs-cache', 'lock']);
});

test('a daemon that has its mount is not waited for', async () => {
  const unlock = lockDirectory(dir);
  await awaitHandover(dir);
  expect(() => lockDirectory(dir)).toThrow(/in use by another/);
  unlock();
});

test('a hint of a daemon that died is no reason to wait', async () => {
  const unlock = lockDirectory(dir);
  announceLeaving(dir).close();
  unlock();
  await awaitHandover(dir);
  lockDirectory(dir)();
});

test('one that does not go in time is refused in the end', async () => {
  const unlock = lockDirectory(dir);
  const leaving = announceLeaving(dir);
  await awaitHandover(dir, 100);
  expect(() => lockDirectory(dir)).toThrow(/in use by another/);
  leaving.close();
  unlock();
});
