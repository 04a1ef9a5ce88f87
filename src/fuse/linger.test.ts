import { expect, test } from 'vitest';
import { Linger } from './linger.js';

/** Finds the device empty until it may sleep; `afterMs` later a request comes, if it still looks. Answers whether it was caught. */
function wait(linger: Linger, clock: { ms: number }, afterMs: number): boolean {
  const comes = clock.ms + afterMs;
  while (linger.again()) {
    clock.ms += 0.001;
    if (clock.ms < comes) continue;
    linger.came();
    return true;
  }
  clock.ms = comes;
  linger.came();
  return false;
}

test('a request that comes soon after the last one is caught, one that comes later is slept for', () => {
  const clock = { ms: 0 };
  const linger = new Linger(() => clock.ms);
  expect([wait(linger, clock, 0.02), wait(linger, clock, 0.05), wait(linger, clock, 1), wait(linger, clock, 0.02)]).toEqual([true, true, false, true]);
});

test('where requests come far apart nearly no time is spent looking', () => {
  const clock = { ms: 0 };
  let looked = 0;
  const linger = new Linger(() => { looked++; return clock.ms; });
  for (let i = 0; i < 10_000; i++) wait(linger, clock, 1);
  expect(looked / 10_000).toBeLessThan(1); // about 60 per wait if it never gave up
});

test('it is tried again now and then, and goes on once it pays', () => {
  const clock = { ms: 0 };
  const linger = new Linger(() => clock.ms);
  for (let i = 0; i < 10_000; i++) wait(linger, clock, 1);
  const caught = Array.from({ length: 2000 }, () => wait(linger, clock, 0.02));
  expect(caught.indexOf(true)).toBeLessThan(600);
  expect(caught.slice(600).every(Boolean)).toBe(true);
});

test('a look that ends for another reason counts neither way', () => {
  const clock = { ms: 0 };
  const linger = new Linger(() => clock.ms);
  for (let i = 0; i < 100; i++) {
    expect(linger.again()).toBe(true);
    linger.stop();
  }
  expect(wait(linger, clock, 0.02)).toBe(true);
});
