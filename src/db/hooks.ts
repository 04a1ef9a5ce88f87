/** What is to be done once a transaction is accepted, durable, or taken back. A hook that throws leaves memory and database apart. */
export class Hooks {
  private committed: (() => void)[] = [];
  private rolledBack: (() => void)[] = [];
  /** Ascending by seq. */
  private readonly durable: { readonly seq: number; readonly fn: () => void }[] = [];

  /** @param failed a hook threw. */
  constructor(private readonly failed: (error: unknown) => void) {}

  onCommit(fn: () => void): void { this.committed.push(fn); }
  onRollback(fn: () => void): void { this.rolledBack.push(fn); }
  onDurable(seq: number, fn: () => void): void { this.durable.push({ seq, fn }); }

  /** The transaction is accepted: in order. */
  commit(): void {
    this.rolledBack = [];
    if (this.committed.length === 0) return;
    const hooks = this.committed;
    this.committed = [];
    for (const hook of hooks) this.guarded(hook);
  }

  /** It is taken back: latest first. */
  rollback(): void {
    const hooks = this.rolledBack;
    this.committed = [];
    this.rolledBack = [];
    for (const hook of hooks.reverse()) this.guarded(hook);
  }

  durableUpTo(seq: number): void {
    while (this.durable.length > 0 && this.durable[0]!.seq <= seq) this.guarded(this.durable.shift()!.fn);
  }

  private guarded(hook: () => void): void {
    try {
      hook();
    } catch (error) {
      this.failed(error);
    }
  }
}
