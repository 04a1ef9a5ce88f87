import { sharedAbort } from '../base/shared-abort.js';
import type { Range } from '../base/range-set.js';
import type { Attempt } from '../journal/attempts.js';
import type { Inode } from '../meta/inode.js';
import { Congestion, type Pass } from '../s3/congestion.js';
import type { CopySource, ETag, Key, Part } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import { noDigests, noteSum, type BlockDigests } from './block-digests.js';
import type { Begun, Ledger } from './ledger.js';
import { partsMax } from './part-plan.js';
import type { WritebackDeps } from './ports.js';
import type { Seal } from './seal.js';
import { isRefusal, type ActionOf, type Sender, type Sent } from './upload.js';

const MiB = 1024 * 1024;
/** Acknowledged parts are written down this often: a crash sends at most this much again, and the row is not rewritten for every part. */
const partsPerRecord = 16;
/** How far the server's clock may be off ours. */
const clockSkewMs = 5 * 60_000;

/** What an upload is to be. `mgen`, if not the inode's; `actionKey`, if the action is not the key's own (stash); `earlier`: it goes on with that. */
interface Plan {
  readonly inode: Inode;
  readonly gen: number;
  readonly mgen?: number;
  readonly seal: Seal | null;
  readonly partSize: number;
  readonly hasNewContent: boolean;
  readonly source?: CopySource;
  readonly actionKey?: Key;
  readonly earlier?: Attempt;
}

/** Objects sent, or copied inside S3, in parts. Nothing is visible before Complete, which carries the condition. */
export class MultipartSender {
  /** Of all uploads together: each holds a part in memory. Where parts are not answered in time there are too many of them for the line. */
  private readonly slots: Congestion;

  constructor(private readonly deps: WritebackDeps, private readonly ledger: Ledger, private readonly sender: Sender) {
    this.slots = new Congestion(deps.config.partsInFlightMax, isTimeout);
  }

  /** From the local file. The gen is checked before Complete (S4). */
  async upload(key: Key, action: ActionOf<'multipart'>, signal: AbortSignal): Promise<Sent> {
    const { inode } = action;
    const seal = await this.sender.sealed(inode.ino);
    if (seal === null) return 'moved';
    try {
      const earlier = this.resumable(key, inode, seal.gen, null);
      const partSize = earlier?.partSizeBytes ?? partSizeFor(seal.sizeBytes, this.deps.config.partBytes);
      const begun = await this.begin(key, action, { inode, gen: seal.gen, seal, partSize, hasNewContent: true, ...(earlier && { earlier }) }, signal);
      if (begun === undefined) return 'moved';
      const { path } = seal;
      const send = (uploadId: string, number: number, { start, end }: Range, partSignal: AbortSignal): Promise<Part> =>
        this.deps.store.uploadPart(key, uploadId, number, { kind: 'file', path, start, end }, { signal: partSignal });
      const parts = await this.send(begun, evenly(seal.sizeBytes, partSize), send, () => this.mayGoOn(seal, inode.ino), signal);
      await this.settled(seal);
      if (parts === null || !(await seal.isIntact())) {
        this.sender.cameInto(inode.ino);
        await this.giveUp(begun, signal);
        return 'moved';
      }
      this.sender.rests(inode.ino);
      await this.complete(begun, parts, action.expected, seal.sizeBytes, this.digests(seal, partSize, parts), signal);
      this.deps.metrics.add('writeback.multipart_uploads');
      this.deps.metrics.add('writeback.put_bytes', seal.sizeBytes);
      return 'sent';
    } finally {
      await seal.release();
    }
  }

