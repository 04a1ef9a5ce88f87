/**
 * The redo log `redo`: what keeps a transaction *accepted* before SQLite has committed it. A COMMIT writes every page it touched, twenty times what was
 * changed, so `Db` commits many transactions at once and writes down here, before each one returns, the statements it ran. After a kill the next daemon
 * runs them again. Nothing is synced here: what is to be *journaled* is committed first.
 *
 * File: records of one group after another from offset 0, overwritten by the next group.
 *   u32 length of the record; u32 CRC32 of what follows; u32 mark of the process; u32 statements; f64 number; then per statement
 *   u16 its number in this group, with bit 15 at its first use, followed by u16 length and text; u8 parameters (255: named), then the values:
 *   a tag and f64, or u32 length and bytes; before a named one its name as u8 length and text.
 *
 * A file is *valid* as far as records have the right CRC, the mark of the first and ascending numbers, and only if the first number follows the one
 * stored in the database (fact `redo`): a group is committed as a whole, so either none of it is in the database or all.
 *
 * Invariants: 1. a record holds all statements that its transaction ran and that changed something, in order; run again on the same state they give the same
 * state, so no SQL here may ask for the time, chance or what an earlier statement did. 2. Numbers are never used twice for different transactions.
 */
import fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { AssertionError } from '../base/assert.js';
import type { Disk } from '../base/disk.js';

export type SqlValue = number | string | bigint | null | Uint8Array;
export type SqlParams = readonly unknown[];
export interface RedoStatement { readonly sql: string; readonly params: unknown[] }

/** What the log remembers of a prepared statement. */
export interface Loggable {
  readonly sql: string;
  /** Its number in group `loggedIn`. */
  logNumber: number;
  loggedIn: number;
}

const headBytes = 24;
const capacityBytes = 1 << 20;
/** A longer transaction is committed at once instead: writing it twice would gain nothing. */
const recordBytesMax = 64 << 10;
const firstUse = 0x8000;
const named = 255;
const Tag = { null: 0, number: 1, text: 2, bytes: 3, bigint: 4 } as const;

export class RedoLog {
  /** The same bytes as the file. */
  private readonly buffer = Buffer.allocUnsafeSlow(capacityBytes);
  /** Of the group's complete records. */
  private end = 0;
  /** Of the record being put together. */
  private at = headBytes;
  private statements = 0;
  private isTooLong = false;
  private group = 1;
  private numbers = 0;
  /** Statements first used in the record being put together. */
  private fresh: Loggable[] = [];

  private constructor(private readonly disk: Disk, private readonly fd: number, private lastNumber: number, private readonly mark: number) {}

  static open(disk: Disk, path: string, lastNumber: number, mark: number): RedoLog {
    return new RedoLog(disk, disk.open('db.redo', path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600), lastNumber, mark);
  }

  /** Number of the last transaction written here; what the database stores when it commits the group. */
  get number(): number { return this.lastNumber; }
  /** Nothing is waiting to be committed. */
  get isEmpty(): boolean { return this.end === 0; }
  /** The running transaction has changed something. */
  get isDirty(): boolean { return this.statements > 0; }
  /** So full that the next transaction might not fit. */
  get isFull(): boolean { return this.end + recordBytesMax > capacityBytes; }

  /** A statement of the running transaction has run. */
  add(statement: Loggable, params: SqlParams): void {
    this.statements++;
    if (this.isTooLong) return;
    const isNew = statement.loggedIn !== this.group;
    const bytes = 5 + (isNew ? 3 * statement.sql.length : 0) + boundOf(params);
    if (this.at + bytes - this.end > recordBytesMax || this.at + bytes > capacityBytes) {
      this.isTooLong = true;
      return;
    }
    if (isNew) {
      statement.loggedIn = this.group;
      statement.logNumber = this.numbers++;
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
    for (let done = end; done < at; ) done += this.disk.pwrite('db.redo', this.fd, buffer, done, at - done, done);
    this.lastNumber++;
    this.end = at;
    this.fresh = [];
    this.reset();
    return true;
  }

  /** The running transaction is rolled back. */
  discard(): void {
    for (const statement of this.fresh) statement.loggedIn = 0;
    this.numbers -= this.fresh.length;
    this.fresh = [];
    this.reset();
  }

  /** The group is committed. */
  rewind(): void {
    this.group++;
    this.numbers = 0;
    this.fresh = [];
    this.end = 0;
    this.reset();
  }

  /** What the group has run so far. */
  statementsOfGroup(): Generator<RedoStatement> {
    return statementsIn(this.buffer.subarray(0, this.end), undefined, () => undefined);
  }

  close(clean: boolean): void {
    if (clean) this.disk.truncate('db.redo', this.fd, 0);
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

/** What an earlier process left: the statements of transactions after number `after`, and the number of the last. Empty where there is no valid log. */
export function readRedo(path: string, after: number): { readonly statements: RedoStatement[]; readonly last: number } {
  let bytes: Buffer;
  try {
    bytes = fs.readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { statements: [], last: after };
    throw error;
  }
  let last = after;
  const statements = [...statementsIn(bytes, after, (number) => (last = number))];
  return { statements, last };
}

/** @param after where given, the first record must have the next number, and each must be whole. */
function* statementsIn(bytes: Buffer, after: number | undefined, seen: (number: number) => void): Generator<RedoStatement> {
  const texts: string[] = [];
  let number = after;
  let mark: number | undefined;
  for (let start = 0; start + headBytes <= bytes.length; ) {
    const length = bytes.readUInt32LE(start);
    if (length < headBytes || start + length > bytes.length) return;
    const own = bytes.readDoubleLE(start + 16);
    if (number !== undefined) {
      if (own !== number + 1 || bytes.readUInt32LE(start + 8) !== (mark ??= bytes.readUInt32LE(start + 8))) return;
      if (crc32(bytes.subarray(start + 8, start + length)) !== bytes.readUInt32LE(start + 4)) return;
      number = own;
    }
    const reader = new Reader(bytes, start + headBytes);
    for (let left = bytes.readUInt32LE(start + 12); left > 0; left--) yield reader.statement(texts);
    seen(own);
    start += length;
  }
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
