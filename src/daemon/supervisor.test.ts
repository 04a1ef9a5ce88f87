import { describe, expect, it } from 'vitest';
import { restartDelayMs } from './supervisor.js';

describe('restartDelayMs()', () => {
  it('is nothing for a first death, grows, and stays at 2 s', () => {
    expect([1, 2, 3, 4, 6, 7, 100].map(restartDelayMs)).toEqual([0, 100, 200, 400, 1600, 2000, 2000]);
  });
});
