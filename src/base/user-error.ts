/**
 * An error whose message is meant for the person at the terminal: one sentence with what to do next, printed without a stack
 * trace. `exitCode` 1 is a failure, 2 a mistake in the call.
 */
export class UserError extends Error {
  override readonly name = 'UserError';
  constructor(message: string, readonly exitCode: 1 | 2 = 1, options?: ErrorOptions) {
    super(message, options);
  }
}
