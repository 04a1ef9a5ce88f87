/**
 * Who downloads next: at most `limit` at once, those somebody waits for first. Prefetches leave a quarter of the slots free,
 * so that a read that comes now need not wait for bytes that may be read later.
 */
export interface Job {
  /** Somebody waits for it. May change while it is queued: call `changed()`. */
  readonly isUrgent: boolean;
  run(): Promise<void>;
}

export class DownloadQueue {
  private readonly waiting = new Set<Job>();
  private readonly running = new Set<Job>();
  constructor(private readonly limit: number) {}

  get size(): number { return this.waiting.size + this.running.size; }

  /** Queues a job; it begins at the next `changed()`. */
  push(job: Job): void {
    this.waiting.add(job);
  }

  /** False if it has begun already. */
  remove(job: Job): boolean {
    return this.waiting.delete(job);
  }

  /** Starts what may start now. */
  changed(): void {
    while (this.running.size < this.limit) {
      const job = this.pick();
      if (!job) return;
      this.waiting.delete(job);
      this.running.add(job);
      void job.run().finally(() => {
        this.running.delete(job);
        this.changed();
      });
    }
  }

  private pick(): Job | undefined {
    let patient: Job | undefined;
    for (const job of this.waiting) {
      if (job.isUrgent) return job;
      patient ??= job;
    }
    if (!patient) return undefined;
    let patientRunning = 0;
    for (const job of this.running) if (!job.isUrgent) patientRunning++;
    return patientRunning < Math.max(1, this.limit - Math.ceil(this.limit / 4)) ? patient : undefined;
  }
}
