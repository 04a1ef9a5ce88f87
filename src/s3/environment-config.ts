/**
 * The configuration of a mount with an endpoint of its own and credentials in the environment, without the SDK: those are the first link of
 * the SDK's chain and the simplest of its endpoint rules, and nothing else has a say then. Loading the SDK costs every worker 300 ms of CPU
 * and 20 MB, which is most of the start of a daemon. Whatever is not plain here is left to the SDK; a test holds the two against each other.
 */
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { AwsConfig, ConnectionOptions, ExpiringCredentials } from './aws-config.js';

const defaultRegion = 'us-east-1';
const plainBucket = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const plainRegion = /^[a-z0-9]+(-[a-z0-9]+)*$/;

/** @returns undefined where the SDK has to be asked. */
export function environmentConfig(options: ConnectionOptions, env: NodeJS.ProcessEnv): AwsConfig | undefined {
  const { bucket, endpoint } = options;
  if (endpoint === undefined || !options.pathStyle || !plainBucket.test(bucket)) return undefined;
  if (options.profile !== undefined || env['AWS_PROFILE']) return undefined;
  const credentials = environmentCredentials(env);
  if (!credentials) return undefined;
  if (env['AWS_USE_FIPS_ENDPOINT'] || env['AWS_USE_DUALSTACK_ENDPOINT']) return undefined;
  const explicit = options.region ?? (env['AWS_REGION'] || undefined);
  if (explicit === undefined && hasConfigurationFile(env)) return undefined; // the region may be in it
  const region = explicit ?? defaultRegion;
  if (!isPlainRegion(region) || !URL.canParse(endpoint)) return undefined;
  const url = new URL(endpoint);
  const secure = url.protocol === 'https:';
  if ((!secure && url.protocol !== 'http:') || url.username !== '' || url.search !== '' || url.hash !== '') return undefined;
  const where = {
    secure, hostname: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? (secure ? 443 : 80) : Number(url.port), host: url.host,
    basePath: `${url.pathname.replace(/\/+$/, '')}/${bucket}`,
  };
  return {
    region,
    customEndpoint: true,
    endpointFor: (forRegion) => Promise.resolve({ ...where, scope: { region: forRegion, service: 's3' } }),
    loadCredentials: () => Promise.resolve(credentials),
  };
}

function environmentCredentials(env: NodeJS.ProcessEnv): ExpiringCredentials | undefined {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken, AWS_CREDENTIAL_EXPIRATION: expiration } = env;
  if (!accessKeyId || !secretAccessKey || expiration) return undefined;
  return { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }), ...{ $source: { CREDENTIALS_ENV_VARS: 'g' } } };
}

/** Pseudo-regions such as aws-global or fips-us-east-1 have rules of their own. */
function isPlainRegion(region: string): boolean {
  return plainRegion.test(region) && !/\b(?:global|fips)\b/.test(region);
}

function hasConfigurationFile(env: NodeJS.ProcessEnv): boolean {
  const home = env['HOME'] || os.homedir();
  return [env['AWS_CONFIG_FILE'] || path.join(home, '.aws', 'config'), env['AWS_SHARED_CREDENTIALS_FILE'] || path.join(home, '.aws', 'credentials')].some((file) => existsSync(file));
}
