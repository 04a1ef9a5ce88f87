/** `--write-mode through` and `--fsync remote` while S3 misbehaves: success means *uploaded*, failure is told, and nothing is lost either way. */
import { afterEach, expect, test } from 'vitest';
import { StoreError } from '../s3/store-error.js';
import { errnoOf, FsHarness, type Handle } from '../../test/support/fs-harness.js';

const open: FsHarness[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

async function mounted(): Promise<FsHarness> {
  const h = await FsHarness.open({ config: { writeMode: 'through', fsync: 'remote', deadlineMs: 0 } });
  open.push(h);
  return h;
}

/** While write-back works, what becomes of the call that waits for it? */
async function outcomeOf(h: FsHarness, call: () => Promise<unknown>): Promise<string> {
  let outcome: string | undefined;
  const done = errnoOf(call).then((errno) => (outcome = errno));
  for (let i = 0; i < 50 && outcome === undefined; i++) {
    await h.daemon.writeback.runDue();
    await new Promise((resolve) => setImmediate(resolve));
    h.clock.advance(31_000);
  }
  return done;
}

async function written(h: FsHarness, path: string, text: string): Promise<Handle> {
  const handle = await h.create(path);
  await h.pwrite(handle, 0, text);
  return handle;
}

for (const [name, call] of [['close', (h: FsHarness, handle: Handle) => h.closeFile(handle)], ['fsync', (h: FsHarness, handle: Handle) => h.fsync(handle)]] as const) {
  for (const [what, prepare] of [
    ['are refused a few times', (h: FsHarness) => h.faulty.script('put', { fault: 'fail' }, 3)],
    ['are executed and their answers are lost', (h: FsHarness) => h.faulty.script('put', { fault: 'lost' }, 2)],
    ['are throttled', (h: FsHarness) => h.faulty.script('put', { fault: 'throttle' }, 3)],
    ['are answered 412 and 409 for no reason', (h: FsHarness) => h.faulty.script('put', { fault: 'fail', kind: 'precondition-failed' }).script('put', { fault: 'fail', kind: 'conflict' })],
  ] as const) {
    test(`${name} succeeds once S3 has the file, though requests ${what}`, async () => {
      const h = await mounted();
      const handle = await written(h, 'a', 'text');
      prepare(h);
      expect(await outcomeOf(h, () => call(h, handle))).toBe('ok');
      expect(h.stranger.text('a')).toBe('text');
      expect(h.daemon.conflicts.list()).toEqual([]);
    });
  }

  test(`${name} fails with EIO where S3 says no for good, and what was written is kept and uploaded once it may be`, async () => {
    const h = await mounted();
    const handle = await written(h, 'a', 'text');
    h.faulty.script('put', { fault: 'fail', kind: 'access-denied' });
    expect(await outcomeOf(h, () => call(h, handle))).toBe('EIO');
    expect(await h.readFile('a')).toBe('text');
    expect(h.daemon.writeback.pending(10).map(({ key, parkedReason }) => [key, parkedReason])).toEqual([['a', 'access-denied']]);
    h.daemon.db.tx(() => h.journal.unparkAll());
    await h.sync();
    expect(h.stranger.text('a')).toBe('text');
  });

  test(`${name} fails with EIO while S3 is away, and the file is uploaded afterwards`, async () => {
    const h = await mounted();
    const handle = await written(h, 'a', 'text');
    h.setOffline(true);
    expect(await outcomeOf(h, () => call(h, handle))).toBe('EIO');
    h.setOffline(false);
    await h.crash();
    expect(await h.readFile('a')).toBe('text');
    await h.sync();
    expect(h.stranger.text('a')).toBe('text');
  });

  test(`${name} fails with EIO if another client was first, and both versions are there`, async () => {
    const h = await mounted();
    const handle = await written(h, 'a', 'ours');
    await h.stranger.put('a', 'theirs');
    expect(await outcomeOf(h, () => call(h, handle))).toBe('EIO');
    await h.sync();
    const kept = h.daemon.conflicts.list()[0]!.keptAs!;
    expect([h.stranger.text('a'), h.stranger.text(kept)]).toEqual(['theirs', 'ours']);
  });
}

test('fsync of a file whose directory was just renamed waits for it to be under its new name (J8)', async () => {
  const h = await mounted();
  await h.mkdir('d');
  await h.daemon.writeback.runDue();
  const handle = await written(h, 'd/a', 'text');
  await h.rename('d', 'e');
  let leftAs: string | undefined;
  expect(await outcomeOf(h, async () => {
    await h.fsync(handle);
    leftAs = h.stranger.text('e/a');
  })).toBe('ok');
  expect(leftAs).toBe('text');
});

test('a request that hangs is cut off by nobody but its deadline, and a close that waits for it can be interrupted', async () => {
  const h = await mounted();
  const handle = await written(h, 'a', 'text');
  const abort = new AbortController();
  h.faulty.script('put', { fault: 'hang', hangMs: 50 });
  const uploading = h.daemon.writeback.runDue();
  const closing = errnoOf(() => h.fs.flush(h.context({ signal: abort.signal }), handle.ino, handle.fh));
  abort.abort(new StoreError('aborted', 'a signal came'));
  expect(await closing).toBe('EINTR');
  await uploading;
  await h.sync();
  expect(h.stranger.text('a')).toBe('text');
});
