/** The SQL of the `content` table, this room's only table. */
import type { Db } from '../db/db.js';
import type { EntryState } from './eviction-index.js';

export interface ContentRow {
  readonly id: number;
  readonly allocated: number;
  readonly dirty: number;
  readonly pinned: number;
  readonly hits: number;
  readonly queue: number;
  readonly used_at: number;
}

const columns = 'id, allocated, dirty, pinned, hits, queue, used_at';

export class ContentRows {
  constructor(private readonly db: Db) {}

  insert(id: number, missing: Buffer, dirty: boolean, queue: number, usedAtMs: number): void {
    this.db.prepare<[number, Buffer, number, number, number]>('INSERT INTO content (id, missing, allocated, dirty, queue, used_at) VALUES (?, ?, 0, ?, ?, ?)').run(id, missing, dirty ? 1 : 0, queue, usedAtMs);
  }

  get(id: number): (ContentRow & { readonly missing: Buffer; readonly unsynced: Buffer | null }) | undefined {
    return this.db.prepare<[number], ContentRow & { missing: Buffer; unsynced: Buffer | null }>(`SELECT ${columns}, missing, unsynced FROM content WHERE id = ?`).get(id);
  }

  exists(id: number): boolean {
    return this.db.prepare<[number], unknown>('SELECT 1 FROM content WHERE id = ?').get(id) !== undefined;
  }

  after(id: number, limit: number): ContentRow[] {
    return this.db.prepare<[number, number], ContentRow>(`SELECT ${columns} FROM content WHERE id > ? ORDER BY id LIMIT ?`).all(id, limit);
  }

  remove(id: number): void {
    this.db.prepare<[number]>('DELETE FROM content WHERE id = ?').run(id);
  }

  setMissing(id: number, missing: Buffer, unsynced: Buffer | null): void {
    this.db.prepare<[Buffer, Buffer | null, number]>('UPDATE content SET missing = ?, unsynced = ?, checksums = NULL WHERE id = ?').run(missing, unsynced, id);
  }

  dirty(): number[] {
    return this.db.prepare<[], { id: number }>('SELECT id FROM content WHERE dirty = 1').all().map(({ id }) => id);
  }

  incomplete(): number[] {
    return this.db.prepare<[], { id: number }>('SELECT id FROM content WHERE length(missing) > 0').all().map(({ id }) => id);
  }

  withUnsynced(): { readonly id: number; readonly missing: Buffer; readonly unsynced: Buffer }[] {
    return this.db.prepare<[], { id: number; missing: Buffer; unsynced: Buffer }>('SELECT id, missing, unsynced FROM content WHERE unsynced IS NOT NULL').all();
  }

  setDirty(id: number, dirty: boolean): void {
    this.db.prepare<[number, number, number]>('UPDATE content SET dirty = ?, checksums = CASE ? WHEN 1 THEN NULL ELSE checksums END WHERE id = ?').run(dirty ? 1 : 0, dirty ? 1 : 0, id);
  }

  setPinned(id: number, pinned: boolean): void {
    this.db.prepare<[number, number]>('UPDATE content SET pinned = ? WHERE id = ?').run(pinned ? 1 : 0, id);
  }

  setState(id: number, state: EntryState): void {
    this.db.prepare<[number, number, number, number, number]>('UPDATE content SET allocated = ?, hits = ?, queue = ?, used_at = ? WHERE id = ?').run(state.bytes, state.hits, state.queue, Math.round(state.usedAtMs), id);
  }

  checksums(id: number): Buffer | undefined {
    return this.db.prepare<[number], { checksums: Buffer | null }>('SELECT checksums FROM content WHERE id = ?').get(id)?.checksums ?? undefined;
  }

  setChecksums(id: number, checksums: Buffer | null): void {
    this.db.prepare<[Buffer | null, number]>('UPDATE content SET checksums = ? WHERE id = ?').run(checksums, id);
  }
}
