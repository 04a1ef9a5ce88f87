/** J4: bytes that are only in S3 stay reachable, whatever is changed around them and wherever the daemon dies over it. */
import { afterEach, expect, test } from 'vitest';
import { OpenFlag } from '../fuse/ops.js';
import { FsHarness } from '../../test/support/fs-harness.js';

const open: FsHarness[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

async function mounted(): Promise<FsHarness> {
  const h = await FsHarness.open();
  open.push(h);
  return h;
}

/** Runs it again and again; each time the daemon dies one point later, until it survives. @param every so many points at once. */
async function dyingEverywhere(before: (h: FsHarness) => Promise<void>, run: (h: FsHarness) => Promise<void>, after: (h: FsHarness) => Promise<void>, every: number, first = 1): Promise<void> {
  for (let points = first; ; points += every) {
    const h = await mounted();
    await before(h);
    h.crashAfter(points);
    await run(h);
    h.crashAfter(Infinity);
    try {
      await after(h);
      h.checkInvariants();
    } catch (error) {
      throw new Error(`died ${h.deaths > 0 ? `at point ${points}, ${h.diedAt}` : 'never'}: ${String(error)}`, { cause: error });
    }
    await h.close();
    open.pop();
    if (h.deaths === 0) {
      expect(points).toBeGreaterThan(5);
      return;
    }
  }
}

const texts = (h: FsHarness): Record<string, string> => Object.fromEntries([...h.memory.snapshot()].map(([key, { bytes }]) => [key, bytes.toString()]));

const steps = {
  link: (h: FsHarness) => h.link('a', 'b'),
  copy: (h: FsHarness) => h.using('c', OpenFlag.RDONLY, (from) => h.using('a', OpenFlag.RDWR, (to) => h.copyRange(from, 0, to, 2, 4))),
  evict: (h: FsHarness) => h.evict(),
};
const orders: (keyof typeof steps)[][] = [['link', 'copy', 'evict'], ['link', 'evict', 'copy'], ['copy', 'link', 'evict'], ['copy', 'evict', 'link'], ['evict', 'link', 'copy'], ['evict', 'copy', 'link']];

/** Points per run that are passed over: the six orders together die at all of them. */
const stride = Number(process.env['HEARTHFS_CRASH_STRIDE'] ?? orders.length);

test.each(orders)('%s, %s, %s of a file that is only in S3, dying anywhere: every name gets all of it', async (...order) => {
  await dyingEverywhere(async (h) => {
    await h.writeFile('a', 'aaaaaaaaaa');
    await h.writeFile('c', 'cccc');
    await h.sync();
    await h.evict();
  }, async (h) => {
    for (const step of order) await steps[step](h);
    h.clock.advance(1500);
    await h.uploadDue();
  }, async (h) => {
    expect(await h.readFile('a')).toBe('aaccccaaaa');
    expect(await h.readFile('b')).toBe('aaccccaaaa');
    await h.sync();
    expect(texts(h)).toEqual({ a: 'aaccccaaaa', b: 'aaccccaaaa', c: 'cccc' });
  }, stride, 1 + orders.findIndex((each) => each.join() === order.join()) % stride);
}, 300_000);

test('the object of an unlinked file that is open goes once its bytes are on record here, not while only memory knows', async () => {
  const h = await mounted();
  await h.writeFile('a', 'aaaaaaaaaa');
  await h.sync();
  await h.evict();
  const handle = await h.open('a');
  expect((await h.pread(handle, 0, 10)).toString()).toBe('aaaaaaaaaa'); // here now
  await h.unlink('a');
  h.clock.advance(1500);
  await h.uploadDue();
  expect(texts(h)).toEqual({});
  await h.crash();
  expect((await h.pread(handle, 0, 10)).toString()).toBe('aaaaaaaaaa');
  await h.closeFile(handle);
});

test('K12: a file opened before a crash and unlinked after it stays readable, though the daemon does not know that it is open', async () => {
  const h = await mounted();
  await h.writeFile('a', 'x'.repeat(10_000));
  await h.sync();
  await h.evict();
  const handle = await h.open('a'); // too large to be fetched at open
  await h.crash();
  await h.unlink('a');
  h.clock.advance(120_000);
  await h.uploadDue();
  expect((await h.pread(handle, 9990, 100)).toString()).toBe('x'.repeat(10));
  await h.closeFile(handle); // and is forgotten
  expect(h.tree.inodes.orphans()).toEqual([]);
  h.clock.advance(120_000);
  await h.uploadDue();
  expect(texts(h)).toEqual({});
});

test('K12: a RELEASE that is sent again counts once: the other handle keeps the object', async () => {
  const h = await mounted();
  await h.writeFile('a', 'x'.repeat(10_000));
  await h.sync();
  await h.evict();
  const [first, second] = [await h.open('a'), await h.open('a')];
  await h.unlink('a');
  const ctx = h.context();
  h.fs.release(ctx, first.ino, first.fh);
  await h.crash();
  h.fs.release(h.resent(ctx), first.ino, first.fh);
  h.clock.advance(120_000);
  await h.uploadDue();
  expect((await h.pread(second, 0, 5)).toString()).toBe('xxxxx');
  h.fs.release(h.context(), second.ino, second.fh);
  h.fs.forget(second.ino);
  expect(h.tree.inodes.orphans()).toEqual([]);
});

test('K14: an inode the kernel never heard of goes with its last name', async () => {
  const h = await mounted();
  await h.stranger.put('d/seen', '1');
  await h.stranger.put('d/unseen', '2');
  const ino = (await h.fs.lookup(h.context(), 1, 'd')).attr!.ino;
  await h.readdirplus('d', { plus: false });
  const seen = (await h.fs.lookup(h.context(), ino, 'seen')).attr!.ino;
  await h.stranger.delete('d/seen');
  await h.stranger.delete('d/unseen');
  h.clock.advance(h.daemon.config.ttlMs! + 1000);
  expect(await h.readdir('d').catch(() => [])).toEqual([]);
  expect(h.tree.inodes.orphans().map((inode) => inode.ino)).toContain(seen);
  expect(h.tree.inodes.orphans().filter((inode) => inode.ino !== seen && inode.ino !== ino)).toEqual([]);
  h.fs.forget(seen);
  h.fs.forget(ino);
  expect(h.tree.inodes.orphans()).toEqual([]);
});
