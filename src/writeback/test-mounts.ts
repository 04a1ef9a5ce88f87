/** Test support: the mounts of one test file, all closed after each test. */
import { TestMount } from './fixture.js';

export class TestMounts {
  private readonly opened: TestMount[] = [];

  readonly open = async (options: Parameters<typeof TestMount.open>[0] = {}): Promise<TestMount> => this.keep(await TestMount.open(options));

  readonly keep = (mount: TestMount): TestMount => {
    this.opened.push(mount);
    return mount;
  };

  /** @param check what must hold of every mount that the test has not closed itself. */
  async closeAll(check: (mount: TestMount) => void = () => undefined): Promise<void> {
    for (const mount of this.opened.splice(0)) {
      try {
        if (!mount.isClosed) check(mount);
      } finally {
        await mount.close();
      }
    }
  }
}
