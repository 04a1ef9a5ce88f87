import { randomBytes } from 'node:crypto';

/** 64 random bits, 16 hexadecimal digits: unique among all mounts of a bucket for all practical purposes. */
export function randomId(): string {
  return randomBytes(8).toString('hex');
}
