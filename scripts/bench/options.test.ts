import { describe, expect, it } from 'vitest';
import { chosenWorkloads, parseOptions } from './options.js';

const all = ['cold-read', 'cold-tar', 'untar'].map((id) => ({ id }));

describe('options of the benchmark', () => {
  it('--only takes ids and beginnings of ids', () => {
    expect(chosenWorkloads(all, ['cold'])).toEqual([{ id: 'cold-read' }, { id: 'cold-tar' }]);
    expect(chosenWorkloads(all, ['untar'])).toEqual([{ id: 'untar' }]);
    expect(chosenWorkloads(all, [])).toEqual(all);
    expect(chosenWorkloads([{ id: 'cold-find' }, { id: 'cold-find-listing' }], ['cold-find'])).toEqual([{ id: 'cold-find' }]);
  });

  it('--only refuses what is no workload, and says which there are', () => {
    expect(() => chosenWorkloads(all, ['untar', 'cold-seq'])).toThrow('There is no workload cold-seq: it is one of cold-read, cold-tar, untar');
    expect(() => chosenWorkloads(all, ['unt'])).toThrow('no workload unt');
  });

  it('refuses systems it does not know and numbers that are none', () => {
    expect(() => parseOptions(['--systems', 'ext4,nfs'])).toThrow('nfs');
    expect(() => parseOptions(['--latency', '30ms'])).toThrow('--latency');
    expect(() => parseOptions(['--runs', '0'])).toThrow('--runs');
  });

  it('--quick means one run unless --runs says more', () => {
    expect(parseOptions(['--quick']).runs).toBe(1);
    expect(parseOptions(['--quick', '--runs', '5']).runs).toBe(5);
    expect(parseOptions([]).latenciesMs).toEqual([0, 30, 80]);
  });
});
