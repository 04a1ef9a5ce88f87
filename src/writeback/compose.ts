import fs from 'node:fs';
import { RangeSet, type Range } from '../base/range-set.js';
import type { CopySource, Key, Part } from '../s3/object-store.js';
import { StoreError } from '../s3/store-error.js';
import { digestRange, noDigests, noteSum, sumOf, type BlockDigests } from './block-digests.js';
import type { Filler } from './fill.js';
import { partSizeFor, type MultipartSender } from './multipart.js';
import { planParts, type PlannedPart } from './part-plan.js';
import type { WritebackDeps } from './ports.js';
import type { Seal } from './seal.js';
import type { ActionOf, Sender, Sent } from './upload.js';
import type { TreeWorld } from './world.js';

interface Plan {
  readonly parts: readonly PlannedPart[];
  /** Of the new content, as far as known. */
  readonly digests: BlockDigests;
}

/**
 * A small change to a big object sends what changed: the rest is copied inside S3 from the version it was changed from (UploadPartCopy), so an append to an
 * object that is not here needs no download either.
 *
 * 1. What is copied is known to be unchanged: it is still missing here, or no write since that version touched it, or its SHA-256 is the same.
 * 2. The base is read on condition that it is that version, and when it is the destination itself, Complete demands it once more; another key is looked at
 *    again before Complete, for servers that copy parts without conditions.
 * 3. Such an upload is not continued by the next try: what it sends is little.
 */
export class Composer {
  constructor(
    private readonly deps: WritebackDeps, private readonly world: TreeWorld, private readonly sender: Sender, private readonly multipart: MultipartSender,
    private readonly filler: Filler,
  ) {}

  async upload(key: Key, action: ActionOf<'compose'>, signal: AbortSignal): Promise<Sent> {
    const { source } = action;
    const { ino } = action.inode;
    const seal = await this.sender.sealed(ino, true);
    if (seal === null) return 'moved';
    try {
      const plan = await this.plan(ino, action.baseGen, seal, signal);
      if (plan === 'moved') {
        this.sender.cameInto(ino);
        return 'moved';
      }
      if (plan === 'whole') {
        this.world.sendWhole(ino, seal.gen);
        return 'sent'; // and derive again
      }
      for (const part of plan.parts) if (!part.isCopy) await this.fetch(ino, part, signal);
      const inode = this.deps.tree.inodes.get(ino);
      if (inode === undefined) return 'moved';
      const begun = await this.multipart.begin(key, action, { inode, gen: seal.gen, seal, partSize: 0, hasNewContent: true, source }, signal);
      if (begun === undefined) return 'moved';
      try {
        const send = (uploadId: string, number: number, { start, end }: Range, partSignal: AbortSignal): Promise<Part> => (plan.parts[number - 1]!.isCopy
          ? this.deps.store.uploadPartCopy(key, uploadId, number, source, start, end, { signal: partSignal })
          : this.deps.store.uploadPart(key, uploadId, number, { kind: 'file', path: seal.path, start, end }, { signal: partSignal }));
        const parts = await this.multipart.send(begun, plan.parts, send, () => this.multipart.mayGoOn(seal, ino), signal);
        await this.multipart.settled(seal);
        if (parts === null || !(await seal.isIntact())) {
          this.sender.cameInto(ino);
          await this.multipart.giveUp(begun, signal);
          return 'moved';
        }
        this.sender.rests(ino);
        await this.demandBase(key, source, signal);
        noteSums(plan.digests, plan.parts, parts);
        await this.multipart.complete(begun, parts, action.expected, seal.sizeBytes, plan.digests, signal);
      } catch (error) {
        if (!(error instanceof StoreError) || !isIncapable(error)) throw error;
        this.deps.log.info('the server does not make an object from parts of another; sending all of it', { room: 'writeback', key, error });
        this.deps.metrics.add('writeback.reuse_refused');
        if (error.details.status === 501) this.world.neverCompose();
        this.world.sendWhole(ino, seal.gen);
        await this.multipart.giveUp(begun, signal);
        return 'sent';
      }
      const copied = bytesOf(plan.parts, true);
      this.deps.metrics.add('writeback.composed_uploads');
      this.deps.metrics.add('writeback.reused_bytes', copied);
      this.deps.metrics.add('writeback.put_bytes', seal.sizeBytes - copied);
      return 'sent';
    } finally {
      await seal.release();
    }
  }

