import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ContentLostError } from './cache-error.js';
import { filled, TestStores } from './test-store.js';

const stores = new TestStores();
afterEach(async () => {
  vi.restoreAllMocks();
  await stores.cleanUp();
});

describe('recovery', () => {
  test('files without rows go, clean rows without files go, dirty rows without files are reported and stay', async () => {
    const opened = await stores.open();
    const [kept, vanished, lost] = [filled(opened, 10), filled(opened, 10), filled(opened, 10, true)];
    await opened.store.sync(opened.store.unsynced());
    await opened.store.close();
    await opened.db.close({ clean: false });
    const orphan = join(dirname(kept.path), String(kept.id - 256));
    fs.renameSync(vanished.path, orphan);
    fs.rmSync(lost.path);
    fs.writeFileSync(join(dirname(kept.path), 'not-a-number'), '');
    const again = await stores.open({ dir: opened.dir });
    const report = await again.store.recover();
    expect(report).toMatchObject({ orphans: 1, lost: [lost.id], vanished: 1, files: 2 });
    expect(fs.existsSync(orphan)).toBe(false);
    expect(again.store.find(kept.id)!.sizeBytes).toBe(10);
    expect(again.store.find(vanished.id)).toBeUndefined();
    expect(() => again.store.find(lost.id)).toThrow(ContentLostError);
    expect((await again.store.recover()).lost).toEqual([lost.id]);
  });

  test('what a crashed run had not uploaded counts as not synced from the first moment, before the rows are loaded', async () => {
    const opened = await stores.open();
    const [dirty, clean] = [filled(opened, 10, true), filled(opened, 10)];
    await opened.store.sync(opened.store.unsynced());
    const crashed = await stores.afterCrash(opened);
    expect([dirty, clean].map(({ id }) => crashed.store.isUnsynced(id))).toEqual([true, false]);
    expect(crashed.store.unsynced()).toEqual([dirty.id]);
    expect((await stores.reopen(opened)).store.unsynced()).toEqual([]);
  });

  test('after an orderly end the books are trusted for sizes, after a crash the disk is asked; what is there is looked at in both cases', async () => {
    const opened = await stores.open();
    await opened.store.recover();
    const [kept, vanished] = [filled(opened, 4096), filled(opened, 0)];
    const reopened = await stores.reopen(opened);
    await reopened.store.close();
    await reopened.db.close({ clean: true });
    fs.writeFileSync(kept.path, Buffer.alloc(10 * 4096, 1));
    fs.rmSync(vanished.path);
    const again = await stores.open({ dir: opened.dir });
    expect(await again.store.recover()).toMatchObject({ vanished: 1, files: 1 });
    expect(again.store.stats().cacheBytes).toBe(4096);
    const crashed = await stores.afterCrash(again);
    expect(await crashed.store.recover()).toMatchObject({ vanished: 0, files: 1 });
    expect(crashed.store.stats().cacheBytes).toBe(10 * 4096);
  });

  test('an orderly end before the look after a crash is through does not make the books right: the next start looks, and the one after it need not', async () => {
    const opened = await stores.open();
    await opened.store.recover();
    const { path } = filled(opened, 4096);
    await opened.store.sync(opened.store.unsynced());
    await opened.store.maintain();
    fs.writeFileSync(path, Buffer.alloc(10 * 4096, 1)); // and no row says so
    const crashed = await stores.afterCrash(opened);
    const recovering = crashed.store.recover();
    const looked = await stores.reopen(crashed);
    await recovering;
    await looked.store.recover();
    expect(looked.store.stats().cacheBytes).toBe(10 * 4096);
    const trusting = await stores.reopen(looked);
    const stat = vi.spyOn(fs.promises, 'stat');
    await trusting.store.recover();
    expect(stat).not.toHaveBeenCalled();
    expect(trusting.store.stats().cacheBytes).toBe(10 * 4096);
  });

  test('an end in order before the look has even begun is no different', async () => {
    const opened = await stores.open();
    await opened.store.recover();
    const { path } = filled(opened, 4096);
    await opened.store.maintain();
    fs.writeFileSync(path, Buffer.alloc(10 * 4096, 1));
    const looked = await stores.reopen(await stores.afterCrash(opened));
    await looked.store.recover();
    expect(looked.store.stats().cacheBytes).toBe(10 * 4096);
  });

  test('what is written while recovery looks at the file stays counted', async () => {
    const opened = await stores.open();
    const { id } = filled(opened, 4096);
    await opened.store.sync(opened.store.unsynced());
    const crashed = await stores.afterCrash(opened);
    const real = fs.promises.stat.bind(fs.promises);
    let writes = 0;
    vi.spyOn(fs.promises, 'stat').mockImplementation((async (path: string) => {
      const before = await real(path);
      if (path.endsWith(`/${id}`) && writes++ === 0) crashed.store.find(id)!.write(Buffer.alloc(3 * 4096, 2), 4096);
      return before;
    }) as typeof fs.promises.stat);
    await crashed.store.recover();
    expect(writes).toBe(1);
    expect(crashed.store.stats().cacheBytes).toBe(4 * 4096);
  });

  test('close() stops recovery and waits for it: nothing that was not looked at counts as gone', async () => {
    const opened = await stores.open();
    const files = Array.from({ length: 100 }, () => filled(opened, 10));
    const again = await stores.reopen(opened);
    const recovering = again.store.recover();
    const after = await stores.reopen(again);
    expect(await recovering).toMatchObject({ vanished: 0, lost: [] });
    expect(files.filter(({ id }) => after.store.find(id)).length).toBe(100);
  });

  test('recovery leaves alone what is created and removed while it runs', async () => {
    const opened = await stores.open();
    const old = filled(opened, 10);
    const again = await stores.reopen(opened);
    const recovering = again.store.recover();
    const fresh = filled(again, 10);
    again.db.tx(() => again.store.remove(old.id));
    expect(await recovering).toMatchObject({ orphans: 0, lost: [], vanished: 0 });
    expect(fs.existsSync(fresh.path)).toBe(true);
    expect(fs.existsSync(old.path)).toBe(true); // J3: not durable yet
  });

  test('a leftover with the name of a new file is skipped, not overwritten', async () => {
    const opened = await stores.open({ sparesMax: 0 });
    const first = filled(opened, 1);
    const next = first.id + 256;
    const path = join(dirname(first.path), String(next));
    fs.writeFileSync(path, 'leftover');
    expect(filled(opened, 1).id).toBe(next + 256);
    expect(fs.readFileSync(path, 'utf8')).toBe('leftover');
  });
});
