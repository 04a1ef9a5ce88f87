/** Random system calls on real mounts and in a plain directory of the local disk: the same answers, the same tree, and the same in S3. */
import fc from 'fast-check';
import { afterAll, describe, it } from 'vitest';
import { mountCommands } from '../model/mount-commands.js';
import { mountKinds, MountRig } from '../model/mount-rig.js';
import { lacks } from '../support/child.js';
import { checkModel, commandOptions, modelSeed, modelTimeoutMs } from '../support/model-run.js';
import { cannotMount, useWorld } from '../support/world.js';

describe.skipIf(cannotMount || lacks('python3'))('a mount and a plain directory', () => {
  const world = useWorld();
  const rig = new MountRig(world);
  afterAll(() => rig.close(), 60_000);

  it(`stay equal through any sequence of system calls, deaths of the daemon, evictions, new mounts and strangers (HEARTHFS_MODEL_SEED=${modelSeed})`, async () => {
    await checkModel('mount model', fc.asyncProperty(fc.constantFrom(...mountKinds), fc.commands(mountCommands, commandOptions(60)), (kind, commands) => rig.run(kind, async (pair) => {
      await fc.asyncModelRun(() => ({ model: pair, real: pair }), commands);
    })), { runs: 12, ms: 25_000 });
  }, modelTimeoutMs(25_000));
});
