/** The kernel's end of a session, over a socket pair that keeps message boundaries as /dev/fuse does. */
import fs from 'node:fs';
import koffi from 'koffi';
import { readRaw, socketPair, SocketType, writeRaw } from '../../src/base/libc.js';
import { createLog } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import { Opcode } from '../../src/fuse/abi.js';
import type { FileSystem } from '../../src/fuse/ops.js';
import { FuseSession, type NegotiatedInit, type SessionEnd, type SessionOptions } from '../../src/fuse/session.js';

export interface FakeReply { readonly error: number; readonly unique: bigint; readonly body: Buffer }

/** Little-endian fields after one another: 'u32', 'u64' or bytes. */
export function pack(...fields: (number | bigint | string | Buffer)[]): Buffer {
  return Buffer.concat(fields.map((field) => {
    if (typeof field === 'string') return Buffer.from(`${field}\0`);
    if (Buffer.isBuffer(field)) return field;
    const bytes = Buffer.alloc(typeof field === 'bigint' ? 8 : 4);
    if (typeof field === 'bigint') bytes.writeBigUInt64LE(BigInt.asUintN(64, field));
    else bytes.writeUInt32LE(field >>> 0);
    return bytes;
  }));
}

export class FakeKernel {
  readonly session: FuseSession;
  readonly metrics = new Metrics();
  readonly logLines: string[] = [];
  readonly negotiations: NegotiatedInit[] = [];
  readonly ended: Promise<SessionEnd>;
  /** Replies and notifications nobody waits for. */
  readonly strays: FakeReply[] = [];
  private readonly ours: number;
  private readonly theirs: number;
  private unique = 0n;
  private readonly waiting = new Map<bigint, (reply: FakeReply) => void>();
  private readonly poll: ReturnType<typeof koffi.node.poll>;
  private readonly buffer = Buffer.alloc(1 << 20);
  private isClosed = false;

  constructor(fileSystem: FileSystem, options: Partial<Pick<SessionOptions, 'init' | 'resume' | 'resend'>> = {}) {
    [this.ours, this.theirs] = socketPair(SocketType.SEQPACKET | SocketType.NONBLOCK);
    this.poll = koffi.node.poll(this.ours, { readable: true }, () => this.receive());
    let end!: (reason: SessionEnd) => void;
    this.ended = new Promise((resolve) => { end = resolve; });
    this.session = FuseSession.start({
      device: this.theirs, fs: fileSystem, metrics: this.metrics, log: createLog('warn', (line) => this.logLines.push(line)), init: {},
      onInit: (negotiated) => this.negotiations.push(negotiated), onEnded: end, ...options,
    });
  }

  async init(flags = 0x5fd73fffffbn): Promise<FakeReply> {
    return this.ask(Opcode.INIT, 0, pack(7, 45, 131072, Number(flags & 0xffffffffn), Number(flags >> 32n), Buffer.alloc(44)));
  }

  /** Sends a request and waits for its reply. */
  ask(opcode: number, ino: number, body: Buffer = Buffer.alloc(0), options: { unique?: bigint; uid?: number; extension?: Buffer } = {}): Promise<FakeReply> {
    const unique = options.unique ?? (this.unique += 2n);
    return new Promise((resolve) => {
      this.waiting.set(unique, resolve);
      this.send(opcode, ino, body, { ...options, unique });
    });
  }

  /** Sends a request that has no reply, or whose reply is not waited for. */
  send(opcode: number, ino: number, body: Buffer, options: { unique?: bigint; uid?: number; extension?: Buffer } = {}): void {
    const unique = options.unique ?? (this.unique += 2n);
    const extension = options.extension ?? Buffer.alloc(0);
    this.sendRaw(Buffer.concat([
      pack(40 + body.length + extension.length, opcode, unique, BigInt(ino), options.uid ?? 0, 0, process.pid, (extension.length / 8) & 0xffff), body, extension,
    ]));
  }

  sendRaw(frame: Buffer): void {
    writeRaw(this.ours, frame, frame.length);
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    await this.session.stop();
    this.poll.close();
    fs.closeSync(this.ours);
    fs.closeSync(this.theirs);
  }

  /** The mount goes away. */
  hangUp(): void {
    this.isClosed = true;
    this.poll.close();
    fs.closeSync(this.ours);
  }

  private receive(): void {
    for (;;) {
      const length = readRaw(this.ours, this.buffer, this.buffer.length);
      if (length <= 0) return;
      const message = Buffer.from(this.buffer.subarray(0, length));
      const reply = { error: message.readInt32LE(4), unique: message.readBigUInt64LE(8), body: message.subarray(16) };
      const resolve = this.waiting.get(reply.unique);
      this.waiting.delete(reply.unique);
      if (resolve && message.readUInt32LE(0) === length) resolve(reply);
      else this.strays.push(reply);
    }
  }
}
