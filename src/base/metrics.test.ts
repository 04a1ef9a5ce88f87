import { describe, expect, it } from 'vitest';
import { Histogram, Metrics } from './metrics.js';

describe('metrics', () => {
  it('a counter that was asked for by name is the one others add to', () => {
    const metrics = new Metrics();
    const counter = metrics.counter('a.b');
    counter.count += 2;
    metrics.add('a.b', 3);
    expect(metrics.get('a.b')).toBe(5);
    expect(metrics.snapshot().counters).toEqual({ 'a.b': 5 });
  });

  it('a latency falls into the bucket of its power of two, however long it is', () => {
    const bucketOf = (us: number): number => {
      const histogram = new Histogram();
      histogram.observe(us);
      return histogram.buckets.indexOf(1);
    };
    expect([0, 0.5, 1, 1.9, 2, 3.99, 4, 1000, 1024].map(bucketOf)).toEqual([0, 0, 1, 1, 2, 2, 3, 10, 11]);
    expect([2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 50].map(bucketOf)).toEqual([31, 32, 33, 39]);
  });
});
