import type { Log } from './log.js';

export interface Closable {
  close(): Promise<void> | void;
}

/** Owns closables and closes them in reverse order of adoption, each exactly once, all of them even if some fail. */
export class Lifetime implements Closable {
  private owned: Closable[] = [];
  private closing: Promise<void> | undefined;
  constructor(readonly name: string, private readonly log?: Log) {}

  own<T extends Closable>(thing: T): T {
    this.owned.push(thing);
    return thing;
  }

  defer(close: () => Promise<void> | void): void {
    this.owned.push({ close });
  }

  close(): Promise<void> {
    this.closing ??= this.closeAll();
    return this.closing;
  }

  private async closeAll(): Promise<void> {
    const errors: unknown[] = [];
    for (;;) {
      const thing = this.owned.pop();
      if (!thing) break;
      try {
        await thing.close();
      } catch (error) {
        errors.push(error);
        this.log?.error('close failed', { room: this.name, error });
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `closing ${this.name} failed`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
