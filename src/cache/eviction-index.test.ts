import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EvictionIndex, Flag } from './eviction-index.js';
import { IdTable } from './id-table.js';

const fresh = { bytes: 4096, hits: 0, queue: 0, usedAtMs: 0, dirty: false, pinned: false } as const;

/** Adds a file and evicts until `capacity` files are left. Answers whether it was there already. */
function access(index: EvictionIndex, id: number, nowMs: number, capacity: number): boolean {
  if (index.has(id)) {
    index.touch(id, nowMs);
    return true;
  }
  index.add(id, { ...fresh, usedAtMs: nowMs, owner: id });
  while (index.count > capacity) {
    const victim = index.victim()!;
    index.bury(victim);
    index.remove(victim);
  }
  return false;
}

describe('eviction order', () => {
  test('a scan of ten times the cache does not push out files that are used repeatedly', () => {
    const index = new EvictionIndex();
    let now = 0;
    for (let round = 0; round < 4; round++) for (let id = 1; id <= 50; id++) access(index, id, (now += 2000), 100);
    for (let id = 1000; id < 2000; id++) access(index, id, (now += 2000), 100);
    let hot = 0;
    for (let id = 1; id <= 50; id++) if (index.has(id)) hot++;
    expect(hot).toBe(50);
  });

  test('many requests for one file within a second are one use', () => {
    const index = new EvictionIndex();
    index.add(1, { ...fresh });
    index.add(2, { ...fresh });
    for (let i = 0; i < 100; i++) index.touch(1, i);
    expect(index.victim()).toBe(1);
    index.touch(1, 5000);
    expect(index.victim()).toBe(2);
  });

  test('what comes back soon after its eviction enters the main queue', () => {
    const index = new EvictionIndex();
    index.add(1, { ...fresh, owner: 77 });
    index.bury(1);
    index.remove(1);
    index.add(2, { ...fresh, owner: 77 });
    expect(index.state(2)!.queue).toBe(1);
  });

  test('dirty, pinned and held files are never victims, and come back when they are none of these', () => {
    const index = new EvictionIndex();
    for (const [id, flag] of [[1, Flag.dirty], [2, Flag.pinned], [3, Flag.held]] as const) {
      index.add(id, { ...fresh });
      index.setFlag(id, flag, true);
    }
    expect(index.victim()).toBeUndefined();
    expect(index.evictableBytes).toBe(0);
    index.setFlag(2, Flag.held, true);
    index.setFlag(2, Flag.pinned, false);
    expect(index.victim()).toBeUndefined();
    index.setFlag(2, Flag.held, false);
    expect(index.victim()).toBe(2);
  });

  test('sums and queues agree with a plain model under any sequence of changes', () => {
    const operation = fc.record({ kind: fc.constantFrom('add', 'remove', 'bytes', 'dirty', 'held', 'touch', 'victim'), id: fc.integer({ min: 1, max: 12 }), value: fc.nat(5) });
    fc.assert(fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
      const index = new EvictionIndex();
      const model = new Map<number, { bytes: number; dirty: boolean; held: boolean }>();
      let now = 0;
      for (const { kind, id, value } of operations) {
        const entry = model.get(id);
        now += 2000;
        if (kind === 'add' && !entry) {
          index.add(id, { ...fresh, bytes: value * 4096 });
          model.set(id, { bytes: value * 4096, dirty: false, held: false });
        } else if (kind === 'remove') {
          index.remove(id);
          model.delete(id);
        } else if (kind === 'bytes' && entry) {
          index.setBytes(id, (entry.bytes = value * 4096));
        } else if (kind === 'dirty' && entry) {
          index.setFlag(id, Flag.dirty, (entry.dirty = value % 2 === 0));
        } else if (kind === 'held' && entry) {
          index.setFlag(id, Flag.held, (entry.held = value % 2 === 0));
        } else if (kind === 'touch') {
          index.touch(id, now);
        } else if (kind === 'victim') {
          const victim = index.victim();
          const evictable = [...model].filter(([, state]) => !state.dirty && !state.held).map(([key]) => key);
          if (evictable.length === 0) expect(victim).toBeUndefined();
          else expect(evictable).toContain(victim);
        }
        const states = [...model.values()];
        const sum = (of: typeof states): number => of.reduce((total, state) => total + state.bytes, 0);
        expect([index.count, index.bytes, index.dirtyBytes, index.evictableBytes]).toEqual(
          [model.size, sum(states), sum(states.filter((state) => state.dirty)), sum(states.filter((state) => !state.dirty && !state.held))]);
      }
    }), { numRuns: 100 });
  });

  test('a million files fit in compact memory and lookups stay fast', () => {
    const index = new EvictionIndex();
    const before = process.memoryUsage();
    for (let id = 1; id <= 1_000_000; id++) index.add(id, fresh);
    const after = process.memoryUsage();
    expect(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers).toBeLessThan(120e6);
    expect(index.has(777_777)).toBe(true);
    expect(index.victim()).toBe(1);
  });

  test('with a hint the room for all files is there before the first, and it is no limit', () => {
    const index = new EvictionIndex();
    index.expect(100_000);
    const before = process.memoryUsage().arrayBuffers;
    for (let id = 1; id <= 100_000; id++) index.add(id, fresh);
    expect(process.memoryUsage().arrayBuffers).toBeLessThanOrEqual(before);
    for (let id = 100_001; id <= 200_000; id++) index.add(id, fresh);
    expect([index.count, index.bytesOf(1), index.bytesOf(200_000)]).toEqual([200_000, 4096, 4096]);
    index.expect(10);
    expect(index.victim()).toBe(1);
  });
});

test('the id table behaves like a Map', () => {
  const operation = fc.record({ remove: fc.boolean(), id: fc.integer({ min: 1, max: 400 }).map((id) => id * 7919) });
  fc.assert(fc.property(fc.array(operation, { maxLength: 400 }), (operations) => {
    const ids: number[] = [];
    const table = new IdTable((slot) => ids[slot]!);
    const model = new Map<number, number>();
    for (const { remove, id } of operations) {
      if (remove) {
        table.delete(id);
        model.delete(id);
      } else if (!model.has(id)) {
        model.set(id, ids.length);
        ids.push(id);
        table.set(id, model.get(id)!);
      }
    }
    expect(table.size).toBe(model.size);
    for (let id = 7919; id <= 400 * 7919; id += 7919) expect(table.get(id)).toBe(model.get(id) ?? -1);
  }), { numRuns: 50 });
});
