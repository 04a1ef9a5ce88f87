import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { makeDirectories } from './make-directories.js';

test('makes what is missing, and what is there is no error', () => {
  const dir = mkdtempSync(join(tmpdir(), 'hearthfs-mkdir-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  makeDirectories(join(dir, 'a/b/c'), 0o700);
  expect(statSync(join(dir, 'a/b/c')).mode & 0o777).toBe(0o700);
  makeDirectories(join(dir, 'a/b'));
  makeDirectories('/');
  writeFileSync(join(dir, 'file'), '');
  expect(() => makeDirectories(join(dir, 'file'))).toThrow('EEXIST');
  expect(() => makeDirectories(join(dir, 'file/below'))).toThrow('ENOTDIR');
});

test('a place that takes no directories is an error at once', () => {
  expect(existsSync('/proc/self')).toBe(true);
  expect(() => makeDirectories('/proc/hearthfs/below')).toThrow('ENOENT');
});
