import { UserError } from '../base/user-error.js';
import type { Db } from '../db/db.js';
import type { MountConfig } from './config.js';

const fact = 'bucket';

/**
 * A cache directory belongs to one bucket, prefix and endpoint for good: its journal must never be replayed into another one.
 * @returns makes it ours if it is nobody's; called once the bucket is known to work, so that a mistyped name claims nothing.
 */
export function checkBucketIdentity(db: Db, config: MountConfig): () => void {
  const mine = JSON.stringify({ endpoint: config.endpoint ?? null, bucket: config.bucket, prefix: config.prefix });
  const stored = db.fact(fact);
  if (stored === undefined) return () => db.setFact(fact, mine);
  if (stored === mine) return () => undefined;
  const other = JSON.parse(stored) as { endpoint: string | null; bucket: string; prefix: string };
  if (other.bucket === config.bucket && other.prefix === config.prefix) {
    throw new UserError(`The cache directory ${config.cacheDir} was made for s3://${other.bucket}/${other.prefix} at ${other.endpoint ?? 'AWS'}, not at ${config.endpoint ?? 'AWS'}; use the same --endpoint or another --cache-dir`);
  }
  throw new UserError(`The cache directory ${config.cacheDir} belongs to s3://${other.bucket}/${other.prefix}, not to s3://${config.bucket}/${config.prefix}; use another --cache-dir`);
}
