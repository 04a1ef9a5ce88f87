/** Bytes in memory, shared by all uploads. First come, first served; one request larger than the whole budget goes alone. */
export class ByteBudget {
  private used = 0;
  private readonly waiters: { readonly bytes: number; readonly go: () => void }[] = [];
  constructor(private readonly limitBytes: number) {}

  async acquire(bytes: number): Promise<() => void> {
    if (this.waiters.length > 0 || !this.fits(bytes)) await new Promise<void>((go) => this.waiters.push({ bytes, go }));
    else this.used += bytes;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.used -= bytes;
      while (this.waiters.length > 0 && this.fits(this.waiters[0]!.bytes)) {
        const next = this.waiters.shift()!;
        this.used += next.bytes;
        next.go();
      }
    };
  }

  private fits(bytes: number): boolean {
    return this.used === 0 || this.used + bytes <= this.limitBytes;
  }
}