  /** `whole`: hardly anything can be copied. `moved`: the file changed while it was read. */
  private async plan(ino: number, baseGen: number, seal: Seal, signal: AbortSignal): Promise<Plan | 'whole' | 'moved'> {
    const { tree, contents, digests, config } = this.deps;
    const inode = tree.inodes.get(ino);
    const file = inode?.content == null ? undefined : contents.find(inode.content);
    const base = tree.objects.madeFrom(ino).find((row) => row.gen === baseGen);
    if (inode === undefined || file === undefined || base === undefined) return 'moved';
    const { sizeBytes } = seal;
    const partBytes = partSizeFor(sizeBytes, config.partBytes);
    const commonBytes = Math.min(sizeBytes, base.sizeBytes ?? 0);
    const known = digests.get(ino);
    const old = known?.gen === baseGen && known.blockBytes === partBytes ? known : undefined;
    const next = noDigests(seal.gen, sizeBytes, partBytes);
    const changes = contents.changesSince(file.id, baseGen);
    let unchanged = new RangeSet();
    if (changes !== undefined) {
      unchanged.add(0, commonBytes);
      for (const { start, end } of changes) unchanged.remove(start, end);
    } else if (file.isComplete) {
      if (old === undefined) return 'whole';
      const same = await this.compare(seal, old, next, commonBytes, signal);
      if (same === null) return 'moved';
      unchanged = same;
    }
    for (const { start, end } of file.missing) unchanged.add(start, Math.min(end, commonBytes));
    // Blocks that were not looked at, but are the same, have the sums they had
    if (old) {
      for (const { start, end } of unchanged) {
        for (let at = Math.ceil(start / partBytes) * partBytes; at < end; at += partBytes) {
          const blockEnd = Math.min(at + partBytes, old.sizeBytes);
          const sum = blockEnd <= end ? sumOf(old, at / partBytes) : undefined;
          if (sum) noteSum(next, at, blockEnd, sum);
        }
      }
    }
    const parts = planParts(sizeBytes, unchanged, { partBytes, partBytesMin: config.reusePartBytesMin, copyPartBytes: config.copyPartBytes });
    if (parts === null) return 'whole';
    const copied = bytesOf(parts, true);
    // With half of it changed one copies little, and an upload that can be continued is worth more
    if (copied === 0 || (file.isComplete && copied * 2 < sizeBytes)) return 'whole';
    return { parts, digests: next };
  }

  /** Which blocks are what they were. Gives up with what it has once more than half differs. null: the file changed meanwhile. */
  private async compare(seal: Seal, old: BlockDigests, next: BlockDigests, commonBytes: number, signal: AbortSignal): Promise<RangeSet | null> {
    const same = new RangeSet();
    const { blockBytes } = old;
    const buffer = Buffer.allocUnsafe(blockBytes);
    const handle = await fs.promises.open(seal.path, 'r');
    let changedBytes = 0;
    try {
      for (let start = 0; start < commonBytes && changedBytes * 2 <= seal.sizeBytes; start += blockBytes) {
        if (signal.aborted) throw new StoreError('aborted', 'the comparison was aborted');
        const end = Math.min(start + blockBytes, old.sizeBytes);
        const sum = end > commonBytes ? undefined : sumOf(old, start / blockBytes);
        if (sum === undefined) {
          changedBytes += Math.min(end, commonBytes) - start;
          continue;
        }
        const now = await digestRange(handle, buffer, start, end);
        if (now === null) return null;
        if (now.equals(sum)) same.add(start, end);
        else changedBytes += end - start;
        noteSum(next, start, end, now);
      }
    } finally {
      await handle.close();
    }
    return (await seal.isIntact()) ? same : null;
  }

  /** What is sent must be here: the rest of a part of which only some bytes were changed. */
  private async fetch(ino: number, { start, end }: Range, signal: AbortSignal): Promise<void> {
    const source = this.filler.source(ino);
    if (source) await this.deps.reader.ensure(source, start, end, { signal });
  }

  private async demandBase(key: Key, source: CopySource, signal: AbortSignal): Promise<void> {
    if (source.key === key || source.versionId !== undefined) return;
    const head = await this.deps.store.head(source.key, { signal });
    if (head?.etag !== source.etag) throw new StoreError('precondition-failed', `"${source.key}" changed while parts of it were copied`);
  }
}

function bytesOf(parts: readonly PlannedPart[], isCopy: boolean): number {
  return parts.reduce((sum, part) => sum + (part.isCopy === isCopy ? part.end - part.start : 0), 0);
}

function noteSums(digests: BlockDigests, plan: readonly Range[], parts: readonly Part[]): void {
  for (const { number, sha256 } of parts) if (sha256 !== undefined) noteSum(digests, plan[number - 1]!.start, plan[number - 1]!.end, Buffer.from(sha256, 'hex'));
}

/** Not "not now": there are servers without UploadPartCopy, some want parts of equal size, and a policy may forbid reading what one may write. */
function isIncapable({ kind }: StoreError): boolean {
  return kind === 'invalid' || kind === 'access-denied' || kind === 'too-large';
}
