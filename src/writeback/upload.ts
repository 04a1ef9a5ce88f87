import fs from 'node:fs';
import { readUnnoticed } from '../base/disk.js';
import { isRegular, isSymlink, type Inode } from '../meta/inode.js';
import type { CopySource, Key, ObjectAttributes, Stored } from '../s3/object-store.js';
import { StoreError, type StoreErrorKind } from '../s3/store-error.js';
import { attributesOf, dropDigests } from './attributes.js';
import { ByteBudget } from './byte-budget.js';
import { scratchPrefix, sourceOf, type Action } from './desired.js';
import type { Begun, Ledger } from './ledger.js';
import { newStem } from './nonce.js';
import type { WritebackDeps } from './ports.js';
import { sealedContentSynced, type Seal, type Sealed, type Sealer } from './seal.js';

/** `moved`: the file or the tree changed before anything was sent; derive again. */
export type Sent = 'sent' | 'moved';
type ActionOf<K extends Action['do']> = Extract<Action, { do: K }>;

interface BegunPut { readonly begun: Begun; readonly prepared: ObjectAttributes }

/** After so many reads that a writer came into, a file is frozen first (S3). */
export const sealTriesMax = 3;

const empty = new Uint8Array(0);

/** Requests that carry a whole object, or none: PUT, COPY, DELETE. Each is recorded and durable before it leaves (J2, J3). */
export class Sender {
  private readonly budget: ByteBudget;
  /** ino -> reads in a row that a writer came into. */
  private readonly restless = new Map<number, number>();

  constructor(private readonly deps: WritebackDeps, private readonly ledger: Ledger, private readonly sealer: Sealer) {
    this.budget = new ByteBudget(deps.config.memoryBytesMax);
  }

  async put(key: Key, action: ActionOf<'put'> | ActionOf<'marker'>, signal: AbortSignal): Promise<Sent> {
    const { inode } = action;
    if (!isRegular(inode)) return this.putBytes(key, action, isSymlink(inode) ? inode.target ?? empty : empty, inode.gen, null, signal);
    if (inode.content === null || !this.deps.contents.find(inode.content)) return inode.sizeBytes === 0 ? this.putBytes(key, action, empty, inode.gen, null, signal) : 'moved';
    const release = await this.budget.acquire(inode.sizeBytes);
    try {
      if (inode.sizeBytes <= this.deps.config.atOnceBytesMax && !this.restless.has(inode.ino)) {
        const sent = await this.putSmall(key, action, signal);
        if (sent !== undefined) return sent;
      }
      const seal = await this.sealed(inode.ino);
      if (seal === null) return 'moved';
      try {
        const bytes = await readWhole(seal.path, seal.sizeBytes);
        if (bytes === null || !(await seal.isIntact())) {
          this.cameInto(inode.ino);
          return 'moved';
        }
        this.restless.delete(inode.ino);
        await seal.durable;
        return await this.putBytes(key, action, bytes, seal.gen, seal, signal);
      } finally {
        await seal.release();
      }
    } finally {
      release();
    }
  }

  /** Sealed, read and put on record in one stretch, into which nobody can write: one transaction, and no second look at the file. undefined: it takes more than that. */
  private async putSmall(key: Key, action: ActionOf<'put'> | ActionOf<'marker'>, signal: AbortSignal): Promise<Sent | undefined> {
    const { ino } = action.inode;
    const read = await this.deps.group.run(() => {
      const sealed = this.sealer.sealNow(ino);
      const bytes = sealed && sealed.sizeBytes <= this.deps.config.atOnceBytesMax ? readWholeNow(sealed.path, sealed.sizeBytes) : null;
      return sealed && bytes && { bytes, begun: this.begin(key, action, sealed.gen, sealed) };
    });
    if (read === null) return undefined;
    await sealedContentSynced(this.deps, ino); // before the record is durable, and so before the request (D1)
    return this.send(key, action, read.begun, read.bytes, true, signal);
  }

  /** A seal to upload from; frozen if the file does not rest. */
  sealed(ino: number, partial = false): Promise<Seal | null> {
    return (this.restless.get(ino) ?? 0) >= sealTriesMax ? this.sealer.freeze(ino) : this.sealer.seal(ino, partial);
  }

