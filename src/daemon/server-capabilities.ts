import type { Log } from '../base/log.js';
import { UserError } from '../base/user-error.js';
import type { Db } from '../db/db.js';
import { fullCapabilities, probeCapabilities, type Capabilities } from '../s3/capabilities.js';
import type { ObjectStore } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import type { MountConfig } from './config.js';

const fact = 'capabilities';
/** Servers are upgraded: what one can do is asked again after a week. */
const validMs = 7 * 86_400_000;
/** The first answer of all: somebody waits at a terminal, and a server that is there answers sooner, be it after a retry. */
const firstAnswerMs = 5_000;

/**
 * What the server does with conditions (O2): from the database, or found out now. A server that cannot be reached is no reason not to mount a cache that
 * knows it: an outage is a non-event, also across a reboot.
 * @param isNewMount false for a daemon that replaces another: nobody is there to read an error, and programs wait for it.
 */
export async function serverCapabilities(store: ObjectStore, db: Db, config: MountConfig, nowMs: number, log: Log, isNewMount: boolean): Promise<Capabilities> {
  const stored = db.fact(fact);
  const known = stored === undefined ? undefined : (JSON.parse(stored) as { atMs: number; capabilities: Capabilities });
  const isValid = known !== undefined && nowMs - known.atMs < validMs && (!known.capabilities.readOnly || config.readOnly);
  if (known && !isNewMount) return known.capabilities;
  try {
    if (isValid || config.readOnly) {
      // credentials that no longer work (it is a listing) are said at the terminal, not by an EIO later
      await store.checkBucket({ deadlineMs: firstAnswerMs });
      if (isValid) return known.capabilities;
    }
    const capabilities = config.readOnly ? { ...fullCapabilities, readOnly: true } : await probeCapabilities(store, { firstAnswerMs });
    db.setFact(fact, JSON.stringify({ atMs: nowMs, capabilities }));
    // Else programs would write, and nothing would ever arrive
    if (capabilities.readOnly && !config.readOnly) throw new UserError(`These credentials may not write to s3://${config.bucket}/${config.prefix}; mount with --read-only, or allow s3:PutObject and s3:DeleteObject`);
    return capabilities;
  } catch (error) {
    if (known && error instanceof StoreError && error.transient) {
      log.warn('S3 does not answer; mounting from the cache', { room: 'daemon', error });
      return known.capabilities;
    }
    throw explain(error, config);
  }
}

function explain(error: unknown, config: MountConfig): unknown {
  if (!(error instanceof StoreError)) return error;
  const where = config.endpoint ?? 'AWS';
  const target = `s3://${config.bucket}`;
  const said = error.message;
  switch (error.kind) {
    case 'no-such-bucket': return new UserError(`There is no bucket "${config.bucket}" at ${where}; check the name, --endpoint and --region`, 1, { cause: error });
    case 'bad-credentials': return new UserError(error.details.status === undefined ? `${said}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose --profile` : `${where} refuses the credentials: ${said}`, 1, { cause: error });
    case 'access-denied': return new UserError(`Access to ${target} is denied (${said}); the credentials need s3:ListBucket and s3:GetObject, and for writing s3:PutObject and s3:DeleteObject`, 1, { cause: error });
    case 'wrong-region': return new UserError(`The bucket "${config.bucket}" is in another region (${said}); set --region`, 1, { cause: error });
    case 'clock-skew': return new UserError(`The clock of this machine differs too much from that of ${where}; set it right (for example with NTP) and mount again`, 1, { cause: error });
    case 'unavailable': case 'throttled': return new UserError(`Cannot reach S3 at ${where} (${said}); check --endpoint and the network`, 1, { cause: error });
    case 'not-found': case 'invalid': return new UserError(`${where} answers, but not as S3 does (${said}); check --endpoint, and --path-style if it is another server's`, 1, { cause: error });
    default: return new UserError(`Cannot use ${target} at ${where}: ${said}`, 1, { cause: error });
  }
}
