import fc from 'fast-check';
import { test } from 'vitest';
import { FsHarness } from '../support/fs-harness.js';
import { checkModel, commandOptions, modelSeed, modelTimeoutMs } from '../support/model-run.js';
import { expectAllIsWell, fsCommands } from './fs-commands.js';
import { Model } from './model.js';

/** So small that files of a few hundred kilobytes go in parts, are copied by parts, and are too large to be fetched for a swap. */
const writeback = { atOnceBytesMax: 32 * 1024, singlePutBytesMax: 128 * 1024, partBytes: 64 * 1024, copyBytesMax: 300_000, copyPartBytes: 100_000, metadataPutBytesMax: 64 * 1024, holdBytesMax: 150_000 };

test(`any sequence of operations, crashes, outages and strangers leaves what a plain tree would (HEARTHFS_MODEL_SEED=${modelSeed})`, async () => {
  await checkModel('file-system model', fc.asyncProperty(fc.commands(fsCommands, commandOptions(100)), async (commands) => {
    const real = await FsHarness.open({ writeback, cachedMax: 4, powerCuts: true });
    const model = new Model();
    model.history.note(model, real);
    try {
      await fc.asyncModelRun(() => ({ model, real }), commands);
      await expectAllIsWell(model, real);
    } finally {
      await real.close();
    }
  }), { runs: 40, ms: 120_000 });
}, modelTimeoutMs(120_000));
