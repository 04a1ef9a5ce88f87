/**
 * Files whose rows are gone and whose names are not yet: they are unlinked once the transaction is durable (J3), and until then their
 * bytes count. Bounded by upkeep, which asks for a sync of the journal every round while there are any.
 */
import { errorCode } from '../base/errno.js';

export class Leaving {
  bytes = 0;
  private readonly entries = new Map<number, { readonly bytes: number; done?: Promise<void> }>();
  /** @param unlink removes the file; its failure leaves an orphan for the next start, and is told to `done`. */
  constructor(private readonly unlink: (id: number) => Promise<void>, private readonly done: (id: number, error?: unknown) => void) {}

  get size(): number { return this.entries.size; }
  has(id: number): boolean { return this.entries.has(id); }

  add(id: number, bytes: number): void {
    this.entries.set(id, { bytes });
    this.bytes += bytes;
  }

  /** The removal is durable: unlink. Joins one in progress. Never rejects. */
  finish(id: number): Promise<void> {
    const entry = this.entries.get(id);
    if (!entry) return Promise.resolve();
    entry.done ??= this.unlink(id)
      .then(() => undefined, (error: unknown) => (errorCode(error) === 'ENOENT' ? undefined : error))
      .then((error: unknown) => {
        this.entries.delete(id);
        this.bytes -= entry.bytes;
        this.done(id, error);
      });
    return entry.done;
  }

  async finishAll(ids: readonly number[] = [...this.entries.keys()]): Promise<void> {
    await Promise.all(ids.map((id) => this.finish(id)));
  }
}
