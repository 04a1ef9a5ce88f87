/**
 * SQLite's `-wal`, synced from a descriptor of our own (D1): SQLite itself appends commits to it without syncing them (synchronous=NORMAL).
 * Only the `-wal`: opening and closing the database file itself would drop SQLite's POSIX locks (D3).
 */
import fs from 'node:fs';
import type { Disk } from '../base/disk.js';

export class WalFile {
  private fd: number | undefined;
  private running: Promise<unknown> = Promise.resolve();

  constructor(private readonly path: string, private readonly disk: Disk) {}

  /** Resolves when what was committed before the call is on stable storage. */
  async sync(): Promise<void> {
    const sync = this.disk.fdatasync('wal.sync', this.open());
    this.running = Promise.allSettled([this.running, sync]).then(() => undefined);
    await sync;
  }

  /** The same before it returns. There may be none yet. */
  syncNow(): void {
    if (fs.existsSync(this.path)) this.disk.fdatasyncSync('wal.sync', this.open());
  }

  /** The descriptor of the `-wal` that has this name now: SQLite may have made a new one. */
  private open(): number {
    const named = fs.statSync(this.path).ino;
    if (this.fd !== undefined) {
      if (fs.fstatSync(this.fd).ino === named) return this.fd;
      this.drop();
    }
    const fd = this.disk.open('wal.open', this.path, fs.constants.O_RDONLY);
    if (fs.fstatSync(fd).ino !== fs.statSync(this.path).ino) {
      this.disk.close(fd);
      throw new Error(`${this.path} was replaced while it was opened`);
    }
    return (this.fd = fd);
  }

  async close(): Promise<void> {
    await this.running;
    this.drop();
  }

  private drop(): void {
    if (this.fd !== undefined) this.disk.close(this.fd);
    this.fd = undefined;
  }
}
