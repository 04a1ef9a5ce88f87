/** One request being answered: the `RequestContext` its handler sees, and what the session needs to answer and to undo it. */
import { opcodeName, uniqueResendHigh } from './abi.js';
import type { RequestContext } from './ops.js';

export class Call implements RequestContext {
  supplementaryGid?: number;
  /** What the reply carries, for K12; set by the dispatcher. */
  openFlags = 0;
  private controller: AbortController | undefined;
  private interrupted = false;
  private wholeUnique: bigint | undefined;

  constructor(
    readonly opcode: number,
    /** As the kernel sent it, resend bit included: the reply echoes it verbatim (K11). */
    readonly uniqueLow: number, readonly uniqueHigh: number,
    readonly ino: number, readonly uid: number, readonly gid: number, readonly pid: number,
    readonly startedMs: number,
  ) {}

  get resent(): boolean {
    return this.uniqueHigh >= uniqueResendHigh;
  }

  get unique(): bigint {
    return (this.wholeUnique ??= (BigInt((this.uniqueHigh & 0x7fff_ffff) >>> 0) << 32n) | BigInt(this.uniqueLow));
  }

  get key(): number {
    return callKey(this.uniqueLow, this.uniqueHigh);
  }

  get signal(): AbortSignal {
    if (!this.controller) {
      this.controller = new AbortController();
      if (this.interrupted) this.controller.abort();
    }
    return this.controller.signal;
  }

  interrupt(): void {
    this.interrupted = true;
    this.controller?.abort();
  }

  get op(): string {
    return opcodeName(this.opcode);
  }
}

/** Identifies a request in maps: exact below 2^53, which the kernel's counter (from 0, in steps of 2) does not reach. */
export function callKey(low: number, high: number): number {
  return (high & 0x7fff_ffff) * 0x1_0000_0000 + low;
}

/** An INTERRUPT may overtake a resent request; those that came too late for theirs are indistinguishable, so only the last few are kept. */
const earlyMax = 256;

/** The requests that wait for a promise. */
export class CallsInFlight {
  private readonly calls = new Map<number, Call>();
  private readonly early = new Set<number>();
  private idle: (() => void)[] = [];

  get size(): number { return this.calls.size; }

  add(call: Call): void {
    this.calls.set(call.key, call);
  }

  remove(call: Call): void {
    if (this.calls.get(call.key) === call) this.calls.delete(call.key);
    if (this.calls.size > 0) return;
    for (const resolve of this.idle.splice(0)) resolve();
  }

  interrupt(key: number): void {
    const call = this.calls.get(key);
    if (call) return call.interrupt();
    if (this.early.size >= earlyMax) {
      for (const oldest of this.early) { this.early.delete(oldest); break; }
    }
    this.early.add(key);
  }

  /** True once for a request whose INTERRUPT came first. */
  wasInterrupted(key: number): boolean {
    return this.early.size > 0 && this.early.delete(key);
  }

  interruptAll(): void {
    for (const call of [...this.calls.values()]) call.interrupt();
  }

  whenIdle(): Promise<void> {
    if (this.calls.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.idle.push(resolve));
  }
}
