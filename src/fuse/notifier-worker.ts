/** The thread behind `notifier.ts`: writes notifications one after the other, and may block in each. */
import { parentPort, workerData } from 'node:worker_threads';
import { Errno } from '../base/errno.js';
import { writeRaw } from '../base/libc.js';
import type { NotifierReport } from './notifier.js';

const { device } = workerData as { device: number };

parentPort!.on('message', (batch: Uint8Array[] | 'close') => {
  if (batch === 'close') return parentPort!.close();
  let failed = 0;
  let errno = 0;
  for (const bytes of batch) {
    const result = writeRaw(device, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), bytes.byteLength);
    // ENOENT: not cached. ENODEV, ECONNABORTED: the mount is gone
    if (result >= 0 || -result === Errno.ENOENT || -result === Errno.ENODEV || -result === 103) continue;
    failed++;
    errno = -result;
  }
  parentPort!.postMessage({ done: batch.length - failed, failed, errno } satisfies NotifierReport);
});
