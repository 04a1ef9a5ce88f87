/** A daemon child as the supervisor starts it, serving a `ToyFileSystem`. `TOY_OPTIONS` is JSON of its options; state in `stateDir`. */
import fs from 'node:fs';
import { createLog, toStandardError } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import { SupervisorLink } from '../../src/daemon/supervisor-link.js';
import { Notifier } from '../../src/fuse/notifier.js';
import { FuseSession, type NegotiatedInit } from '../../src/fuse/session.js';
import { ToyFileSystem, type ToyOptions } from './toy-fs.js';

const link = SupervisorLink.connect();
const { failWith, pidFile, ...options } = JSON.parse(process.env['TOY_OPTIONS'] ?? '{}') as ToyOptions & { failWith?: string; pidFile?: string };
const log = createLog('info', toStandardError);
if (failWith !== undefined) {
  await link.failed(failWith, 1);
  process.exit(1);
}
const metrics = new Metrics();
const toy = new ToyFileSystem(options, link.device);
const initFile = options.stateDir === undefined ? undefined : `${options.stateDir}/init.json`;
await link.prepared();
const resume = initFile !== undefined && fs.existsSync(initFile) ? (JSON.parse(fs.readFileSync(initFile, 'utf8')) as NegotiatedInit) : undefined;
const session = FuseSession.start({
  device: link.device, fs: toy, log, metrics, init: { passthrough: options.passthrough === true }, ...(resume && { resume }), resend: link.generation > 0,
  onInit: (negotiated) => { if (initFile !== undefined) fs.writeFileSync(initFile, JSON.stringify(negotiated)); },
  onEnded: (reason) => {
    log.info('ended', { reason, undelivered: toy.undeliveredOps.length, lookups: metrics.get('fuse.requests.lookup'), reads: metrics.get('fuse.requests.read'), writes: metrics.get('fuse.requests.write'), readdirplus: metrics.get('fuse.requests.readdirplus') });
    void Promise.all([session.stop(), notifier.close()]).then(() => process.exit(0));
  },
});
const notifier = Notifier.start({ device: link.device, log, metrics });
process.on('SIGUSR2', () => {
  toy.changeBehind('negative-1', 'it is here');
  notifier.invalEntry(1, 'negative-1', true);
  notifier.invalInode(toy.changeBehind('data', 'new and longer'));
  notifier.deleteEntry(1, 999_999, 'unheard-of');
  void notifier.flush().then(() => log.info('notified', { notices: metrics.get('fuse.notices'), failed: metrics.get('fuse.notices_failed') }));
});
process.on('SIGTERM', () => { void link.unmount(false); });
if (pidFile !== undefined) fs.writeFileSync(pidFile, String(process.pid));
link.serving();
