/**
 * The mount's database `state.db`: transactions, durability, identity. SQLite in WAL mode (D1); the main thread is its only
 * user but for the checkpoint worker (D2).
 *
 * Invariants
 *  1. `commitSeq` counts committed transactions; a commit is *accepted*. `durableSeq <= commitSeq`; commits up to it are *journaled*.
 *     SQLite commits them in groups, at the latest `groupMs` later, and syncs them later still; until then the redo log keeps them (`redo-log`).
 *  2. Durability is a prefix: if a commit survives a power cut, every earlier one does.
 *  3. A transaction's function runs synchronously. It may run twice (D5: a full disk, ballast released), so what it does outside the
 *     database is either idempotent or undone by `onRollback`.
 *  4. After a failed sync or a failed commit of unknown outcome nothing is written any more (D4); recovery is the next start.
 */
import fs from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { AssertionError, assert } from '../base/assert.js';
import { realDisk, type Disk } from '../base/disk.js';
import { errorCode } from '../base/errno.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { randomId } from '../base/random-id.js';
import { Ballast } from './ballast.js';
import { Checkpointer } from './checkpointer.js';
import { explain, openFile, redoPath, runAgain } from './database-file.js';
import { DbError, isFull, translateSqliteError } from './db-error.js';
import { enterTransaction, gateBytes, leaveTransaction } from './gate.js';
import { GroupSync, type PendingSync } from './group-sync.js';
import { Hooks } from './hooks.js';
import { IdAllocator } from './ids.js';
import { LateRows, type LateWrite, type RowKey } from './late-rows.js';
import { takeOver, type PreviousRun } from './previous-run.js';
import { RedoLog, type Loggable } from './redo-log.js';
import { claimDirectory, lockDirectory, refuseLostDatabase } from './state-dir.js';
import { Statement, type TransactionOwner } from './statement.js';
import { WalFile } from './wal-file.js';

export interface DbOptions {
  readonly dir: string;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly disk?: Disk;
  /** The disk failed under us: stop the process, the next start recovers (D4). Default: an uncaught exception. */
  readonly onFatal?: (error: Error) => void;
  /** Size of the ballast file (D5); 0 for none. */
  readonly ballastBytes?: number;
  /** Another one at each start of the machine; default: the kernel's. */
  readonly bootId?: string;
}

type Sync<T> = T extends PromiseLike<unknown> ? never : T;

const ballastBytesDefault = 64 * 1024 * 1024;
/** How long an accepted transaction may wait for others to be committed with: what they all touch is written once. The log, an area of it, bounds it too. */
const groupMs = 100;
/** While the checkpoint worker is at work: shorter than what it waits for (`gate`). */
const checkpointGroupMs = 10;
/** A group that found the disk full is tried again this much later. */
const fullRetryMs = 1000;
/** How often a quiet database is checkpointed and lost ballast taken back. */
const upkeepMs = 30_000;

export class Db implements TransactionOwner {
  // dependencies
  private readonly sql: Database.Database;
  private readonly wal: WalFile;
  private readonly syncs: GroupSync;
  private readonly checkpointer: Checkpointer;
  private readonly redo: RedoLog;
  private readonly late = new LateRows();
  private readonly log: Log;
  private readonly metrics: Metrics;
  // constants
  readonly path: string;
  readonly previous: PreviousRun;
  private readonly gate: Int32Array;
  private readonly unlock: () => void;
  private readonly onFatal: (error: Error) => void;
  private readonly begin: Database.Statement;
  private readonly commit: Database.Statement;
  private readonly rollback: Database.Statement;
  private readonly storeNumber: Database.Statement;
  // state
  private readonly statements = new Map<string, Statement<never, unknown>>();
  private readonly allocators = new Map<string, IdAllocator>();
  private sequence = 0;
  private depth = 0;
  /** Why the running transaction cannot commit: a nested part of it failed. */
  private doomed: { readonly cause: unknown } | undefined;
  /** A hook that throws is a bug, and durable state is involved, so the process stops. */
  private readonly hooks = new Hooks((error) => this.fail(new AssertionError('a transaction hook failed', { cause: error })));
  private failure: Error | undefined;
  private groupTimer: NodeJS.Timeout | undefined;
  private closing: Promise<void> | undefined;
  private readonly timer: NodeJS.Timeout;

