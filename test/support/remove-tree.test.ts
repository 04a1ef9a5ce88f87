import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { kill9, run } from './child.js';
import { spawn } from 'node:child_process';
import { mountsBelow } from './mount.js';
import { removeTree } from './remove-tree.js';

const isRoot = process.getuid?.() === 0;
if (!isRoot) process.stderr.write('SKIPPED: removing below mounts needs root\n');

describe.skipIf(!isRoot)('removeTree()', () => {
  let outside: string;
  let tree: string;
  let mnt: string;

  beforeEach(async () => {
    outside = mkdtempSync(path.join(tmpdir(), 'remove-outside-'));
    tree = mkdtempSync(path.join(tmpdir(), 'remove-tree-'));
    mnt = path.join(tree, 'm1', 'mnt');
    mkdirSync(mnt, { recursive: true });
    writeFileSync(path.join(outside, 'precious'), 'x');
    await run('mount', ['--bind', outside, mnt]);
  });

  afterEach(async () => {
    for (const mountpoint of mountsBelow(tree)) await run('umount', ['-l', mountpoint], { check: false });
    if (mountsBelow(tree).length === 0) for (const directory of [tree, outside]) rmSync(directory, { recursive: true, force: true });
  });

  it('unmounts first, so that what is behind the mount stays', async () => {
    await removeTree(tree);
    expect(existsSync(tree)).toBe(false);
    expect(readFileSync(path.join(outside, 'precious'), 'utf8')).toBe('x');
  });

  it('detaches a mount that somebody works in', async () => {
    const child = spawn('sleep', ['60'], { cwd: mnt });
    try {
      await removeTree(tree);
      expect(existsSync(tree)).toBe(false);
      expect(readdirSync(outside)).toEqual(['precious']);
    } finally {
      kill9(child.pid!);
    }
  });

  it('takes away several mounts over each other', async () => {
    await run('mount', ['--bind', outside, mnt]);
    await removeTree(tree);
    expect(existsSync(tree)).toBe(false);
    expect(readdirSync(outside)).toEqual(['precious']);
  });

  it('is content if the directory is gone already', async () => {
    await removeTree(path.join(tree, 'none'));
    expect(mountsBelow(tree)).toEqual([mnt]);
  });
});
