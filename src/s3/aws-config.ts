/**
 * What only the AWS SDK knows: the standard credential chain, the region, and the endpoint rules (profile, environment,
 * dualstack, FIPS). It is asked once at the start and for credentials; no S3 request goes through it (DESIGN 4).
 * Loaded lazily, and not at all where the environment says everything (`environment-config`): it costs 300 ms of CPU and 20 MB.
 */
import { UserError } from '../base/user-error.js';
import { environmentConfig } from './environment-config.js';
import { proxyFor, TunnelAgent } from './proxy.js';
import type { Credentials, SigningScope } from './signer.js';
import { StoreError } from './store-error.js';

/** The SDK tells users to upgrade Node; they cannot act on it here. Set before the SDK is loaded anywhere in this process or thread. */
export function silenceSdkNodeWarning(env: NodeJS.ProcessEnv = process.env): void {
  env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';
}
silenceSdkNodeWarning();

export interface ConnectionOptions {
  readonly bucket: string;
  readonly endpoint?: string;
  readonly region?: string;
  readonly profile?: string;
  readonly pathStyle: boolean;
}

export interface Endpoint {
  readonly secure: boolean;
  readonly hostname: string;
  readonly port: number;
  /** As it goes into the Host header and the signature. */
  readonly host: string;
  /** `''`, or starts with `/` and does not end with it: what stands before the key's slash (the bucket, in path style). */
  readonly basePath: string;
  readonly scope: SigningScope;
}

export interface ExpiringCredentials extends Credentials { readonly expiration?: Date }

export interface AwsConfig {
  readonly region: string;
  /** True if the endpoint is not AWS's own: then a region found out later changes the signature only. */
  readonly customEndpoint: boolean;
  endpointFor(region: string): Promise<Endpoint>;
  /** Walks the chain anew. `fresh` also forgets cached configuration files. */
  loadCredentials(fresh: boolean): Promise<ExpiringCredentials>;
}

const defaultRegion = 'us-east-1';
const signInConnectMs = 5000;

export async function loadAwsConfig(options: ConnectionOptions): Promise<AwsConfig> {
  return environmentConfig(options, process.env) ?? sdkConfig(options);
}

export async function sdkConfig(options: ConnectionOptions): Promise<AwsConfig> {
  const { S3Client } = await import('@aws-sdk/client-s3');
  const { endpoint, profile } = options;
  if (endpoint !== undefined && !URL.canParse(endpoint)) throw new UserError(`The endpoint "${endpoint}" is not a URL; it looks like https://s3.example.com`, 2);
  // STS and single sign-on are on the Internet, whatever the endpoint of the bucket is
  const proxy = proxyFor({ secure: true, hostname: 'sts.amazonaws.com', port: 443 }, process.env);
  const httpsAgent = proxy && new TunnelAgent(proxy, { connectMs: signInConnectMs }, {});
  const configure = (region: string | undefined): InstanceType<typeof S3Client>['config'] => new S3Client({
    ...(region !== undefined && { region }), ...(profile !== undefined && { profile }), ...(endpoint !== undefined && { endpoint }), forcePathStyle: options.pathStyle,
    ...(httpsAgent && { requestHandler: { httpsAgent } }),
  }).config;
  let config = configure(options.region);
  const region = await config.region().catch(() => undefined) ?? defaultRegion;
  // None configured: the bucket's own region is found out from its first answer. The SDK needs one for its other rules.
  if (region === defaultRegion) config = configure(region);
  const custom = endpoint ?? (await underProfile(profile, () => configuredEndpoint(config)));
  if (custom !== undefined && !URL.canParse(custom)) throw new UserError(`The configured endpoint "${custom}" is not a URL; it looks like https://s3.example.com`, 2);
  const [useFips, useDualStack] = await Promise.all([config.useFipsEndpoint(), config.useDualstackEndpoint()]);

  return {
    region,
    customEndpoint: custom !== undefined,
    endpointFor(forRegion) {
      try {
        const resolved = config.endpointProvider({
          Bucket: options.bucket, Region: forRegion, ForcePathStyle: options.pathStyle, UseFIPS: useFips, UseDualStack: useDualStack, ...(custom !== undefined && { Endpoint: custom }),
        });
        return Promise.resolve(toEndpoint(resolved as ResolvedEndpoint, forRegion, options.bucket));
      } catch (error) {
        throw new UserError(`Cannot reach bucket "${options.bucket}": ${error instanceof Error ? error.message : String(error)}`, 1, { cause: error });
      }
    },
    async loadCredentials(fresh) {
      const provider = (config as unknown as CredentialChain).credentialDefaultProvider({ ...(profile !== undefined && { profile }), parentClientConfig: config, ignoreCache: fresh });
      try {
        return await provider();
      } catch (error) {
        const where = profile === undefined ? 'AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws, a web identity or an instance role' : `the profile "${profile}" in ~/.aws`;
        const words = error instanceof Error ? error.message : String(error);
        throw new StoreError('bad-credentials', `Cannot find AWS credentials in ${where}: ${words}`, {}, { cause: error });
      }
    },
  };
}

interface CredentialChain { credentialDefaultProvider(init: object): () => Promise<ExpiringCredentials> }
interface ResolvedEndpoint { url: URL; properties?: { authSchemes?: { name: string; signingName?: string; signingRegion?: string }[]; backend?: string } }

/** The SDK looks up `endpoint_url` by AWS_PROFILE only, whatever profile its client was given. Workers have an environment of their own. */
async function underProfile<T>(profile: string | undefined, ask: () => Promise<T>): Promise<T> {
  const before = process.env['AWS_PROFILE'];
  if (profile === undefined || profile === before) return ask();
  process.env['AWS_PROFILE'] = profile;
  try {
    return await ask();
  } finally {
    if (before === undefined) delete process.env['AWS_PROFILE'];
    else process.env['AWS_PROFILE'] = before;
  }
}

/** AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or endpoint_url of the profile. */
async function configuredEndpoint(config: { serviceConfiguredEndpoint?: unknown; endpoint?: unknown }): Promise<string | undefined> {
  const read = config.serviceConfiguredEndpoint as (() => Promise<unknown>) | undefined;
  const found: unknown = typeof read === 'function' ? await read() : read;
  if (typeof found === 'string') return found;
  if (typeof found !== 'object' || found === null) return undefined;
  if ('url' in found && found.url instanceof URL) return found.url.href;
  if (!('hostname' in found)) return undefined;
  const { protocol, hostname, port, path } = found as { protocol: string; hostname: string; port?: number; path: string };
  return `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}`;
}

function toEndpoint({ url, properties }: ResolvedEndpoint, region: string, bucket: string): Endpoint {
  if (properties?.backend === 'S3Express') throw new UserError(`"${bucket}" is a directory bucket (S3 Express One Zone), which is not supported; use a general purpose bucket`);
  const scheme = properties?.authSchemes?.find(({ name }) => name === 'sigv4');
  if (properties?.authSchemes && !scheme) throw new UserError(`"${bucket}" needs ${properties.authSchemes[0]?.name ?? 'another'} signatures (a multi-region access point), which are not supported; use the bucket itself`);
  const secure = url.protocol === 'https:';
  return {
    secure, hostname: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? (secure ? 443 : 80) : Number(url.port), host: url.host, basePath: url.pathname.replace(/\/+$/, ''),
    scope: { region: scheme?.signingRegion ?? region, service: scheme?.signingName ?? 's3' },
  };
}
