import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import { Db, type DbOptions } from '../../src/db/db.js';
import { copyState } from '../../src/base/copy-state.js';

/** Databases of a test in directories of their own, without ballast. */
export class DbOpener {
  private readonly dirs: string[] = [];
  private readonly dbs: Db[] = [];

  temp(): string {
    const dir = mkdtempSync(join(tmpdir(), 'hearthfs-db-'));
    this.dirs.push(dir);
    return dir;
  }

  open(dir = this.temp(), options: Partial<DbOptions> = {}): Db {
    const db = Db.open({ dir, log: silentLog, metrics: new Metrics(), ballastBytes: 0, ...options });
    this.dbs.push(db);
    return db;
  }

  /** What a kill at this moment leaves for the next daemon: a directory for `open`. */
  killed(dir: string): string {
    const copy = this.temp();
    copyState(dir, copy);
    return copy;
  }

  /** As after a crash. */
  async closeAll(): Promise<void> {
    for (const db of this.dbs.splice(0)) await db.close({ clean: false });
  }

  /** Whatever state they are in. */
  async clean(): Promise<void> {
    for (const db of this.dbs.splice(0)) await db.close({ clean: false }).catch(() => undefined);
    for (const dir of this.dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
  }
}
