/** File times as decimal seconds in metadata. -1.5 s is `{sec: -2, nsec: 5e8}`, written `-1.500000000`. */
import type { Time } from '../base/clock.js';

const secondsMax = 2 ** 52;

export function encodeTime({ sec, nsec }: Time): string {
  if (nsec === 0) return String(sec);
  if (sec >= 0) return `${sec}.${pad(nsec)}`;
  return `-${-(sec + 1)}.${pad(1_000_000_000 - nsec)}`;
}

/** Also reads exponents (`1.6e9`), `…ns` counts (AWS DataSync) and RFC 3339 (rclone --metadata). Undefined for anything else. */
export function decodeTime(text: string | undefined): Time | undefined {
  if (text === undefined) return undefined;
  const decimal = /^\s*([+-]?)(\d{1,16})(?:\.(\d*))?\s*$/.exec(text);
  if (decimal) return fromParts(decimal[1] === '-', Number(decimal[2]), (decimal[3] ?? '').slice(0, 9));
  const nanoseconds = /^\s*(-?)(\d{1,25})ns\s*$/.exec(text);
  if (nanoseconds) {
    const digits = nanoseconds[2]!.padStart(10, '0');
    return fromParts(nanoseconds[1] === '-', Number(digits.slice(0, -9)), digits.slice(-9));
  }
  const date = /^(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|z|[+-]\d\d:\d\d)$/.exec(text.trim());
  if (date) {
    const sec = Date.parse(`${date[1]!.replace(' ', 'T')}${date[3]}`) / 1000;
    return Number.isFinite(sec) ? { sec, nsec: Number((date[2] ?? '').slice(0, 9).padEnd(9, '0')) } : undefined;
  }
  const float = /^\s*[+-]?\d+(?:\.\d*)?[eE][+-]?\d+\s*$/.test(text) ? Number(text) : NaN;
  if (!Number.isFinite(float) || Math.abs(float) > secondsMax) return undefined;
  const sec = Math.floor(float);
  return { sec, nsec: Math.min(999_999_999, Math.round((float - sec) * 1e9)) };
}

function fromParts(negative: boolean, seconds: number, fraction: string): Time | undefined {
  if (seconds > secondsMax) return undefined;
  const nsec = Number(fraction.padEnd(9, '0'));
  if (!negative) return { sec: seconds, nsec };
  return nsec === 0 ? { sec: seconds === 0 ? 0 : -seconds, nsec: 0 } : { sec: -seconds - 1, nsec: 1_000_000_000 - nsec };
}

function pad(nsec: number): string {
  return String(nsec).padStart(9, '0');
}