  cameInto(ino: number): void {
    this.deps.metrics.add('writeback.torn_reads');
    if (this.restless.size > 10_000) this.restless.clear(); // counts only spare a few tries
    this.restless.set(ino, (this.restless.get(ino) ?? 0) + 1);
  }

  rests(ino: number): void { this.restless.delete(ino); }

  attributes(inode: Inode, key: Key, nonce: string, seal: Sealed | null, hasNewContent: boolean): ObjectAttributes {
    if (hasNewContent && dropDigests(inode)) this.deps.tree.inodes.save(inode);
    // Times set since the seal are part of `mgen`, which goes on record; those of a later write belong to that
    const mtime = seal === null || seal.gen === inode.gen ? inode.mtime : seal.mtime;
    return attributesOf(inode, key, nonce, this.deps.links.field(inode, key, seal?.gen ?? inode.gen), mtime);
  }

  /** @param gen of the bytes. */
  private async putBytes(key: Key, action: ActionOf<'put'> | ActionOf<'marker'>, bytes: Uint8Array, gen: number, seal: Seal | null, signal: AbortSignal): Promise<Sent> {
    return this.send(key, action, await this.deps.group.run(() => this.begin(key, action, gen, seal)), bytes, seal !== null, signal);
  }

  /** In a transaction. undefined: it is not what should be done any more. */
  private begin(key: Key, action: ActionOf<'put'> | ActionOf<'marker'>, gen: number, seal: Sealed | null): BegunPut | undefined {
    const inode = this.deps.tree.inodes.get(action.inode.ino); // as it is now: awaits lie behind us
    if (inode === undefined || (seal === null && inode.gen !== gen)) return undefined;
    return this.ledger.begin(key, action, 'put', { ino: inode.ino, gen, mgen: inode.mgen }, {},
      (nonce) => this.attributes(inode, key, nonce, seal, action.do === 'put' && !action.metadataOnly));
  }

  private async send(key: Key, action: ActionOf<'put'> | ActionOf<'marker'>, begun: BegunPut | undefined, bytes: Uint8Array, isContent: boolean, signal: AbortSignal): Promise<Sent> {
    if (begun === undefined) return 'moved';
    await this.deps.db.durable();
    const stored = await this.call(begun.begun, () => this.deps.store.put(key, { kind: 'bytes', bytes }, begun.prepared, action.expected, { signal }));
    await this.deps.group.run(() => {
      this.ledger.finish(begun.begun, stored, bytes.length);
      if (isContent) this.noteChecksums(begun.begun, bytes);
    });
    this.deps.metrics.add('writeback.puts');
    this.deps.metrics.add('writeback.put_bytes', bytes.length);
    return 'sent';
  }

  async copy(key: Key, action: ActionOf<'copy'>, signal: AbortSignal): Promise<Sent> {
    const { source } = action;
    const { gen, sizeBytes } = action.inode;
    const begun = await this.deps.group.run(() => {
      const inode = this.deps.tree.inodes.get(action.inode.ino);
      // Content changed since: the source no longer holds what is wanted, and `begin` would say so too.
      if (inode === undefined || inode.gen !== gen) return undefined;
      return this.ledger.begin(key, action, 'copy', inode, { source }, (nonce) => this.attributes(inode, key, nonce, null, false));
    });
    if (begun === undefined) return 'moved';
    await this.deps.db.durable();
    const stored = await this.call(begun.begun, () => this.deps.store.copy(source, key, begun.prepared, action.expected, { signal }));
    await this.finish(begun.begun, stored, sizeBytes);
    this.deps.metrics.add('writeback.copies');
    return 'sent';
  }

  async delete(key: Key, action: ActionOf<'delete'>, signal: AbortSignal): Promise<Sent> {
    const begun = await this.deps.group.run(() => this.ledger.begin(key, action, 'delete', null, {}, () => undefined));
    if (begun === undefined) return 'moved';
    await this.deps.db.durable(); // the new name's object, too, is on record now (J4)
    await this.call(begun.begun, () => this.deps.store.delete(key, action.etag, { signal }));
    await this.deps.group.run(() => this.ledger.finishDelete(begun.begun));
    this.deps.metrics.add('writeback.deletes');
    return 'sent';
  }

