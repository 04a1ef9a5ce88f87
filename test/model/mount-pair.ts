/**
 * The same calls on a mount and in a plain directory of the local file system, which says what is right: values, errors, and the tree that is left.
 * Calls to the mount are not waited for one by one, so that a daemon dies in the middle of them; `settled` compares what came back.
 */
import { Hands, type Answer, type Call } from '../support/hands.js';
import { delay, kill9, until } from '../support/child.js';
import { childrenOf, type TestMount } from '../support/mount.js';
import { patience } from '../support/scale.js';
import { storeDifferences, TimeRules, treeDifferences, type Entry } from './mount-expectations.js';

/** How one mount differs from another. */
export interface MountKind {
  readonly name: string;
  readonly args: readonly string[];
  /** Others' changes show after this; undefined: no stranger while it runs. */
  readonly ttlMs?: number;
}

export interface Named { readonly path: string; readonly type: string; readonly ino: number; readonly links: number }
export interface Slot { readonly ino: number; readonly writable: boolean }

const underWayMax = 8;

/** Starts and replaces the mount of a pair. */
export interface MountKeeper {
  readonly mount: TestMount;
  /** Unmounts and mounts again; `how` says what happens in between. */
  again(how: 'orderly' | 'empty cache' | 'killed'): Promise<void>;
}

export class Pair {
  /** What was done, in words: the readable case. */
  readonly trace: string[] = [];
  named: Named[] = [];
  readonly files = new Map<number, Slot>();
  readonly mappings = new Map<number, Slot>();
  /** Keys below `z/` that another client of the bucket put. */
  readonly foreign = new Set<string>();
  deaths = 0;
  private readonly underWay: { readonly call: Call; readonly wanted: Answer; readonly found: Promise<Answer> }[] = [];
  private readonly times = new TimeRules();
  private dying: { calls: number; readonly delayMs: number } | undefined;
  private lastDaemon = 0;
  private strangerAt = -Infinity;

  constructor(readonly plain: Hands, readonly mounted: Hands, readonly keeper: MountKeeper, readonly kind: MountKind, readonly directory: string) {}

  get mount(): TestMount { return this.keeper.mount; }
  get bucket() { return this.mount.bucket; }
  /** Different bytes for each write. */
  get seed(): number { return this.trace.length; }

  names(...types: string[]): string[] { return this.named.filter(({ type, path }) => types.includes(type) && !isForeign(path)).map(({ path }) => path); }
  directories(): string[] { return ['', ...this.names('dir')]; }
  find(path: string): Named { return this.named.find((each) => each.path === path)!; }

  async begin(): Promise<void> {
    for (const hands of [this.plain, this.mounted]) {
      await hands.must('enter', '');
      await hands.must('mkdir', this.directory, 0o755);
      await hands.must('enter', this.directory);
    }
  }

  /** Does it in the plain directory, and tells the mount to do it. @returns what was right. */
  async act(...call: Call): Promise<Answer> {
    const wanted = await this.plain.call(...call);
    this.say(`${callText(call)}${'errno' in wanted ? ` -> ${wanted.errno}` : ''}`);
    const found = this.mounted.call(...call);
    found.catch(() => undefined); // told by `settled`
    this.underWay.push({ call, wanted, found });
    if (this.dying !== undefined && --this.dying.calls < 0) this.killSoon(this.dying.delayMs);
    if (this.underWay.length >= underWayMax) await this.settled();
    if (!lookers.has(call[0])) await this.look();
    return wanted;
  }

  private async look(): Promise<void> {
    const found = (await this.plain.must('paths')) as [string, string, number, number][];
    this.named = found.map(([path, type, ino, links]) => ({ path, type, ino, links }));
  }

  say(what: string): void { this.trace.push(what); }

  /** Everything so far was answered, and rightly. */
  async settled(): Promise<void> {
    for (const { call, wanted, found } of this.underWay.splice(0)) {
      const got = await found;
      if (JSON.stringify(got) !== JSON.stringify(wanted)) throw new Error(`${callText(call)}: ${answerText(got, wanted)}`);
    }
  }

  // ---- what happens to the mount

  /** The daemon dies that many calls from now, so long after one was made. */
  dieSoon(calls: number, delayMs: number): void {
    this.say(`daemon will die ${delayMs} ms into call ${calls} from here`);
    this.dying = { calls, delayMs };
  }

  private killSoon(delayMs: number): void {
    this.dying = undefined;
    if (delayMs === 0) setImmediate(() => this.kill());
    else setTimeout(() => this.kill(), delayMs);
  }

