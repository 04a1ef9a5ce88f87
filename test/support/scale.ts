/** How much of everything. Full scale is 1, as the issue demands it; the default is small enough for every commit. */
export const scale = Number(process.env['HEARTHFS_TEST_SCALE'] ?? '0.05');

/** `full` at scale 1, never below `least`. */
export function scaled(full: number, least = 1): number {
  return Math.max(least, Math.round(full * scale));
}

/** How much longer than usual everything may take: a soak beside other work is slow without being stuck. */
export const patience = Number(process.env['HEARTHFS_TEST_PATIENCE'] ?? '1');
