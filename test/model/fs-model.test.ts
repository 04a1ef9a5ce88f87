import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FsHarness } from '../support/fs-harness.js';
import { expectAllIsWell, fsCommands } from './fs-commands.js';
import { Model } from './model.js';

/** A new seed each time; a failure prints what reproduces it: `HEARTHFS_MODEL_SEED=… HEARTHFS_MODEL_PATH=…`. */
const seed = Number(process.env['HEARTHFS_MODEL_SEED'] ?? Math.floor(Math.random() * 0x7fffffff));
const path = process.env['HEARTHFS_MODEL_PATH'];
const runs = Number(process.env['HEARTHFS_MODEL_RUNS'] ?? 40);
const commandsMax = Number(process.env['HEARTHFS_MODEL_COMMANDS'] ?? 100);

/** So small that files of a few hundred kilobytes go in parts, are copied by parts, and are too large to be fetched for a swap. */
const writeback = { singlePutBytesMax: 128 * 1024, partBytes: 64 * 1024, copyBytesMax: 300_000, copyPartBytes: 100_000, metadataPutBytesMax: 64 * 1024, holdBytesMax: 150_000 };

test(`any sequence of operations, crashes, outages and strangers leaves what a plain tree would (seed ${seed})`, async () => {
  await fc.assert(
    fc.asyncProperty(fc.commands(fsCommands, { maxCommands: commandsMax, size: 'max', ...(process.env['HEARTHFS_MODEL_REPLAY'] !== undefined && { replayPath: process.env['HEARTHFS_MODEL_REPLAY'] }) }), async (commands) => {
      const real = await FsHarness.open({ writeback });
      const model = new Model();
      try {
        await fc.asyncModelRun(() => ({ model, real }), commands);
        await expectAllIsWell(model, real);
      } finally {
        await real.close();
      }
    }),
    { numRuns: runs, seed, ...(path !== undefined && { path }), interruptAfterTimeLimit: Number(process.env['HEARTHFS_MODEL_MS'] ?? 120_000), endOnFailure: process.env['HEARTHFS_MODEL_SHRINK'] === '0' },
  );
  expect(runs).toBeGreaterThan(0);
}, 600_000);
