/** Test support for this room and those above it: a store over a real database in a temporary directory, and crashes. */
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { copyState } from '../base/copy-state.js';
import { ManualClock } from '../base/clock.js';
import type { Disk } from '../base/disk.js';
import { silentLog } from '../base/log.js';
import { Metrics } from '../base/metrics.js';
import { Db } from '../db/db.js';
import type { ContentFile } from './content-file.js';
import type { ContentStoreOptions } from './content-store-options.js';
import { ContentStore } from './content-store.js';

export interface TestStore {
  readonly dir: string;
  readonly db: Db;
  readonly store: ContentStore;
  readonly clock: ManualClock;
  readonly metrics: Metrics;
  readonly fatal: Error[];
}

export class TestStores {
  private readonly dirs: string[] = [];
  private readonly opened: TestStore[] = [];
  /** In memory by default, where syncs cost nothing; on the disk for what tmpfs cannot do. */
  onDisk = false;

  dir(): string {
    const dir = fs.mkdtempSync(join(this.onDisk || !fs.existsSync('/dev/shm') ? tmpdir() : '/dev/shm', 'hearthfs-cache-'));
    this.dirs.push(dir);
    return dir;
  }

  async open(options: Partial<ContentStoreOptions> & { dir?: string; disk?: Disk } = {}): Promise<TestStore> {
    const dir = options.dir ?? this.dir();
    const metrics = new Metrics();
    const fatal: Error[] = [];
    const db = Db.open({ dir, log: silentLog, metrics, ballastBytes: 0, onFatal: (error) => fatal.push(error), ...(options.disk ? { disk: options.disk } : {}) });
    const clock = new ManualClock();
    const store = await ContentStore.open({ db, limitBytes: 1 << 30, minFree: { bytes: 0 }, clock, log: silentLog, metrics, upkeepMs: 0, noProgressMs: 50, ...options, dir });
    const opened = { dir, db, store, clock, metrics, fatal };
    this.opened.push(opened);
    return opened;
  }

  /** A new daemon on a copy of the files as a crash would leave them now. */
  async afterCrash(of: TestStore, options: Partial<ContentStoreOptions> = {}): Promise<TestStore> {
    const dir = this.dir();
    copyState(of.dir, dir);
    return this.open({ ...options, dir });
  }

  /** The same directory, closed in order and opened again. */
  async reopen(of: TestStore, options: Partial<ContentStoreOptions> = {}): Promise<TestStore> {
    await of.store.close();
    await of.db.close({ clean: true });
    return this.open({ ...options, dir: of.dir });
  }

  async cleanUp(): Promise<void> {
    this.onDisk = false;
    for (const { store, db } of this.opened.splice(0)) {
      await store.close().catch(() => undefined);
      await db.close({ clean: false }).catch(() => undefined);
    }
    for (const dir of this.dirs.splice(0)) fs.rmSync(dir, { recursive: true, force: true });
  }
}

/** A file with `sizeBytes` of data, dirty or clean. */
export function filled(opened: TestStore, sizeBytes: number, dirty = false, value = 1): ContentFile {
  const file = opened.db.tx(() => {
    const made = opened.store.create(0, 'none');
    if (dirty) opened.store.setDirty(made.id, true);
    return made;
  });
  file.write(Buffer.alloc(sizeBytes, value), 0);
  return file;
}
