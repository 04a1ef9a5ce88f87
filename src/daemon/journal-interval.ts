import type { Log } from '../base/log.js';
import type { Durability } from '../fs/durability.js';

/** Makes accepted changes journaled by themselves, every interval. One round at a time; a failed round is tried again in the next. */
export class JournalInterval {
  private readonly timer: NodeJS.Timeout;
  private running: Promise<void> | undefined;

  constructor(private readonly durability: Durability, intervalMs: number, private readonly log: Log) {
    this.timer = setInterval(() => this.tick(), intervalMs);
    this.timer.unref();
  }

  private tick(): void {
    if (this.running) return;
    this.running = this.durability.all()
      .catch((error: unknown) => this.log.error('cannot journal what was accepted', { room: 'daemon', error }))
      .finally(() => (this.running = undefined));
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.running;
  }
}
