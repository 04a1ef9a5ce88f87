/**
 * The daemon's process, started by the supervisor with the device as descriptor 3. Somebody waits for it to serve, so the threads that talk to S3 come
 * first: they load what they need while this one loads the daemon.
 */
import { appendFileSync } from 'node:fs';
import { Lifetime } from '../base/lifetime.js';
import { createLog, toStandardError, type Log } from '../base/log.js';
import { Metrics } from '../base/metrics.js';
import { UserError } from '../base/user-error.js';
import { openTransferPool, type TransferPool } from '../transfer/transfer-pool.js';
import type { MountConfig } from './config.js';
import { startedWith, SupervisorLink } from './supervisor-link.js';

/** 64 downloads, 256 HEADs, 32 listings, 64 uploads and the parts of big ones may run at once: none waits for a socket that another kind has. */
const connectionsMax = 520;

async function main(): Promise<void> {
  const started = startedWith();
  const { config, generation } = started;
  const log = daemonLog(config);
  const metrics = new Metrics();
  const life = new Lifetime('daemon', log);
  const opening = openPool(config, generation, log, metrics);
  const link = SupervisorLink.connect(started);
  let isOpening = true;
  const opened = (): void => { isOpening = false; };
  opening.then(opened, opened); // a failure is said by who waits for it, and nothing of the cache directory that is wrong comes after it
  life.defer(() => (isOpening ? undefined : opening.then((pool) => pool.close(), () => undefined)));
  try {
    const { serve } = await import('./daemon.js');
    await serve(link, life, log, metrics, opening);
  } catch (error) {
    const known = error instanceof UserError;
    if (!known) log.error('cannot start', { room: 'daemon', error });
    await link.failed(known ? error.message : `Cannot start: ${error instanceof Error ? error.message : String(error)}`, known ? error.exitCode : 1);
    await life.close().catch(() => undefined);
    // A worker that reads its settings from a file system that does not answer never ends, and process.exit() would wait for it
    if (isOpening) process.kill(process.pid, 'SIGKILL');
    process.exit(known ? error.exitCode : 1);
  }
}

function openPool(config: MountConfig, generation: number, log: Log, metrics: Metrics): Promise<TransferPool> {
  return openTransferPool({
    bucket: config.bucket, prefix: config.prefix, pathStyle: config.pathStyle, connectionsMax, requestTimeoutMs: 30_000, deadlineMs: config.deadlineMs,
    ...(config.endpoint !== undefined && { endpoint: config.endpoint }), ...(config.region !== undefined && { region: config.region }), ...(config.profile !== undefined && { profile: config.profile }),
    log, metrics, startInBackground: generation > 0,
  }, config.transferWorkers);
}

function daemonLog(config: MountConfig): Log {
  const file = config.logFile;
  if (file === undefined) return createLog(config.logLevel, toStandardError);
  return createLog(config.logLevel, (line) => appendFileSync(file, line));
}

await main();