  /** From another object, or from itself with other metadata; for objects above the size of one copy. */
  async copy(key: Key, action: ActionOf<'copy'>, signal: AbortSignal): Promise<Sent> {
    const { inode, source } = action;
    const sizeBytes = inode.sizeBytes;
    const earlier = this.resumable(key, inode, inode.gen, source);
    const partSize = earlier?.partSizeBytes ?? partSizeFor(sizeBytes, this.deps.config.copyPartBytes);
    const begun = await this.begin(key, action, { inode, gen: inode.gen, seal: null, partSize, hasNewContent: false, source, ...(earlier && { earlier }) }, signal);
    if (begun === undefined) return 'moved';
    await this.copyParts(begun, source, sizeBytes, partSize, action.expected, signal);
    this.deps.metrics.add('writeback.copies');
    return 'sent';
  }

  /** What lies under `key`, of which `owner` needs the bytes, aside to `scratch`; for objects above the size of one copy. */
  async stash(scratch: Key, key: Key, action: ActionOf<'stash'>, owner: Inode, source: CopySource, signal: AbortSignal): Promise<Sent> {
    const { row } = action;
    const sizeBytes = row.sizeBytes ?? owner.sizeBytes;
    const partSize = partSizeFor(sizeBytes, this.deps.config.copyPartBytes);
    const begun = await this.begin(scratch, action, { inode: owner, gen: row.gen!, mgen: row.mgen!, seal: null, partSize, hasNewContent: false, source, actionKey: key }, signal);
    if (begun === undefined) return 'moved';
    try {
      await this.copyParts(begun, source, sizeBytes, partSize, null, signal);
    } catch (error) {
      if (error instanceof StoreError && isRefusal(error.kind)) await this.giveUp(begun, signal); // the next try takes another key
      throw error;
    }
    this.deps.metrics.add('writeback.stashes');
    return 'sent';
  }

  private async copyParts(begun: Begun, source: CopySource, sizeBytes: number, partSize: number, expected: ETag | null, signal: AbortSignal): Promise<void> {
    const send = (uploadId: string, number: number, { start, end }: Range, partSignal: AbortSignal): Promise<Part> =>
      this.deps.store.uploadPartCopy(begun.attempt.key, uploadId, number, source, start, end, { signal: partSignal });
    const parts = await this.send(begun, evenly(sizeBytes, partSize), send, () => true, signal);
    await this.complete(begun, parts!, expected, sizeBytes, undefined, signal);
  }

  /** Aborts the upload of an attempt, or, if its id was never written down, those begun at its key since. */
  async abortStrays({ key, uploadId, sentAtMs }: Attempt, signal: AbortSignal): Promise<void> {
    if (uploadId !== null) return this.deps.store.abortUpload(key, uploadId, { signal });
    for (const upload of await this.deps.store.listUploads(key, { signal })) {
      if (upload.key === key && upload.initiatedMs >= sentAtMs - clockSkewMs) await this.deps.store.abortUpload(key, upload.uploadId, { signal });
    }
  }

  /** An earlier try's upload that will not be continued: the file changed since, or the answer that named it was lost. */
  async dropStray(key: Key, signal: AbortSignal): Promise<void> {
    const { attempts, db } = this.deps;
    const attempt = attempts.get(key);
    if (attempt?.op !== 'multipart') return;
    await this.abortStrays(attempt, signal);
    const now = attempts.get(key);
    // The tombstone stays for a Complete that may still arrive; its upload is settled.
    if (now?.nonce === attempt.nonce) db.tx(() => attempts.put({ ...now, op: 'put', uploadId: null, partSizeBytes: null, parts: [] }));
  }

  private resumable(key: Key, inode: Inode, gen: number, source: CopySource | null): Attempt | undefined {
    const attempt = this.deps.attempts.get(key);
    const fits = attempt?.op === 'multipart' && attempt.uploadId !== null && attempt.ino === inode.ino && attempt.gen === gen
      && attempt.sourceKey === (source?.key ?? null) && attempt.sourceEtag === (source?.etag ?? null);
    return fits ? attempt : undefined;
  }

