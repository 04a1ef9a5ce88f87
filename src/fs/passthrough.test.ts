import { afterEach, expect, it } from 'vitest';
import { FsHarness } from '../../test/support/fs-harness.js';

let harness: FsHarness;
afterEach(() => harness.close());

/** The kernel's table of backing files. */
class BackingIds {
  readonly open = new Set<number>();
  private next = 1;

  readonly device = {
    open: (): number => {
      this.open.add(this.next);
      return this.next++;
    },
    close: (id: number): void => void this.open.delete(id),
  };
}

it('a FORGET that comes after the file was opened again leaves its backing file registered (K5)', async () => {
  harness = await FsHarness.open();
  const kernel = new BackingIds();
  harness.fs.passthrough.enable(kernel.device);
  const handle = await harness.create('file');
  expect(kernel.open.size).toBe(1);
  harness.fs.forget(handle.ino); // of a lookup before the OPEN: the kernel queues FORGETs apart from requests
  expect(kernel.open.size).toBe(1);
  await harness.closeFile(handle);
  expect(kernel.open.size).toBe(0);
});
