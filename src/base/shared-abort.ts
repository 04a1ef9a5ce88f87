import { setMaxListeners } from 'node:events';

/** A controller whose signal is handed to everything a room has in flight: many listeners are normal, and Node need not warn about them. */
export function sharedAbort(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}
