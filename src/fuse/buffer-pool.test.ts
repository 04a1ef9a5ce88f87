import { describe, expect, it } from 'vitest';
import { BufferPool, type PooledBuffer } from './buffer-pool.js';

describe('BufferPool', () => {
  it('reuses what came back', () => {
    const pool = new BufferPool();
    const first = pool.acquire(5000) as PooledBuffer;
    expect(first.data(5000).length).toBe(5000);
    pool.release(first);
    expect(pool.acquire(8192)).toBe(first);
    expect(pool.acquire(8192)).not.toBe(first);
  });

  it('makes requests beyond its limit wait their turn, in order', async () => {
    const pool = new BufferPool(16384);
    const held = [pool.acquire(8192) as PooledBuffer, pool.acquire(8192) as PooledBuffer];
    const order: string[] = [];
    const big = (pool.acquire(16384) as Promise<PooledBuffer>).then((buffer) => { order.push('big'); return buffer; });
    const small = (pool.acquire(4096) as Promise<PooledBuffer>).then((buffer) => { order.push('small'); return buffer; });
    pool.release(held[0]!);
    await Promise.resolve();
    expect(order).toEqual([]); // the small one would fit, but it is not its turn
    pool.release(held[1]!);
    pool.release(await big);
    pool.release(await small);
    expect(order).toEqual(['big', 'small']);
    expect(pool.bytesInUse).toBe(0);
  });

  it('serves a lone request that is larger than its limit', () => {
    const pool = new BufferPool(4096);
    expect(pool.acquire(1 << 20)).not.toBeInstanceOf(Promise);
  });
});
