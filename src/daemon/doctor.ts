/**
 * What `doctor s3://BUCKET` can find out without a mount: credentials, bucket, permissions, what the server does with conditions (O2), and the
 * clock. Each check stands on the one before; the first failure ends the list, with the reason for that check and what to do.
 */
import { randomBytes } from 'node:crypto';
import { systemClock } from '../base/clock.js';
import { silentLog } from '../base/log.js';
import type { DoctorCheck } from '../control/api.js';
import { loadAwsConfig, type AwsConfig } from '../s3/aws-config.js';
import { probeCapabilities, type Capabilities, type EtagQuoting } from '../s3/capabilities.js';
import type { ObjectStore } from '../s3/object-store.js';
import { openS3Store } from '../s3/s3-store.js';
import { StoreError, type StoreErrorKind } from '../s3/store-error.js';
import type { MountConfig } from './config.js';

export type BucketTarget = Pick<MountConfig, 'bucket' | 'prefix' | 'endpoint' | 'region' | 'profile' | 'pathStyle' | 'readOnly'>;

/** Long enough for a slow server, short enough for a person who waits. */
const deadlineMs = 8_000;

/** @returns `clockOffsetMs`: this machine's clock minus the server's. */
export async function checkBucket(target: BucketTarget, options: { signal?: AbortSignal } = {}): Promise<{ checks: DoctorCheck[]; clockOffsetMs?: number }> {
  const checks: DoctorCheck[] = [];
  const aws = await loadAwsConfig(target);
  const credentials = await attempt('credentials', () => aws.loadCredentials(true));
  if ('failed' in credentials) return { checks: [credentials.failed] };
  checks.push(good('credentials', `found in ${sourceOf(credentials.value)}, access key ${credentials.value.accessKeyId.slice(0, 4)}…`));
  const opened = await attempt('endpoint', () => open(target, aws));
  if ('failed' in opened) return { checks: [...checks, opened.failed] };
  const store = opened.value;
  try {
    return await checkStore(store, target, checks, options.signal);
  } finally {
    await store.close();
  }
}

function open(target: BucketTarget, aws: AwsConfig): Promise<ObjectStore & EtagQuoting> {
  return openS3Store({ ...target, aws, connectionsMax: 8, requestTimeoutMs: deadlineMs, deadlineMs, log: silentLog });
}

/** The part of `checkBucket` that needs only a store. */
export async function checkStore(
  store: ObjectStore & Partial<EtagQuoting>, target: BucketTarget, checks: DoctorCheck[], signal: AbortSignal | undefined,
): Promise<{ checks: DoctorCheck[]; clockOffsetMs?: number }> {
  const call = { deadlineMs, ...(signal ? { signal } : {}) };
  const bucket = await attempt('bucket', () => store.checkBucket(call));
  if ('failed' in bucket) return { checks: [...checks, bucket.failed] };
  const { region, versioning, serverDateMs, server } = bucket.value;
  const about = [region && `region ${region}`, server && `server ${server}`, versioning === undefined ? undefined : `versioning ${versioning ? 'on' : 'off'}`].filter(Boolean).join(', ');
  checks.push(good('bucket', `s3://${target.bucket}/${target.prefix} answers${about ? ` (${about})` : ''}`));
  const clock = serverDateMs === undefined ? {} : { clockOffsetMs: systemClock.now() - serverDateMs };
  const list = await attempt('list', () => store.list({ prefix: '', delimiter: '/', maxKeys: 2 }, call));
  if ('failed' in list) return { checks: [...checks, list.failed], ...clock };
  checks.push(good('list', list.value.objects.length + list.value.prefixes.length === 0 ? 'allowed; nothing is there yet' : 'allowed'));
  if (target.readOnly) return { checks, ...clock };
  const writing = await scratch(store, call);
  checks.push(...writing);
  if (writing.some((check) => check.ok === 'fail')) return { checks, ...clock };
  const probed = await attempt('server capabilities', () => probeCapabilities(store, { signal }));
  checks.push('failed' in probed ? probed.failed : capabilityCheck(probed.value));
  return { checks, ...clock };
}

/** One small object is put, read back and deleted. Nothing of it stays, unless delete is what is not allowed. */
async function scratch(store: ObjectStore, call: { deadlineMs: number; signal?: AbortSignal }): Promise<DoctorCheck[]> {
  const key = `.hearthfs-doctor-${randomBytes(6).toString('hex')}`;
  const bytes = Buffer.from('written and deleted by hearthfs doctor\n');
  const put = await attempt('put', () => store.put(key, { kind: 'bytes', bytes }, { metadata: { mode: '33188' } }, 'any', call));
  if ('failed' in put) {
    const { failed } = put;
    return [failed.advice === adviceFor('access-denied', 'put') ? { ...failed, advice: 'allow s3:PutObject below the prefix, or mount with --read-only' } : failed];
  }
  const checks = [good('put', 'allowed')];
  const got = await attempt('get', () => store.getBytes(key, { start: 0, end: bytes.length }, call));
  const head = await attempt('metadata', () => store.head(key, call));
  if ('failed' in got) checks.push(got.failed);
  else if (Buffer.from(got.value.bytes).equals(bytes)) checks.push(good('get', 'allowed'));
  else checks.push(bad('get', 'the server answered other bytes than were put', 'do not use this server'));
  if ('failed' in head) checks.push(head.failed);
  else if (head.value?.attributes.metadata['mode'] !== '33188') checks.push(bad('metadata', 'the server does not keep user metadata', 'modes, owners and exact times would be lost; use another server'));
  const deleted = await attempt('delete', () => store.delete(key, 'any', { deadlineMs }));
  checks.push('failed' in deleted ? { ...deleted.failed, detail: `${deleted.failed.detail}; the scratch object ${key} is still there` } : good('delete', 'allowed'));
  return checks;
}

