/** One critical section per key, FIFO. Entries vanish when nobody holds or waits, so the map is bounded by work in flight. */
export class KeyedLock<K> {
  private readonly tails = new Map<K, Promise<void>>();

  isHeld(key: K): boolean {
    return this.tails.has(key);
  }

  async acquire(key: K): Promise<() => void> {
    const previous = this.tails.get(key);
    let release!: () => void;
    const mine = new Promise<void>((resolve) => (release = resolve));
    const tail = (previous ?? Promise.resolve()).then(() => mine);
    this.tails.set(key, tail);
    await previous;
    return () => {
      release();
      if (this.tails.get(key) === tail) this.tails.delete(key);
    };
  }

  async run<T>(key: K, fn: () => Promise<T> | T): Promise<T> {
    const release = await this.acquire(key);
    try {
      return await fn();
    } finally {
      release();
    }
  }
}
