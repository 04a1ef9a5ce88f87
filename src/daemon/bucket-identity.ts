import { UserError } from '../base/user-error.js';
import type { Db } from '../db/db.js';
import type { MountConfig } from './config.js';

const fact = 'bucket';

/** A cache directory belongs to one bucket, prefix and endpoint for good: its journal must never be replayed into another one. */
export function claimBucket(db: Db, config: MountConfig): void {
  const mine = JSON.stringify({ endpoint: config.endpoint ?? null, bucket: config.bucket, prefix: config.prefix });
  const stored = db.fact(fact);
  if (stored === undefined) {
    db.setFact(fact, mine);
    return;
  }
  if (stored === mine) return;
  const other = JSON.parse(stored) as { endpoint: string | null; bucket: string; prefix: string };
  if (other.bucket === config.bucket && other.prefix === config.prefix) {
    throw new UserError(`The cache directory ${config.cacheDir} was made for s3://${other.bucket}/${other.prefix} at ${other.endpoint ?? 'AWS'}, not at ${config.endpoint ?? 'AWS'}; use the same --endpoint or another --cache-dir.`);
  }
  throw new UserError(`The cache directory ${config.cacheDir} belongs to s3://${other.bucket}/${other.prefix}, not to s3://${config.bucket}/${config.prefix}; use another --cache-dir.`);
}
