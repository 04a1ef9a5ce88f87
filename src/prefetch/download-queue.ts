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
  /** Those nobody waited for when that was last looked at; in the order they came, like `urgent`. */
  private readonly patient = new Set<Job>();
  private readonly urgent = new Set<Job>();
  private readonly running = new Set<Job>();
  constructor(private readonly limit: number) {}

  get size(): number { return this.patient.size + this.urgent.size + this.running.size; }

  /** Queues a job; it begins at the next `changed()`. */
  push(job: Job): void {
    this.patient.add(job);
  }

  /** False if it has begun already. */
  remove(job: Job): boolean {
    return this.patient.delete(job) || this.urgent.delete(job);
  }

  /** Starts what may start now. */
  changed(): void {
    for (const job of this.patient) {
      if (!job.isUrgent) continue;
      this.patient.delete(job);
      this.urgent.add(job);
    }
    this.pump();
  }

  private pump(): void {
    let patientRoom: number | undefined;
    while (this.running.size < this.limit) {
      let job = first(this.urgent);
      if (!job) {
        if (this.patient.size === 0 || (patientRoom ??= this.patientRoom()) <= 0) return;
        patientRoom--;
        job = first(this.patient)!;
      }
      this.running.add(job);
      void job.run().finally(() => {
        this.running.delete(job);
        this.pump();
      });
    }
  }

  /** How many more nobody waits for may run. */
  private patientRoom(): number {
    let running = 0;
    for (const job of this.running) if (!job.isUrgent) running++;
    return Math.max(1, this.limit - Math.ceil(this.limit / 4)) - running;
  }
}

/** Takes the first out of the set. */
function first(jobs: Set<Job>): Job | undefined {
  for (const job of jobs) {
    jobs.delete(job);
    return job;
  }
  return undefined;
}
