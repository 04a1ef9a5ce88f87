/**
 * A result that is there already, or will be. What can be answered from memory is answered in the same stretch: a promise would leave the answer
 * to the microtask queue, which runs only after the kernel session has gone back to the event loop.
 */
export type MaybePromise<T> = T | Promise<T>;

/** `next` with the value: at once where there is one, so without others having run in between. */
export function andThen<T, U>(value: MaybePromise<T>, next: (value: T) => MaybePromise<U>): MaybePromise<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}
