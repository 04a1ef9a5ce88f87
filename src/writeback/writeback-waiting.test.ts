import { afterEach, expect, test } from 'vitest';
import type { Key } from '../s3/object-store.js';
import type { TestMount } from './fixture.js';
import { TestMounts } from './test-mounts.js';

const mounts = new TestMounts();
const mounted = mounts.open;
afterEach(() => mounts.closeAll((mount) => expect(mount.deps.attempts.list('sent')).toEqual([])));

const text = (mount: TestMount, key: Key): string | undefined => mount.memory.snapshot().get(key)?.bytes.toString();
const keys = (mount: TestMount): Key[] => [...mount.memory.snapshot().keys()];

test('waitUploaded() resolves once S3 has what the inode was, and rejects with the reason it is parked', async () => {
  const mount = await mounted();
  mount.writeback.start();
  const { ino } = mount.create('a', 'x');
  await mount.writeback.waitUploaded(ino);
  expect(text(mount, 'a')).toBe('x');
  mount.faulty.script('put', { fault: 'fail', kind: 'access-denied' });
  mount.write('a', 0, 'y');
  await expect(mount.writeback.waitUploaded(ino)).rejects.toMatchObject({ reason: 'access-denied' });
  mount.deps.db.tx(() => mount.deps.journal.unparkAll());
  mount.writeback.wake();
  const interrupted = new AbortController();
  mount.busy.add(ino);
  const waiting = mount.writeback.waitUploaded(ino, interrupted.signal);
  interrupted.abort(new Error('interrupted'));
  await expect(waiting).rejects.toThrow('interrupted');
});

test('drain() sends everything without waiting for silence, and says what is left', async () => {
  const mount = await mounted();
  mount.writeback.start();
  for (let i = 0; i < 10; i++) mount.create(`f${i}`, `${i}`);
  mount.busy.add(mount.inode('f3').ino);
  mount.rename('f4', 'g4');
  mount.faulty.script('put', { fault: 'fail', kind: 'access-denied' }, 1, (key) => key === 'f5');
  expect(await mount.writeback.drain({ deadlineMs: 10_000 })).toEqual({ remaining: 1 });
  expect(keys(mount)).toHaveLength(9);
});

test('stop() in the middle of an upload leaves the question open, and the next start answers it', async () => {
  let executed!: () => void;
  const isExecuted = new Promise<void>((resolve) => (executed = resolve));
  const mount = await mounted({ tap: { after: () => (executed(), new Promise(() => undefined)) } });
  const original = mount.deps.store.put.bind(mount.deps.store);
  mount.deps.store.put = (key, body, attributes, expected, options) => Promise.race([
    original(key, body, attributes, expected, options),
    new Promise<never>((_, reject) => options!.signal!.addEventListener('abort', () => reject(Object.assign(new Error(), { kind: 'aborted' })))),
  ]);
  mount.create('a', 'x');
  mount.clock.advance(1000);
  void mount.writeback.runDue();
  await isExecuted;
  const dir = mount.copyState();
  await mount.close();
  const next = mounts.keep(await mount.reopen(dir));
  expect(next.deps.attempts.get('a')).toMatchObject({ outcome: 'ambiguous' });
  await next.settle();
  expect(next.memory.calls.get('put')).toBe(1);
  expect(next.deps.conflicts.count()).toBe(0);
});
