/** What can go wrong between here and S3. Behaviour depends on `kind` only, never on the text. */
export type StoreErrorKind =
  | 'not-found' // 404 on an object
  | 'no-such-bucket'
  | 'no-such-upload'
  | 'precondition-failed' // 412: someone else wrote; do not retry
  | 'conflict' // 409: a write raced ours; look again, decide again
  | 'access-denied' // 403 for this action
  | 'bad-credentials' // unknown key, wrong secret, expired token, none found
  | 'wrong-region'
  | 'clock-skew'
  | 'archived' // must be restored before it can be read
  | 'locked' // object lock or retention forbids the change
  | 'too-large'
  | 'invalid' // the server refuses the request itself: 400, 411, 501
  | 'throttled' // 503 SlowDown, 429: retry later, slower
  | 'unavailable' // no connection, timeout, 5xx: whether a mutation arrived is unknown
  | 'local-io' // the local file could not be read or written
  | 'aborted'; // our own signal

export class StoreError extends Error {
  override readonly name = 'StoreError';
  constructor(
    readonly kind: StoreErrorKind,
    message: string,
    readonly details: { readonly status?: number; readonly code?: string; readonly errno?: number; readonly retryAfterMs?: number; /** What to do; it ends the message, too. */ readonly hint?: string } = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** True if the request may or may not have been executed (J5). */
  get ambiguous(): boolean { return this.kind === 'unavailable' || this.kind === 'aborted'; }
  /** True if trying again later can help without anyone changing anything here. */
  get transient(): boolean { return this.kind === 'unavailable' || this.kind === 'throttled' || this.kind === 'conflict'; }
}