  private kill(): void {
    const daemon = childrenOf(this.mount.supervisorPid)[0];
    if (daemon === undefined || daemon === this.lastDaemon) return; // between two: that is death enough
    kill9(daemon);
    this.lastDaemon = daemon;
    this.deaths++;
    this.times.daemonDied();
    this.say('kill -9 of the daemon');
  }

  async killNow(): Promise<void> {
    this.kill();
    await this.mount.ask('status', {});
  }

  async evict(): Promise<void> {
    await this.settled();
    const { files } = await this.mount.ask('evict', { path: null, bytes: null });
    this.say(`evict: ${files} files`);
  }

  /** What is open and has no name may be only in S3, and is then kept there until it is closed (J4): no sync before. */
  async canSync(): Promise<boolean> {
    for (const slot of this.files.keys()) if (((await this.plain.must('fd_stat', slot)) as number[])[1] === 0) return false;
    for (const slot of this.mappings.keys()) if ((await this.plain.must('map_links', slot)) === 0) return false;
    return true;
  }

  /** S3 has everything afterwards: looks at it. */
  async sync(options: { readonly killAfterMs?: number } = {}): Promise<void> {
    await this.settled();
    if (!(await this.canSync())) return;
    this.say(options.killAfterMs === undefined ? 'sync' : `sync, and the daemon dies ${options.killAfterMs} ms later`);
    const done = this.mount.ask('sync', { wait: true, path: null });
    if (options.killAfterMs !== undefined) {
      done.catch(() => undefined);
      await delay(options.killAfterMs);
      await this.killNow();
    }
    await this.drained(done);
    await this.compareStore();
  }

  private async drained(first: Promise<unknown>): Promise<void> {
    const timeout = delay(60_000 * patience).then(async () => {
      const { items } = await this.mount.ask('pending', { limit: 10 });
      throw new Error(`cannot sync: ${JSON.stringify(items)}`);
    });
    await Promise.race([timeout, until('all is uploaded', async () => {
      await first.catch(() => undefined); // broken off by the death of the daemon
      return (await this.mount.ask('sync', { wait: true, path: null })).remaining === 0;
    }, 70_000, 20)]);
  }

  async again(how: 'orderly' | 'empty cache' | 'killed'): Promise<void> {
    for (const slot of [...this.files.keys()]) await this.close(slot);
    for (const slot of [...this.mappings.keys()]) await this.unmap(slot);
    await this.settled();
    this.dying = undefined;
    this.say(`mount again: ${how}`);
    if (how === 'killed') this.times.daemonDied();
    await this.keeper.again(how);
    if (how === 'empty cache') await this.mounted.must('paths'); // the names of a hard link are one file once all were looked up (J10)
    await this.compare({ content: true });
  }

  // ---- open files

  async open(path: string, flags: number, writable: boolean): Promise<void> {
    const slot = [0, 1, 2, 3].find((each) => !this.files.has(each));
    if (slot === undefined) return;
    const answer = await this.act('open', slot, path, flags);
    if ('ok' in answer) this.files.set(slot, { ino: await this.inodeOf(slot), writable });
  }

  private async inodeOf(slot: number): Promise<number> {
    return (await this.plain.must('fd_inode', slot)) as number;
  }

  async close(slot: number): Promise<void> {
    await this.act('close', slot);
    this.files.delete(slot);
  }

  async map(of: number): Promise<void> {
    const slot = [0, 1].find((each) => !this.mappings.has(each));
    if (slot === undefined) return;
    const answer = await this.act('map', slot, of);
    if (!('ok' in answer)) return;
    this.mappings.set(slot, this.files.get(of)!);
    this.times.mapped(this.files.get(of)!.ino);
  }

  async unmap(slot: number): Promise<void> {
    await this.act('unmap', slot);
    this.mappings.delete(slot);
  }

  /** Through a mapping: when the time of the file moves is the kernel's business. */
  storesIn(path: string): void { this.times.mapped(this.find(path).ino); }

  isInUse(ino: number): boolean { return [...this.files.values(), ...this.mappings.values()].some((slot) => slot.ino === ino); }

  // ---- another client

