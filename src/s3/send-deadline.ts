/**
 * How long a request with a body may take. Bodies share the uplink with as many others as callers like, so no rate of one of them says that something
 * is wrong; whether it moves does.
 *
 * 1. As long as bytes of the body are to be sent, and as long as some of them were acknowledged within `idleMs`, it goes on. What the kernel holds for us
 *    counts as not sent: on a slow link that may be minutes' worth.
 * 2. The wait for the answer begins when all of it has left: `idleMs` of silence at most, and `deadlineMs` for each body that was on its way at the same
 *    time, since what the other end has taken and not looked at yet cannot be seen.
 * 3. A server that takes a byte now and then does not hold a request forever: `slowestBytesPerMs` over all of the body is the end of it.
 * 4. Before there is a connection nothing moves: `deadlineMs`, as for any other request.
 */
import type { Socket } from 'node:net';
import { ioctl, SystemError } from '../base/libc.js';

/** 1 KiB/s: what is left for each of 64 uploads on a line of 512 kbit/s. */
const slowestBytesPerMs = 1;
const lookMsMax = 1000;
const looksPerLimit = 8;
/** Bytes of a TCP socket that the other end has not acknowledged (tcp(7)). */
const SIOCOUTQ = 0x5411;

/** How many bodies one client is sending, or waits to see answered. */
export interface Uplink { bodies: number }

export type Expiry = 'silent' | 'late';

export interface SendDeadlineOptions {
  readonly uplink: Uplink;
  readonly idleMs: number;
  readonly deadlineMs: number;
  readonly bodyBytes: number;
  /** Zero: all of it has left. Any other value is only compared with the one before. undefined: there is no connection yet. */
  readonly unsentBytes: () => number | undefined;
  /** At most once. */
  readonly expired: (why: Expiry) => void;
  readonly monotonic?: () => number;
  readonly setTimer?: (run: () => void, ms: number) => { cancel(): void };
}

export class SendDeadline {
  private readonly monotonic: () => number;
  private readonly setTimer: NonNullable<SendDeadlineOptions['setTimer']>;
  private readonly lookMs: number;
  private readonly startedMs: number;
  private unsent: number | undefined;
  /** Most bodies at the same time, this one included. */
  private peers: number;
  private isClosed = false;
  private movedMs = 0;
  /** Of the last look: what has left by the next one may have left right after it. */
  private lookedMs: number;
  private leftMs: number | undefined;
  private isAnswering = false;
  private timer: { cancel(): void };

  constructor(private readonly options: SendDeadlineOptions) {
    this.monotonic = options.monotonic ?? (() => performance.now());
    this.setTimer = options.setTimer ?? ((run, ms) => {
      const timer = setTimeout(run, ms);
      return { cancel: () => clearTimeout(timer) };
    });
    this.lookMs = Math.min(lookMsMax, Math.min(options.idleMs, options.deadlineMs) / looksPerLimit);
    this.startedMs = this.lookedMs = this.monotonic();
    this.peers = ++options.uplink.bodies;
    this.timer = this.setTimer(() => this.look(), this.lookMs);
  }

  /** The head of the answer is here: of the body no more is expected, and the socket's own timeout sees to silence. */
  answering(): void {
    this.isAnswering = true;
    this.leftMs ??= this.monotonic();
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.options.uplink.bodies--;
    this.timer.cancel();
  }

  private look(): void {
    const now = this.monotonic();
    this.peers = Math.max(this.peers, this.options.uplink.bodies);
    const [why, dueMs] = this.next(now);
    this.lookedMs = now;
    if (now >= dueMs) return this.options.expired(why);
    this.timer = this.setTimer(() => this.look(), Math.max(1, Math.min(this.lookMs, dueMs - now)));
  }

  /** What will have happened when, if nothing moves until then. */
  private next(now: number): [Expiry, number] {
    const { idleMs, deadlineMs, bodyBytes, unsentBytes } = this.options;
    if (this.leftMs === undefined) {
      const unsent = unsentBytes();
      if (unsent === undefined) return ['late', this.startedMs + deadlineMs];
      if (unsent > 0) {
        if (unsent !== this.unsent) this.movedMs = now;
        this.unsent = unsent;
        return earlier(this.movedMs + idleMs, this.startedMs + deadlineMs + bodyBytes / slowestBytesPerMs);
      }
      this.leftMs = this.lookedMs;
    }
    return earlier(this.isAnswering ? Infinity : this.leftMs + idleMs, this.leftMs + deadlineMs * this.peers);
  }
}

function earlier(silentMs: number, lateMs: number): [Expiry, number] {
  return silentMs < lateMs ? ['silent', silentMs] : ['late', lateMs];
}

/** What was written to the socket and is not known to be at the other end: in Node's buffers, libuv's, or the kernel's. */
export function unsentBytes(socket: Socket): number {
  // Not public, but the only way to the socket itself; without it the kernel's share is not known, and no harm done
  const handle = (socket as unknown as { readonly _handle?: { readonly fd?: number; readonly writeQueueSize?: number } | null })._handle;
  return socket.writableLength + (handle?.writeQueueSize ?? 0) + unacknowledged(handle?.fd);
}

const answer = Buffer.alloc(4);

function unacknowledged(fd: number | undefined): number {
  if (fd === undefined || fd < 0) return 0;
  try {
    ioctl(fd, SIOCOUTQ, answer);
  } catch (error) {
    if (error instanceof SystemError) return 0; // no TCP socket
    throw error;
  }
  return answer.readInt32LE(0);
}
