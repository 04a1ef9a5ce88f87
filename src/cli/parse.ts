/** Texts a person wrote into values. Each parser takes the text and a label that names where it stood, and throws a `UserError` of exit code 2. */
import { UserError } from '../base/user-error.js';

function wrong(label: string, text: string, wants: string): UserError {
  return new UserError(`${label} is ${JSON.stringify(text)}, but must be ${wants}`, 2);
}

const unitBytes: Readonly<Record<string, number>> = {
  '': 1, b: 1, k: 1024, kib: 1024, kb: 1000, m: 1024 ** 2, mib: 1024 ** 2, mb: 1000 ** 2, g: 1024 ** 3, gib: 1024 ** 3, gb: 1000 ** 3,
  t: 1024 ** 4, tib: 1024 ** 4, tb: 1000 ** 4, p: 1024 ** 5, pib: 1024 ** 5, pb: 1000 ** 5,
};

/** `20GiB`, `500MB`, `1.5T`, `4096`. K, M, G, T without B are powers of 1024. */
export function parseSize(text: string, label: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const factor = match ? unitBytes[match[2]!.toLowerCase()] : undefined;
  const bytes = factor === undefined ? NaN : Math.round(Number(match![1]) * factor);
  if (!Number.isSafeInteger(bytes) || bytes < 1) throw wrong(label, text, 'a size such as 20GiB, 500MB or 4096');
  return bytes;
}

/** `5%` of the disk, or a size. */
export function parseShareOrSize(text: string, label: string): { readonly percent: number } | { readonly bytes: number } {
  const match = /^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim());
  if (match) {
    const percent = Number(match[1]);
    if (percent >= 100) throw wrong(label, text, 'below 100%');
    return { percent };
  }
  if (/^0+$/.test(text.trim())) return { bytes: 0 };
  try {
    return { bytes: parseSize(text, label) };
  } catch {
    throw wrong(label, text, 'a share such as 5% or a size such as 10GiB');
  }
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, '': 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `1.5m`, `500ms`, `2h`; a bare number is seconds. */
export function parseDurationMs(minMs: number): (text: string, label: string) => number {
  return (text, label) => {
    const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
    const factor = match ? unitMs[match[2]!.toLowerCase()] : undefined;
    const ms = factor === undefined ? NaN : Math.round(Number(match![1]) * factor);
    if (!Number.isSafeInteger(ms)) throw wrong(label, text, 'a duration such as 60s, 500ms, 5m or 1h');
    if (ms < minMs) throw wrong(label, text, `at least ${minMs}ms`);
    return ms;
  };
}

/** A duration in milliseconds; `null` for `exclusive`. */
export function parseTtlMs(text: string, label: string): number | null {
  if (text.trim() === 'exclusive') return null;
  try {
    return parseDurationMs(0)(text, label);
  } catch {
    throw wrong(label, text, 'a duration such as 60s or 5m, or the word exclusive');
  }
}

export function parseChoice<const T extends string>(...choices: readonly T[]): (text: string, label: string) => T {
  return (text, label) => {
    const found = choices.find((choice) => choice === text);
    if (found === undefined) throw wrong(label, text, choices.length === 1 ? choices[0]! : `one of ${choices.join(', ')}`);
    return found;
  };
}

export function parseBoolean(text: string, label: string): boolean {
  if (['true', '1', 'yes', 'on'].includes(text.toLowerCase())) return true;
  if (['false', '0', 'no', 'off'].includes(text.toLowerCase())) return false;
  throw wrong(label, text, 'true or false');
}

export function parseCount(min: number, max: number): (text: string, label: string) => number {
  return (text, label) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw wrong(label, text, `a whole number from ${min} to ${max}`);
    return value;
  };
}

/** uid or gid. 2^32 - 1 means "unchanged" to chown(2) and is nobody's. */
export function parseId(text: string, label: string): number {
  return parseCount(0, 2 ** 32 - 2)(text, label);
}

export function parseOctal(text: string, label: string): number {
  if (!/^0?o?[0-7]{1,4}$/.test(text) || parseInt(text.replace('o', ''), 8) > 0o777) throw wrong(label, text, 'an octal number from 000 to 777, such as 022');
  return parseInt(text.replace('o', ''), 8);
}

export function parseText(text: string, label: string): string {
  if (text === '' || /[\0\n]/.test(text)) throw wrong(label, text, 'a text that is not empty');
  return text;
}

export const parsePathText = parseText;

export function parseEndpoint(text: string, label: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw wrong(label, text, 'a URL such as https://s3.example.com or http://127.0.0.1:9000');
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw wrong(label, text, 'a URL that starts with http:// or https://');
  if (url.username || url.password) throw new UserError(`${label} contains credentials; give them to the AWS SDK's standard chain (AWS_ACCESS_KEY_ID, ~/.aws) instead`, 2);
  if (url.search || url.hash) throw wrong(label, text, 'a URL without ? and #');
  return url.href.replace(/\/$/, '');
}

/** `127.0.0.1:9090`, `[::1]:9090`, `localhost:9090`; `:9090` is all addresses. Answered as written. */
export function parseHostPort(text: string, label: string): string {
  const match = /^(\[[0-9a-f:.]+\]|[^:\s[\]/]*):(\d{1,5})$/i.exec(text);
  if (!match || Number(match[2]) < 1 || Number(match[2]) > 65535) throw wrong(label, text, 'HOST:PORT such as 127.0.0.1:9090');
  return text;
}

export interface S3Url { readonly bucket: string; readonly prefix: string }

/** `s3://BUCKET[/PREFIX]`. The prefix is `''` or ends in `/`. Bucket names by the rules S3 documents, dots and upper case (old buckets) included. */
export function parseS3Url(text: string): S3Url {
  const match = /^s3:\/\/([^/]*)(?:\/(.*))?$/s.exec(text);
  if (!match) throw new UserError(`${JSON.stringify(text)} is not a bucket; write s3://BUCKET or s3://BUCKET/PREFIX`, 2);
  const bucket = match[1]!;
  const rest = match[2] ?? '';
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$/.test(bucket) || bucket.includes('..')) {
    throw new UserError(`${JSON.stringify(bucket)} cannot be the name of a bucket: 3 to 63 characters from a-z, 0-9, dots and hyphens, starting and ending with a letter or digit`, 2);
  }
  const prefix = rest === '' ? '' : `${rest.replace(/\/+$/, '')}/`;
  if (prefix.startsWith('/') || prefix.includes('//') || prefix.split('/').some((part) => part === '.' || part === '..')) {
    throw new UserError(`The prefix ${JSON.stringify(rest)} cannot be a directory: it has an empty part, "." or ".."`, 2);
  }
  if (Buffer.byteLength(prefix) > 900) throw new UserError(`The prefix is ${Buffer.byteLength(prefix)} bytes long; S3 keys have at most 1024 and file names need some`, 2);
  return { bucket, prefix };
}

/** The known word with the fewest edits from `word`, if it is near enough to be what was meant. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const distance = candidate.startsWith(word) && word.length >= 3 ? 1 : editDistance(word, candidate);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
