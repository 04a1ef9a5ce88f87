/**
 * The redo log `redo`: what keeps a transaction *accepted*, and by a sync of this file *journaled*, before SQLite has committed it. A COMMIT writes every
 * page it touched, twenty times what was changed, so `Db` commits many transactions at once and writes down here, before each one returns, the statements
 * it ran. After a kill or a power cut the next daemon runs those again that the database lacks.
 *
 * File: two areas, used in turn, each a row of records from its start; what follows them is left from earlier.
 *   u32 length of the record; u32 CRC32 of what follows; u32 mark of the process; u32 statements; f64 number; then per statement
 *   u16 its number in this area, with bit 15 at its first use, followed by u16 length and text; u8 parameters (255: named), then the values:
 *   a tag and f64, or u32 length and bytes; before a named one its name as u8 length and text.
 *
 * An area is *valid* as far as records have the right CRC, the mark of the first and ascending numbers. What is run again are the records with the numbers
 * right after the one stored in the database (fact `redo`) and one mark: a group is committed as a whole, so either none of it is in the database or all.
 *
 * Invariants: 1. a record holds all statements that its transaction ran and that changed something, in order; run again on the same state they give the same
 * state, so no SQL here may ask for the time, chance or what an earlier statement did. 2. Numbers are never used twice for different transactions.
 * 3. A record is overwritten only once the `-wal` is synced as far as its transaction.
 */
import fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { assert, AssertionError } from '../base/assert.js';
import type { Disk } from '../base/disk.js';
import { errorCode } from '../base/errno.js';

export type SqlValue = number | string | bigint | null | Uint8Array;
export type SqlParams = readonly unknown[];
export interface RedoStatement { readonly sql: string; readonly params: unknown[] }

/** What the log remembers of a prepared statement. */
export interface Loggable {
  readonly sql: string;
  /** Its number in turn `loggedIn`. */
  logNumber: number;
  loggedIn: number;
}

const headBytes = 24;
const areaBytes = 1 << 20;
const areas = 2;
/** A longer transaction is committed at once instead: writing it twice would gain nothing. */
const recordBytesMax = 64 << 10;
const firstUse = 0x8000;
const named = 255;
const Tag = { null: 0, number: 1, text: 2, bytes: 3, bigint: 4 } as const;

export class RedoLog {
  /** The same bytes as the area. */
  private readonly buffer = Buffer.allocUnsafeSlow(areaBytes);
  private area = 0;
  /** Of the area's complete records. */
  private end = 0;
  /** Of the record being put together. */
  private at = headBytes;
  private statements = 0;
  private isTooLong = false;
  /** Where the records begin that SQLite has not committed. */
  private groupStart = 0;
  private committedNumber: number;
  /** The running transaction is committed without a record, and uses up a number all the same. */
  private isSkipping = false;
  /** The last transaction without a record. */
  private skippedNumber = 0;
  /** The `-wal` is synced up to this one. */
  private syncedNumber: number;
  /** The last one in the other area. */
  private otherLast = 0;
  private turns = 1;
  /** Of the area's statements, by their number. */
  private texts: string[] = [];
  /** Statements first used in the record being put together. */
  private fresh: Loggable[] = [];

  private constructor(private readonly disk: Disk, private readonly fd: number, private lastNumber: number, private readonly mark: number) {
    this.committedNumber = this.syncedNumber = lastNumber;
  }

