import { NumberSet } from '../base/number-set.js';

/**
 * Which inodes the kernel may know by number, and which of them handles of an earlier daemon may still hold open. Two bits per inode, not
 * counts: FORGETs are advisory anyway (K14).
 *
 * - An inode whose number never went to the kernel gets no FORGET: one of those goes with its last name.
 * - What an earlier daemon of this connection answered is not known; until its FORGET comes an inode from before this daemon counts as known and open (K12).
 */
export class KernelInodes {
  private readonly named = new NumberSet();
  /** Inodes up to here may have been named by an earlier daemon. 0: there was none. */
  private oldInoMax = 0;
  /** Of those, the ones the kernel has forgotten since. */
  private readonly forgottenOld = new NumberSet();

  /** The connection of an earlier daemon goes on. */
  inherit(inoMax: number): void { this.oldInoMax = inoMax; }

  /** A reply carries the inode's number. */
  sent(ino: number): void { this.named.add(ino); }

  /** FORGET. Nothing of the inode is open: the kernel keeps what is. */
  forgotten(ino: number): void {
    this.named.delete(ino);
    if (ino <= this.oldInoMax) this.forgottenOld.add(ino);
  }

  isKnown(ino: number): boolean { return this.named.has(ino) || this.mayBeOpenFromBefore(ino); }

  /** By handles that an earlier daemon gave out. */
  mayBeOpenFromBefore(ino: number): boolean { return ino <= this.oldInoMax && !this.forgottenOld.has(ino); }
}
