/**
 * Name lookups for the HTTP agents. getaddrinfo blocks a thread of libuv's pool, which fdatasync shares: during an outage of
 * DNS many lookups would stall every fsync. So there is at most one in flight per name, answers are kept for `ttlMs`, and an
 * old answer serves when the resolver fails. Addresses rotate, because S3 spreads load over the several it returns.
 */
import { lookup as systemLookup, type LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';

const ttlMs = 30_000;
const namesMax = 64;

interface Known { addresses: LookupAddress[]; untilMs: number; turn: number }

export function cachingLookup(now: () => number): LookupFunction {
  const known = new Map<string, Known>();
  const waiting = new Map<string, ((error: NodeJS.ErrnoException | null, found?: Known) => void)[]>();

  const resolve = (name: string, done: (error: NodeJS.ErrnoException | null, found?: Known) => void): void => {
    const cached = known.get(name);
    if (cached && cached.untilMs > now()) return done(null, cached);
    const queue = waiting.get(name);
    if (queue) return void queue.push(done);
    const callers = [done];
    waiting.set(name, callers);
    systemLookup(name, { all: true, order: 'verbatim' }, (error, addresses) => {
      waiting.delete(name);
      let found = error ? cached : { addresses, untilMs: now() + ttlMs, turn: 0 };
      if (found && found.addresses.length === 0) found = undefined;
      if (found) {
        if (known.size >= namesMax) known.clear();
        known.set(name, found);
      }
      for (const caller of callers) caller(found ? null : error ?? Object.assign(new Error(`no address for ${name}`), { code: 'ENOTFOUND' }), found);
    });
  };

  return (name, options, callback) => {
    resolve(name, (error, found) => {
      if (!found) return callback(error, '', 0);
      const family = options.family === 4 || options.family === 'IPv4' ? 4 : options.family === 6 || options.family === 'IPv6' ? 6 : 0;
      const fitting = family === 0 ? found.addresses : found.addresses.filter((address) => address.family === family);
      if (fitting.length === 0) return callback(Object.assign(new Error(`no address for ${name}`), { code: 'ENOTFOUND' }), '', 0);
      const first = found.turn++ % fitting.length;
      const rotated = [...fitting.slice(first), ...fitting.slice(0, first)];
      if (options.all) callback(null, rotated);
      else callback(null, rotated[0]!.address, rotated[0]!.family);
    });
  };
}
