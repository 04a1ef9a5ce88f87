/**
 * The group: accepted transactions in one SQLite transaction that stays open for the next ones (decision 021).
 *
 * Invariants
 *  1. What the group has accepted is in the redo log. Whatever SQLite takes back, by an order of ours or by itself (a full disk, an I/O error, and be it of a
 *     read that had to write out what others changed), is run again from there before anything else reads, writes or commits: `isGone` is never carried on with.
 *  2. Rows that wait (`late-rows`) wait for this SQLite transaction, and are forgotten with it.
 *  3. A group that finds the disk full stays accepted and is tried again. After any other failed commit nothing goes on (D4).
 */
import type Sqlite from 'better-sqlite3';
import { assert, AssertionError } from '../base/assert.js';
import { errorCode } from '../base/errno.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { Ballast } from './ballast.js';
import type { Checkpointer } from './checkpointer.js';
import { runAgain, storeNumberSql } from './database-file.js';
import { DbError, isFull, translateSqliteError } from './db-error.js';
import { enterTransaction, leaveTransaction } from './gate.js';
import type { PendingSync } from './group-sync.js';
import { LateRows, type LateWrite, type RowKey } from './late-rows.js';
import type { Loggable, RedoLog } from './redo-log.js';
import { Database } from './sqlite.js';
import type { WalFile } from './wal-file.js';

/** How long an accepted transaction may wait for others to be committed with: what they all touch is written once. The log, an area of it, bounds it too. */
const groupMs = 100;
/** While the checkpoint worker is at work: shorter than what it waits for (`gate`). */
const checkpointGroupMs = 10;
/** A group that found the disk full is tried again this much later. */
const fullRetryMs = 1000;

export interface GroupDeps {
  readonly sql: Sqlite.Database;
  readonly redo: RedoLog;
  readonly wal: WalFile;
  readonly gate: Int32Array;
  readonly ballast: Ballast;
  readonly checkpointer: Pick<Checkpointer, 'isRunning' | 'committed'>;
  readonly log: Log;
  readonly metrics: Metrics;
  /** One of the caller's transactions runs. */
  readonly isRunning: () => boolean;
  /** Why nothing goes on any more (D4). */
  readonly failure: () => Error | undefined;
  readonly failed: (error: Error) => void;
}