  /** @throws UserError if the directory cannot be used, in one sentence with what to do. */
  static open(options: DbOptions): Db {
    claimDirectory(options.dir);
    const unlock = lockDirectory(options.dir);
    const path = join(options.dir, 'state.db');
    const ballast = new Ballast(join(options.dir, 'ballast'), options.ballastBytes ?? ballastBytesDefault, options.disk ?? realDisk, options.log);
    let sql: Database.Database | undefined;
    try {
      refuseLostDatabase(options.dir, path);
      ballast.find();
      sql = openFile(path, redoPath(options.dir), () => ballast.release());
      return new Db(options, path, sql, unlock, ballast);
    } catch (error) {
      sql?.close();
      unlock();
      throw explain(error, options.dir);
    }
  }

  private constructor(options: DbOptions, path: string, sql: Database.Database, unlock: () => void, private readonly ballast: Ballast) {
    const disk = options.disk ?? realDisk;
    this.log = options.log;
    this.metrics = options.metrics;
    this.path = path;
    this.sql = sql;
    this.unlock = unlock;
    this.onFatal = options.onFatal ?? ((error) => setImmediate(() => { throw error; }));
    const shared = new SharedArrayBuffer(gateBytes);
    this.gate = new Int32Array(shared);
    this.begin = sql.prepare('BEGIN IMMEDIATE');
    this.commit = sql.prepare('COMMIT');
    this.rollback = sql.prepare('ROLLBACK');
    this.storeNumber = sql.prepare("INSERT INTO fact (name, value) VALUES ('redo', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value");
    this.wal = new WalFile(`${path}-wal`, disk);
    this.wal.syncNow(); // what it holds may be journaled only in the log that starts over now
    this.redo = RedoLog.open(disk, redoPath(options.dir), Number(this.fact('redo') ?? 0), Number.parseInt(randomId().slice(0, 8), 16));
    this.checkpointer = new Checkpointer(path, shared, () => {
      this.flush();
      sql.pragma('wal_checkpoint(PASSIVE)');
    }, options.log, options.metrics);
    this.syncs = new GroupSync(options.metrics, {
      seq: () => this.sequence, begin: () => this.beginSync(), advanced: () => this.hooks.durableUpTo(this.syncs.durableSeq), failed: (error) => this.fail(error),
    });
    this.previous = this.tx(() => takeOver(this, options.bootId ?? fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()));
    this.flush();
    this.wal.syncNow(); // that a run began: else its power cut would pass for the orderly end of the one before
    disk.syncDirectorySync('db.dirsync', options.dir); // the names state.db, state.db-wal and redo
    this.ballast.take();
    this.timer = setInterval(() => this.upkeep(), upkeepMs);
    this.timer.unref();
    options.metrics.gauge('db.wal_bytes', () => fs.statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0);
  }

  get commitSeq(): number { return this.sequence; }
  get durableSeq(): number { return this.syncs.durableSeq; }
  get inTransaction(): boolean { return this.depth > 0; }

  /** For `Statement`: what the running transaction has to write down. */
  wrote(statement: Loggable, params: readonly unknown[]): void {
    this.redo.add(statement, params);
  }

  wroteLate(row: RowKey, statement: LateWrite & Loggable, params: readonly unknown[], isNew: boolean): void {
    this.late.put(row, statement, params, isNew);
    this.redo.add(statement, params);
  }

  settle(words: ReadonlySet<string>): void {
    if (!this.late.isEmpty) this.settled(() => this.late.runNamed(words));
  }

