import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.js';
import type { Db } from '../db/db.js';
import type { Key } from '../s3/object-store.js';

/**
 * The journal: one row per key where S3 may differ from the tree. Level-triggered: a row says *look here*, never what to do, so
 * marking twice is marking once, replaying is harmless, and a row that turns out clean is simply cleared.
 *
 * Invariants: 1. a row is written in the transaction of the change that causes it. 2. A row waits for silence (J11), but a key
 * that never falls silent is due at the latest `debounceMsMax` after `since`. 3. A parked row is not tried again before somebody changes the key
 * or asks for it. 4. A row goes only in a transaction that proved its key clean.
 */

/** A file written all the time is uploaded this often: short enough to lose little, long enough not to PUT every second. */
export const debounceMsMax = 30_000;

/** A second mark of a key within this share of its delay changes nothing: create, chown, chmod, utimes and close are one debounce. */
const sameMarkShare = 0.1;
const recentMarksMax = 4096;

export interface JournalRow {
  readonly key: Key;
  /** When S3 first lacked something here, ms. */
  readonly sinceMs: number;
  /** Not tried before, ms. */
  readonly dueMs: number;
  /** Failures in a row. */
  readonly tries: number;
  /** Why it needs a person or a change; null: will be tried. */
  readonly parked: string | null;
  /** The last failure, for people. */
  readonly error: string | null;
}

/** A directory whose keys all changed (J8): what S3 holds under `oldPrefix`, and everything now below `ino`, must be looked at. */
export interface WalkRow { readonly id: number; readonly ino: number; readonly oldPrefix: string }

type KnownRow = JournalRow | 'none';
interface Row { key: string; since: number; due: number; tries: number; parked: string | null; error: string | null }

/** Above every Unicode string that continues a prefix. */
const last = '\u{10ffff}';

export class Journal {
  private readonly listeners = new Set<(dueMs: number) => void>();
  private readonly touchListeners = new Set<(key: Key) => void>();
  /** Rows that were marked a moment ago and not changed in any other way since. */
  private readonly recentMarks: LRUCache<Key, { readonly atMs: number; readonly delayMs: number }>;
  /** Every reply about a file asks whether its key has a row, and every mark what the row says. */
  private readonly known: LRUCache<Key, KnownRow>;
  /** Every look for work asks; there are hardly ever any. */
  private knownWalks: readonly WalkRow[] | undefined;
  private notifying = false;
  /** The earliest due time among the marks that the listeners are about to hear of. */
  private earliestDueMs = Infinity;

  /** @param knownMax keys that are known to have a row or none. */
  constructor(private readonly db: Db, private readonly clock: Clock, knownMax = 20_000) {
    this.known = new LRUCache({ max: knownMax });
    this.recentMarks = new LRUCache({ max: Math.min(recentMarksMax, knownMax) });
  }

  /**
   * In a transaction: look at `key` after `delayMs` of silence. A backoff that is running is not cut short (an outage
   * with a busy writer is not a hail of requests); a parked row is tried anew.
   */
  mark(key: Key, delayMs: number): void {
    const now = this.clock.now();
    const recent = this.recentMarks.get(key);
    if (recent && recent.delayMs === delayMs && now >= recent.atMs && now - recent.atMs < delayMs * sameMarkShare) return this.touched(key);
    this.recentMarks.set(key, { atMs: now, delayMs });
    this.db.onRollback(() => this.recentMarks.delete(key));
    this.save(marked(this.get(key), key, now, delayMs));
    this.touched(key);
    this.notifyAfterCommit(now + delayMs);
  }

  get(key: Key): JournalRow | undefined {
    let known = this.known.get(key);
    if (known === undefined) {
      const row = this.db.prepare<[string], Row>('SELECT * FROM journal WHERE key = ?').getRow(key, key);
      this.known.set(key, (known = row ? fromRow(row) : 'none'));
    }
    return known === 'none' ? undefined : known;
  }

  has(key: Key): boolean {
    return this.get(key) !== undefined;
  }

  /** In the transaction that proves `key` clean. */
  clear(key: Key): void {
    this.recentMarks.delete(key);
    this.becomes(key, 'none');
    this.db.prepare('DELETE FROM journal WHERE key = ?').late(key, key);
    this.touched(key);
  }

