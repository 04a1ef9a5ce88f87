import { expect, it } from 'vitest';
import { chart } from './chart.js';
import type { Figure } from './report.js';
import type { SystemName } from './systems.js';

function figure(title: string, values: Partial<Record<SystemName, number>>): Figure {
  const samples = new Map(Object.entries(values).map(([system, value]) => [system as SystemName, [{ value, cost: undefined }]]));
  return { workload: { id: 'x', title, unit: 'files/s', systems: [], targets: [], run: () => Promise.reject(new Error('not run')) }, latencyMs: 30, samples, failures: new Map() };
}

it('the chart shows what can be compared: more than one system did it, and hearthfs is one of them', () => {
  const svg = chart([figure('both', { hearthfs: 2, rclone: 1 }), figure('alone', { hearthfs: 2 }), figure('others', { s3fs: 2, rclone: 1 })], 30, []);
  expect(['both', 'alone', 'others'].filter((title) => svg.includes(`>${title}<`))).toEqual(['both']);
});

it('the longest title ends before the bars and begins inside the picture', () => {
  const title = 'x'.repeat(90);
  const at = Number(new RegExp(`<text x="([\\d.]+)"[^>]*>${title}<`).exec(chart([figure(title, { hearthfs: 2, rclone: 1 })], 30, []))![1]);
  expect(at).toBeGreaterThan(title.length * 6.5);
});
