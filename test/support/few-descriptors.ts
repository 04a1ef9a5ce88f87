/**
 * A process that may open few files: notices while `argv[2]` descriptors are left, and one more when there are plenty again. Prints what reached the
 * "device", a file, and what was logged.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createLog } from '../../src/base/log.js';
import { duplicate } from '../../src/base/libc.js';
import { Metrics } from '../../src/base/metrics.js';
import { Notifier } from '../../src/fuse/notifier.js';

const file = path.join(os.tmpdir(), `hearthfs-notices-${process.pid}`);
const device = fs.openSync(file, 'w+');
fs.unlinkSync(file);
fs.closeSync(duplicate(device)); // libc is loaded while it can be

const logged: string[] = [];
const metrics = new Metrics();
const notifier = Notifier.start({ device, log: createLog('warn', (line) => logged.push(line)), metrics, queueMax: 2 });
const held: number[] = [];
try {
  for (;;) held.push(fs.openSync('/dev/null', 'r'));
} catch {
  // as many as there may be
}
for (let left = Number(process.argv[2]); left > 0; left--) fs.closeSync(held.pop()!);
for (const ino of [5, 6]) {
  notifier.invalInode(ino);
  await notifier.flush();
}
const early = fs.fstatSync(device).size;
for (const fd of held) fs.closeSync(fd);
notifier.invalInode(7); // one too many for the queue if the others are still in it
await notifier.flush();
console.log(JSON.stringify({ early, bytes: fs.fstatSync(device).size, notices: metrics.get('fuse.notices'), dropped: metrics.get('fuse.notices_dropped'), logged: logged.length }));
await notifier.close();
