/**
 * Descriptors of content files: opened at first use, a bounded number kept, least recently used closed first. A descriptor
 * that is pinned (a sync runs on it in libuv's pool) closes once it is let go.
 *
 * S2: a descriptor open for writing spoils the lease that proves a file quiescent, so reading opens read-only, and
 * `closeWriter` gives the writing one back.
 */
import fs from 'node:fs';
import type { Disk } from '../base/disk.js';

export interface FdOwner {
  readonly path: string;
}

class Descriptor {
  pins = 0;
  doomed = false;
  /** @param forKernel it was opened as the kernel is to see the file (`fuse/backing-view`). */
  constructor(readonly fd: number, readonly writable: boolean, readonly forKernel = false) {}
}

export class FdCache {
  /** In order of use, oldest first. */
  private readonly open = new Map<FdOwner, Descriptor>();
  private latest: FdOwner | undefined;
  constructor(private readonly disk: Disk, private readonly max: number) {}

  get size(): number { return this.open.size; }

  get(owner: FdOwner, forWriting: boolean): number {
    return this.descriptor(owner, forWriting).fd;
  }

  /** One that is open already. */
  peek(owner: FdOwner): number | undefined {
    return this.open.get(owner)?.fd;
  }

  /** Adopts descriptors of a file just made: one for reading and writing, and perhaps one for the kernel. Only one is kept: the latter only if nobody wants to write right now. */
  adopt(owner: FdOwner, { fd, reader }: { readonly fd: number; readonly reader?: number | undefined }, forWriting: boolean): void {
    if (reader === undefined || forWriting) {
      this.insert(owner, new Descriptor(fd, true));
      if (reader !== undefined) this.disk.close(reader);
    } else {
      this.insert(owner, new Descriptor(reader, false, true));
      this.disk.close(fd);
    }
  }

  /** One that is open already and fit to be registered with the kernel. */
  forKernel(owner: FdOwner): number | undefined {
    const known = this.open.get(owner);
    return known?.forKernel === true ? known.fd : undefined;
  }

  pin(owner: FdOwner): { readonly fd: number; readonly unpin: () => void } {
    const descriptor = this.descriptor(owner, false);
    descriptor.pins++;
    return {
      fd: descriptor.fd,
      unpin: () => {
        descriptor.pins--;
        if (descriptor.doomed && descriptor.pins === 0) this.disk.close(descriptor.fd);
      },
    };
  }

  closeWriter(owner: FdOwner): void {
    if (this.open.get(owner)?.writable) this.drop(owner);
  }

  drop(owner: FdOwner): void {
    const descriptor = this.open.get(owner);
    if (!descriptor) return;
    this.open.delete(owner);
    if (this.latest === owner) this.latest = undefined;
    this.dispose(descriptor);
  }

  close(): void {
    for (const owner of [...this.open.keys()]) this.drop(owner);
  }

  private descriptor(owner: FdOwner, forWriting: boolean): Descriptor {
    const known = this.open.get(owner);
    if (known && (known.writable || !forWriting)) {
      if (this.latest !== owner) {
        this.open.delete(owner);
        this.open.set(owner, known);
        this.latest = owner;
      }
      return known;
    }
    const descriptor = new Descriptor(this.disk.open('content.open', owner.path, forWriting ? fs.constants.O_RDWR : fs.constants.O_RDONLY), forWriting);
    if (known) this.drop(owner);
    this.insert(owner, descriptor);
    return descriptor;
  }

  private insert(owner: FdOwner, descriptor: Descriptor): void {
    this.open.set(owner, descriptor);
    this.latest = owner;
    while (this.open.size > this.max) this.drop(this.open.keys().next().value!);
  }

  private dispose(descriptor: Descriptor): void {
    descriptor.doomed = true;
    if (descriptor.pins === 0) this.disk.close(descriptor.fd);
  }
}
