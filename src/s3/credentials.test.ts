import { expect, test } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { silentLog } from '../base/log.js';
import type { ExpiringCredentials } from './aws-config.js';
import { CredentialSource } from './credentials.js';
import { StoreError } from './store-error.js';

const minute = 60_000;

function setUp(lifeMs: number | undefined): { source: CredentialSource; clock: ManualClock; loads: boolean[]; fail: { with?: Error } } {
  const clock = new ManualClock();
  const loads: boolean[] = [];
  const fail: { with?: Error } = {};
  const load = (fresh: boolean): Promise<ExpiringCredentials> => {
    loads.push(fresh);
    if (fail.with) return Promise.reject(fail.with);
    return Promise.resolve({ accessKeyId: `key${loads.length}`, secretAccessKey: 's', ...(lifeMs !== undefined && { expiration: new Date(clock.now() + lifeMs) }) });
  };
  return { source: new CredentialSource(load, clock, silentLog), clock, loads, fail };
}

test('credentials without expiry are loaded once, also by many callers at once', async () => {
  const { source, loads, clock } = setUp(undefined);
  await Promise.all([source.get(), source.get(), source.get()]);
  clock.advance(1e9);
  await source.get();
  expect(loads).toEqual([false]);
});

test('they are renewed before they expire, while requests go on with the old ones', async () => {
  const { source, clock, loads } = setUp(60 * minute);
  expect((await source.get()).accessKeyId).toBe('key1');
  clock.advance(54 * minute);
  expect((await source.get()).accessKeyId).toBe('key1');
  expect(loads).toEqual([false]);
  clock.advance(2 * minute);
  expect((await source.get()).accessKeyId).toBe('key1'); // starts the renewal
  await new Promise((resolve) => setImmediate(resolve));
  expect((await source.get()).accessKeyId).toBe('key2');
  expect(loads).toEqual([false, true]);
});

test('a failing renewal does not stop what still works, and an expired one fails', async () => {
  const { source, clock, fail } = setUp(60 * minute);
  await source.get();
  fail.with = new StoreError('bad-credentials', 'role is gone');
  clock.advance(57 * minute);
  expect((await source.get()).accessKeyId).toBe('key1');
  clock.advance(4 * minute);
  await expect(source.get()).rejects.toThrow('role is gone');
});

test('requests that meet expired credentials together are all sent again, after one load', async () => {
  const { source, loads } = setUp(undefined);
  const used = await source.get();
  expect(await Promise.all([source.refused(used), source.refused(used), source.refused(used)])).toEqual([true, true, true]);
  expect(loads).toEqual([false, true]);
});

test('credentials that the server refuses are reloaded once, not at every refusal', async () => {
  const { source, loads, clock } = setUp(undefined);
  const used = await source.get();
  expect(await source.refused(used)).toBe(true); // key2
  expect(await source.refused(used)).toBe(true); // somebody else was refused with key1 too: no need to load again
  expect(loads).toEqual([false, true]);
  expect(await source.refused(await source.get())).toBe(false); // key2 refused at once: it just came
  clock.advance(11_000);
  expect(await source.refused(await source.get())).toBe(true);
  expect(loads).toEqual([false, true, true]);
});