  /**
   * The `-wal` must be synced: what the file holds is given up, on stable storage. Numbers that an earlier process used for what a power cut
   * took from the database are used again, and its records must not be found beside those of this one.
   */
  static open(disk: Disk, path: string, lastNumber: number, mark: number): RedoLog {
    const fd = disk.open('db.redo', path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    empty(disk, fd);
    fill(disk, fd);
    return new RedoLog(disk, fd, lastNumber, mark);
  }

  /** Number of the last transaction accepted here; what the database stores when it commits the group. */
  get number(): number { return this.lastNumber + (this.isSkipping ? 1 : 0); }
  /** Nothing is waiting to be committed. */
  get isEmpty(): boolean { return this.lastNumber === this.committedNumber; }
  /** The running transaction has changed something. */
  get isDirty(): boolean { return this.statements > 0; }
  /** So full that the next transaction might not fit. */
  get isFull(): boolean { return this.end + recordBytesMax > areaBytes; }
  /** All that the `-wal` may lose in a power cut is in here: a sync of this file makes it durable. */
  get isWhole(): boolean { return this.skippedNumber <= this.syncedNumber; }
  /** The other area may be overwritten. */
  get canTurn(): boolean { return this.otherLast <= this.syncedNumber; }

  /** A statement of the running transaction has run. */
  add(statement: Loggable, params: SqlParams): void {
    this.statements++;
    if (this.isTooLong) return;
    const isNew = statement.loggedIn !== this.turns;
    const bytes = 5 + (isNew ? 3 * statement.sql.length : 0) + boundOf(params);
    if (this.at + bytes - this.end > recordBytesMax || this.at + bytes > areaBytes) {
      this.isTooLong = true;
      return;
    }
    if (isNew) {
      statement.loggedIn = this.turns;
      statement.logNumber = this.texts.push(statement.sql) - 1;
      this.fresh.push(statement);
      this.at = this.buffer.writeUInt16LE(statement.logNumber | firstUse, this.at);
      const length = this.buffer.write(statement.sql, this.at + 2);
      this.buffer.writeUInt16LE(length, this.at);
      this.at += 2 + length;
    } else {
      this.at = this.buffer.writeUInt16LE(statement.logNumber, this.at);
    }
    this.put(params);
  }

  /**
   * Writes down the running transaction: it is *accepted*. @returns false if it is too long: then it must be committed.
   * @throws what the disk says; nothing is accepted then.
   */
  append(): boolean {
    if (this.isTooLong) return false;
    if (this.statements === 0) return true;
    const { buffer, end, at } = this;
    buffer.writeUInt32LE(at - end, end);
    buffer.writeUInt32LE(this.mark, end + 8);
    buffer.writeUInt32LE(this.statements, end + 12);
    buffer.writeDoubleLE(this.lastNumber + 1, end + 16);
    buffer.writeUInt32LE(crc32(buffer.subarray(end + 8, at)), end + 4);
    for (let done = end; done < at; ) done += this.disk.pwrite('db.redo', this.fd, buffer, done, at - done, this.area * areaBytes + done);
    this.lastNumber++;
    this.end = at;
    this.fresh = [];
    this.reset();
    return true;
  }

  /** The running transaction is about to be committed without a record of it. */
  skip(): void {
    this.isSkipping = true;
  }

  /** The running transaction is rolled back. */
  discard(): void {
    for (const statement of this.fresh) statement.loggedIn = 0;
    this.texts.length -= this.fresh.length;
    this.fresh = [];
    this.isSkipping = false;
    this.reset();
  }

  /** All that is accepted is committed, and the running transaction with it, if it was skipped. */
  committed(): void {
    if (this.isSkipping) this.skippedNumber = ++this.lastNumber;
    this.discard();
    this.committedNumber = this.lastNumber;
    this.groupStart = this.end;
  }

  /** The `-wal` is on stable storage as far as this transaction. */
  walSynced(number: number): void {
    this.syncedNumber = Math.max(this.syncedNumber, number);
  }

  /** Goes on in the other area. */
  turn(): void {
    assert(this.isEmpty && this.canTurn, 'records are needed that would be overwritten');
    this.otherLast = this.lastNumber;
    this.area = (this.area + 1) % areas;
    this.turns++;
    this.texts = [];
    this.fresh = [];
    this.end = this.groupStart = 0;
    this.reset();
  }

  /** Resolves when all that was accepted before it was called is on stable storage. */
  sync(): Promise<void> {
    return this.disk.fdatasync('redo.sync', this.fd);
  }

  /** What the group has run so far. */
  *statementsOfGroup(): Generator<RedoStatement> {
    for (const record of recordsIn(this.buffer.subarray(0, this.end), this.groupStart)) yield* statementsOf(record, this.texts);
  }

  /** @param isNeedless SQLite has it all in its file. */
  close(isNeedless: boolean): void {
    if (isNeedless) this.disk.truncate('db.redo', this.fd, 0);
    this.disk.close(this.fd);
  }

  private reset(): void {
    this.at = this.end + headBytes;
    this.statements = 0;
    this.isTooLong = false;
  }

  private put(params: SqlParams): void {
    const { buffer } = this;
    const first = params[0];
    if (params.length !== 1 || first === null || typeof first !== 'object' || first instanceof Uint8Array) {
      if (params.length >= named) throw new AssertionError(`a statement with ${params.length} parameters`);
      this.at = buffer.writeUInt8(params.length, this.at);
      for (const value of params) this.putValue(value as SqlValue);
      return;
    }
    const entries = Object.entries(first as Record<string, SqlValue>);
    this.at = buffer.writeUInt8(named, this.at);
    this.at = buffer.writeUInt8(entries.length, this.at);
    for (const [name, value] of entries) {
      const length = buffer.write(name, this.at + 1);
      buffer.writeUInt8(length, this.at);
      this.at += 1 + length;
      this.putValue(value);
    }
  }

  private putValue(value: SqlValue): void {
    const { buffer } = this;
    if (value === null) this.at = buffer.writeUInt8(Tag.null, this.at);
    else if (typeof value === 'number') {
      buffer[this.at] = Tag.number;
      this.at = buffer.writeDoubleLE(value, this.at + 1);
    } else if (typeof value === 'string') {
      buffer[this.at] = Tag.text;
      const length = buffer.write(value, this.at + 5);
      buffer.writeUInt32LE(length, this.at + 1);
      this.at += 5 + length;
    } else if (typeof value === 'bigint') {
      buffer[this.at] = Tag.bigint;
      this.at = buffer.writeBigInt64LE(value, this.at + 1);
    } else {
      buffer[this.at] = Tag.bytes;
      buffer.writeUInt32LE(value.length, this.at + 1);
      buffer.set(value, this.at + 5);
      this.at += 5 + value.length;
    }
  }
}

/** Upper bound of what the parameters take. */
function boundOf(params: SqlParams): number {
  let bytes = 0;
  for (const value of params) {
    if (typeof value === 'string') bytes += 5 + 3 * value.length;
    else if (value instanceof Uint8Array) bytes += 5 + value.length;
    else if (typeof value === 'object' && value !== null) for (const [name, inner] of Object.entries(value)) bytes += 2 + 3 * name.length + boundOf([inner]);
    else bytes += 9;
  }
  return bytes;
}

/** No area begins with a record. */
function empty(disk: Disk, fd: number): void {
  const { size } = fs.fstatSync(fd);
  for (let at = 0; at < size; at += areaBytes) disk.pwrite('redo.empty', fd, Buffer.alloc(headBytes), 0, Math.min(headBytes, size - at), at);
  disk.fdatasyncSync('redo.empty', fd);
}

/** Blocks of its own from the start: a sync need not write where a longer file has its end. Without room for it the file grows as it is used. */
function fill(disk: Disk, fd: number): void {
  const missing = areas * areaBytes - fs.fstatSync(fd).size;
  if (missing <= 0) return;
  try {
    disk.pwrite('redo.fill', fd, Buffer.alloc(missing), 0, missing, areas * areaBytes - missing);
  } catch (error) {
    if (errorCode(error) !== 'ENOSPC') throw error;
  }
}

/** What an earlier process left: the statements of the transactions that follow number `after`, and the number of the last. */
export function readRedo(path: string, after: number): { readonly statements: RedoStatement[]; readonly last: number } {
  let bytes: Buffer;
  try {
    bytes = fs.readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { statements: [], last: after };
    throw error;
  }
  const found = Array.from({ length: areas }, (_, area) => validIn(bytes.subarray(area * areaBytes, (area + 1) * areaBytes))).flat()
    .filter((record) => record.number > after).sort((a, b) => a.number - b.number);
  const statements: RedoStatement[] = [];
  let last = after;
  for (const record of found) {
    if (record.number !== last + 1 || record.mark !== found[0]!.mark) break;
    statements.push(...record.statements);
    last++;
  }
  return { statements, last };
}

interface Place { readonly bytes: Buffer; readonly start: number; readonly end: number }

function* recordsIn(bytes: Buffer, from = 0): Generator<Place> {
  for (let start = from; start + headBytes <= bytes.length; ) {
    const end = start + bytes.readUInt32LE(start);
    if (end < start + headBytes || end > bytes.length) return;
    yield { bytes, start, end };
    start = end;
  }
}

/** @param texts what earlier records of the area named; grows. */
function* statementsOf({ bytes, start }: Place, texts: string[]): Generator<RedoStatement> {
  const reader = new Reader(bytes, start + headBytes);
  for (let left = bytes.readUInt32LE(start + 12); left > 0; left--) yield reader.statement(texts);
}

interface ValidRecord { readonly number: number; readonly mark: number; readonly statements: RedoStatement[] }

/** The records of an area, as far as they are valid. */
function validIn(bytes: Buffer): ValidRecord[] {
  const records: ValidRecord[] = [];
  const texts: string[] = [];
  for (const place of recordsIn(bytes)) {
    const mark = bytes.readUInt32LE(place.start + 8);
    const number = bytes.readDoubleLE(place.start + 16);
    const last = records.at(-1);
    if (last && (mark !== last.mark || number <= last.number)) break;
    if (crc32(bytes.subarray(place.start + 8, place.end)) !== bytes.readUInt32LE(place.start + 4)) break;
    records.push({ number, mark, statements: [...statementsOf(place, texts)] });
  }
  return records;
}

class Reader {
  constructor(private readonly bytes: Buffer, private at: number) {}