  /** The attempt on record, and an upload with its id. @returns undefined if it is not what should be done any more. */
  async begin(key: Key, action: ActionOf<'multipart'> | ActionOf<'copy'> | ActionOf<'compose'> | ActionOf<'stash'>, plan: Plan, signal: AbortSignal): Promise<Begun | undefined> {
    const { attempts, db, store, tree } = this.deps;
    const { earlier } = plan;
    if (earlier === undefined) await this.dropStray(key, signal);
    const inode = tree.inodes.get(plan.inode.ino);
    if (inode === undefined || (action.do === 'copy' && inode.gen !== plan.gen)) return undefined;
    const made = { ino: inode.ino, gen: plan.gen, mgen: plan.mgen ?? inode.mgen };
    const more = { ...(plan.source && { source: plan.source }), ...(plan.actionKey !== undefined && { actionKey: plan.actionKey }) };
    const begun = this.ledger.begin(key, action, 'multipart', made, { upload: earlier, partSizeBytes: plan.partSize, ...more },
      (nonce) => this.sender.attributes(inode, key, nonce, plan.seal, plan.hasNewContent));
    if (begun === undefined) return undefined;
    await db.durable();
    let parts: readonly Part[] = [];
    let uploadId = begun.begun.attempt.uploadId;
    if (uploadId !== null) {
      const known = await store.listParts(key, uploadId, { signal });
      if (known === null) uploadId = null; // aborted behind our back, by a lifecycle rule perhaps
      else parts = known.map((part) => begun.begun.attempt.parts.find(({ number, etag, sizeBytes }) => number === part.number && etag === part.etag && sizeBytes === part.sizeBytes) ?? part);
    }
    if (uploadId === null) {
      // A resumed attempt brings its nonce but not its attributes; a new upload must carry the attempt's nonce all the same.
      uploadId = await store.createUpload(key, begun.prepared, { signal });
    }
    const attempt: Attempt = { ...begun.begun.attempt, uploadId, parts };
    db.tx(() => attempts.setParts(key, uploadId, parts));
    return { ...begun.begun, attempt };
  }

  mayGoOn(seal: Seal, ino: number): boolean {
    return this.deps.tree.inodes.get(ino)?.gen === seal.gen || seal.path.startsWith(this.deps.config.scratchDir);
  }

  /**
   * All parts of these ranges, the acknowledged ones not again; null if `mayGoOn` said no. Where S3 does not answer for a part nothing more is sent until
   * those on their way have ended: they may be all but there. If one of them was acknowledged, S3 is there, and it goes on with what is missing; else
   * the failure is thrown. Any other failure is of the whole upload, and ends all of it.
   */
  async send(begun: Begun, ranges: readonly Range[],
    send: (uploadId: string, number: number, range: Range, signal: AbortSignal) => Promise<Part>, mayGoOn: () => boolean, signal: AbortSignal): Promise<Part[] | null> {
    const { key, parts: known } = begun.attempt;
    const uploadId = begun.attempt.uploadId!;
    const done = new Map<number, Part>();
    for (const part of known) {
      const range = ranges[part.number - 1];
      if (range && part.sizeBytes === range.end - range.start) done.set(part.number, part);
    }
    for (;;) {
      const before = done.size;
      const unanswered = await this.round(key, uploadId, ranges, done, send, mayGoOn, signal);
      if (unanswered === 'stopped') return null;
      if (unanswered === undefined) return sorted(done);
      if (done.size === before) throw unanswered;
      this.deps.metrics.add('writeback.parts_again');
    }
  }

