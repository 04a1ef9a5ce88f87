import { expect, test } from 'vitest';
import { pickWorker, type Candidate } from './pick-worker.js';

const worker = (load: number, isReady = true): Candidate => ({ load, isReady });

test('small requests stay with the first worker while it has a connection for them, and go where there is least to do after that', () => {
  const [first, second] = [worker(3), worker(0)];
  expect(pickWorker([first, second], 'head', 4)).toBe(first);
  expect(pickWorker([first, second], 'list', 4)).toBe(first);
  expect(pickWorker([first, second], 'head', 3)).toBe(second);
  expect(pickWorker([worker(9), second, worker(8)], 'head', 0)).toBe(second);
});

test('what moves bytes goes where there is least to do', () => {
  const idle = worker(0);
  for (const op of ['getToFile', 'getBytes', 'put', 'uploadPart', 'delete'] as const) expect(pickWorker([worker(1), idle, worker(2)], op, 100)).toBe(idle);
});

test('a worker that still starts is taken only where no other is', () => {
  const [starting, busy] = [worker(0, false), worker(7)];
  expect(pickWorker([starting, busy], 'head', 100)).toBe(busy);
  expect(pickWorker([starting, busy], 'put', 100)).toBe(busy);
  expect(pickWorker([worker(2, false), starting], 'head', 100)).toBe(starting);
  expect(pickWorker([], 'head', 100)).toBeUndefined();
});
