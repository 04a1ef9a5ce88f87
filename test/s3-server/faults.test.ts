import { describe, expect, test } from 'vitest';
import { Faults } from './faults.js';

const make = (seed?: number): Faults => new Faults({ down: () => Promise.resolve(), up: () => Promise.resolve() }, seed);

describe('fault rules', () => {
  test('kind, key, skip and count choose the requests', () => {
    const faults = make();
    const handle = faults.add({ kinds: ['PUT'], keyPattern: '^a/', skip: 1, count: 2, fault: { type: 'cut-after' } });
    const hit = (kind: 'PUT' | 'GET', key: string): boolean => faults.plan(kind, 'b', key) !== undefined;
    expect([hit('GET', 'a/1'), hit('PUT', 'b/1'), hit('PUT', 'a/1'), hit('PUT', 'a/1'), hit('PUT', 'a/2'), hit('PUT', 'a/3')]).toEqual([false, false, false, true, true, false]);
    expect(handle.hits).toBe(2);
  });

  test('latencies add up and the first other fault wins', () => {
    const faults = make();
    faults.add({ fault: { type: 'latency', ms: 5 } });
    faults.add({ fault: { type: 'hang' } });
    faults.add({ fault: { type: 'latency', ms: 7 } });
    const never = faults.add({ fault: { type: 'cut-before' } });
    expect(faults.plan('GET', 'b', 'k')).toEqual({ latencyMs: 12, fault: { type: 'hang' } });
    expect(never.hits).toBe(0);
  });

  test('the same seed hits the same requests, another seed others, about as often as asked', () => {
    const run = (seed: number): string => {
      const faults = make(seed);
      faults.add({ probability: 0.25, fault: { type: 'cut-before' } });
      return Array.from({ length: 400 }, () => (faults.plan('GET', 'b', 'k') ? '1' : '0')).join('');
    };
    expect(run(7)).toBe(run(7));
    expect(run(7)).not.toBe(run(8));
    expect(run(7).replaceAll('0', '').length).toBeGreaterThan(70);
    expect(run(7).replaceAll('0', '').length).toBeLessThan(130);
  });

  test('a removed rule hits nothing', () => {
    const faults = make();
    faults.add({ fault: { type: 'hang' } }).remove();
    expect(faults.plan('GET', 'b', 'k')).toBeUndefined();
  });
});
