/**
 * Life and death of a file system without a kernel: daemons that follow one another on the same state, and a bucket that outlives them.
 *
 * `crash()` ends the daemon as `kill -9` does (the page cache survives) and starts the next one on the same state; `remount()` is an orderly restart.
 * `crashAfter(n)` lets it die in the middle of what comes next.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ManualClock } from '../../src/base/clock.js';
import { FaultyDisk } from '../../src/base/faulty-disk.js';
import type { FaultyStore } from '../../src/s3/faulty-store.js';
import type { MemoryObjectStore } from '../../src/s3/memory-object-store.js';
import { copyState } from '../../src/base/copy-state.js';
import { FsDaemon, type DaemonOptions } from './fs-daemon.js';

/** A transaction: `seq` counts those of one daemon. */
export interface Moment { readonly life: number; readonly seq: number }

export class FsLife {
  daemon!: FsDaemon;
  private generation = 0;
  private readonly homes: string[] = [];
  /** ino -> open files: the kernel forgets an inode only after its last RELEASE. */
  readonly opens = new Map<number, number>();
  /** FORGETs that a daemon had read when it died: the kernel sends none twice. */
  protected lostForgets = 0;
  /** How many points at which a process may die are left; undefined: it does not. */
  private pointsLeft: number | undefined;
  /** The state that a daemon that died left behind. */
  private remains: string | undefined;
  /** Daemons that died so far, in the middle of something. */
  deaths = 0;
  /** Where the last one died. */
  diedAt = '';
  /** Requests that change S3 and may not leave yet. */
  private readonly queued: (() => void)[] = [];
  private isSlow = false;
  private uploading: Promise<void> | undefined;
  /** With `powerCuts`. */
  disk: FaultyDisk | undefined;
  private lives = 0;
  private boots = 0;
  /** The last transaction that is known to be *journaled*, until this daemon has synced one. */
  private journaled: Moment = { life: 0, seq: 0 };

  constructor(readonly clock: ManualClock, readonly memory: MemoryObjectStore, readonly faulty: FaultyStore, readonly health: { isOffline: boolean }, readonly options: DaemonOptions) {}

  get fs() { return this.daemon.fs; }
  get tree() { return this.daemon.tree; }
  get journal() { return this.daemon.journal; }
  /** What is accepted now. */
  get moment(): Moment { return { life: this.lives, seq: this.daemon.db.commitSeq }; }
  get home(): string { return this.homes.at(-1)!; }

  async close(): Promise<void> {
    await this.daemon.stop();
    for (const home of this.homes) rmSync(home, { recursive: true, force: true });
  }

  /** The first daemon, on nothing. */
  async begin(): Promise<void> {
    if (this.options.powerCuts) this.disk = new FaultyDisk();
    await this.start(this.newHome());
  }

  /**
   * The power is cut: of what was not synced nothing is left, or all bytes of files that had their name already but nothing of the journal (a kernel writes back
   * when it likes), and the machine starts anew. Only with `powerCuts`.
   * @returns the last transaction that was *journaled* for certain.
   */
  async cutPower(left: 'what was synced' | 'written back' = 'what was synced'): Promise<Moment> {
    await this.alive();
    this.die('the power was cut');
    const { journaled } = this;
    this.disk!.powerCut((path) => left === 'written back' && path.includes('/content/'));
    this.disk = new FaultyDisk();
    this.boots++;
    this.opens.clear();
    this.generation = -1; // the connection is gone, too
    await this.alive();
    return journaled;
  }

  async crash(): Promise<void> {
    await this.alive();
    this.die('where it was told to');
    await this.alive();
  }

  /** The daemon dies at the `points`-th point at which its state changes, in whatever comes next, its own start included. */
  crashAfter(points: number): void {
    this.pointsLeft = points;
  }

  private die(where: string): void {
    this.pointsLeft = undefined;
    this.deaths++;
    this.diedAt = where;
    this.daemon.kill();
    this.remains = this.newHome();
    const { durableSeq } = this.daemon.db;
    if (durableSeq > 0) this.journaled = { life: this.lives, seq: durableSeq };
    copyState(this.homes.at(-2)!, this.remains);
    this.disk = this.disk?.moved(this.homes.at(-2)!, this.remains);
    this.hurry();
  }

