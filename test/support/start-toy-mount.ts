/** Starts a toy mount in the background from a process of its own (for another user): argv is the MountConfig as JSON; prints the supervisor's pid. */
import { compiledEntry } from '../../src/base/entry-url.js';
import type { MountConfig } from '../../src/daemon/config.js';
import { startSupervisor } from '../../src/daemon/supervisor.js';

try {
  const { supervisorPid } = await startSupervisor(JSON.parse(process.argv[2]!) as MountConfig, { foreground: false, daemonEntry: compiledEntry(import.meta.url, './toy-daemon.js').pathname });
  process.stdout.write(`${supervisorPid}\n`);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
}
