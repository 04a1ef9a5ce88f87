import { describe, expect, it } from 'vitest';
import type { DoctorCheck } from '../control/api.js';
import { MemoryObjectStore } from '../s3/memory-object-store.js';
import type { ObjectStore } from '../s3/object-store.js';
import { StoreError, type StoreErrorKind } from '../s3/store-error.js';
import { checkBucket, checkStore } from './doctor.js';

const target = { bucket: 'bucket', prefix: 'p/', pathStyle: true, readOnly: false };
const outcome = (checks: readonly DoctorCheck[]) => Object.fromEntries(checks.map((check) => [check.name, check.ok]));

/** A store whose named method fails. */
function failing(method: keyof ObjectStore, kind: StoreErrorKind): ObjectStore {
  const store = new MemoryObjectStore();
  return Object.assign(Object.create(store) as ObjectStore, { [method]: () => Promise.reject(new StoreError(kind, `${method} was refused`)) });
}

describe('doctor of a bucket', () => {
  it('is content with a bucket where all is allowed, and leaves nothing behind', async () => {
    const store = new MemoryObjectStore();
    const { checks } = await checkStore(store, target, [], undefined);
    expect(outcome(checks)).toEqual({ bucket: 'ok', list: 'ok', put: 'ok', get: 'ok', delete: 'ok', 'server capabilities': 'ok' });
    expect((await store.list({ prefix: '' })).objects).toEqual([]);
  });

  it('names the conditions that a server ignores, as a warning (O2)', async () => {
    const { checks } = await checkStore(new MemoryObjectStore({ capabilities: { deleteIfMatch: false, copyIfMatch: false } }), target, [], undefined);
    expect(checks.at(-1)).toMatchObject({ ok: 'warn', detail: 'the server ignores these conditions: delete only what was seen, copy over only what was seen' });
  });

  it.each([
    ['checkBucket', 'no-such-bucket', 'bucket', /create the bucket/], ['checkBucket', 'bad-credentials', 'bucket', /AWS_ACCESS_KEY_ID/], ['checkBucket', 'unavailable', 'bucket', /--endpoint/],
    ['list', 'access-denied', 'list', /s3:ListBucket/], ['put', 'access-denied', 'put', /s3:PutObject.*--read-only/], ['getBytes', 'access-denied', 'get', /s3:GetObject/],
    ['delete', 'access-denied', 'delete', /s3:DeleteObject/],
  ] as const)('%s answering %s fails the check "%s" with advice', async (method, kind, name, advice) => {
    const { checks } = await checkStore(failing(method, kind), target, [], undefined);
    const failed = checks.filter((check) => check.ok === 'fail');
    expect(failed.map((check) => check.name)).toEqual([name]);
    expect(failed[0]!.advice).toMatch(advice);
    if (method !== 'getBytes') expect(checks.at(-1)).toBe(failed[0]); // what stands on it is not tried
  });

  it('writes nothing for a read-only mount', async () => {
    const store = new MemoryObjectStore();
    const { checks } = await checkStore(store, { ...target, readOnly: true }, [], undefined);
    expect(outcome(checks)).toEqual({ bucket: 'ok', list: 'ok' });
    expect(store.calls.get('put') ?? 0).toBe(0);
  });

  it('says within seconds that nothing listens at the endpoint', async () => {
    const before = { ...process.env };
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE', AWS_SECRET_ACCESS_KEY: 'secret' });
    try {
      const { checks } = await checkBucket({ ...target, endpoint: 'http://127.0.0.1:9' });
      expect(checks.map((check) => [check.name, check.ok])).toEqual([['credentials', 'ok'], ['bucket', 'fail']]);
      expect(checks[0]!.detail).toBe('found in the environment (AWS_ACCESS_KEY_ID), access key AKIA…');
    } finally {
      for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
    }
  });
});