  settleRow(table: string, row: RowKey): void {
    if (!this.late.isEmpty) this.settled(() => this.late.runRow(table, row));
  }

  /** The prepared statement of this SQL text, made once. A statement that writes outside a transaction is a transaction by itself. */
  prepare<P extends unknown[] = unknown[], R = unknown>(sql: string): Statement<P, R> {
    let statement = this.statements.get(sql);
    if (!statement) {
      // A bound LIMIT is something the planner looks at, so SQLite would parse and plan the statement anew with each binding (7.5 us against 0.4)
      const planned = sql.replace(/\bLIMIT \?/g, 'LIMIT ? + 0');
      statement = new Statement<never, unknown>(this, this.sql.prepare(planned) as unknown as Database.Statement<unknown[]>);
      this.statements.set(sql, statement);
    }
    return statement as unknown as Statement<P, R>;
  }

  /**
   * Runs `fn` in BEGIN IMMEDIATE; commits on return, rolls back on throw. Never yields; refuses a promise. A call inside another joins
   * it, and if the inner one throws, the outer cannot commit any more, even if it swallows the error: half of an operation is never kept.
   * @throws DbError, or what `fn` throws.
   */
  tx<T>(fn: () => Sync<T>): T {
    if (this.depth > 0) return this.joined(fn);
    try {
      return this.outermost(fn);
    } catch (error) {
      if (!isFull(error) || !this.ballast.release()) throw translateSqliteError(error);
    }
    try {
      return this.outermost(fn); // D5: the ballast made room
    } catch (error) {
      throw translateSqliteError(error);
    }
  }

  /** Right after the outermost COMMIT, in order; dropped on rollback. Outside a transaction: at once. */
  afterCommit(fn: () => void): void {
    if (this.depth > 0) this.hooks.onCommit(fn);
    else fn();
  }

  /** If the running transaction rolls back, latest first: undo what memory or disk did along with it. Outside one: never. */
  onRollback(fn: () => void): void {
    if (this.depth > 0) this.hooks.onRollback(fn);
  }

  /** Once everything committed so far, or by the running transaction, is durable. Does not ask for a sync by itself: see `durable()`. */
  afterDurable(fn: () => void): void {
    if (this.depth > 0) this.hooks.onCommit(() => this.afterDurable(fn));
    else if (this.syncs.durableSeq >= this.sequence) fn();
    else this.hooks.onDurable(this.sequence, fn);
  }

  /** Resolves when all that is committed now is *journaled* (D1). Content files must have been synced before. */
  durable(): Promise<void> {
    assert(this.depth === 0, 'durable() inside a transaction would not cover it');
    if (this.failure) return Promise.reject(this.failure);
    try {
      return this.syncs.durable();
    } catch (error) {
      return Promise.reject(error as Error); // the group cannot be committed
    }
  }

  fact(name: string): string | undefined {
    return this.prepare<[string], { value: string }>('SELECT value FROM fact WHERE name = ?').get(name)?.value;
  }

  setFact(name: string, value: string): void {
    this.prepare<[string, string]>('INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value').run(name, value);
  }

  /** An allocator of ids that are never handed out twice. The same name is the same sequence, which in each run begins at a multiple of `multiple`. */
  reserveIds(name: string, multiple = 1): () => number {
    let allocator = this.allocators.get(name);
    if (!allocator) this.allocators.set(name, (allocator = new IdAllocator(this, `ids.${name}`, multiple)));
    const found = allocator;
    return () => found.next();
  }

  /** What is wrong with the file's structure; empty if nothing. Reads all of it. */
  integrityCheck(): string[] {
    const rows = this.sql.pragma('integrity_check') as { integrity_check: string }[];
    return rows.map((row) => row.integrity_check).filter((line) => line !== 'ok');
  }

  /** Moves the log into the database file now. */
  checkpoint(): Promise<void> {
    if (this.groupTimer !== undefined) this.flushLate(); // the worker waits for the group, for a while
    return this.checkpointer.run();
  }

