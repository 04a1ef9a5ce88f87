import { expect, test } from 'vitest';
import { OpenHabits } from './open-habits.js';

test('a thread that opened two files it had looked up will open the next one', () => {
  const habits = new OpenHabits();
  const expected = [false, false, true, true];
  for (const [ino, will] of expected.entries()) {
    expect(habits.lookedUp(1, ino)).toBe(will);
    habits.opened(1, ino);
  }
});

test('one file not opened, and it has to show it again', () => {
  const habits = new OpenHabits();
  for (const ino of [1, 2]) {
    habits.lookedUp(1, ino);
    habits.opened(1, ino);
  }
  expect(habits.lookedUp(1, 3)).toBe(true);
  expect(habits.lookedUp(1, 3)).toBe(true); // looked up twice is not passed by
  expect(habits.lookedUp(1, 4)).toBe(false);
  habits.opened(1, 4);
  expect(habits.lookedUp(1, 5)).toBe(false);
});

test('threads are apart, and files opened without being looked up say nothing', () => {
  const habits = new OpenHabits();
  for (const ino of [1, 2, 3]) {
    habits.lookedUp(1, ino);
    habits.opened(2, ino);
  }
  expect(habits.lookedUp(1, 4)).toBe(false);
  expect(habits.lookedUp(2, 4)).toBe(false);
});