  /** In a transaction: not before `dueMs`. `tries` 0 for a mere wait. */
  defer(key: Key, dueMs: number, error: string | null, tries: number): void {
    this.change(key, () => ({ dueMs, error, tries }));
  }

  /** In a transaction: something was acknowledged, but the key has changed meanwhile; its wait starts anew. */
  restart(key: Key, delayMs: number): void {
    const now = this.clock.now();
    this.change(key, () => ({ sinceMs: now, dueMs: now + delayMs, tries: 0, error: null }));
  }

  /** In a transaction: due at once, whatever it waits for; parked rows stay parked. */
  hasten(key: Key): void {
    const now = this.clock.now();
    this.change(key, ({ parked, dueMs }) => (parked === null && dueMs > now ? { dueMs: now } : undefined));
    this.notifyAfterCommit();
  }

  /** In a transaction: everything that is not parked is due now (sync, drain). */
  hastenAll(): void {
    this.manyChange();
    this.db.prepare('UPDATE journal SET due = ? WHERE due > ? AND parked IS NULL').run(this.clock.now(), this.clock.now());
    this.notifyAfterCommit();
  }

  /** In a transaction: what waits for silence or for another key is due now; what failed keeps its backoff (drain). */
  hastenWaiting(): void {
    this.manyChange();
    this.db.prepare('UPDATE journal SET due = ? WHERE due > ? AND tries = 0 AND parked IS NULL').run(this.clock.now(), this.clock.now());
    this.notifyAfterCommit();
  }

  /** In a transaction: what failed before is due now: the reason may be gone. */
  hastenRetries(): void {
    this.manyChange();
    this.db.prepare('UPDATE journal SET due = ? WHERE due > ? AND tries > 0 AND parked IS NULL').run(this.clock.now(), this.clock.now());
    this.notifyAfterCommit();
  }

  /** In a transaction. */
  park(key: Key, reason: string, error: string): void {
    this.change(key, ({ tries }) => ({ parked: reason, error, tries: tries + 1 }));
  }

  /** In a transaction: try every parked row again; answers how many. */
  unparkAll(): number {
    this.manyChange();
    const { changes } = this.db.prepare('UPDATE journal SET parked = NULL, tries = 0, due = ? WHERE parked IS NOT NULL').run(this.clock.now());
    this.notifyAfterCommit();
    return changes;
  }

  /** Rows to be tried now, longest due first. */
  due(nowMs: number, limit: number): JournalRow[] {
    return this.db.prepare<[number, number], Row>('SELECT * FROM journal WHERE parked IS NULL AND due <= ? ORDER BY due LIMIT ?').all(nowMs, limit).map(fromRow);
  }

  /** When the next row later than `afterMs` becomes due; undefined if there is none. */
  nextDueMs(afterMs = -1): number | undefined {
    return this.db.prepare<[number], { due: number | null }>('SELECT min(due) AS due FROM journal WHERE parked IS NULL AND due > ?').get(afterMs)?.due ?? undefined;
  }

  count(): number {
    return this.db.prepare<[], { n: number }>('SELECT count(*) AS n FROM journal').get()!.n;
  }

  parkedCount(): number {
    return this.db.prepare<[], { n: number }>('SELECT count(*) AS n FROM journal WHERE parked IS NOT NULL').get()!.n;
  }

  /** In key order; `after` continues. */
  list(limit: number, after: Key = ''): JournalRow[] {
    // Keys are never empty but for the root's, which has no object and no row.
    return this.db.prepare<[string, number], Row>('SELECT * FROM journal WHERE key > ? ORDER BY key LIMIT ?').all(after, limit).map(fromRow);
  }

  /** For people: parked rows first, then the oldest. */
  oldest(limit: number): JournalRow[] {
    return this.db.prepare<[number], Row>('SELECT * FROM journal ORDER BY parked IS NULL, since, key LIMIT ?').all(limit).map(fromRow);
  }

  /** Keys with a row that lie strictly below `prefix`, ascending. */
  under(prefix: string, limit: number, after: Key = prefix): Key[] {
    return this.db.prepare<[string, string, number], { key: string }>('SELECT key FROM journal WHERE key > ? AND key < ? ORDER BY key LIMIT ?')
      .all(after, prefix + last, limit).map(({ key }) => key);
  }

