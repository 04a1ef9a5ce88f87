import type { Db } from '../db/db.js';

/** Inodes of which something was written down that must be durable before something else happens to them. */
export class OnRecord {
  private readonly pending = new Map<number, number>();
  private serial = 0;

  constructor(private readonly db: Db) {}

  /** In the transaction that writes it down. */
  note(ino: number): void {
    const serial = ++this.serial;
    const before = this.pending.get(ino);
    this.pending.set(ino, serial);
    this.db.onRollback(() => {
      if (before === undefined) this.pending.delete(ino);
      else this.pending.set(ino, before);
    });
    this.db.afterDurable(() => {
      if (this.pending.get(ino) === serial) this.pending.delete(ino);
    });
  }

  /** What to wait for; undefined: nothing. Outside a transaction. */
  durable(ino: number): Promise<void> | undefined {
    return this.pending.has(ino) ? this.db.durable() : undefined;
  }
}