  /** D4: something durable was promised and cannot be kept. Stops all writing; waiters fail. Also for the cache's own syncs. */
  fail(error: Error): void {
    if (this.failure) return;
    this.failure = new DbError('stopped', 'The state database stopped after a disk failure', { cause: error });
    this.metrics.add('db.fatal_failures');
    this.log.error('disk failure: stopping', { room: 'db', error });
    this.onFatal(error);
  }

  /** Idempotent. `clean` says that everything in memory has been written down; otherwise the next start recovers as after a crash. */
  close(options: { readonly clean: boolean }): Promise<void> {
    this.closing ??= this.shut(options.clean);
    return this.closing;
  }

  private joined<T>(fn: () => Sync<T>): T {
    this.depth++;
    try {
      return refusePromise(fn());
    } catch (error) {
      this.doomed ??= { cause: error };
      throw error;
    } finally {
      this.depth--;
    }
  }

  private outermost<T>(fn: () => Sync<T>): T {
    if (this.failure) throw this.failure;
    if (!this.sql.open) throw new DbError('stopped', 'The state database is closed');
    let result: T;
    try {
      this.beginGroup();
      this.depth = 1;
      result = refusePromise(fn());
      if (this.doomed) throw new AssertionError('a failed nested transaction was swallowed', { cause: this.doomed.cause });
      this.accept();
      this.sequence++;
    } catch (error) {
      this.depth = 0;
      if (this.takeBack() && !isFull(error)) this.waitForGroup(0); // or a row of failures would run the same again and again
      this.hooks.rollback();
      if (error instanceof Database.SqliteError && !isFull(error) && translateSqliteError(error) !== error) this.fail(error);
      throw error;
    } finally {
      this.depth = 0;
      this.doomed = undefined;
    }
    this.metrics.add('db.commits');
    this.hooks.commit();
    return result;
  }

