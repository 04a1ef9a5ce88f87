/**
 * D5: a file of allocated, unused space. When the disk is full and a commit fails, it is given up, so that the commit (which may
 * be the one that records what to upload or evict) succeeds. It is taken back once there is room again.
 */
import fs from 'node:fs';
import type { Disk } from '../base/disk.js';
import type { Log } from '../base/log.js';

export class Ballast {
  private held = false;
  constructor(private readonly path: string, private readonly sizeBytes: number, private readonly disk: Disk, private readonly log: Log) {}

  /** One that is there already. */
  find(): void {
    this.held = this.sizeBytes > 0 && (fs.statSync(this.path, { throwIfNoEntry: false })?.blocks ?? 0) > 0;
  }

  /** Allocates the file unless it is there or there is less than twice its size free. Never throws: without it, work goes on. */
  take(): void {
    if (this.held || this.sizeBytes === 0) return;
    try {
      if (fs.existsSync(this.path) && fs.statSync(this.path).blocks * 512 >= this.sizeBytes) {
        this.held = true;
        return;
      }
      const { dirname, sizeBytes } = { dirname: this.path.slice(0, this.path.lastIndexOf('/')), sizeBytes: this.sizeBytes };
      const space = fs.statfsSync(dirname);
      if (space.bavail * space.bsize < 2 * sizeBytes) return;
      const fd = this.disk.open('ballast.create', this.path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
      try {
        this.disk.fallocate('ballast.allocate', fd, 0, 0, sizeBytes);
      } finally {
        this.disk.close(fd);
      }
      this.held = true;
    } catch (error) {
      this.log.warn('cannot allocate the ballast file', { room: 'db', error });
      fs.rmSync(this.path, { force: true });
    }
  }

  /** Frees the space; false if there was none to free. */
  release(): boolean {
    if (!this.held) return false;
    this.held = false;
    this.log.warn('disk full: the ballast was given up', { room: 'db' });
    // Truncated, not only unlinked: the space must be free when this returns.
    try {
      fs.truncateSync(this.path, 0);
      fs.rmSync(this.path, { force: true });
    } catch (error) {
      this.log.error('cannot give up the ballast', { room: 'db', error });
      return false;
    }
    return true;
  }
}