  /** After a death the next daemon is there when this resolves. */
  async alive(): Promise<void> {
    while (this.remains !== undefined) {
      const { remains } = this;
      this.remains = undefined;
      await this.daemon.bury();
      await this.uploading;
      this.uploading = undefined;
      rmSync(this.homes.at(-2)!, { recursive: true, force: true });
      this.generation++;
      await this.start(remains);
    }
  }

  /** What the daemon does by itself. It is done, or the daemon died over it, when this resolves. */
  async work(run: () => Promise<unknown>): Promise<void> {
    await this.alive();
    const { deaths } = this;
    try {
      await run();
    } catch (error) {
      if (this.deaths === deaths) throw error;
    }
    await this.alive();
  }

  /** Uploads what is due while other things go on: each request to S3 waits until `letGo` is called. */
  async beginUploads(): Promise<void> {
    await this.alive();
    await this.endUploads();
    this.isSlow = true;
    this.uploading = this.daemon.writeback.runDue().catch(() => undefined);
  }

  /** One of the requests under way reaches S3. */
  async letGo(): Promise<void> {
    if (this.uploading === undefined) return;
    this.queued.shift()?.();
    for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  /** All of them do. */
  async endUploads(): Promise<void> {
    this.hurry();
    await this.uploading;
    this.uploading = undefined;
    await this.alive();
  }

  private hurry(): void {
    this.isSlow = false;
    for (const leave of this.queued.splice(0)) leave();
  }

  async remount(): Promise<void> {
    await this.endUploads();
    this.pointsLeft = undefined;
    await this.daemon.stop();
    this.journaled = { life: this.lives, seq: Infinity };
    this.generation = 0;
    this.opens.clear();
    this.lostForgets = 0;
    await this.start(this.home);
  }

  setOffline(offline: boolean): void {
    this.faulty.setDown(offline);
    this.health.isOffline = offline;
  }

  /** Everything that may go is gone from the cache. */
  async evict(): Promise<void> {
    await this.work(async () => {
      await this.fs.durability.all();
      await this.daemon.contents.evict({});
    });
  }

  async uploadDue(): Promise<void> {
    await this.endUploads();
    await this.work(() => this.daemon.writeback.runDue());
  }

  /** Uploads until nothing is pending; the clock moves as far as debounces and backoffs ask. */
  async sync(): Promise<void> {
    await this.endUploads();
    // What is left of an unlinked file waits for its FORGET; if that is lost, for the end of the mount
    if (this.lostForgets > 0 && this.opens.size === 0) await this.remount();
    for (let round = 0; round < 300; round++) {
      await this.work(async () => {
        this.daemon.db.tx(() => this.daemon.journal.hastenAll());
        await this.daemon.writeback.runDue();
      });
      const { journal } = this.daemon;
      if (journal.count() === 0 && journal.walks().length === 0) return;
      if (journal.count() === journal.parkedCount() && journal.walks().length === 0) break;
      this.clock.advance(31_000);
    }
    throw new Error(`cannot sync: ${JSON.stringify(this.daemon.journal.list(20))}`);
  }

  private newHome(): string {
    const home = mkdtempSync(join(this.options.onDisk || !existsSync('/dev/shm') ? tmpdir() : '/dev/shm', 'hearthfs-fs-'));
    this.homes.push(home);
    return home;
  }

  private async start(dir: string): Promise<void> {
    this.lives++;
    let state = 1;
    const random = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    const point = (what: string): void => {
      if (this.pointsLeft !== undefined && this.remains === undefined && --this.pointsLeft <= 0 && this.home === dir) this.die(what);
    };
    const mayLeave = (): Promise<void> | undefined => (this.isSlow && this.home === dir ? new Promise((resolve) => void this.queued.push(resolve)) : undefined);
    const world = { dir, bootId: `boot ${this.boots}`, store: this.faulty, clock: this.clock, health: this.health, random, point, mayLeave };
    this.daemon = await FsDaemon.start(world, this.generation, this.disk ? { ...this.options, disk: this.disk } : this.options);
    if (this.remains !== undefined) this.daemon.kill();
  }
}
