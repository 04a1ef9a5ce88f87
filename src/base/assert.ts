/** A failed assertion is a bug, never an errno: where durable state is involved the process stops, and recovery is the tested path. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}