  /** Who only reads, and so finds a full disk, is served from the log all the same. */
  private settled(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (this.depth > 0) throw error;
      if (!isFull(error)) this.fail(error as Error);
      this.takeBack();
      if (this.failure) throw this.failure;
    }
  }

  private accept(): void {
    let isLogged: boolean;
    try {
      isLogged = this.redo.append();
    } catch (error) {
      if (errorCode(error) === 'ENOSPC') throw new Database.SqliteError('the redo log cannot grow', 'SQLITE_FULL');
      throw new DbError('io', 'The redo log cannot be written', { cause: error });
    }
    if (isLogged) {
      if (this.groupTimer === undefined) this.waitForGroup(this.checkpointer.isRunning ? checkpointGroupMs : groupMs);
    } else {
      this.redo.skip();
      this.commitGroup();
    }
  }

  private beginGroup(): void {
    if (this.redo.isFull) this.turn();
    this.beginSql();
  }

  private beginSql(): void {
    if (this.sql.inTransaction) return;
    enterTransaction(this.gate);
    try {
      this.begin.run();
    } finally {
      if (!this.sql.inTransaction) leaveTransaction(this.gate);
    }
  }

  /** The log goes on where its older half is; for the next time, what is in this half is made durable elsewhere. */
  private turn(): void {
    this.flush();
    if (!this.redo.canTurn) this.syncWalNow();
    this.redo.turn();
    const { number } = this.redo;
    this.wal.sync().then(() => this.redo.walSynced(number), (cause: unknown) => this.fail(new Error('Cannot sync the state database', { cause })));
  }

  private syncWalNow(): void {
    try {
      this.wal.syncNow();
    } catch (cause) {
      this.fail(new Error('Cannot sync the state database', { cause }));
      throw this.failure!;
    }
    this.redo.walSynced(this.redo.number);
  }

  /** The redo log makes durable what is accepted, unless the -wal alone holds something of it. */
  private beginSync(): PendingSync {
    const seq = this.sequence;
    if (this.redo.isWhole) return { seq, run: () => this.redo.sync() };
    this.flush();
    const { number } = this.redo;
    return { seq, run: async () => {
      await this.wal.sync();
      this.redo.walSynced(number);
    } };
  }

  /** Commits what is accepted, and a transaction too long for the log. */
  private commitGroup(): void {
    this.late.runAll();
    if (!this.redo.isEmpty || this.redo.isDirty) this.storeNumber.run(String(this.redo.number));
    this.commit.run();
    clearTimeout(this.groupTimer);
    this.groupTimer = undefined;
    this.redo.committed();
    leaveTransaction(this.gate);
    this.metrics.add('db.groups');
    this.checkpointer.committed();
  }

  /** Commits what is accepted now. @throws DbError; on a full disk it stays accepted and is tried again, after anything else nothing goes on. */
  private flush(): void {
    if (!this.sql.inTransaction || this.failure) return;
    assert(this.depth === 0, 'half a transaction must not be committed');
    for (;;) {
      try {
        return this.commitGroup();
      } catch (error) {
        this.takeBack();
        if (isFull(error) && this.ballast.release()) continue; // D5: the ballast made room
        if (!isFull(error)) this.fail(error as Error);
        throw translateSqliteError(error);
      }
    }
  }

  /** For good. What cannot be committed stays in the redo log, for the next start. */
  private endGroup(): void {
    clearTimeout(this.groupTimer);
    try {
      this.flush();
    } catch (error) {
      this.log.warn('accepted changes stay in the redo log', { room: 'db', error });
    }
    if (!this.sql.inTransaction) return;
    this.rollback.run();
    leaveTransaction(this.gate);
  }

  private waitForGroup(ms: number): void {
    clearTimeout(this.groupTimer);
    this.groupTimer = setTimeout(() => this.flushLate(), ms).unref();
  }

  private flushLate(): void {
    clearTimeout(this.groupTimer);
    this.groupTimer = undefined;
    try {
      this.flush();
    } catch (error) {
      if (!this.failure) this.waitForGroup(fullRetryMs);
      this.log.warn('accepted changes wait in the redo log', { room: 'db', error });
    }
  }

  /** SQLite is again where the last accepted transaction left it. It may have rolled back by itself (a full disk, an I/O error). @returns whether accepted ones had to be run again. */
  private takeBack(): boolean {
    const isUnchanged = this.sql.inTransaction && !this.redo.isDirty;
    this.redo.discard();
    if (isUnchanged) return false;
    this.late.clear();
    if (this.sql.inTransaction) this.rollback.run();
    leaveTransaction(this.gate);
    if (this.redo.isEmpty || this.failure) return false;
    try {
      this.beginSql();
      runAgain(this.sql, this.redo.statementsOfGroup());
    } catch (error) {
      this.fail(new AssertionError('accepted transactions cannot be run again', { cause: error }));
    }
    return true;
  }

  private upkeep(): void {
    if (this.failure) return;
    if (this.checkpointer.hasWork) void this.checkpoint();
    this.ballast.take();
  }

  private async shut(clean: boolean): Promise<void> {
    assert(this.depth === 0, 'close() inside a transaction');
    clearInterval(this.timer);
    try {
      if (clean && !this.failure) {
        this.setFact('clean', '1');
        await this.syncs.durable();
      }
    } finally {
      this.endGroup();
      await this.syncs.idle();
      await this.wal.close();
      await this.checkpointer.close();
      // The last connection's close moves the rest of the -wal into the file, syncs it, and removes the -wal.
      this.sql.close();
      this.redo.close(this.redo.isEmpty && !fs.existsSync(`${this.path}-wal`));
      this.unlock();
    }
  }
}

function refusePromise<T>(value: T): T {
  assert(typeof (value as { then?: unknown } | null | undefined)?.then !== 'function', 'a transaction must not answer a promise');
  return value;
}
