/**
 * Buffers for READ and READDIR answers, reused by size class (powers of two). `limitBytes` bounds what is out at once: a request
 * that finds the pool empty waits its turn, first come first served. At most `keepBytes` stay allocated while idle.
 */
import { headRoom } from './encode.js';

export class PooledBuffer {
  readonly buffer: Buffer;
  readonly view: DataView;

  constructor(readonly classBytes: number) {
    this.buffer = Buffer.allocUnsafeSlow(headRoom + classBytes);
    this.view = new DataView(this.buffer.buffer, this.buffer.byteOffset, this.buffer.byteLength);
  }

  data(sizeBytes: number): Buffer {
    return this.buffer.subarray(headRoom, headRoom + sizeBytes);
  }
}

const classBytesMin = 4096;

export class BufferPool {
  private readonly free = new Map<number, PooledBuffer[]>();
  private freeBytes = 0;
  private outBytes = 0;
  private readonly waiters: { classBytes: number; resolve: (buffer: PooledBuffer) => void }[] = [];

  constructor(private readonly limitBytes = 64 << 20, private readonly keepBytes = 16 << 20) {}

  get bytesInUse(): number { return this.outBytes; }

  acquire(sizeBytes: number): PooledBuffer | Promise<PooledBuffer> {
    let classBytes = classBytesMin;
    while (classBytes < sizeBytes) classBytes *= 2;
    if (this.waiters.length === 0 && this.fits(classBytes)) return this.take(classBytes);
    return new Promise((resolve) => this.waiters.push({ classBytes, resolve }));
  }

  release(buffer: PooledBuffer): void {
    this.outBytes -= buffer.classBytes;
    if (this.freeBytes + buffer.classBytes <= this.keepBytes) {
      const list = this.free.get(buffer.classBytes);
      if (list) list.push(buffer);
      else this.free.set(buffer.classBytes, [buffer]);
      this.freeBytes += buffer.classBytes;
    }
    while (this.waiters.length > 0 && this.fits(this.waiters[0]!.classBytes)) {
      const waiter = this.waiters.shift()!;
      waiter.resolve(this.take(waiter.classBytes));
    }
  }

  /** A lone request is always served, however large. */
  private fits(classBytes: number): boolean {
    return this.outBytes === 0 || this.outBytes + classBytes <= this.limitBytes;
  }

  private take(classBytes: number): PooledBuffer {
    this.outBytes += classBytes;
    const kept = this.free.get(classBytes)?.pop();
    if (!kept) return new PooledBuffer(classBytes);
    this.freeBytes -= classBytes;
    return kept;
  }
}
