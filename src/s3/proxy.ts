/**
 * HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case, as curl and Go read them: https goes through a CONNECT tunnel, http is
 * asked of the proxy by whole URL. NO_PROXY holds host names (which include their subdomains), addresses, CIDR blocks, each with or without a
 * port, or `*`. This machine itself is never asked of a proxy.
 */
import { request as httpRequest, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest, type AgentOptions } from 'node:https';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as tlsConnect, type ConnectionOptions } from 'node:tls';
import { UserError } from '../base/user-error.js';
import { StoreError } from './store-error.js';

interface Target { readonly secure: boolean; readonly hostname: string; readonly port: number }

/** @throws UserError if the variable that applies is not the URL of an HTTP proxy. */
export function proxyFor(target: Target, env: NodeJS.ProcessEnv): URL | undefined {
  const [name, text] = firstSet(env, target.secure ? ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'] : ['http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY']);
  if (text === undefined || isLocal(target.hostname) || isExcepted(target, firstSet(env, ['no_proxy', 'NO_PROXY'])[1] ?? '')) return undefined;
  const url = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw new UserError(`${name} is "${text}", which is not the URL of an HTTP proxy; it looks like http://proxy.example.com:3128`);
  return new URL(url);
}

/** Value of Proxy-Authorization, if the URL holds a user. */
export function proxyAuthorization(proxy: URL): Record<string, string> {
  if (proxy.username === '') return {};
  const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { 'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}` };
}

export function proxyPort(proxy: URL): number {
  return proxy.port === '' ? (proxy.protocol === 'https:' ? 443 : 80) : Number(proxy.port);
}

/** For https: every connection is a tunnel of the proxy's, encrypted end to end. */
export class TunnelAgent extends HttpsAgent {
  constructor(private readonly proxy: URL, private readonly tunnel: { readonly connectMs: number; readonly lookup?: LookupFunction }, options: AgentOptions) {
    super(options);
  }

  /** As node:http wants it: the socket comes by `done`. Bounded by `connectMs`, the handshake included. */
  override createConnection(options: RequestOptions & ConnectionOptions, done: (error: Error | null, socket?: Duplex) => void): undefined {
    const { proxy } = this;
    const hostname = String(options.host ?? options.hostname);
    const where = `${isIP(hostname) === 6 ? `[${hostname}]` : hostname}:${options.port}`;
    let answered = false;
    const answer = (error: Error | null, socket?: Duplex): void => {
      if (answered) return void socket?.destroy();
      answered = true;
      clearTimeout(timer);
      done(error, socket);
    };
    const fail = (why: string, code: string, cause?: unknown): void => {
      answer(new StoreError('unavailable', `Cannot reach ${where} through the proxy ${proxy.host}: ${why}`, { code }, cause === undefined ? {} : { cause }));
      request.destroy();
    };
    const timer = setTimeout(() => fail(`no answer within ${this.tunnel.connectMs} ms`, 'ETIMEDOUT'), this.tunnel.connectMs);
    const make = proxy.protocol === 'https:' ? httpsRequest : httpRequest;
    const request = make({
      method: 'CONNECT', hostname: proxy.hostname.replace(/^\[|\]$/g, ''), port: proxyPort(proxy), path: where, agent: false, headers: { host: where, ...proxyAuthorization(proxy) },
      ...(this.tunnel.lookup && { lookup: this.tunnel.lookup }),
    });
    request.on('error', (error: NodeJS.ErrnoException) => fail(error.code === 'ECONNREFUSED' ? 'it refuses connections' : error.message || String(error.code), error.code ?? 'EIO', error));
    request.on('connect', (response, socket) => {
      if (response.statusCode !== 200) {
        socket.destroy();
        const hint = response.statusCode === 407 ? '; it wants a user and password: http://USER:PASSWORD@HOST:PORT' : '';
        return fail(`it answers ${response.statusCode} ${response.statusMessage ?? ''}`.trimEnd() + hint, 'EPROXY');
      }
      const secured = tlsConnect({ ...options, path: undefined, socket, servername: options.servername ?? hostname } as ConnectionOptions, () => answer(null, secured));
      // An error is the socket's own once it is handed over
      secured.on('error', (error) => answer(error));
    });
    request.end();
  }
}

function firstSet(env: NodeJS.ProcessEnv, names: readonly string[]): [string, string | undefined] {
  const name = names.find((one) => env[one] !== undefined && env[one] !== '') ?? '';
  return [name, env[name]];
}

function isLocal(hostname: string): boolean {
  return hostname === 'localhost' || hostname.endsWith('.localhost') || hostname === '::1' || (isIP(hostname) === 4 && hostname.startsWith('127.'));
}

function isExcepted({ hostname, port, secure }: Target, list: string): boolean {
  const name = hostname.toLowerCase();
  return list.toLowerCase().split(/[\s,]+/).filter(Boolean).some((entry) => {
    if (entry === '*') return true;
    const [, host, entryPort] = /^(\[[^\]]*\]|[^:]*|[0-9a-f:/]*)(?::(\d+))?$/.exec(entry) ?? [];
    if (host === undefined || (entryPort !== undefined && Number(entryPort) !== (port || (secure ? 443 : 80)))) return false;
    const bare = host.replace(/^\[|\]$/g, '');
    if (isIP(name) !== 0) return isInBlock(name, bare);
    const suffix = bare.replace(/^\*?\./, '');
    return suffix !== '' && (name === suffix || name.endsWith(`.${suffix}`));
  });
}

function isInBlock(address: string, entry: string): boolean {
  const [network = '', bits] = entry.split('/');
  const family = isIP(network);
  if (family === 0 || isIP(address) !== family) return false;
  const longest = family === 6 ? 128 : 32;
  const prefix = bits === undefined ? longest : Number(bits);
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > longest) return false;
  const block = new BlockList();
  block.addSubnet(network, prefix, family === 6 ? 'ipv6' : 'ipv4');
  return block.check(address, family === 6 ? 'ipv6' : 'ipv4');
}