  /** True if any key strictly below `prefix` has a row. */
  hasUnder(prefix: string): boolean {
    return this.db.prepare('SELECT 1 FROM journal WHERE key > ? AND key < ? LIMIT 1').get(prefix, prefix + last) !== undefined;
  }

  /** In a transaction (J8). */
  addWalk(ino: number, oldPrefix: string): void {
    this.walksChange();
    this.db.prepare('INSERT INTO walk (ino, old_prefix) VALUES (?, ?)').run(ino, oldPrefix);
    this.notifyAfterCommit();
  }

  walks(): readonly WalkRow[] {
    return this.knownWalks ??= this.db.prepare<[], { id: number; ino: number; old_prefix: string }>('SELECT * FROM walk ORDER BY id').all()
      .map(({ id, ino, old_prefix }) => ({ id, ino, oldPrefix: old_prefix }));
  }

  /** In a transaction. */
  removeWalk(id: number): void {
    this.walksChange();
    this.db.prepare('DELETE FROM walk WHERE id = ?').run(id);
  }

  private walksChange(): void {
    this.knownWalks = undefined;
    this.db.onRollback(() => (this.knownWalks = undefined));
  }

  /** Called once after each commit that marked something, with the time at which something may be due at the earliest; answers how to stop it. */
  onMarked(listener: (dueMs: number) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Called at once with each key that is marked or cleared: a listing that runs must not believe S3 about it (J7). */
  onTouched(listener: (key: Key) => void): () => void {
    this.touchListeners.add(listener);
    return () => this.touchListeners.delete(listener);
  }

  private change(key: Key, changes: (row: JournalRow) => Partial<JournalRow> | undefined): void {
    this.recentMarks.delete(key);
    const row = this.get(key);
    const changed = row && changes(row);
    if (changed) this.save({ ...row, ...changed });
  }

  private save(row: JournalRow): void {
    const { key, sinceMs, dueMs, tries, parked, error } = row;
    const statement = this.db.prepare('INSERT OR REPLACE INTO journal (key, since, due, tries, parked, error) VALUES (?, ?, ?, ?, ?, ?)');
    if (this.get(key)) statement.late(key, key, sinceMs, dueMs, tries, parked, error);
    else statement.lateNew(key, key, sinceMs, dueMs, tries, parked, error);
    this.becomes(key, row);
  }

  private becomes(key: Key, row: KnownRow): void {
    this.known.set(key, row);
    this.db.onRollback(() => this.known.delete(key));
  }

  /** Many rows change at once. */
  private manyChange(): void {
    this.recentMarks.clear();
    this.known.clear();
    this.db.onRollback(() => this.known.clear());
  }

  private touched(key: Key): void {
    for (const listener of this.touchListeners) listener(key);
  }

  private notifyAfterCommit(dueMs = 0): void {
    this.earliestDueMs = Math.min(this.earliestDueMs, dueMs);
    if (this.notifying) return;
    this.notifying = true;
    const forget = (): void => {
      this.notifying = false;
      this.earliestDueMs = Infinity;
    };
    this.db.onRollback(forget);
    this.db.afterCommit(() => {
      const earliest = this.earliestDueMs;
      forget();
      for (const listener of this.listeners) listener(earliest);
    });
  }
}

function marked(row: JournalRow | undefined, key: Key, now: number, delayMs: number): JournalRow {
  if (!row) return { key, sinceMs: now, dueMs: now + delayMs, tries: 0, parked: null, error: null };
  const lastMs = row.sinceMs + debounceMsMax;
  if (row.tries > 0 && row.parked === null) return { ...row, dueMs: Math.max(row.dueMs, Math.min(now + delayMs, lastMs)) };
  const dueMs = Math.min(now + delayMs, Math.max(now, lastMs));
  return row.parked === null ? { ...row, dueMs } : { ...row, dueMs, tries: 0, error: null, parked: null };
}

function fromRow(row: Row): JournalRow {
  return { key: row.key, sinceMs: row.since, dueMs: row.due, tries: row.tries, parked: row.parked, error: row.error };
}
