/** Files that are open and have no name any more: their bytes stay, wherever they are. */
import { afterEach, expect, it } from 'vitest';
import { FsHarness } from '../../test/support/fs-harness.js';
import { StoreError } from '../s3/store-error.js';

let harness: FsHarness;
afterEach(() => harness.close());

const large = { writeback: { copyBytesMax: 1000, holdBytesMax: 100, copyPartBytes: 65_536 }, config: { smallFileBytes: 10 } };

it('J4: the object of an unlinked file goes only once its content cannot be evicted: the daemon that opened it may die', async () => {
  harness = await FsHarness.open();
  await harness.writeFile('file', 'text');
  const handle = await harness.open('file');
  await harness.sync();
  await harness.unlink('file');
  harness.clock.advance(1500);
  await harness.beginUploads();
  await harness.crash();
  await harness.evict();
  for (let i = 0; i < 3; i++) {
    harness.clock.advance(61_000);
    await harness.uploadDue();
  }
  expect(harness.memory.snapshot().size).toBe(0);
  await harness.evict();
  expect((await harness.pread(handle, 0, 10)).toString()).toBe('text');
  await harness.closeFile(handle);
});

/** A file that only S3 has, too large for one copy, open, replaced by another under its name. */
async function replaced(): Promise<ReturnType<FsHarness['open']>> {
  await harness.writeFile('a', Buffer.alloc(300_000, 1));
  await harness.sync();
  await harness.evict();
  const handle = harness.open('a');
  await handle;
  await harness.unlink('a');
  await harness.writeFile('a', 'new');
  return handle;
}

it('one that is larger than one copy is put aside in parts, and goes with its last handle', async () => {
  harness = await FsHarness.open(large);
  const handle = await replaced();
  for (let i = 0; i < 5; i++) {
    harness.clock.advance(31_000);
    await harness.uploadDue();
  }
  expect(harness.stranger.text('a')).toBe('new');
  expect((await harness.pread(handle, 0, 300_000)).equals(Buffer.alloc(300_000, 1))).toBe(true);
  await harness.closeFile(handle);
  await harness.sync();
  expect([...harness.memory.snapshot().keys()]).toEqual(['a']);
});

it('where the server copies no parts the new file gets its name all the same', async () => {
  harness = await FsHarness.open(large);
  const handle = await replaced();
  harness.memory.uploadPartCopy = () => Promise.reject(new StoreError('invalid', 'not implemented', { status: 501 }));
  for (let i = 0; i < 5; i++) {
    harness.clock.advance(31_000);
    await harness.uploadDue();
  }
  expect(harness.stranger.text('a')).toBe('new');
  expect(harness.journal.list(5).map(({ parked }) => parked)).not.toContain('invalid');
  await harness.closeFile(handle);
});

it('one that is closed while something else is done under its name is put aside no more', async () => {
  harness = await FsHarness.open(large);
  const handle = await replaced();
  const uploadId = await harness.memory.createUpload('a', { metadata: {} });
  const { attempts, db } = harness.daemon;
  db.tx(() => attempts.put({ // an upload of an earlier try, aborted first
    key: 'a', op: 'multipart', nonce: 'x.1.1.1', expected: null, sourceKey: null, sourceEtag: null, ino: handle.ino, gen: 1, mgen: 1, uploadId, partSizeBytes: 65_536, parts: [],
    sentAtMs: harness.clock.now(), outcome: 'tombstone',
  }));
  harness.clock.advance(1500);
  await harness.beginUploads();
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  await harness.closeFile(handle);
  await harness.endUploads();
  expect(harness.daemon.errors).toEqual([]);
  await harness.sync();
  expect(harness.stranger.text('a')).toBe('new');
});
