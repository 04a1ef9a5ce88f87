/** Percent-encoding as S3 and SigV4 want it: every UTF-8 byte but the unreserved ones; `/` stays in keys, so `a//b` and `.` survive. */
import { StoreError } from './store-error.js';

const safeKey = /^[A-Za-z0-9\-._~/]*$/;

export function encodeComponent(text: string): string {
  try {
    return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  } catch (error) {
    throw new StoreError('invalid', `Cannot use ${JSON.stringify(text)} as a key: it is not valid Unicode`, {}, { cause: error });
  }
}

export function encodeKey(key: string): string {
  return safeKey.test(key) ? key : encodeComponent(key).replaceAll('%2F', '/');
}

/** Sorted by name, as the signature needs it. */
export function encodeQuery(query: Readonly<Record<string, string>>): string {
  return Object.keys(query).sort().map((name) => `${encodeComponent(name)}=${encodeComponent(query[name]!)}`).join('&');
}

/** A key of a listing with encoding-type=url; undefined if its bytes are no UTF-8 (then no request could name it). */
export function decodeKey(text: string): string | undefined {
  if (!text.includes('%') && !text.includes('+')) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}