  statement(texts: string[]): RedoStatement {
    const id = this.u16();
    if (id & firstUse) texts[id & ~firstUse] = this.text(this.u16());
    const sql = texts[id & ~firstUse];
    if (sql === undefined) throw new AssertionError(`the redo log uses statement ${id} before it names it`);
    const count = this.u8();
    if (count !== named) return { sql, params: Array.from({ length: count }, () => this.value()) };
    const values: Record<string, SqlValue> = {};
    for (let left = this.u8(); left > 0; left--) {
      const name = this.text(this.u8());
      values[name] = this.value();
    }
    return { sql, params: [values] };
  }

  private value(): SqlValue {
    const tag = this.u8();
    switch (tag) {
      case Tag.null: return null;
      case Tag.number: return this.bytes.readDoubleLE((this.at += 8) - 8);
      case Tag.bigint: return this.bytes.readBigInt64LE((this.at += 8) - 8);
      case Tag.text: return this.text(this.u32());
      case Tag.bytes: {
        const length = this.u32();
        return Buffer.from(this.bytes.subarray(this.at, (this.at += length)));
      }
      default: throw new AssertionError(`the redo log holds a value of kind ${tag}`);
    }
  }

  private u8(): number { return this.bytes.readUInt8(this.at++); }
  private u16(): number { return this.bytes.readUInt16LE((this.at += 2) - 2); }
  private u32(): number { return this.bytes.readUInt32LE((this.at += 4) - 4); }
  private text(length: number): string { return this.bytes.toString('utf8', this.at, (this.at += length)); }
}
