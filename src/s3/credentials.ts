/**
 * The current credentials: loaded once, renewed before they expire, reloaded when the server calls them expired (a long-lived
 * mount must outlive any session token). Concurrent callers share one load. While a renewal fails, credentials that have
 * not expired yet go on serving.
 */
import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { ExpiringCredentials } from './aws-config.js';
import type { Credentials } from './signer.js';

/** Renew this long before expiry: instance roles have their successors ready 5 minutes ahead. */
const renewBeforeMs = 5 * 60_000;
const retryAfterMs = 10_000;

export class CredentialSource {
  private current: ExpiringCredentials | undefined;
  private loading: Promise<ExpiringCredentials> | undefined;
  private notBeforeMs = 0;

  constructor(private readonly load: (fresh: boolean) => Promise<ExpiringCredentials>, private readonly clock: Clock, private readonly log: Log) {}

  /** @throws StoreError `bad-credentials` if there are none. */
  async get(): Promise<Credentials> {
    const { current } = this;
    if (!current) return this.renew(false);
    const leftMs = this.leftMs(current);
    if (leftMs > renewBeforeMs) return current;
    if (leftMs > 0) {
      // in the background: requests go on with what still works
      if (this.clock.monotonic() >= this.notBeforeMs) this.renew(true).catch((error: unknown) => this.log.warn('cannot renew credentials', { error }));
      return current;
    }
    return this.renew(true);
  }

  /** The server refused `used`. Answers true if there are other credentials now, so that sending again makes sense. */
  async refused(used: Credentials): Promise<boolean> {
    if (this.current && this.current.accessKeyId === used.accessKeyId && this.current.sessionToken === used.sessionToken && this.current.secretAccessKey === used.secretAccessKey) {
      if (!this.loading && this.clock.monotonic() < this.notBeforeMs) return false; // just looked, and not looking now
      await this.renew(true);
    }
    const now = this.current;
    return now !== undefined && (now.accessKeyId !== used.accessKeyId || now.sessionToken !== used.sessionToken || now.secretAccessKey !== used.secretAccessKey);
  }

  private renew(fresh: boolean): Promise<ExpiringCredentials> {
    if (this.loading) return this.loading;
    if (fresh) this.notBeforeMs = this.clock.monotonic() + retryAfterMs;
    this.loading = this.load(fresh)
      .then((loaded) => {
        this.current = loaded;
        if (this.leftMs(loaded) > renewBeforeMs) this.notBeforeMs = fresh ? this.notBeforeMs : 0;
        return loaded;
      })
      .finally(() => { this.loading = undefined; });
    return this.loading;
  }

  private leftMs({ expiration }: ExpiringCredentials): number {
    return expiration === undefined ? Infinity : expiration.getTime() - this.clock.now();
  }
}
