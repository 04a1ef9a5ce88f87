/** Random system calls on a mount and in a plain directory, and what happens to a mount meanwhile. */
import { constants } from 'node:fs';
import fc from 'fast-check';
import { FallocateMode, RenameFlag } from '../../src/fuse/ops.js';
import { join } from './model.js';
import type { Pair } from './mount-pair.js';

type Command = fc.AsyncCommand<Pair, Pair>;
type Run<A extends unknown[]> = (pair: Pair, ...args: A) => Promise<unknown>;

/** A command is a label and what it does; where there is nothing to do it to, it does nothing. */
function command<A extends unknown[]>(weight: number, label: string, args: fc.Arbitrary<A>, run: Run<A>): readonly [number, fc.Arbitrary<Command>] {
  return [weight, args.map((values) => ({
    check: () => true,
    run: async (_model: Pair, pair: Pair) => void (await run(pair, ...values)),
    toString: () => `${label}(${values.join(', ')})`,
  }))];
}

/** Modulo keeps a pick valid while shrinking. */
function pick<T>(list: readonly T[], index: number): T | undefined { return list[index % Math.max(1, list.length)]; }

/** Runs with a path of that kind, if there is one. */
function on<A extends unknown[]>(types: readonly string[], run: (pair: Pair, path: string, ...args: A) => Promise<unknown>): Run<[n: number, ...A]> {
  return async (pair, n, ...args) => {
    const path = pick(pair.names(...types), n);
    if (path !== undefined) await run(pair, path, ...args);
  };
}
const onFile = <A extends unknown[]>(run: (pair: Pair, path: string, ...args: A) => Promise<unknown>): Run<[n: number, ...A]> => on(['file'], run);

/** Runs with an open file, if there is one. */
function onSlot<A extends unknown[]>(of: 'files' | 'mappings', run: (pair: Pair, slot: number, ...args: A) => Promise<unknown>): Run<[n: number, ...A]> {
  return async (pair, n, ...args) => {
    const slot = pick([...pair[of].keys()], n);
    if (slot !== undefined) await run(pair, slot, ...args);
  };
}

const { O_RDONLY, O_RDWR, O_WRONLY, O_APPEND, O_TRUNC, O_CREAT, O_EXCL, O_SYNC, O_DSYNC } = constants;
const tmpfile = 0o20200000;

const index = fc.nat({ max: 30 });
const name = fc.constantFrom('a', 'b', 'c');
const offset = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 9000 }) }, { weight: 1, arbitrary: fc.integer({ min: 100_000, max: 700_000 }) });
const length = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 5000 }) }, { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 400_000 }) });
const mode = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 0o777 }) }, { weight: 1, arbitrary: fc.nat({ max: 0o7777 }) });
const text = fc.constantFrom('one', 'two', 'three and more');
const all = ['file', 'dir', 'link', 'fifo'];

/** The path a new name gets. */
const place = (pair: Pair, dir: number, child: string): string => join(pick(pair.directories(), dir)!, child);