function capabilityCheck(found: Capabilities): DoctorCheck {
  const name = 'server capabilities';
  if (found.readOnly) return bad(name, 'writing is not allowed', 'mount with --read-only');
  const words: readonly (readonly [keyof Capabilities, string])[] = [
    ['putIfNoneMatch', 'create without replacing'], ['putIfMatch', 'replace only what was seen'], ['deleteIfMatch', 'delete only what was seen'], ['copySourceIfMatch', 'copy only what was seen'],
    ['copyIfNoneMatch', 'copy without replacing'], ['copyIfMatch', 'copy over only what was seen'], ['completeIfNoneMatch', 'multipart without replacing'], ['completeIfMatch', 'multipart over only what was seen'],
  ];
  const missing = words.filter(([key]) => !found[key]).map(([, text]) => text);
  const quotes = found.etagQuotes === 'unquoted' ? ' (etags unquoted)' : '';
  if (missing.length === 0) return good(name, `all conditional requests are honoured${quotes}`);
  return {
    name, ok: 'warn', detail: `the server ignores these conditions: ${missing.join(', ')}${quotes}`,
    advice: 'hearthfs looks before it acts there: a change by another writer in the same moment is detected, not prevented; let one mount write, or use another server',
  };
}

async function attempt<T>(name: string, fn: () => Promise<T>): Promise<{ value: T } | { failed: DoctorCheck }> {
  try {
    return { value: await fn() };
  } catch (error) {
    const kind = error instanceof StoreError ? error.kind : undefined;
    return { failed: bad(name, reasonOf(error), adviceFor(kind, name)) };
  }
}

/** Without the advice that ends it: doctor's own stands on a line of its own. */
function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const hint = error instanceof StoreError ? error.details.hint : undefined;
  return hint === undefined ? message : message.replace(`; ${hint}`, '');
}

function adviceFor(kind: StoreErrorKind | undefined, name: string): string {
  switch (kind) {
    case 'bad-credentials': return 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws (--profile)';
    case 'no-such-bucket': return 'create the bucket, or check its name, --endpoint and --region';
    case 'wrong-region': return 'give the region of the bucket with --region';
    case 'clock-skew': return 'set the clock of this machine (NTP)';
    case 'access-denied': return name === 'bucket' || name === 'list' ? 'allow s3:ListBucket on the bucket' : `allow ${({ put: 's3:PutObject', get: 's3:GetObject', metadata: 's3:GetObject', delete: 's3:DeleteObject' } as Record<string, string>)[name] ?? 'this action'} below the prefix`;
    case 'throttled': return 'the server asks for fewer requests; try again later';
    case 'unavailable': return 'check --endpoint, the network, and that the server runs';
    case 'locked': return 'object lock forbids it; use a bucket without it, or mount with --read-only';
    case undefined: case 'not-found': case 'no-such-upload': case 'precondition-failed': case 'conflict': case 'archived': case 'too-large': case 'invalid': case 'local-io': case 'aborted':
      return 'check --endpoint and --path-style; HEARTHFS_DEBUG=1 shows more';
    default: kind satisfies never; return '';
  }
}

/** The SDK notes where credentials came from as feature ids of its user agent. */
function sourceOf(credentials: object): string {
  const features = Object.keys((credentials as { $source?: object }).$source ?? {});
  const known: readonly (readonly [string, string])[] = [
    ['CREDENTIALS_ENV_VARS_STS_WEB_ID_TOKEN', 'a web identity token'], ['CREDENTIALS_ENV_VARS', 'the environment (AWS_ACCESS_KEY_ID)'], ['CREDENTIALS_PROFILE_STS_WEB_ID_TOKEN', 'a profile with a web identity'],
    ['CREDENTIALS_PROFILE_SSO', 'a profile with single sign-on'], ['CREDENTIALS_SSO', 'single sign-on'], ['CREDENTIALS_PROFILE_PROCESS', 'the program of a profile'], ['CREDENTIALS_PROCESS', 'a program'],
    ['CREDENTIALS_PROFILE', 'a profile in ~/.aws'], ['CREDENTIALS_STS_ASSUME_ROLE', 'an assumed role'], ['CREDENTIALS_HTTP', 'the container'], ['CREDENTIALS_IMDS', 'the instance role'], ['CREDENTIALS_CODE', 'the program'],
  ];
  return known.find(([feature]) => features.includes(feature))?.[1] ?? 'the standard chain';
}

function good(name: string, detail: string): DoctorCheck {
  return { name, ok: 'ok', detail, advice: null };
}
function bad(name: string, detail: string, advice: string): DoctorCheck {
  return { name, ok: 'fail', detail, advice };
}


