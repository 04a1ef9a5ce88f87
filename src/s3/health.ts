/**
 * Is S3 reachable? Fed with the outcome of every request, read by the retry wrapper (fail fast while offline, so that stale
 * cached data can be served at once), by `status` and by alerts.
 *
 * ok -> degraded: a request failed to get an answer, or S3 says slow down, or refuses our credentials.
 * degraded -> offline: nothing but connection failures for `offlineAfterMs`, at least `offlineAfterCount` of them. A burst of
 *   resets at one instant is no outage: both must hold.
 * any answer of S3 -> ok.
 */
import type { Clock } from '../base/clock.js';
import type { StoreError } from './store-error.js';

export type HealthState = 'ok' | 'degraded' | 'offline';

export interface HealthStatus {
  readonly state: HealthState;
  /** Wall clock, ms. */
  readonly sinceMs: number;
  readonly lastError?: string;
  readonly lastErrorKind?: StoreError['kind'];
}

export interface HealthOptions { readonly offlineAfterMs?: number; readonly offlineAfterCount?: number }

export class Health {
  private readonly offlineAfterMs: number;
  private readonly offlineAfterCount: number;
  private current: HealthStatus;
  private failures = 0;
  private firstFailureMs = 0;
  private readonly listeners = new Set<(status: HealthStatus, was: HealthState) => void>();

  constructor(private readonly clock: Clock, options: HealthOptions = {}) {
    this.offlineAfterMs = options.offlineAfterMs ?? 5000;
    this.offlineAfterCount = options.offlineAfterCount ?? 3;
    this.current = { state: 'ok', sinceMs: clock.now() };
  }

  get status(): HealthStatus { return this.current; }
  get isOffline(): boolean { return this.current.state === 'offline'; }

  /** S3 answered, be it with a refusal that is about the object. */
  succeeded(): void {
    this.failures = 0;
    if (this.current.state !== 'ok') this.change({ state: 'ok', sinceMs: this.clock.now() });
  }

  failed(error: StoreError): void {
    switch (error.kind) {
      case 'unavailable': {
        if (this.failures++ === 0) this.firstFailureMs = this.clock.monotonic();
        const lasts = this.clock.monotonic() - this.firstFailureMs >= this.offlineAfterMs && this.failures >= this.offlineAfterCount;
        return this.worsen(lasts || this.isOffline ? 'offline' : 'degraded', error);
      }
      case 'throttled': case 'bad-credentials': case 'no-such-bucket': case 'wrong-region': case 'clock-skew':
        this.failures = 0;
        return this.worsen('degraded', error);
      case 'aborted': case 'local-io': return; // says nothing about S3
      case 'not-found': case 'no-such-upload': case 'precondition-failed': case 'conflict': case 'access-denied': case 'archived': case 'locked': case 'too-large': case 'invalid':
        return this.succeeded();
    }
  }

  /** Called on every change of state; not for another error in the same state. */
  onChange(listener: (status: HealthStatus, was: HealthState) => void): () => void {
    this.listeners.add(listener);
    return () => { this.listeners.delete(listener); };
  }

  private worsen(state: HealthState, error: StoreError): void {
    const next = { state, lastError: error.message, lastErrorKind: error.kind };
    if (state === this.current.state) this.current = { ...next, sinceMs: this.current.sinceMs };
    else this.change({ ...next, sinceMs: this.clock.now() });
  }

  private change(status: HealthStatus): void {
    const was = this.current.state;
    this.current = status;
    for (const listener of this.listeners) listener(status, was);
  }
}
