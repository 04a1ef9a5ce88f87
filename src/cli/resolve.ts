/** From what the user gave (flags, environment, configuration file) to the `MountConfig` the daemon runs with. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { errorCode } from '../base/errno.js';
import { UserError } from '../base/user-error.js';
import type { MountConfig } from '../daemon/config.js';
import type { ParsedArgs } from './args.js';
import { environmentName, mountOptions, type MountOptions } from './options.js';
import { nearest, parseEndpoint, parseS3Url } from './parse.js';
import type { World } from './world.js';

type ConfigWorld = Pick<World, 'env' | 'uid' | 'gid' | 'home' | 'cwd' | 'diskBytes'>;

/** All options, the nearest source winning: flag, environment, file, default; and the names of those that are not by default. */
export function readOptions(flags: ParsedArgs['flags'], world: ConfigWorld): { options: MountOptions; given: ReadonlySet<string> } {
  const configFile = (flags.get('config') as string | undefined) ?? world.env['HEARTHFS_CONFIG'];
  const file = configFile ? readConfigFile(path.resolve(world.cwd, configFile)) : new Map<string, string>();
  const options: Record<string, unknown> = {};
  const given = new Set<string>();
  for (const [key, spec] of Object.entries(mountOptions)) {
    const flag = flags.get(spec.name);
    const variable = environmentName(spec);
    const fromEnv = world.env[variable];
    if (flag !== undefined) options[key] = spec.parse(String(flag), `--${spec.name}`);
    else if (fromEnv !== undefined && fromEnv !== '') options[key] = spec.parse(fromEnv, variable);
    else if (file.has(spec.name)) options[key] = spec.parse(file.get(spec.name)!, `${spec.name} in ${configFile}`);
    if (key in options) given.add(spec.name);
    else if (spec.default !== undefined) options[key] = spec.parse(spec.default, `--${spec.name}`);
  }
  return { options: options as MountOptions, given };
}

/** A JSON object whose keys are option names; values are texts, numbers or booleans. */
function readConfigFile(file: string): Map<string, string> {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined) throw new UserError(`The configuration file ${file} is not valid JSON: ${(error as Error).message}`, 2, { cause: error });
    throw new UserError(`Cannot read the configuration file ${file}: ${code === 'ENOENT' ? 'it does not exist' : code}`, 2, { cause: error });
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) throw new UserError(`The configuration file ${file} must be a JSON object such as {"ttl": "5m"}`, 2);
  const known = Object.values(mountOptions).map((spec) => spec.name as string);
  const values = new Map<string, string>();
  for (const [key, value] of Object.entries(content)) {
    if (!known.includes(key)) {
      const guess = nearest(key, known);
      throw new UserError(`The configuration file ${file} has the unknown key ${JSON.stringify(key)}${guess ? `; did you mean "${guess}"?` : ''}`, 2);
    }
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') throw new UserError(`${key} in ${file} must be a text, a number, true or false`, 2);
    values.set(key, String(value));
  }
  return values;
}

const cacheSizeDefaultShare = 0.5;

/** @throws UserError exit code 2. Touches neither the mountpoint nor S3. */
export function resolveConfig(source: string, mountpointText: string, flags: ParsedArgs['flags'], world: ConfigWorld): MountConfig {
  const { bucket, prefix } = parseS3Url(source);
  const { options: o, given } = readOptions(flags, world);
  const mountpoint = path.resolve(world.cwd, mountpointText);
  if (mountpoint === '/') throw new UserError('The mountpoint cannot be /', 2);
  const endpoint = o.endpoint ?? environmentEndpoint(world.env);
  const absolute = (text: string): string => path.resolve(world.cwd, text);
  const cacheDir = o.cacheDir === undefined ? defaultCacheDir({ bucket, prefix, endpoint }, world) : absolute(o.cacheDir);
  const logFile = o.logFile === undefined ? undefined : absolute(o.logFile);
  for (const [what, where] of [['cache directory', cacheDir], ['log file', logFile]] as const) {
    // K17: a daemon that needs its own mount to go on would wait for itself.
    if (where !== undefined && isInside(where, mountpoint)) throw new UserError(`The ${what} ${where} lies inside the mountpoint ${mountpoint}; choose one outside`, 2);
  }
  for (const { name, value } of [{ name: 'allow-suid', value: o.allowSuid! }, { name: 'allow-dev', value: o.allowDev! }]) {
    if (value && world.uid !== 0) throw new UserError(`--${name} needs root: the kernel mounts for others without it only`, 2);
  }
  const cacheSizeBytes = given.has('cache-size') ? o.cacheSize! : Math.min(o.cacheSize!, Math.floor(world.diskBytes(cacheDir) * cacheSizeDefaultShare));
  return {
    bucket, prefix, mountpoint,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(o.region === undefined ? {} : { region: o.region }),
    ...(o.profile === undefined ? {} : { profile: o.profile }),
    pathStyle: o.pathStyle ?? endpoint !== undefined,
    cacheDir, cacheSizeBytes, minFree: o.minFree!,
    writeMode: o.writeMode!, fsync: o.fsync!, readMode: o.readMode!, ttlMs: o.ttl!, attributes: o.attributes!, readOnly: o.readOnly!,
    uid: o.uid ?? world.uid, gid: o.gid ?? world.gid, umask: o.umask!, allowOther: o.allowOther ?? world.uid === 0, suid: o.allowSuid!, dev: o.allowDev!, atime: o.atime!, transport: o.transport!, passthrough: o.passthrough!,
    ...(o.metrics === undefined ? {} : { metrics: o.metrics }),
    logLevel: o.logLevel!,
    ...(logFile === undefined ? {} : { logFile }),
    foreground: o.foreground!, deadlineMs: o.deadline!, uploadDelayMs: o.uploadDelay!, journalIntervalMs: o.journalInterval!,
    transferWorkers: o.workers!, uploadsMax: o.uploads!, downloadsMax: o.downloads!,
  };
}

/** The two variables every AWS tool knows. */
function environmentEndpoint(env: World['env']): string | undefined {
  for (const name of ['AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL']) {
    const text = env[name];
    if (text) return parseEndpoint(text, name);
  }
  return undefined;
}

/** Readable, and different for every bucket, prefix and endpoint: the hash covers what the readable part folds together. */
export function defaultCacheDir(of: { bucket: string; prefix: string; endpoint: string | undefined }, world: Pick<World, 'uid' | 'home'>): string {
  const base = world.uid === 0 ? '/var/cache/hearthfs' : path.join(world.home, '.cache', 'hearthfs');
  const hash = createHash('sha256').update(JSON.stringify([of.endpoint ?? null, of.bucket, of.prefix])).digest('hex').slice(0, 12);
  const words = `${of.bucket}/${of.prefix}`.replace(/[^A-Za-z0-9.]+/g, '-').replace(/-+$/, '').slice(0, 80);
  return path.join(base, `${words}-${hash}`);
}

export function isInside(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith('/') ? outer : `${outer}/`);
}
