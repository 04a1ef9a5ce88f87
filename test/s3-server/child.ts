/** Test and demo equipment, not product: starts the server as a process of its own (compiled; run `tsc` first) and steers it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { compiledEntry } from '../../src/base/entry-url.js';
import type { Fill } from './bucket-access.js';
import type { Capabilities } from './capabilities.js';
import type { FaultRule } from './faults.js';
import type { LoggedRequest } from './request-log.js';

export interface S3ProcessOptions {
  readonly port?: number;
  /** Memory if absent. */
  readonly directory?: string;
  readonly buckets?: readonly string[];
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly region?: string;
  readonly latencyMs?: number;
  /** Imitate Ceph RGW 16. */
  readonly ceph?: boolean;
}

export interface S3Stats {
  readonly counters: Readonly<Record<string, number>>;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly hung: number;
  /** CPU the server process has used since its start. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

export interface S3Process {
  readonly endpoint: string;
  readonly port: number;
  readonly controlEndpoint: string;
  readonly pid: number;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  setFaults(rules: readonly FaultRule[], seed?: number): Promise<void>;
  setCapabilities(capabilities: Partial<Capabilities>): Promise<void>;
  /** Makes many objects at once. */
  fill(what: Fill): Promise<void>;
  /** Removes all objects below the prefix. */
  remove(bucket: string, prefix: string): Promise<void>;
  down(): Promise<void>;
  up(): Promise<void>;
  releaseHung(): Promise<void>;
  stats(): Promise<S3Stats>;
  requests(): Promise<LoggedRequest[]>;
  clearRequests(): Promise<void>;
  /** Freezes and thaws the whole process (SIGSTOP, SIGCONT): connections are accepted by the kernel and never answered. */
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

export async function startS3Process(options: S3ProcessOptions = {}): Promise<S3Process> {
  const { accessKeyId = 'test-access-key', secretAccessKey = 'test-secret-key' } = options;
  const args = [
    '--port', String(options.port ?? 0), '--control-port', '0', '--access-key', accessKeyId, '--secret-key', secretAccessKey,
    ...(options.directory === undefined ? [] : ['--dir', options.directory]), ...(options.buckets ?? []).flatMap((name) => ['--bucket', name]),
    ...(options.region === undefined ? [] : ['--region', options.region]), ...(options.latencyMs === undefined ? [] : ['--latency-ms', String(options.latencyMs)]),
    ...(options.ceph ? ['--ceph'] : []),
  ];
  const process = spawn(globalThis.process.execPath, [compiledEntry(import.meta.url, './main.js').pathname, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(process, 'exit');
  let controlEndpoint = '';
  let endpoint = '';
  for await (const line of createInterface({ input: process.stdout })) {
    const [word, url] = line.split(' ');
    if (word === 'control') controlEndpoint = url ?? '';
    if (word === 'listening') {
      endpoint = url ?? '';
      break;
    }
  }
  if (endpoint === '') throw new Error('The S3 server process ended before it listened; is dist/ built?');
  process.stdout.resume();
  const control = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const response = await fetch(`${controlEndpoint}/_control/${path}`, { method, ...(body !== undefined && { body: JSON.stringify(body) }) });
    const result: unknown = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${JSON.stringify(result)}`);
    return result;
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    process.kill('SIGCONT');
    process.kill(signal);
    await exited;
  };
  return {
    endpoint, port: Number(new URL(endpoint).port), controlEndpoint, pid: process.pid!, accessKeyId, secretAccessKey,
    setFaults: async (rules, seed) => void (await control('PUT', 'faults', { rules, seed })),
    setCapabilities: async (capabilities) => void (await control('PUT', 'capabilities', capabilities)),
    fill: async (what) => void (await control('POST', 'fill', what)),
    remove: async (bucket, prefix) => void (await control('POST', 'remove', { bucket, prefix })),
    down: async () => void (await control('PUT', 'down')),
    up: async () => void (await control('PUT', 'up')),
    releaseHung: async () => void (await control('PUT', 'release')),
    stats: async () => (await control('GET', 'stats')) as S3Stats,
    requests: async () => (await control('GET', 'requests')) as LoggedRequest[],
    clearRequests: async () => void (await control('DELETE', 'requests')),
    freeze: () => void process.kill('SIGSTOP'),
    thaw: () => void process.kill('SIGCONT'),
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  };
}
