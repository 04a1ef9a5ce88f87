/**
 * Test and demo equipment, not product: the server as a process of its own.
 *
 *   node dist/test/s3-server/main.js [--port N] [--host H] [--dir D] [--bucket B]... [--access-key K] [--secret-key S] [--region R]
 *                                    [--latency-ms N] [--control-port N] [--ceph]
 *
 * Without --dir everything is in memory. Prints `listening http://127.0.0.1:PORT` (and before it `control http://...` if asked for) on
 * standard output. SIGTERM and SIGINT stop it; with --dir it may as well be killed. `/_control/` is served on the S3 port too
 * (see control.ts); a control port answers also while the S3 port is down.
 */
import { parseArgs } from 'node:util';
import { cephCapabilities } from './capabilities.js';
import { startControl } from './control.js';
import { startS3Server } from './server.js';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' }, host: { type: 'string', default: '127.0.0.1' }, dir: { type: 'string' }, bucket: { type: 'string', multiple: true },
    'access-key': { type: 'string' }, 'secret-key': { type: 'string' }, region: { type: 'string' }, 'latency-ms': { type: 'string' },
    'control-port': { type: 'string' }, ceph: { type: 'boolean' },
  },
});

const server = await startS3Server({
  port: Number(values.port), host: values.host, storage: values.dir ?? 'memory', control: true, buckets: values.bucket ?? [],
  log: (line) => line.startsWith('listening') || process.stderr.write(`${line}\n`),
  ...(values['access-key'] !== undefined && { accessKeyId: values['access-key'] }),
  ...(values['secret-key'] !== undefined && { secretAccessKey: values['secret-key'] }),
  ...(values.region !== undefined && { region: values.region }),
  ...(values.ceph && { capabilities: cephCapabilities() }),
});
if (values['latency-ms'] !== undefined) server.faults.add({ fault: { type: 'latency', ms: Number(values['latency-ms']) } });
const control = values['control-port'] === undefined ? undefined : await startControl(server.core, Number(values['control-port']), values.host);

const stop = (): void => {
  void Promise.all([server.close(), control?.close()]).then(() => process.exit(0));
};
process.once('SIGTERM', stop);
process.once('SIGINT', stop);
if (control) process.stdout.write(`control http://${values.host}:${control.port}\n`);
process.stdout.write(`listening ${server.endpoint}\n`);
