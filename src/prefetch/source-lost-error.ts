/** The bytes asked for are nowhere any more: the object that held this version is gone or replaced, and nobody here knows another. */
export class SourceLostError extends Error {
  override readonly name = 'SourceLostError';
  constructor(readonly contentId: number, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}
