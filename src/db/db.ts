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
import type Sqlite from 'better-sqlite3';
import { AssertionError, assert } from '../base/assert.js';
import { realDisk, type Disk } from '../base/disk.js';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import { randomId } from '../base/random-id.js';
import { Ballast } from './ballast.js';
import { Checkpointer } from './checkpointer.js';
import { committedNumber, explain, openFile, redoPath } from './database-file.js';
import { DbError, isFull, translateSqliteError } from './db-error.js';
import { gateBytes } from './gate.js';
import { Group } from './group.js';
import { GroupSync } from './group-sync.js';
import { Hooks } from './hooks.js';
import { IdAllocator } from './ids.js';
import type { LateWrite, RowKey } from './late-rows.js';
import { takeOver, type PreviousRun } from './previous-run.js';
import { RedoLog, type Loggable } from './redo-log.js';
import { Database } from './sqlite.js';
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
/** How often a quiet database is checkpointed and lost ballast taken back. */
const upkeepMs = 30_000;

export class Db implements TransactionOwner {
  // dependencies
  private readonly sql: Sqlite.Database;
  private readonly wal: WalFile;
  private readonly syncs: GroupSync;
  private readonly checkpointer: Checkpointer;
  private readonly group: Group;
  private readonly log: Log;
  private readonly metrics: Metrics;
  // constants
  readonly path: string;
  readonly previous: PreviousRun;
  private readonly unlock: () => void;
  private readonly onFatal: (error: Error) => void;
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
  private closing: Promise<void> | undefined;
  private readonly timer: NodeJS.Timeout;

  /** @throws UserError if the directory cannot be used, in one sentence with what to do. */
  static open(options: DbOptions): Db {
    claimDirectory(options.dir);
    const unlock = lockDirectory(options.dir);
    const path = join(options.dir, 'state.db');
    const ballast = new Ballast(join(options.dir, 'ballast'), options.ballastBytes ?? ballastBytesDefault, options.disk ?? realDisk, options.log);
    let sql: Sqlite.Database | undefined;
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

  private constructor(options: DbOptions, path: string, sql: Sqlite.Database, unlock: () => void, private readonly ballast: Ballast) {
    const disk = options.disk ?? realDisk;
    this.log = options.log;
    this.metrics = options.metrics;
    this.path = path;
    this.sql = sql;
    this.unlock = unlock;
    this.onFatal = options.onFatal ?? ((error) => setImmediate(() => { throw error; }));
    const shared = new SharedArrayBuffer(gateBytes);
    this.wal = new WalFile(`${path}-wal`, disk);
    this.wal.syncNow(); // what it holds may be journaled only in the log that starts over now
    const redo = RedoLog.open(disk, redoPath(options.dir), committedNumber(sql), Number.parseInt(randomId().slice(0, 8), 16));
    this.checkpointer = new Checkpointer(path, shared, () => {
      this.group.flush();
      sql.pragma('wal_checkpoint(PASSIVE)');
    }, options.log, options.metrics);
    this.group = new Group({
      sql, redo, wal: this.wal, gate: new Int32Array(shared), ballast, checkpointer: this.checkpointer, log: options.log, metrics: options.metrics,
      isRunning: () => this.depth > 0, failure: () => this.failure, failed: (error) => this.fail(error),
    });
    this.syncs = new GroupSync(options.metrics, {
      seq: () => this.sequence, begin: () => this.group.beginSync(this.sequence), advanced: () => this.hooks.durableUpTo(this.syncs.durableSeq), failed: (error) => this.fail(error),
    });
    this.previous = this.tx(() => takeOver(this, options.bootId ?? fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()));
    this.group.flush();
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
    this.group.wrote(statement, params);
  }

  wroteLate(row: RowKey, statement: LateWrite & Loggable, params: readonly unknown[], isNew: boolean): void {
    this.group.wroteLate(row, statement, params, isNew);
  }

  settle(words: ReadonlySet<string>): void {
    this.group.settle(words, this.depth > 0);
  }

  settleRow(table: string, row: RowKey): void {
    this.group.settleRow(table, row, this.depth > 0);
  }

  readFailed(): boolean {
    return this.depth === 0 && this.group.readFailed();
  }

  /** The prepared statement of this SQL text, made once. A statement that writes outside a transaction is a transaction by itself. */
  prepare<P extends unknown[] = unknown[], R = unknown>(sql: string): Statement<P, R> {
    let statement = this.statements.get(sql);
    if (!statement) {
      // A bound LIMIT is something the planner looks at, so SQLite would parse and plan the statement anew with each binding (7.5 us against 0.4)
      const planned = sql.replace(/\bLIMIT \?/g, 'LIMIT ? + 0');
      statement = new Statement<never, unknown>(this, this.sql.prepare(planned) as unknown as Sqlite.Statement<unknown[]>);
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
    this.group.hurry(); // the worker waits for it, for a while
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
      this.group.begin();
      this.depth = 1;
      result = refusePromise(fn());
      if (!this.group.isOpen) throw new AssertionError('a failure that ended the transaction was swallowed');
      if (this.doomed) throw new AssertionError('a failed nested transaction was swallowed', { cause: this.doomed.cause });
      this.group.accept();
      this.sequence++;
    } catch (error) {
      this.depth = 0;
      const wasRunAgain = this.group.takeBack();
      this.hooks.rollback();
      if (wasRunAgain && !isFull(error)) this.group.hurry(); // or a row of failures would run the same again and again
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
      this.group.end();
      await this.syncs.idle();
      await this.wal.close();
      await this.checkpointer.close();
      // The last connection's close moves the rest of the -wal into the file, syncs it, and removes the -wal.
      this.sql.close();
      this.group.close(!fs.existsSync(`${this.path}-wal`));
      this.unlock();
    }
  }
}

function refusePromise<T>(value: T): T {
  assert(typeof (value as { then?: unknown } | null | undefined)?.then !== 'function', 'a transaction must not answer a promise');
  return value;
}