  /** @returns the failure of a part that was not answered, if there was one, once no part is in flight any more. */
  private async round(key: Key, uploadId: string, ranges: readonly Range[], done: Map<number, Part>,
    send: (uploadId: string, number: number, range: Range, signal: AbortSignal) => Promise<Part>, mayGoOn: () => boolean, signal: AbortSignal): Promise<StoreError | 'stopped' | undefined> {
    const failed = sharedAbort();
    const flights: Promise<void>[] = [];
    let unanswered: StoreError | undefined;
    let unrecorded = 0;
    let isStopped = false;
    const record = (): void => {
      unrecorded = 0;
      this.deps.db.tx(() => this.deps.attempts.setParts(key, uploadId, sorted(done)));
    };
    const fly = async (number: number, range: Range, pass: Pass): Promise<void> => {
      try {
        done.set(number, await send(uploadId, number, range, AbortSignal.any([signal, failed.signal])));
        pass.succeeded();
        if (++unrecorded >= partsPerRecord) record();
      } catch (error) {
        pass.failed(error);
        if (isUnanswered(error)) unanswered ??= error;
        else if (!failed.signal.aborted) failed.abort(error);
      } finally {
        pass.leave();
      }
    };
    try {
      for (const [index, range] of ranges.entries()) {
        const number = index + 1;
        if (done.has(number)) continue;
        const pass = await this.slots.enter();
        isStopped ||= !mayGoOn();
        if (isStopped || unanswered !== undefined || failed.signal.aborted) {
          pass.leave();
          break;
        }
        flights.push(fly(number, range, pass));
      }
      await Promise.all(flights);
    } finally {
      if (unrecorded > 0) record();
    }
    if (failed.signal.aborted) throw failed.signal.reason;
    return isStopped ? 'stopped' : unanswered;
  }

  /** Nobody sees any of the upload before Complete. With it the bytes the file was changed from may be gone: that all are here must be on record by then, and synced (J4). */
  async settled(seal: Seal): Promise<void> {
    await seal.durable;
    await this.deps.db.durable();
  }

  async complete(begun: Begun, parts: readonly Part[], expected: ETag | null, sizeBytes: number, digests: BlockDigests | undefined, signal: AbortSignal): Promise<void> {
    const { key, uploadId } = begun.attempt;
    const stored = await this.deps.store.completeUpload(key, uploadId!, parts, expected, { signal });
    this.deps.db.tx(() => {
      this.ledger.finish(begun, stored, sizeBytes);
      if (digests) this.deps.digests.put(begun.attempt.ino!, digests);
    });
  }

  private digests({ gen, sizeBytes }: Seal, partSize: number, parts: readonly Part[]): BlockDigests | undefined {
    if (sizeBytes < this.deps.config.reuseAboveBytes) return undefined;
    const digests = noDigests(gen, sizeBytes, partSize);
    for (const { number, sizeBytes: length, sha256 } of parts) if (sha256 !== undefined) noteSum(digests, (number - 1) * partSize, (number - 1) * partSize + length, Buffer.from(sha256, 'hex'));
    return digests;
  }

  /** The content changed on the way: nothing of it was visible, and nothing of it is wanted. */
  async giveUp(begun: Begun, signal: AbortSignal): Promise<void> {
    try {
      await this.deps.store.abortUpload(begun.attempt.key, begun.attempt.uploadId!, { signal });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error; // the next attempt, or the next start, aborts the stray
      return;
    }
    this.deps.db.tx(() => this.ledger.endAttempt(begun));
  }
}

/** The smallest size, unless that makes more than 10,000 parts; then whole mebibytes. */
export function partSizeFor(sizeBytes: number, smallest: number): number {
  return smallest * partsMax >= sizeBytes ? smallest : Math.ceil(sizeBytes / partsMax / MiB) * MiB;
}

function evenly(sizeBytes: number, partSize: number): Range[] {
  return Array.from({ length: Math.ceil(sizeBytes / partSize) }, (_, i) => ({ start: i * partSize, end: Math.min(sizeBytes, (i + 1) * partSize) }));
}

/** No answer at all, neither yes nor no. */
function isUnanswered(error: unknown): error is StoreError {
  return error instanceof StoreError && error.kind === 'unavailable' && error.details.status === undefined;
}

function isTimeout(error: unknown): boolean {
  return isUnanswered(error) && error.details.code === 'ETIMEDOUT';
}

function sorted(parts: ReadonlyMap<number, Part>): Part[] {
  return [...parts.values()].sort((a, b) => a.number - b.number);
}
