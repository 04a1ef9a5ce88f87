import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { FileSink } from './file-sink.js';
import { StoreError } from './store-error.js';

const dir = mkdtempSync(join(tmpdir(), 'hearthfs-sink-'));
const path = join(dir, 'file');
afterAll(() => rmSync(dir, { recursive: true }));

test('whatever the sizes of the chunks and the turns between them, every byte is in the file before it is reported, once', async () => {
  const step = fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 60_000, max: 140_000 }), fc.constant('turn' as const));
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.nat(10_000), async (steps, start) => {
    writeFileSync(path, '');
    let reported = start;
    let at = start;
    const valueAt = (offset: number): number => (offset * 7 + (offset >> 8)) & 0xff;
    const sink = new FileSink(path, start, (from, to) => {
      expect(from).toBe(reported);
      const file = readFileSync(path);
      for (let i = from; i < to; i += 9973) expect(file[i]).toBe(valueAt(i));
      expect(file.length).toBeGreaterThanOrEqual(to);
      reported = to;
    });
    for (const what of steps) {
      if (what === 'turn') await turn();
      else {
        const chunk = Buffer.from(Uint8Array.from({ length: what }, (_, i) => valueAt(at + i)));
        sink.take(chunk);
        chunk.fill(0xff); // it was only borrowed
        at += what;
      }
    }
    sink.flush();
    sink.close();
    expect(reported).toBe(at);
    expect(readFileSync(path).subarray(start).equals(Buffer.from(Uint8Array.from({ length: at - start }, (_, i) => valueAt(start + i))))).toBe(true);
  }), { numRuns: 20 });
});

test('the first bytes are reported in the turn that brought them, later ones by ever more at once', async () => {
  writeFileSync(path, '');
  const reports: [number, number][] = [];
  const sink = new FileSink(path, 0, (start, end) => reports.push([start, end]));
  sink.take(Buffer.alloc(1000));
  await turn();
  expect(reports).toEqual([[0, 1000]]);
  for (let i = 0; i < 32; i++) sink.take(Buffer.alloc(65536));
  sink.flush();
  sink.close();
  expect(reports.at(-1)![1]).toBe(1000 + 32 * 65536);
  expect(reports.slice(1, -1).every(([start, end]) => end - start >= Math.min(start, 1 << 20))).toBe(true);
  expect(reports.length).toBeLessThanOrEqual(10);
});

test('a failure at the end of a turn is the error of the next call', async () => {
  const sink = new FileSink('/dev/full', 0, undefined);
  sink.take(Buffer.alloc(10));
  await turn();
  expect(() => sink.take(Buffer.alloc(10))).toThrow(StoreError);
  expect(() => sink.flush()).toThrow(/ENOSPC/);
  sink.close();
});
