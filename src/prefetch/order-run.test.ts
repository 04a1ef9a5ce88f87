import { expect, test } from 'vitest';
import { OrderRun, type OrderRunOptions, type Want } from './order-run.js';

const options: OrderRunOptions = { windowMin: 4, windowMax: 16, bytesMax: 1000, visitsMin: 2, gapMax: 8 };
const ids = (count: number, from = 1): number[] => Array.from({ length: count }, (_, index) => from + index);

/** Serves a want from things 1..total of `bytes` each. */
function serve(run: OrderRun, want: Want | undefined, total: number, bytes = 1): number[] {
  if (!want) return [];
  const things = ids(total).filter((id) => id > want.after).slice(0, Math.min(want.count, Math.floor(want.bytes / bytes))).map((id) => ({ id, bytes, ref: 0 }));
  const lookedTo = things.at(-1)?.id ?? want.after;
  run.began(things, lookedTo, lookedTo >= total);
  return things.map(({ id }) => id);
}

test('the first visit shows nothing; the second in order starts a small window that doubles up to the budget', () => {
  const run = new OrderRun(options);
  expect(run.visit(1)).toBeUndefined();
  expect(serve(run, run.visit(2), 1000)).toEqual([3, 4, 5, 6]);
  let furthest = 6;
  let most = 0;
  for (const id of ids(100, 3)) {
    const got = serve(run, run.visit(id), 1000);
    for (const each of got) expect(each).toBe(++furthest); // everything once, in order
    most = Math.max(most, furthest - id);
  }
  expect(most).toBe(16);
});

test('bytes bound the window too', () => {
  const run = new OrderRun(options);
  run.visit(1);
  expect(serve(run, run.visit(2), 1000, 400)).toEqual([3, 4]);
});

test('random visits never start a window', () => {
  const run = new OrderRun(options);
  for (const id of [500, 20, 300, 80, 950, 140, 700, 250]) expect(run.visit(id)).toBeUndefined();
});

test('going backwards or to the same thing again is no pattern', () => {
  const run = new OrderRun(options);
  for (const id of [50, 49, 48, 48, 47]) expect(run.visit(id)).toBeUndefined();
});

test('several walkers of one directory each get a window', () => {
  const run = new OrderRun(options);
  expect(run.visit(1)).toBeUndefined();
  expect(run.visit(500)).toBeUndefined();
  expect(serve(run, run.visit(2), 1000)).toEqual([3, 4, 5, 6]);
  expect(serve(run, run.visit(501), 1000)).toEqual([502, 503, 504, 505]);
  expect(serve(run, run.visit(4), 1000)[0]).toBe(7);
});

test('at the end nothing more is wanted', () => {
  const run = new OrderRun(options);
  run.visit(1);
  expect(serve(run, run.visit(2), 5)).toEqual([3, 4, 5]);
  for (const id of [3, 4, 5]) expect(run.visit(id)).toBeUndefined();
  expect(run.isActive).toBe(false);
});

test('a walker that leaves most out is not served further and further ahead', () => {
  const passed = { used: 0, wasted: 0 };
  const run = new OrderRun(options, (used, wasted) => {
    passed.used += used;
    passed.wasted += wasted;
  });
  let begun = 0;
  run.visit(1);
  begun += serve(run, run.visit(2), 1000).length;
  for (let id = 8; id < 800; id += 8) begun += serve(run, run.visit(id), 1000).length;
  expect(run.window).toBeLessThanOrEqual(8);
  expect(passed.wasted).toBeGreaterThan(passed.used);
  expect(begun).toBeGreaterThan(0);
});

test('a walker known to walk gets its window at the first visit, or before it', () => {
  const run = new OrderRun(options);
  expect(run.visit(1, true)).toEqual({ after: 1, count: 4, bytes: 1000 });
  const expected = new OrderRun(options);
  expect(serve(expected, expected.expect(0), 1000)).toEqual([1, 2, 3, 4]);
  expect(expected.expect(0)).toBeUndefined(); // once
  expect(expected.visit(1)).toBeUndefined(); // enough ahead
  expect(serve(expected, expected.visit(2), 1000)).toEqual([5, 6, 7, 8, 9, 10]);
});
