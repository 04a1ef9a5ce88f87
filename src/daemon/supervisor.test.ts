import { describe, expect, it } from 'vitest';
import { restartDelayMs } from './supervisor.js';

describe('restartDelayMs()', () => {
  it('is nothing for a first death, grows, and stays at 5 s', () => {
    expect([1, 2, 3, 4, 7, 8, 100].map(restartDelayMs)).toEqual([0, 100, 200, 400, 3200, 5000, 5000]);
  });
});