  /** Its object under a name that only it uses. */
  async strangerPuts(name: string, text: string | null): Promise<void> {
    if (this.kind.ttlMs === undefined) return;
    const key = `${this.directory}/z/${name}`;
    this.say(text === null ? `stranger deletes z/${name}` : `stranger puts z/${name}: ${text.length} bytes`);
    if (text === null) {
      if (!this.foreign.delete(name)) return;
      await this.bucket.delete(key);
      await this.plain.must('unlink', `z/${name}`);
      if (this.foreign.size === 0) await this.plain.must('rmdir', 'z');
    } else {
      if (this.foreign.size === 0) await this.plain.must('mkdir', 'z', 0o755);
      this.foreign.add(name);
      await this.bucket.put(key, text);
      await this.plain.must('put', `z/${name}`, text);
    }
    this.strangerAt = performance.now();
    await this.look();
  }

  /** Our file, at rest, is replaced or deleted by another client. Not after a death: a key whose answer got lost is believed to be ours for a while (J6). */
  async strangerTakes(path: string, text: string | null): Promise<void> {
    const { ino, links } = this.find(path);
    if (this.kind.ttlMs === undefined || this.deaths > 0 || links > 1 || this.isInUse(ino) || !(await this.canSync())) return;
    await this.sync();
    this.say(text === null ? `stranger deletes ${path}` : `stranger puts ${path}: ${text.length} bytes`);
    const key = `${this.directory}/${path}`;
    await this.plain.must('unlink', path);
    if (text === null) await this.bucket.delete(key);
    else {
      await this.bucket.put(key, text);
      await this.plain.must('put', path, text);
    }
    await this.look();
    this.times.foreign(text === null ? undefined : this.find(path).ino);
    this.strangerAt = performance.now();
    await this.trustIsOver();
  }

  private async trustIsOver(): Promise<void> {
    const left = this.strangerAt + (this.kind.ttlMs ?? 0) * 1.1 + 50 - performance.now();
    if (left > 0) await delay(left);
  }

  // ---- comparisons

  async compare(options: { readonly content: boolean }): Promise<void> {
    await this.settled();
    await this.trustIsOver();
    const wanted = (await this.plain.must('tree', options.content)) as Entry[];
    const found = (await this.mounted.must('tree', options.content)) as Entry[];
    fail(`compare${options.content ? ' all' : ''}`, [...treeDifferences(wanted, found), ...this.times.differences(wanted.filter(({ path }) => !isForeign(path)), found)]);
  }

  private async compareStore(): Promise<void> {
    const wanted = (await this.plain.must('tree', true)) as Entry[];
    const found = (await this.mounted.must('tree', false)) as Entry[];
    fail('S3 after sync', await storeDifferences(wanted, found, this.bucket, this.directory, { isForeign, isLoose: (ino) => this.isInUse(ino) || this.times.isForeign(ino) }));
  }

  /** Ends in order: all is closed, equal, in S3, and gone. */
  async finish(): Promise<void> {
    this.dying = undefined;
    for (const slot of [...this.mappings.keys()]) await this.unmap(slot);
    for (const slot of [...this.files.keys()]) await this.close(slot);
    await this.compare({ content: true });
    await this.sync();
    const { items } = await this.mount.ask('conflicts', {});
    if (items.length > 0) throw new Error(`conflicts: ${JSON.stringify(items)}`);
  }
}

/** Whether a path is another client's alone. */
function isForeign(path: string): boolean { return path === 'z' || path.startsWith('z/'); }

function fail(where: string, differences: readonly string[]): void {
  if (differences.length > 0) throw new Error(`${where}:\n  ${differences.slice(0, 12).join('\n  ')}`);
}

/** Calls that change no names. */
const lookers = new Set(['read', 'fd_read', 'fd_write', 'fd_append', 'fd_truncate', 'fd_sync', 'fd_stat', 'close', 'map', 'unmap', 'map_write', 'map_read', 'map_sync', 'write', 'append', 'truncate', 'fallocate', 'store', 'copy']);

function callText([name, ...args]: Call): string {
  return `${name}(${args.map((arg) => JSON.stringify(arg)).join(', ')})`;
}

/** Bytes are shown by their first difference. */
function answerText(got: Answer, wanted: Answer): string {
  if (!('ok' in got) || !('ok' in wanted) || typeof got.ok !== 'string' || typeof wanted.ok !== 'string') return `${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`;
  const [a, b] = [Buffer.from(got.ok, 'base64'), Buffer.from(wanted.ok, 'base64')];
  const at = a.findIndex((byte, index) => byte !== b[index]);
  return `${a.length} bytes instead of ${b.length}, first difference at ${at < 0 ? Math.min(a.length, b.length) : at}`;
}
