import { expect, test } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { Foreground } from './foreground.js';

test('many changes make the foreground busy, until there were none for a while', () => {
  const clock = new ManualClock(0);
  const foreground = new Foreground(clock);
  for (let i = 0; i < 4; i++) foreground.note();
  expect(foreground.isBusy).toBe(false);
  foreground.note();
  expect(foreground.isBusy).toBe(true);
  clock.advance(60);
  expect(foreground.isBusy).toBe(true);
  clock.advance(60);
  expect(foreground.isBusy).toBe(false);
});

test('a change now and then is not busy', () => {
  const clock = new ManualClock(0);
  const foreground = new Foreground(clock);
  for (let i = 0; i < 100; i++) {
    foreground.note();
    clock.advance(20);
    expect(foreground.isBusy).toBe(false);
  }
});
