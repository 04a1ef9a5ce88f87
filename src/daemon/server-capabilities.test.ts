import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { silentLog } from '../base/log.js';
import { Metrics } from '../base/metrics.js';
import { Db } from '../db/db.js';
import { FaultyStore } from '../s3/faulty-store.js';
import { MemoryObjectStore } from '../s3/memory-object-store.js';
import type { MountConfig } from './config.js';
import { serverCapabilities } from './server-capabilities.js';

function world() {
  const dir = mkdtempSync(join(tmpdir(), 'hearthfs-capabilities-'));
  const db = Db.open({ dir, log: silentLog, metrics: new Metrics(), ballastBytes: 0 });
  onTestFinished(async () => {
    await db.close({ clean: true });
    rmSync(dir, { recursive: true });
  });
  const memory = new MemoryObjectStore({ clock: new ManualClock(), partSizeMin: 1 });
  const store = new FaultyStore(memory);
  const mount = (over: Partial<MountConfig> = {}, isNewMount = true) => serverCapabilities(store, db, { bucket: 'b', prefix: 'p/', readOnly: false, ...over } as MountConfig, 0, silentLog, isNewMount);
  return { memory, store, mount };
}

test('credentials that may not write are refused unless the mount is read-only, and asked again next time', async () => {
  const { store, mount } = world();
  store.script('put', { fault: 'fail', kind: 'access-denied' });
  await expect(mount()).rejects.toThrow('These credentials may not write to s3://b/p/; mount with --read-only, or allow s3:PutObject and s3:DeleteObject');
  expect(await mount({ readOnly: true })).toMatchObject({ readOnly: true });
  expect(await mount()).toMatchObject({ readOnly: false, putIfMatch: true });
});

test('what is known of the server is not probed again, and is enough when it does not answer', async () => {
  const { memory, store, mount } = world();
  const probed = await mount();
  const puts = memory.calls.get('put');
  expect(await mount()).toEqual(probed);
  store.setDown(true);
  expect(await mount()).toEqual(probed);
  expect(await mount({}, false)).toEqual(probed);
  expect(memory.calls.get('put')).toBe(puts);
});

test('a server that does not answer a first mount is named, with what to check', async () => {
  const { store, mount } = world();
  store.setDown(true);
  await expect(mount({ endpoint: 'http://minio:9000' })).rejects.toThrow(/^Cannot reach S3 at http:\/\/minio:9000 \(.*\); check --endpoint and the network$/);
});