export class Group {
  private readonly late = new LateRows();
  private readonly beginStatement: Sqlite.Statement;
  private readonly commitStatement: Sqlite.Statement;
  private readonly rollbackStatement: Sqlite.Statement;
  private readonly storeNumber: Sqlite.Statement;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly deps: GroupDeps) {
    const { sql } = deps;
    this.beginStatement = sql.prepare('BEGIN IMMEDIATE');
    this.commitStatement = sql.prepare('COMMIT');
    this.rollbackStatement = sql.prepare('ROLLBACK');
    this.storeNumber = sql.prepare(storeNumberSql);
  }

  /** SQLite has a transaction open. */
  get isOpen(): boolean { return this.deps.sql.inTransaction; }

  /** What is accepted and not committed is in the log only: SQLite gave its transaction up. */
  private get isGone(): boolean { return !this.deps.redo.isEmpty && !this.isOpen; }

  /** A transaction is about to run. @throws DbError */
  begin(): void {
    if (this.isGone) this.bringBack();
    if (this.deps.redo.isFull) this.turn();
    this.beginSql();
  }

  wrote(statement: Loggable, params: readonly unknown[]): void {
    this.deps.redo.add(statement, params);
  }

  wroteLate(row: RowKey, statement: LateWrite & Loggable, params: readonly unknown[], isNew: boolean): void {
    this.late.put(row, statement, params, isNew);
    this.deps.redo.add(statement, params);
  }

  /** The transaction that ran is accepted, or the group is committed with it if it is too long for the log. */
  accept(): void {
    const { redo, checkpointer } = this.deps;
    let isLogged: boolean;
    try {
      isLogged = redo.append();
    } catch (error) {
      if (errorCode(error) === 'ENOSPC') throw new Database.SqliteError('the redo log cannot grow', 'SQLITE_FULL');
      throw new DbError('io', 'The redo log cannot be written', { cause: error });
    }
    if (isLogged) {
      if (this.timer === undefined) this.wait(checkpointer.isRunning ? checkpointGroupMs : groupMs);
    } else {
      redo.skip();
      this.commit();
    }
  }

  /**
   * The transaction that ran is not accepted: SQLite is again where the last accepted one left it, or, where the disk is too full for that, `isGone`.
   * @returns whether accepted ones had to be run again.
   */
  takeBack(): boolean {
    const { redo, ballast, sql } = this.deps;
    const isUnchanged = this.isOpen && !redo.isDirty;
    redo.discard();
    if (isUnchanged && !redo.isEmpty) return false;
    this.endSql();
    if (redo.isEmpty || this.deps.failure()) return false;
    for (;;) {
      try {
        this.beginSql();
        runAgain(sql, redo.statementsOfGroup());
        return true;
      } catch (error) {
        this.endSql();
        if (isFull(error) && ballast.release()) continue; // D5
        if (isFull(error)) this.wait(fullRetryMs);
        else this.deps.failed(new AssertionError('accepted transactions cannot be run again', { cause: error }));
        return false;
      }
    }
  }

  /** A statement of these words is about to run. @param within a transaction, which is taken back if this throws. */
  settle(words: ReadonlySet<string>, within: boolean): void {
    if (!within && this.isGone) this.bringBack();
    if (this.late.isEmpty) return;
    if (within) this.late.runNamed(words);
    else this.settled(() => this.late.runNamed(words));
  }

  settleRow(table: string, row: RowKey, within: boolean): void {
    if (!within && this.isGone) this.bringBack();
    if (this.late.isEmpty) return;
    if (within) this.late.runRow(table, row);
    else this.settled(() => this.late.runRow(table, row));
  }

  /** Outside a transaction a statement failed that only reads. @returns whether the group had been lost by that and was brought back. */
  readFailed(): boolean {
    if (!this.isGone) return false;
    this.bringBack();
    return true;
  }

  /** Commits what is accepted now. @throws DbError; on a full disk it stays accepted and is tried again, after anything else nothing goes on. */
  flush(): void {
    if (this.deps.failure()) return;
    assert(!this.deps.isRunning(), 'half a transaction must not be committed');
    if (this.isGone) this.bringBack();
    if (!this.isOpen) return;
    for (;;) {
      try {
        return this.commit();
      } catch (error) {
        const hasRoom = isFull(error) && this.deps.ballast.release(); // D5
        this.takeBack();
        if (hasRoom && this.isOpen) continue;
        if (!isFull(error)) this.deps.failed(error as Error);
        throw translateSqliteError(error);
      }
    }
  }

  /** Commits now what waits for its time, or tries to. */
  hurry(): void {
    if (this.timer !== undefined) this.flushLate();
  }

  /** The redo log makes durable what is accepted, unless the -wal alone holds something of it. @param seq of the last transaction. */
  beginSync(seq: number): PendingSync {
    const { redo, wal } = this.deps;
    if (redo.isWhole) return { seq, run: () => redo.sync() };
    this.flush();
    const { number } = redo;
    return { seq, run: async () => {
      await wal.sync();
      redo.walSynced(number);
    } };
  }

  /** For good. What cannot be committed stays in the redo log, for the next start. */
  end(): void {
    try {
      this.flush();
    } catch (error) {
      this.deps.log.warn('accepted changes stay in the redo log', { room: 'db', error });
    }
    clearTimeout(this.timer);
    if (this.isOpen) this.endSql();
  }

  /** @param hasAll SQLite's file has all that was committed. */
  close(hasAll: boolean): void {
    this.deps.redo.close(this.deps.redo.isEmpty && hasAll);
  }

  private commit(): void {
    const { redo } = this.deps;
    this.late.runAll();
    if (!redo.isEmpty || redo.isDirty) this.storeNumber.run(String(redo.number));
    this.commitStatement.run();
    clearTimeout(this.timer);
    this.timer = undefined;
    redo.committed();
    leaveTransaction(this.deps.gate);
    this.deps.metrics.add('db.groups');
    this.deps.checkpointer.committed();
  }

  private beginSql(): void {
    if (this.isOpen) return;
    enterTransaction(this.deps.gate);
    try {
      this.beginStatement.run();
    } finally {
      if (!this.isOpen) leaveTransaction(this.deps.gate);
    }
  }

  private endSql(): void {
    this.late.clear();
    if (this.isOpen) this.rollbackStatement.run();
    leaveTransaction(this.deps.gate);
  }

  /** The log goes on where its older half is; for the next time, what is in this half is made durable elsewhere. */
  private turn(): void {
    const { redo, wal } = this.deps;
    this.flush();
    if (!redo.canTurn) this.syncWalNow();
    redo.turn();
    const { number } = redo;
    wal.sync().then(() => redo.walSynced(number), (cause: unknown) => this.deps.failed(new Error('Cannot sync the state database', { cause })));
  }

  private syncWalNow(): void {
    const { redo, wal } = this.deps;
    try {
      wal.syncNow();
    } catch (cause) {
      this.deps.failed(new Error('Cannot sync the state database', { cause }));
      throw this.deps.failure()!;
    }
    redo.walSynced(redo.number);
  }

  /** Who only reads, and so finds a full disk, is served from the log all the same. */
  private settled(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!isFull(error)) this.deps.failed(error as Error);
      this.takeBack();
      this.refuseFailed();
      if (!this.late.isEmpty || this.isGone) throw translateSqliteError(error);
    }
  }

  /** @throws DbError: it cannot be had back now (a full disk), or at all. */
  private bringBack(): void {
    this.refuseFailed();
    this.takeBack();
    this.refuseFailed();
    if (this.isGone) throw new DbError('full', 'No space left for the state database');
  }

  private refuseFailed(): void {
    const failure = this.deps.failure();
    if (failure) throw failure;
  }

  private wait(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flushLate(), ms).unref();
  }

  private flushLate(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    try {
      this.flush();
    } catch (error) {
      if (!this.deps.failure()) this.wait(fullRetryMs);
      this.deps.log.warn('accepted changes wait in the redo log', { room: 'db', error });
    }
  }
}
