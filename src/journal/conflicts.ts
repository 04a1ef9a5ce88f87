import type { Db } from '../db/db.js';
import type { Key } from '../s3/object-store.js';

/** Losers of races, kept beside the winner and reported until somebody dismisses them (promise 2). */
export interface Conflict {
  readonly id: number;
  readonly key: Key;
  /** Where the loser is now; null: there was nothing to keep. */
  readonly keptAs: Key | null;
  readonly reason: string;
  readonly atMs: number;
}

interface Row { id: number; key: string; kept_as: string | null; reason: string; at: number }

export class ConflictTable {
  constructor(private readonly db: Db) {}

  /** In a transaction. */
  add(conflict: Omit<Conflict, 'id'>): void {
    this.db.prepare('INSERT INTO conflict (key, kept_as, reason, at) VALUES (?, ?, ?, ?)').run(conflict.key, conflict.keptAs, conflict.reason, conflict.atMs);
  }

  /** Newest first. */
  list(limit = 1000): Conflict[] {
    return this.db.prepare<[number], Row>('SELECT * FROM conflict ORDER BY id DESC LIMIT ?').all(limit)
      .map((row) => ({ id: row.id, key: row.key, keptAs: row.kept_as, reason: row.reason, atMs: row.at }));
  }

  count(): number {
    return this.db.prepare<[], { n: number }>('SELECT count(*) AS n FROM conflict').get()!.n;
  }

  /** In a transaction. */
  remove(id: number): void {
    this.db.prepare('DELETE FROM conflict WHERE id = ?').run(id);
  }
}
