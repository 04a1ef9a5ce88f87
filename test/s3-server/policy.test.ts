import { describe, expect, test } from 'vitest';
import { evaluate, isAllowed } from './policy.js';

const readPub = { Statement: [{ Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: 'arn:aws:s3:::b/pub/*' }] };
const get = { name: 'GetObject', kind: 'GET', action: 's3:GetObject' } as const;
const put = { name: 'PutObject', kind: 'PUT', action: 's3:PutObject' } as const;
const owner = { accessKeyId: 'a', secretAccessKey: 's' };

describe('policies', () => {
  test('strangers may do only what the bucket allows', () => {
    expect(isAllowed(get, 'b', 'pub/x', readPub, undefined)).toBe(true);
    expect(isAllowed(get, 'b', 'priv/x', readPub, undefined)).toBe(false);
    expect(isAllowed(put, 'b', 'pub/x', readPub, undefined)).toBe(false);
    expect(isAllowed(get, 'b', 'pub/x', undefined, undefined)).toBe(false);
  });

  test('a Deny beats every Allow, also for the owner', () => {
    const policy = { Statement: [...readPub.Statement, { Effect: 'Deny', Principal: { AWS: '*' }, Action: ['s3:Put*'], Resource: 'arn:aws:s3:::b/*' }] };
    expect(isAllowed(put, 'b', 'k', policy, owner)).toBe(false);
    expect(isAllowed(get, 'b', 'k', policy, owner)).toBe(true);
  });

  test('a user with a policy of their own may do what it or the bucket allows', () => {
    const reader = { ...owner, user: 'reader', policy: { Statement: { Effect: 'Allow', Action: 's3:Get*', Resource: '*' } } };
    expect(isAllowed(get, 'b', 'k', undefined, reader)).toBe(true);
    expect(isAllowed(put, 'b', 'k', undefined, reader)).toBe(false);
    const granted = { Statement: [{ Effect: 'Allow', Principal: { AWS: 'arn:aws:iam::000000000000:user/reader' }, Action: 's3:PutObject', Resource: 'arn:aws:s3:::b/in/?' }] };
    expect(isAllowed(put, 'b', 'in/1', granted, reader)).toBe(true);
    expect(isAllowed(put, 'b', 'in/12', granted, reader)).toBe(false);
  });

  test('dots and brackets in resources are no wildcards', () => {
    const policy = { Statement: [{ Effect: 'Allow', Principal: '*', Action: '*', Resource: 'arn:aws:s3:::b/a.[b]' }] };
    expect(evaluate(policy, 's3:GetObject', 'arn:aws:s3:::b/a.[b]', undefined, true)).toBe('allow');
    expect(evaluate(policy, 's3:GetObject', 'arn:aws:s3:::b/axb', undefined, true)).toBe('none');
  });
});
