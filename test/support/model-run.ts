/**
 * How a model test runs: how many sequences, from which seed. A new seed each time; a failure prints what reproduces it.
 *
 * HEARTHFS_MODEL_SEED, HEARTHFS_MODEL_PATH: what a failure printed. HEARTHFS_MODEL_RUNS: sequences. HEARTHFS_MODEL_COMMANDS: longest sequence.
 * HEARTHFS_MODEL_MS: no new sequence after that time. HEARTHFS_MODEL_SHRINK=0: the first failure as it came. HEARTHFS_MODEL_REPLAY: `replayPath` of commands.
 */
import fc from 'fast-check';

const { HEARTHFS_MODEL_SEED: seedText, HEARTHFS_MODEL_PATH: path, HEARTHFS_MODEL_REPLAY: replayPath } = process.env;

export const modelSeed = Number(seedText ?? Math.floor(Math.random() * 0x7fffffff));
const limitMs = (usual: number): number => Number(process.env['HEARTHFS_MODEL_MS'] ?? usual);

const shrinkMs = 300_000;

/** Of the test: a sequence that began within the time may end, and a failure may shrink. */
export function modelTimeoutMs(usualMs: number): number {
  return limitMs(usualMs) + shrinkMs + 180_000;
}

/** For `fc.commands`. */
export function commandOptions(usualMax: number): fc.CommandsContraints {
  return { maxCommands: Number(process.env['HEARTHFS_MODEL_COMMANDS'] ?? usualMax), size: 'max', ...(replayPath !== undefined && { replayPath }) };
}

/** Runs the property and says how many sequences there were; throws with the shrunk one that failed. */
export async function checkModel<T>(name: string, property: fc.IAsyncProperty<T>, usual: { readonly runs: number; readonly ms: number }): Promise<void> {
  const details = await fc.check(within(limitMs(usual.ms), property), {
    numRuns: Number(process.env['HEARTHFS_MODEL_RUNS'] ?? usual.runs), seed: modelSeed, ...(path !== undefined && { path }), endOnFailure: process.env['HEARTHFS_MODEL_SHRINK'] === '0',
  });
  process.stderr.write(`${name}: ${details.numRuns} sequences, HEARTHFS_MODEL_SEED=${modelSeed}${details.failed ? ', failed' : ''}\n`);
  if (details.failed) throw new Error(await fc.asyncDefaultReportMessage(details), { cause: details.errorInstance });
}

/** No sequence begins after that time, and a failure has its own time to shrink. (`interruptAfterTimeLimit` would leave one behind that still runs.) */
function within<T>(ms: number, property: fc.IAsyncProperty<T>): fc.IAsyncProperty<T> {
  let deadline = performance.now() + ms;
  let hasFailed = false;
  const run: typeof property.run = async (value) => {
    if (performance.now() >= deadline) return new fc.PreconditionFailure(true);
    const outcome = await property.run(value);
    if (outcome !== null && !fc.PreconditionFailure.isFailure(outcome) && !hasFailed) {
      hasFailed = true;
      deadline = performance.now() + shrinkMs;
    }
    return outcome;
  };
  return new Proxy(property, {
    get: (target, key) => {
      const member: unknown = key === 'run' ? run : Reflect.get(target, key);
      return typeof member === 'function' ? (member as () => void).bind(target) : member;
    },
  });
}
