/**
 * Test and demo equipment, not product: bucket policies and users' policies as far as tests need them: Effect, Principal, Action and
 * Resource with wildcards. A statement with conditions never matches. The order is AWS's: an explicit Deny wins, then any Allow.
 */
import type { Operation } from './operations.js';
import type { Credential } from './sigv4.js';

interface Statement {
  readonly Effect?: string;
  readonly Principal?: unknown;
  readonly Action?: string | string[];
  readonly NotAction?: string | string[];
  readonly Resource?: string | string[];
  readonly NotResource?: string | string[];
  readonly Condition?: unknown;
}

export type Verdict = 'allow' | 'deny' | 'none';

export function isPolicy(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'Statement' in value && list((value as { Statement: unknown }).Statement).every((one) => typeof one === 'object' && one !== null);
}

export function evaluate(policy: unknown, action: string, resource: string, principal: string | undefined, checkPrincipal: boolean): Verdict {
  let verdict: Verdict = 'none';
  for (const statement of list((policy as { Statement?: Statement | Statement[] }).Statement)) {
    if (statement.Condition !== undefined && Object.keys(statement.Condition as object).length > 0) continue;
    if (checkPrincipal && !principalMatches(statement.Principal, principal)) continue;
    if (statement.Action !== undefined ? !matchesAny(statement.Action, action, true) : matchesAny(statement.NotAction ?? '*', action, true)) continue;
    if (statement.Resource !== undefined ? !matchesAny(statement.Resource, resource, false) : statement.NotResource !== undefined && matchesAny(statement.NotResource, resource, false)) continue;
    if (statement.Effect === 'Deny') return 'deny';
    if (statement.Effect === 'Allow') verdict = 'allow';
  }
  return verdict;
}

/** May this request go on? The owner's own users may do what nothing denies; strangers only what the bucket allows. */
export function isAllowed(operation: Operation, bucket: string, key: string, bucketPolicy: unknown, credential: Credential | undefined): boolean {
  const resource = `arn:aws:s3:::${bucket}${key === '' ? '' : `/${key}`}`;
  const byBucket = bucketPolicy === undefined ? 'none' : evaluate(bucketPolicy, operation.action, resource, credential && arnOf(credential), true);
  if (byBucket === 'deny') return false;
  if (!credential) return byBucket === 'allow';
  if (credential.policy === undefined) return true;
  const byUser = evaluate(credential.policy, operation.action, resource, undefined, false);
  return byUser === 'allow' || (byUser === 'none' && byBucket === 'allow');
}

export function arnOf(credential: Credential): string {
  return credential.user === undefined ? 'arn:aws:iam::000000000000:root' : `arn:aws:iam::000000000000:user/${credential.user}`;
}

function principalMatches(principal: unknown, arn: string | undefined): boolean {
  const named = typeof principal === 'object' && principal !== null ? (principal as { AWS?: string | string[] }).AWS : (principal as string | undefined);
  return list(named).some((one) => one === '*' || one === arn || (arn !== undefined && one === '000000000000'));
}

function list<T>(value: T | readonly T[] | undefined): readonly T[] {
  return value === undefined ? [] : Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

function matchesAny(patterns: string | string[], text: string, ignoreCase: boolean): boolean {
  return list(patterns).some((pattern) => {
    const source = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*').replace(/\?/g, '.');
    return new RegExp(`^${source}$`, ignoreCase ? 'isu' : 'su').test(text);
  });
}
