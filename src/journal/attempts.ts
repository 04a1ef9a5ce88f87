import { LRUCache } from 'lru-cache';
import type { Db } from '../db/db.js';
import type { ETag, Key, Part } from '../s3/object-store.js';

/**
 * Mutating requests that left, or are about to leave, and are not known to have arrived (J2). At most one per key (J1). A row is durable before
 * its request leaves (J3), so a crash at any point leaves a question that one HEAD answers (J5).
 *
 * - `sent`: in flight; after a crash as good as `ambiguous`.
 * - `ambiguous`: the answer was lost.
 * - `tombstone`: looked for and not found, which does not prove it dead (J6): looked for again until `tombstoneMs` have passed.
 */
export type AttemptOp = 'put' | 'copy' | 'delete' | 'multipart';
export type AttemptOutcome = 'sent' | 'ambiguous' | 'tombstone';

/** How long a request whose connection is gone may still be executed. Generous: S3 itself gives up on a request within minutes. */
export const tombstoneMs = 15 * 60_000;

export interface Attempt {
  readonly key: Key;
  readonly op: AttemptOp;
  readonly nonce: string;
  /** Etag demanded of the destination; null: must not exist. */
  readonly expected: ETag | null;
  readonly sourceKey: Key | null;
  readonly sourceEtag: ETag | null;
  /** What the object is made from. null for deletes. */
  readonly ino: number | null;
  readonly gen: number | null;
  readonly mgen: number | null;
  readonly uploadId: string | null;
  readonly partSizeBytes: number | null;
  readonly parts: readonly Part[];
  readonly sentAtMs: number;
  readonly outcome: AttemptOutcome;
}

interface Row {
  key: string; op: AttemptOp; nonce: string; expected: string | null; source_key: string | null; source_etag: string | null;
  ino: number | null; gen: number | null; mgen: number | null; upload_id: string | null; part_size: number | null; parts: string | null;
  sent_at: number; outcome: AttemptOutcome;
}

/** Several times what is under way at once. */
const knownMax = 1024;

export class AttemptTable {
  /** A visit asks several times, and mostly there is none. */
  private readonly known = new LRUCache<Key, Attempt | 'none'>({ max: knownMax });

  constructor(private readonly db: Db) {}

  get(key: Key): Attempt | undefined {
    let known = this.known.get(key);
    if (known === undefined) {
      const row = this.db.prepare<[string], Row>('SELECT * FROM attempt WHERE key = ?').getRow(key, key);
      this.known.set(key, (known = row ? fromRow(row) : 'none'));
    }
    return known === 'none' ? undefined : known;
  }

  has(key: Key): boolean {
    return this.get(key) !== undefined;
  }

  /** True if any key strictly below `prefix` has one. */
  hasUnder(prefix: string): boolean {
    return this.db.prepare('SELECT 1 FROM attempt WHERE key > ? AND key < ? LIMIT 1').get(prefix, prefix + '\u{10ffff}') !== undefined;
  }

  /** In a transaction. */
  put(attempt: Attempt): void {
    const statement = this.db.prepare(`INSERT OR REPLACE INTO attempt (key, op, nonce, expected, source_key, source_etag, ino, gen, mgen, upload_id, part_size, parts, sent_at, outcome)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`);
    const row = toRow(attempt);
    if (this.has(attempt.key)) statement.late(attempt.key, ...row);
    else statement.lateNew(attempt.key, ...row);
    this.becomes(attempt.key, attempt);
  }

  /** In a transaction. */
  setOutcome(key: Key, outcome: AttemptOutcome): void {
    const attempt = this.get(key);
    if (attempt) this.put({ ...attempt, outcome });
  }

  /** In a transaction: the upload and its acknowledged parts, so that a crash does not send them again. */
  setParts(key: Key, uploadId: string | null, parts: readonly Part[]): void {
    const attempt = this.get(key);
    if (attempt) this.put({ ...attempt, uploadId, parts: [...parts] }); // the caller's list may grow
  }

  /** In a transaction. */
  remove(key: Key): void {
    this.becomes(key, 'none');
    this.db.prepare('DELETE FROM attempt WHERE key = ?').late(key, key);
  }

  private becomes(key: Key, attempt: Attempt | 'none'): void {
    this.known.set(key, attempt);
    this.db.onRollback(() => this.known.delete(key));
  }

  /** All, or those with one outcome. Bounded by uploads in parallel, plus 15 minutes of lost answers. */
  list(outcome?: AttemptOutcome): Attempt[] {
    return outcome === undefined
      ? this.db.prepare<[], Row>('SELECT * FROM attempt ORDER BY key').all().map(fromRow)
      : this.db.prepare<[string], Row>('SELECT * FROM attempt WHERE outcome = ? ORDER BY key').all(outcome).map(fromRow);
  }
}

function toRow(attempt: Attempt): unknown[] {
  return [attempt.key, attempt.op, attempt.nonce, attempt.expected, attempt.sourceKey, attempt.sourceEtag, attempt.ino, attempt.gen, attempt.mgen,
    attempt.uploadId, attempt.partSizeBytes, attempt.parts.length === 0 ? null : JSON.stringify(attempt.parts), attempt.sentAtMs, attempt.outcome];
}

function fromRow(row: Row): Attempt {
  return {
    key: row.key, op: row.op, nonce: row.nonce, expected: row.expected, sourceKey: row.source_key, sourceEtag: row.source_etag,
    ino: row.ino, gen: row.gen, mgen: row.mgen, uploadId: row.upload_id, partSizeBytes: row.part_size,
    parts: row.parts === null ? [] : (JSON.parse(row.parts) as Part[]), sentAtMs: row.sent_at, outcome: row.outcome,
  };
}
