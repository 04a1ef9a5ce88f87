/**
 * The kernel session: reads requests from the device on Node's event loop, hands them to a `FileSystem`, writes the replies.
 *
 * 1. Every request gets exactly one reply (FORGET, BATCH_FORGET and INTERRUPT none), with its `unique` echoed verbatim (K11).
 * 2. This is the only catch-all: whatever a handler throws becomes an errno here, and is logged here once.
 * 3. The request buffer is reused: nothing of it is touched after the handler returned.
 * 4. A wake-up handles a bounded number of requests; the poll is level-triggered, so timers and I/O get their turn in between.
 * 5. A reply the kernel does not want any more (ENOENT) is told to the file system, which undoes it (K12).
 */
import type koffiModule from 'koffi';
import { Errno, errnoName, systemErrno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { koffi, readRaw, SystemError, writeRaw } from '../base/libc.js';
import type { Log } from '../base/log.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import type { Counter, Histogram, Metrics } from '../base/metrics.js';
import { NotifyCode, opcodeName, outHeaderBytes, rootIno } from './abi.js';
import { BufferPool, type PooledBuffer } from './buffer-pool.js';
import { Call, callKey, CallsInFlight } from './call.js';
import { decodeRequest, decodeSupplementaryGroup, Frame, type Request } from './decode.js';
import { DirentPacker, headRoom, putHeader, Reply, xattrList } from './encode.js';
import { Linger } from './linger.js';
import { maxWriteBytes, negotiate, pageBytes, type InitOptions, type NegotiatedInit } from './negotiate.js';
import { isUnwanted, SplicePipe } from './splice-pipe.js';
import type { AttrReply, Entry, FileSystem, OpenReply, StatFs } from './ops.js';

export type { InitOptions, NegotiatedInit } from './negotiate.js';

/** Why a session ended: the mount is gone; the connection was aborted (sysfs, or a kernel timeout); reading the device failed. */
export type SessionEnd = 'unmounted' | 'aborted' | 'failed';

export interface SessionOptions {
  /** Descriptor of the mounted /dev/fuse. Stays the caller's to close. */
  readonly device: number;
  readonly fs: FileSystem;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly init: InitOptions;
  /** What an earlier daemon negotiated on this connection. */
  readonly resume?: NegotiatedInit;
  /** An earlier daemon served this connection, even if it died before INIT was answered. Default: `resume` is given. */
  readonly resend?: boolean;
  /** Called before INIT is answered, so that the result can be stored first (K12). May come again with `resume`: INIT itself is resent. */
  readonly onInit: (negotiated: NegotiatedInit) => void;
  readonly onEnded: (reason: SessionEnd) => void;
}

/** Requests per wake-up, and milliseconds: whichever comes first. */
const batchMax = 64;
const batchMs = 5;
const readSizeMax = 16 << 20;
/** For less, the system calls and the pages of a pipe cost more than the copy they save. */
const spliceBytesMin = 64 << 10;

interface OpMetrics { readonly requests: Counter; readonly latency: Histogram }

export class FuseSession {
  private readonly device: number;
  private readonly fs: FileSystem;
  private readonly log: Log;
  private readonly metrics: Metrics;
  /** By opcode. */
  private readonly counted: (OpMetrics | undefined)[] = [];
  private readonly errors: (Counter | undefined)[] = [];
  /** Refusals are everyday answers (ENODATA for each `ls -l`): their log lines are not even put together unless someone reads them. */
  private readonly logsDebug: boolean;
  /** K4: at least max_write + 80. */
  private readonly frame = new Frame(Buffer.allocUnsafeSlow(maxWriteBytes + pageBytes));
  private readonly reply = new Reply();
  private readonly buffers = new BufferPool();
  private readonly pipe = new SplicePipe();
  private readonly inFlight = new CallsInFlight();
  private readonly linger = new Linger(() => performance.now());
  private poll: ReturnType<typeof koffiModule.node.poll> | undefined;
  private negotiated: NegotiatedInit | undefined;
  private ended = false;
  /** When the clock was last read, by whoever had to: a request was read, or answered. */
  private lookedAtMs = 0;

  static start(options: SessionOptions): FuseSession {
    const session = new FuseSession(options);
    session.poll = koffi().node.poll(options.device, { readable: true }, session.onReadable as unknown as () => void);
    if (options.resend ?? options.resume !== undefined) session.sendResend();
    return session;
  }

  private constructor(private readonly options: SessionOptions) {
    this.device = options.device;
    this.fs = options.fs;
    this.log = options.log.child({ room: 'fuse' });
    this.logsDebug = this.log.level === 'debug' || this.log.level === 'trace';
    this.metrics = options.metrics;
    this.negotiated = options.resume;
    this.reply.generation = options.resume?.generation ?? 0;
    this.metrics.gauge('fuse.in_flight', () => this.inFlight.size);
  }

  /** Takes no more requests; resolves once those taken are answered. What the kernel has queued stays there for the next daemon. */
  async stop(): Promise<void> {
    this.poll?.close();
    this.poll = undefined;
    await this.inFlight.whenIdle();
  }

  async close(): Promise<void> {
    await this.stop();
    this.pipe.close();
  }

  /** K11: the kernel queues again what an earlier daemon took and did not answer. Kernels before 6.9 answer EINVAL. */
  private sendResend(): void {
    const notice = Buffer.alloc(outHeaderBytes);
    notice.writeUInt32LE(outHeaderBytes, 0);
    notice.writeInt32LE(NotifyCode.RESEND, 4);
    const result = writeRaw(this.device, notice, notice.length);
    if (result < 0) this.log.error('the kernel does not resend what the last daemon left unanswered: its callers wait until they are killed', { error: errnoName(-result) });
  }

  private readonly onReadable = (status: number): void => {
    try {
      this.pump();
      // after an error condition libuv stops watching; if the device turns out to be alive, watch again
      if (status < 0) this.poll?.start({ readable: true }, this.onReadable as unknown as () => void);
    } catch (error) {
      setImmediate(() => { throw error; }); // thrown here it would be lost inside libuv
    }
  };

  private pump(): void {
    this.lookedAtMs = performance.now();
    const until = this.lookedAtMs + batchMs;
    for (let taken = 0; taken < batchMax && this.poll; ) {
      const length = readRaw(this.device, this.frame.buffer, this.frame.buffer.length);
      if (length > 0) {
        taken++;
        this.linger.came();
        this.handle(length);
        if (this.lookedAtMs > until) return;
        continue;
      }
      switch (-length) {
        case Errno.EAGAIN:
          // what is in flight is answered by the event loop
          if (this.inFlight.size === 0 && this.linger.again()) continue;
          return this.linger.stop();
        case Errno.EINTR: case Errno.ENOENT: continue; // ENOENT: the request was aborted before we read it
        case 0: case Errno.ENODEV: return this.end('unmounted');
        case 103 /* ECONNABORTED */: return this.end('aborted');
        default:
          this.log.error('cannot read the FUSE device', { error: errnoName(-length) });
          return this.end('failed');
      }
    }
  }

  private end(reason: SessionEnd): void {
    if (this.ended) return;
    this.ended = true;
    this.poll?.close();
    this.poll = undefined;
    this.inFlight.interruptAll();
    this.fs.destroyed();
    this.options.onEnded(reason);
  }

  private handle(length: number): void {
    const { frame } = this;
    if (!frame.load(length)) return this.log.error('a request shorter than its header', { length });
    this.lookedAtMs = performance.now();
    let call: Call | undefined;
    try {
      // nodeid may be malformed: the call must exist before it is looked at, or nobody could be answered
      call = new Call(frame.opcode, frame.uniqueLow, frame.uniqueHigh, frame.u32(20) > 0x1f_ffff ? 0 : frame.nodeid, frame.uid, frame.gid, frame.pid, this.lookedAtMs);
      this.metricsOf(call.opcode).requests.count++;
      const request = decodeRequest(frame, this.negotiated?.setxattrExt ?? false);
      if (frame.end < frame.length) {
        const group = decodeSupplementaryGroup(frame);
        if (group !== undefined) call.supplementaryGid = group;
      }
      if (this.inFlight.wasInterrupted(call.key)) call.interrupt();
      this.dispatch(call, request);
    } catch (error) {
      if (call) this.fail(call, error);
      else this.log.error('request without an answer', { error });
    }
  }

  private dispatch(call: Call, request: Request): void {
    const { fs } = this;
    const ino = call.ino;
    switch (request.op) {
      case 'LOOKUP': return this.settle(call, fs.lookup(call, ino, request.name), this.answerEntry);
      case 'GETATTR': return this.settle(call, fs.getattr(call, ino, request.fh), this.answerAttr);
      case 'READ': return this.read(call, request.fh, request.offset, request.size);
      case 'WRITE':
        return this.settle(call, fs.write(call, ino, request.fh, request.offset, request.data, request.flags, request.killSuidGid, request.fromPageCache), this.answerCount);
      case 'OPEN':
        call.openFlags = request.flags;
        return this.settle(call, fs.open(call, ino, request.flags, request.killSuidGid), this.answerOpen);
      case 'RELEASE': return this.settle(call, fs.release(call, ino, request.fh, request.flags), this.answerDone);
      case 'FLUSH':
        if (this.options.init.noFlush === true) return this.sendError(call, Errno.ENOSYS);
        return this.settle(call, fs.flush(call, ino, request.fh), this.answerEmpty);
      case 'FSYNC': return this.settle(call, fs.fsync(call, ino, request.fh, request.dataOnly), this.answerEmpty);
      case 'FORGET': return fs.forget(ino, request.count);
      case 'BATCH_FORGET':
        for (const item of request.items) fs.forget(item.ino, item.count);
        return;
      case 'SETATTR': return this.settle(call, fs.setattr(call, ino, request.change), this.answerAttrChanged);
      case 'STATX':
        if (this.options.init.statx !== true) return this.sendError(call, Errno.ENOSYS);
        return this.settle(call, fs.getattr(call, ino, request.fh), this.answerStatx);
      case 'READLINK': return this.settle(call, fs.readlink(call, ino), this.answerBytes);
      case 'SYMLINK': return this.settle(call, fs.symlink(call, ino, request.name, request.target), this.answerMade);
      case 'MKNOD': return this.settle(call, fs.mknod(call, ino, request.name, request.mode, request.rdev, request.umask), this.answerMade);
      case 'MKDIR': return this.settle(call, fs.mkdir(call, ino, request.name, request.mode, request.umask), this.answerMade);
      case 'UNLINK': return this.settle(call, fs.unlink(call, ino, request.name), this.answerDone);
      case 'RMDIR': return this.settle(call, fs.rmdir(call, ino, request.name), this.answerDone);
      case 'RENAME': return this.settle(call, fs.rename(call, ino, request.name, request.newParent, request.newName, request.flags), this.answerDone);
      case 'LINK': return this.settle(call, fs.link(call, request.ino, ino, request.newName), this.answerMade);
      case 'CREATE':
        call.openFlags = request.flags;
        return this.settle(call, fs.create(call, ino, request.name, request.flags, request.mode, request.umask), this.answerCreate);
      case 'TMPFILE':
        call.openFlags = request.flags;
        return this.settle(call, fs.tmpfile(call, ino, request.flags, request.mode, request.umask), this.answerCreate);
      case 'OPENDIR':
        call.openFlags = request.flags;
        return this.settle(call, fs.opendir(call, ino), this.answerOpenDir);
      case 'READDIR': case 'READDIRPLUS': return this.readdir(call, request.fh, request.offset, request.size, request.op === 'READDIRPLUS');
      case 'RELEASEDIR': return this.settle(call, fs.releasedir(call, ino, request.fh), this.answerEmpty);
      case 'FSYNCDIR': return this.settle(call, fs.fsyncdir(call, ino, request.fh, request.dataOnly), this.answerEmpty);
      case 'STATFS': return this.settle(call, fs.statfs(call, ino === 0 ? rootIno : ino), this.answerStatfs);
      case 'GETXATTR': return this.xattr(call, fs.getxattr(call, ino, request.name), request.size);
      case 'LISTXATTR': return this.xattr(call, andThen(fs.listxattr(call, ino), xattrList), request.size);
      case 'SETXATTR': return this.settle(call, fs.setxattr(call, ino, request.name, request.value, request.flags, request.killSgid), this.answerDone);
      case 'REMOVEXATTR': return this.settle(call, fs.removexattr(call, ino, request.name), this.answerDone);
      case 'FALLOCATE': return this.settle(call, fs.fallocate(call, ino, request.fh, request.offset, request.length, request.mode), this.answerDone);
      case 'LSEEK': return this.settle(call, fs.lseek(call, ino, request.fh, request.offset, request.whence), this.answerOffset);
      case 'COPY_FILE_RANGE':
        return this.settle(call, fs.copyFileRange(call, ino, request.fh, request.offset, request.outIno, request.outFh, request.outOffset, request.length), this.answerCopied);
      case 'INTERRUPT': return this.inFlight.interrupt(callKey(request.low, request.high));
      case 'INIT': return this.init(call, request);
      case 'DESTROY': return this.answerEmpty(call);
      case 'IOCTL': return this.sendError(call, Errno.ENOTTY);
      // ENOSYS means "never ask again" to the kernel. What arrives here may be forgotten: ACCESS (default_permissions), locks (not
      // negotiated), BMAP, POLL, SYNCFS, COPY_FILE_RANGE_64 (falls back to 47) and what future kernels add (K3)
      case 'UNSUPPORTED': return this.sendError(call, Errno.ENOSYS);
      default: request satisfies never;
    }
  }

  private settle<T>(call: Call, value: MaybePromise<T>, answer: (call: Call, value: T) => void): void {
    if (!(value instanceof Promise)) return answer(call, value);
    this.inFlight.add(call);
    value.then((result) => answer(call, result)).catch((error: unknown) => this.fail(call, error)).finally(() => this.inFlight.remove(call));
  }

  private init(call: Call, request: Request & { op: 'INIT' }): void {
    const negotiated = negotiate(request, this.options.init);
    if (!negotiated) {
      this.log.error('this kernel speaks another FUSE protocol', { major: request.major, minor: request.minor });
      return this.sendError(call, Errno.EINVAL);
    }
    this.negotiated = negotiated;
    this.reply.generation = negotiated.generation;
    this.options.onInit(negotiated);
    this.log.info('negotiated', { minor: negotiated.minor, offered: negotiated.offeredFlags, flags: negotiated.flags, resent: call.resent });
    this.send(call, this.reply.init({ ...negotiated, flags: BigInt(negotiated.flags), maxReadahead: negotiated.maxReadaheadBytes, maxWrite: negotiated.maxWriteBytes }));
  }

  // ---- answers. Each is a bound function, so that handing it to `settle` makes no garbage

  private readonly answerEmpty = (call: Call): void => { this.send(call, 0); };
  private readonly answerDone = (call: Call): void => { this.sendDone(call, 0); };
  private readonly answerAttr = (call: Call, reply: AttrReply): void => { this.send(call, this.reply.attr(reply)); };
  private readonly answerAttrChanged = (call: Call, reply: AttrReply): void => { this.sendDone(call, this.reply.attr(reply)); };
  private readonly answerStatx = (call: Call, reply: AttrReply): void => { this.send(call, this.reply.statx(reply)); };
  private readonly answerCount = (call: Call, count: number): void => { this.send(call, this.reply.count(count)); };
  private readonly answerCopied = (call: Call, count: number): void => { this.sendDone(call, this.reply.count(count)); };
  private readonly answerOffset = (call: Call, offset: number): void => { this.send(call, this.reply.lseek(offset)); };
  private readonly answerStatfs = (call: Call, stat: StatFs): void => { this.send(call, this.reply.statfs(stat)); };

  private readonly answerEntry = (call: Call, entry: Entry): void => {
    if (entry.attr === null && entry.entryValidMs <= 0) return this.sendError(call, Errno.ENOENT);
    if (!this.send(call, this.reply.entry(entry)) && entry.attr) this.fs.undelivered(call, { lookupIno: entry.attr.ino });
  };

  private readonly answerMade = (call: Call, entry: Entry): void => {
    if (this.send(call, this.reply.entry(entry))) this.fs.delivered(call);
    else this.fs.undelivered(call, entry.attr ? { lookupIno: entry.attr.ino } : {});
  };

  private readonly answerOpen = (call: Call, open: OpenReply): void => {
    if (!this.send(call, this.reply.open(open))) this.fs.undelivered(call, { open: { ino: call.ino, fh: open.fh, flags: call.openFlags, directory: false } });
    else this.fs.delivered(call); // an O_TRUNC, or the count of an orphan's handles
  };

  private readonly answerOpenDir = (call: Call, open: OpenReply): void => {
    if (!this.send(call, this.reply.open(open))) this.fs.undelivered(call, { open: { ino: call.ino, fh: open.fh, flags: call.openFlags, directory: true } });
  };

  private readonly answerCreate = (call: Call, created: Entry & OpenReply): void => {
    if (this.send(call, this.reply.create(created))) this.fs.delivered(call);
    else if (created.attr) {
      const ino = created.attr.ino;
      this.fs.undelivered(call, { lookupIno: ino, open: { ino, fh: created.fh, flags: call.openFlags, directory: false } });
    }
  };

  private readonly answerBytes = (call: Call, bytes: Buffer): void => {
    const message = Buffer.allocUnsafeSlow(outHeaderBytes + bytes.length);
    bytes.copy(message, outHeaderBytes);
    putHeader(new DataView(message.buffer), 0, message.length, 0, call.uniqueLow, call.uniqueHigh);
    this.transmit(call, message, message.length);
  };

  /** GETXATTR and LISTXATTR: size 0 asks how long the answer is; one that does not fit is ERANGE. */
  private xattr(call: Call, value: MaybePromise<Buffer | undefined>, size: number): void {
    if (value === undefined) return this.sendError(call, Errno.ENODATA); // before every first write(2), and every chown(2): is there a capability?
    this.settle(call, value, (_call, bytes) => {
      if (bytes === undefined) this.sendError(call, Errno.ENODATA);
      else if (size === 0) this.send(call, this.reply.count(bytes.length));
      else if (bytes.length > size) this.sendError(call, Errno.ERANGE);
      else this.answerBytes(call, bytes);
    });
  }

  private read(call: Call, fh: number, offset: number, size: number): void {
    const answer = (): void | Promise<void> => this.spliced(call, fh, offset, size) ? undefined : this.buffered(size, (pooled) => this.fs.read(call, call.ino, fh, offset, pooled.data(size)), (pooled, count) => {
      this.sendPooled(call, pooled, count);
    });
    const ready = this.fs.ready?.(call, call.ino, fh, offset, size);
    const done = ready ? ready.then(answer) : answer();
    if (done) this.settle(call, done, () => undefined);
  }

  /** @returns false if the bytes have to be read. */
  private spliced(call: Call, fh: number, offset: number, size: number): boolean {
    if (size < spliceBytesMin) return false;
    const bytes = this.fs.located?.(call, call.ino, fh, offset, size);
    if (!bytes || bytes.length < spliceBytesMin) return false;
    putHeader(this.reply.view, 0, outHeaderBytes + bytes.length, 0, call.uniqueLow, call.uniqueHigh);
    const written = this.pipe.send(this.device, this.reply.buffer, outHeaderBytes, bytes.fd, offset, bytes.length);
    if (written === undefined) return false;
    this.transmitted(call, outHeaderBytes + bytes.length, written);
    return true;
  }

  private readdir(call: Call, fh: number, offset: number, size: number, plus: boolean): void {
    let packer: DirentPacker | undefined;
    const undo = (): void => {
      for (const lookupIno of packer?.lookups ?? []) this.fs.undelivered(call, { lookupIno });
    };
    const result = this.buffered(size, (pooled) => {
      packer = new DirentPacker(pooled.data(size), plus, this.reply.generation);
      return this.fs.readdir(call, call.ino, fh, offset, packer);
    }, (pooled) => {
      if (!this.sendPooled(call, pooled, packer!.length)) undo();
    }, undo);
    if (result) this.settle(call, result, () => undefined);
  }

  /** Runs `work` with a pooled buffer that goes back once `done` has sent it. */
  private buffered<T>(size: number, work: (pooled: PooledBuffer) => MaybePromise<T>, done: (pooled: PooledBuffer, value: T) => void, failed?: () => void): void | Promise<void> {
    if (size > readSizeMax) throw new FsError(Errno.EINVAL, `Read of ${size} bytes, at most ${readSizeMax}`);
    const pooled = this.buffers.acquire(size);
    return pooled instanceof Promise ? pooled.then((buffer) => this.useBuffer(buffer, work, done, failed)) : this.useBuffer(pooled, work, done, failed);
  }

  private useBuffer<T>(pooled: PooledBuffer, work: (pooled: PooledBuffer) => MaybePromise<T>, done: (pooled: PooledBuffer, value: T) => void, failed?: () => void): void | Promise<void> {
    let value: MaybePromise<T>;
    try {
      value = work(pooled);
      if (!(value instanceof Promise)) done(pooled, value);
    } catch (error) {
      failed?.();
      this.buffers.release(pooled);
      throw error;
    }
    if (!(value instanceof Promise)) return this.buffers.release(pooled);
    return value.then((result) => done(pooled, result), (error: unknown) => {
      failed?.();
      throw error;
    }).finally(() => this.buffers.release(pooled));
  }

  // ---- the wire

  private sendPooled(call: Call, pooled: PooledBuffer, count: number): boolean {
    const at = headRoom - outHeaderBytes;
    putHeader(pooled.view, at, outHeaderBytes + count, 0, call.uniqueLow, call.uniqueHigh);
    return this.transmit(call, pooled.buffer.subarray(at), outHeaderBytes + count);
  }

  /** @returns false if the kernel did not want the reply any more. */
  private send(call: Call, bodyBytes: number): boolean {
    putHeader(this.reply.view, 0, outHeaderBytes + bodyBytes, 0, call.uniqueLow, call.uniqueHigh);
    return this.transmit(call, this.reply.buffer, outHeaderBytes + bodyBytes);
  }

  /** The answer of a request that changed something. */
  private sendDone(call: Call, bodyBytes: number): void {
    if (this.send(call, bodyBytes)) this.fs.delivered(call);
    else this.fs.undelivered(call, {});
  }

  private sendError(call: Call, errno: Errno): void {
    (this.errors[errno] ??= this.metrics.counter(`fuse.errors.${errnoName(errno)}`)).count++;
    putHeader(this.reply.view, 0, outHeaderBytes, -errno, call.uniqueLow, call.uniqueHigh);
    this.transmit(call, this.reply.buffer, outHeaderBytes);
  }

  private metricsOf(opcode: number): OpMetrics {
    const known = this.counted[opcode];
    if (known) return known;
    const op = opcodeName(opcode).toLowerCase();
    return (this.counted[opcode] = { requests: this.metrics.counter(`fuse.requests.${op}`), latency: this.metrics.latency(`fuse.latency_us.${op}`) });
  }

  private transmit(call: Call, message: Buffer, length: number): boolean {
    return this.transmitted(call, length, writeRaw(this.device, message, length));
  }

  private transmitted(call: Call, length: number, written: number): boolean {
    this.lookedAtMs = performance.now();
    this.metricsOf(call.opcode).latency.observe((this.lookedAtMs - call.startedMs) * 1000);
    if (written === length) return true;
    this.metrics.add('fuse.replies_undelivered');
    if (isUnwanted(written)) return false;
    // anything else means the kernel found the reply malformed
    this.log.error('the kernel refused a reply', { op: call.op, req: call.unique, ino: call.ino, length, error: errnoName(-written) });
    if (length > outHeaderBytes) {
      putHeader(this.reply.view, 0, outHeaderBytes, -Errno.EIO, call.uniqueLow, call.uniqueHigh);
      writeRaw(this.device, this.reply.buffer, outHeaderBytes);
    }
    return false;
  }

  private fail(call: Call, error: unknown): void {
    let errno: Errno = Errno.EIO;
    if (error instanceof FsError && error.errno !== Errno.EIO) {
      errno = error.errno;
      if (this.logsDebug) this.log.debug(error.message, { op: call.op, req: call.unique, ino: call.ino, errno: errnoName(errno) });
    } else {
      const fields = { op: call.op, req: call.unique, ino: call.ino };
      if (error instanceof FsError) this.log.warn(error.message, { ...fields, error: error.cause });
      else {
        const known = error instanceof SystemError ? error.errno : systemErrno(error);
        if (known !== undefined) errno = known;
        this.log.error('request failed', { ...fields, error });
      }
    }
    // FORGET and friends have no reply; a malformed one is only logged
    if (call.opcode === 2 || call.opcode === 42 || call.opcode === 36) return;
    this.sendError(call, errno);
    this.fs.undelivered(call, {}); // of what it did before it failed something may be on record
  }
}
