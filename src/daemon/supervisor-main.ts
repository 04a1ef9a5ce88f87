/** The supervisor as a process of its own, started by `startSupervisor`: configuration from the environment, reports over IPC. */
import { assert } from '../base/assert.js';
import type { MountConfig } from './config.js';
import { certificatesVariable, daemonEntryVariable, runSupervisor, supervisorConfigVariable } from './supervisor.js';

const text = process.env[supervisorConfigVariable];
const daemonEntry = process.env[daemonEntryVariable];
const certificates = process.env[certificatesVariable];
assert(text !== undefined, 'the supervisor is started by hearthfs mount');
delete process.env[supervisorConfigVariable];
delete process.env[daemonEntryVariable];
delete process.env[certificatesVariable];
if (certificates !== undefined) process.env['NODE_EXTRA_CA_CERTS'] = certificates; // for the daemons

const code = await runSupervisor(JSON.parse(text) as MountConfig, (report) => {
  // whoever started us may have gone; one answer is all it waits for
  if (process.connected) process.send!(report, undefined, undefined, () => { if (process.connected) process.disconnect(); });
}, daemonEntry === undefined ? {} : { daemonEntry });
process.exitCode = code;
// whatever may still hang about (a helper that could not be killed) must not outlive the mount
setTimeout(() => process.exit(code), 1000).unref();
