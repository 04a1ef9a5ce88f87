/**
 * Id to slot number, without an object per entry: open addressing, linear probing, deletion by shifting back. The ids themselves
 * stay in the caller's array; the table holds slots.
 */
const empty = -1;

export class IdTable {
  size = 0;
  private slots = new Int32Array(128).fill(empty);
  constructor(private readonly idOf: (slot: number) => number) {}

  /** Room for so many at once: growing step by step moves all of them every time. */
  expect(count: number): void {
    while (count * 2 > this.slots.length) this.rehash();
  }

  /** -1 if there is none. */
  get(id: number): number {
    const mask = this.slots.length - 1;
    for (let at = this.home(id); ; at = (at + 1) & mask) {
      const slot = this.slots[at]!;
      if (slot === empty || this.idOf(slot) === id) return slot;
    }
  }

  /** The id must not be there yet. */
  set(id: number, slot: number): void {
    if ((this.size + 1) * 2 > this.slots.length) this.rehash();
    this.place(id, slot);
    this.size++;
  }

  delete(id: number): void {
    const mask = this.slots.length - 1;
    let at = this.home(id);
    while (this.slots[at] !== empty && this.idOf(this.slots[at]!) !== id) at = (at + 1) & mask;
    if (this.slots[at] === empty) return;
    this.size--;
    // Entries behind the hole move into it unless that would put them before their home.
    for (let from = (at + 1) & mask; this.slots[from] !== empty; from = (from + 1) & mask) {
      const home = this.home(this.idOf(this.slots[from]!));
      if (((from - home) & mask) >= ((from - at) & mask)) {
        this.slots[at] = this.slots[from]!;
        at = from;
      }
    }
    this.slots[at] = empty;
  }

  private place(id: number, slot: number): void {
    const mask = this.slots.length - 1;
    let at = this.home(id);
    while (this.slots[at] !== empty) at = (at + 1) & mask;
    this.slots[at] = slot;
  }

  private home(id: number): number {
    // Fibonacci hashing of the low 32 bits; ids are dense, so those differ.
    return (Math.imul(id | 0, 0x9e3779b1) >>> 7) & (this.slots.length - 1);
  }

  private rehash(): void {
    const old = this.slots;
    this.slots = new Int32Array(old.length * 2).fill(empty);
    for (const slot of old) if (slot !== empty) this.place(this.idOf(slot), slot);
  }
}