const operations: readonly (readonly [number, fc.Arbitrary<Command>])[] = [
  // ---- names
  command(4, 'create', fc.tuple(index, name, length), (pair, dir, child, size) => pair.act('create', place(pair, dir, child), pair.seed, size)),
  command(3, 'mkdir', fc.tuple(index, name, mode), (pair, dir, child, bits) => pair.act('mkdir', place(pair, dir, child), bits)),
  command(1, 'symlink', fc.tuple(index, name, index), (pair, dir, child, n) => pair.act('symlink', place(pair, dir, child), `to/${n}`)),
  command(1, 'fifo', fc.tuple(index, name, fc.nat({ max: 0o777 })), (pair, dir, child, bits) => pair.act('fifo', place(pair, dir, child), bits)),
  command(2, 'link', fc.tuple(index, index, name), onFile((pair, path, dir: number, child: string) => pair.act('link', path, place(pair, dir, child)))),
  command(2, 'unlink', fc.tuple(index), on(['file', 'link', 'fifo', 'dir'], (pair, path) => pair.act('unlink', path))),
  command(1, 'rmdir', fc.tuple(index), on(['dir', 'file'], (pair, path) => pair.act('rmdir', path))),
  command(5, 'rename', fc.tuple(index, index, name, fc.constantFrom(0, 0, 0, RenameFlag.NOREPLACE, RenameFlag.EXCHANGE)), on(all, (pair, path, dir: number, child: string, flags: number) => pair.act('rename', path, place(pair, dir, child), flags))),

  // ---- attributes
  command(2, 'chmod', fc.tuple(index, mode), on(['file', 'dir', 'fifo'], (pair, path, bits: number) => pair.act('chmod', path, bits))),
  command(1, 'chown', fc.tuple(index, fc.nat({ max: 5 }), fc.nat({ max: 5 })), on(all, (pair, path, uid: number, gid: number) => pair.act('chown', path, uid, gid))),
  command(2, 'utimes', fc.tuple(index, fc.integer({ min: 0, max: 1_400_000_000 }), fc.nat({ max: 999_999_999 })), on(['file', 'dir'], (pair, path, sec: number, nsec: number) => pair.act('utimes', path, sec, nsec))),
  command(2, 'setxattr', fc.tuple(index, fc.constantFrom('user.1', 'user.2'), text, fc.constantFrom(0, 0, 1, 2)), on(['file', 'dir'], (pair, path, key: string, value: string, flags: number) => pair.act('setxattr', path, key, value, flags))),
  command(1, 'removexattr', fc.tuple(index, fc.constantFrom('user.1', 'user.2')), on(['file', 'dir'], (pair, path, key: string) => pair.act('removexattr', path, key))),

  // ---- content
  command(4, 'write', fc.tuple(index, offset, length, fc.constantFrom(0, 0, 0, O_SYNC, O_DSYNC)), onFile((pair, path, from: number, size: number, more: number) => pair.act('write', path, from, pair.seed, size, more))),
  command(2, 'append', fc.tuple(index, length), onFile((pair, path, size: number) => pair.act('append', path, pair.seed, size))),
  command(2, 'overwrite', fc.tuple(index, length), onFile((pair, path, size: number) => pair.act('overwrite', path, pair.seed, size))),
  command(2, 'truncate', fc.tuple(index, offset), onFile((pair, path, size: number) => pair.act('truncate', path, size))),
  command(4, 'read', fc.tuple(index, offset, length), onFile((pair, path, from: number, size: number) => pair.act('read', path, from, size))),
  command(2, 'store', fc.tuple(index, offset, length, fc.boolean()), onFile((pair, path, from: number, size: number, sync: boolean) => {
    pair.storesIn(path);
    return pair.act('store', path, from, pair.seed, size + 1, sync);
  })),
  command(2, 'fallocate', fc.tuple(index, fc.constantFrom(0, FallocateMode.KEEP_SIZE, FallocateMode.PUNCH_HOLE | FallocateMode.KEEP_SIZE, FallocateMode.ZERO_RANGE, FallocateMode.ZERO_RANGE | FallocateMode.KEEP_SIZE), offset, length), // the kernel asks for no others
    onFile((pair, path, kind: number, from: number, size: number) => pair.act('fallocate', path, kind, from, size + 1))),
  command(2, 'copy', fc.tuple(index, index, offset, offset, length), onFile((pair, path, to: number, from: number, into: number, size: number) => pair.act('copy', path, from, pick(pair.names('file'), to)!, into, size))),
  command(1, 'fsync directory', fc.tuple(index), (pair, n) => pair.act('fsync_directory', pick(pair.directories(), n)!)),

  // ---- files that stay open, whatever becomes of their names
  command(4, 'open', fc.tuple(index, fc.constantFrom(O_RDONLY, O_RDWR, O_RDWR, O_RDWR | O_APPEND, O_RDWR | O_TRUNC, O_WRONLY, O_RDWR | O_SYNC)), onFile((pair, path, flags: number) => pair.open(path, flags, (flags & 3) !== O_RDONLY))),
  command(2, 'open new', fc.tuple(index, name, fc.constantFrom(O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL, O_RDWR | O_CREAT | O_TRUNC)), (pair, dir, child, flags) => {
    const path = place(pair, dir, child);
    return pair.find(path)?.type === 'fifo' ? Promise.resolve() : pair.open(path, flags, true); // a pipe without a reader
  }),
  command(1, 'open without a name', fc.tuple(index), (pair, dir) => pair.open(pick(pair.directories(), dir)! || '.', tmpfile | O_RDWR, true)),
  command(1, 'give it a name', fc.tuple(index, index, name), onSlot('files', (pair, slot, dir: number, child: string) => pair.act('fd_link', slot, place(pair, dir, child)))),
  command(4, 'write open', fc.tuple(index, offset, length), onSlot('files', (pair, slot, from: number, size: number) => pair.act('fd_write', slot, from, pair.seed, size))),
  command(4, 'read open', fc.tuple(index, offset, length), onSlot('files', (pair, slot, from: number, size: number) => pair.act('fd_read', slot, from, size))),
  command(1, 'append open', fc.tuple(index, length), onSlot('files', (pair, slot, size: number) => pair.act('fd_append', slot, pair.seed, size))),
  command(1, 'truncate open', fc.tuple(index, offset), onSlot('files', (pair, slot, size: number) => pair.act('fd_truncate', slot, size))),
  command(1, 'chmod open', fc.tuple(index, mode), onSlot('files', (pair, slot, bits: number) => pair.act('fd_chmod', slot, bits))),
  command(2, 'stat open', fc.tuple(index), onSlot('files', (pair, slot) => pair.act('fd_stat', slot))),
  command(1, 'fsync', fc.tuple(index), onSlot('files', (pair, slot) => pair.act('fd_sync', slot))),
  command(3, 'close', fc.tuple(index), onSlot('files', (pair, slot) => pair.close(slot))),
  command(2, 'map', fc.tuple(index), onSlot('files', (pair, slot) => pair.map(slot))),
  command(3, 'store in map', fc.tuple(index, offset, length), onSlot('mappings', (pair, slot, from: number, size: number) => pair.act('map_write', slot, from, pair.seed, size))),
  command(2, 'read map', fc.tuple(index, offset, length), onSlot('mappings', (pair, slot, from: number, size: number) => pair.act('map_read', slot, from, size))),
  command(1, 'msync', fc.tuple(index), onSlot('mappings', (pair, slot) => pair.act('map_sync', slot))),
  command(1, 'unmap', fc.tuple(index), onSlot('mappings', (pair, slot) => pair.unmap(slot))),

  // ---- what happens meanwhile
  command(2, 'daemon dies', fc.tuple(fc.nat({ max: 6 }), fc.constantFrom(0, 0, 0, 1, 2, 5)), (pair, calls, delayMs) => Promise.resolve(pair.dieSoon(calls, delayMs))),
  command(2, 'evict', fc.tuple(), (pair) => pair.evict()),
  command(2, 'sync, evict', fc.tuple(), async (pair) => {
    await pair.sync();
    await pair.evict();
  }),
  command(1, 'sync', fc.tuple(), (pair) => pair.sync()),
  command(1, 'sync and die', fc.tuple(fc.nat({ max: 60 })), (pair, ms) => pair.sync({ killAfterMs: ms })),
  command(2, 'compare', fc.tuple(fc.boolean()), (pair, content) => pair.compare({ content })),
  command(1, 'mount again', fc.tuple(fc.constantFrom('orderly' as const, 'empty cache' as const, 'empty cache' as const, 'killed' as const)), (pair, how) => pair.again(how)),
  command(2, 'stranger', fc.tuple(fc.constantFrom('x', 'y'), fc.option(text)), (pair, key, what) => pair.strangerPuts(key, what)),
  command(1, 'stranger takes', fc.tuple(index, fc.option(text)), onFile((pair, path, what: string | null) => pair.strangerTakes(path, what))),
];

/** `fc.commands` picks evenly: what should come more often is there more often. */
export const mountCommands: fc.Arbitrary<Command>[] = operations.flatMap(([weight, arbitrary]) => Array<fc.Arbitrary<Command>>(weight).fill(arbitrary));