  /**
   * Copies what lies under `key` aside, so that `key` can be overwritten. The scratch object is found by what it holds, and
   * deleted like anything the tree does not want, once nobody needs it.
   * @param inParts copies what is larger than one copy may be.
   */
  async stash(key: Key, action: ActionOf<'stash'>, claim: (key: Key) => () => void, inParts: (scratch: Key, owner: Inode, source: CopySource) => Promise<Sent>, signal: AbortSignal): Promise<Sent> {
    const { row } = action;
    const owner = this.deps.tree.inodes.get(row.ino!);
    if (owner === undefined) return 'moved'; // closed meanwhile
    const scratch = scratchPrefix + newStem(this.deps.random);
    const release = claim(scratch);
    try {
      const source = sourceOf(row);
      this.deps.db.tx(() => this.deps.journal.mark(scratch, this.deps.config.uploadDelayMs));
      if (action.byParts) return await inParts(scratch, owner, source);
      const begun = this.ledger.begin(scratch, action, 'copy', { ino: row.ino!, gen: row.gen!, mgen: row.mgen! }, { source, actionKey: key },
        (nonce) => this.attributes(owner, scratch, nonce, null, false));
      if (begun === undefined) return 'moved';
      await this.deps.db.durable();
      const stored = await this.call(begun.begun, () => this.deps.store.copy(source, scratch, begun.prepared, null, { signal }));
      await this.finish(begun.begun, stored, row.sizeBytes ?? owner.sizeBytes);
      this.deps.metrics.add('writeback.stashes');
      return 'sent';
    } finally {
      release();
    }
  }

  /** The request itself. If it certainly was not executed its attempt ends here; any other failure leaves the question to a HEAD (J5). */
  private async call<T>(begun: Begun, request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (error) {
      if (error instanceof StoreError && isRefusal(error.kind)) this.deps.db.tx(() => this.ledger.endAttempt(begun));
      throw error;
    }
  }

  /** The bytes are at hand now; later the whole file would have to be read for them. */
  private noteChecksums({ attempt }: Begun, bytes: Uint8Array): void {
    const inode = this.deps.tree.inodes.get(attempt.ino!);
    if (inode?.content == null || inode.unsealed || inode.gen !== attempt.gen) return;
    this.deps.contents.noteChecksums(inode.content, bytes);
  }

  private finish(begun: Begun, stored: Stored, sizeBytes: number): Promise<void> {
    return this.deps.group.run(() => this.ledger.finish(begun, stored, sizeBytes));
  }
}

/** The server said no before it did anything. */
export function isRefusal(kind: StoreErrorKind): boolean {
  switch (kind) {
    case 'throttled': case 'access-denied': case 'bad-credentials': case 'wrong-region': case 'clock-skew': case 'archived': case 'locked':
    case 'too-large': case 'invalid': case 'no-such-bucket': case 'local-io':
      return true;
    case 'not-found': case 'no-such-upload': case 'precondition-failed': case 'conflict': case 'unavailable': case 'aborted':
      return false;
    default: kind satisfies never; throw new Error(`unmapped ${String(kind)}`);
  }
}

/** All of a file; null if it is not as long as it should be. */
async function readWhole(path: string, sizeBytes: number): Promise<Buffer | null> {
  const handle = await fs.promises.open(path, readUnnoticed);
  try {
    const bytes = Buffer.allocUnsafe(sizeBytes);
    let at = 0;
    while (at < sizeBytes) {
      const { bytesRead } = await handle.read(bytes, at, sizeBytes - at, at);
      if (bytesRead === 0) return null;
      at += bytesRead;
    }
    return (await handle.stat()).size === sizeBytes ? bytes : null;
  } finally {
    await handle.close();
  }
}

/** What was written a moment ago is in the page cache: some 20 us, where four trips to libuv's pool cost ten times as much. */
function readWholeNow(path: string, sizeBytes: number): Buffer | null {
  const fd = fs.openSync(path, readUnnoticed);
  try {
    const bytes = Buffer.allocUnsafe(sizeBytes + 1); // one more than there should be: a file that grew shows
    let at = 0;
    for (let got = -1; got !== 0 && at < bytes.length; at += got) got = fs.readSync(fd, bytes, at, bytes.length - at, at);
    return at === sizeBytes ? bytes.subarray(0, sizeBytes) : null;
  } finally {
    fs.closeSync(fd);
  }
}

export type { ActionOf };
