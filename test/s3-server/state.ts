/**
 * Test and demo equipment, not product: buckets, object versions and uploads in memory, changed only by `commit`.
 *
 * Invariants: a commit is synchronous and all or nothing, so checking a condition and committing without an `await` between them is
 * atomic. Versions of a key are newest first, and a key without versions has no entry. Every segment of a version or part holds
 * one reference of its blob.
 */
import { releaseAll, retainAll, type BlobStore } from './blob-store.js';
import type { Journal } from './journal.js';
import type { Fact, ObjectVersion, Upload, UploadedPart } from './model.js';
import { SortedKeys, sortForm } from './sorted-keys.js';

export interface Entry { readonly sort: string; readonly key: string; readonly versions: ObjectVersion[] }

export interface Bucket {
  readonly name: string;
  readonly createdMs: number;
  readonly lock: boolean;
  /** Configurations by sub-resource name (`versioning`, `policy`, ...): the document as sent, or just the status for versioning. */
  readonly config: Map<string, string>;
  readonly entries: Map<string, Entry>;
  readonly sorted: SortedKeys<Entry>;
}

export interface OpenUpload { readonly upload: Upload; readonly parts: Map<number, UploadedPart> }

export class State {
  readonly buckets = new Map<string, Bucket>();
  readonly uploads = new Map<string, OpenUpload>();

  constructor(private readonly blobs: BlobStore, private readonly journal: Journal | undefined) {
    if (!journal) return;
    journal.replay((facts) => facts.forEach((fact) => this.apply(fact)));
    journal.start(this.snapshot());
  }

  commit(...facts: Fact[]): void {
    this.journal?.append(facts);
    for (const fact of facts) this.apply(fact);
  }

  /** The newest version, delete markers included. */
  latest(bucket: Bucket, key: string): ObjectVersion | undefined {
    return bucket.entries.get(key)?.versions[0];
  }
  /** The newest version unless it is a delete marker. */
  current(bucket: Bucket, key: string): ObjectVersion | undefined {
    const version = this.latest(bucket, key);
    return version?.deleteMarker ? undefined : version;
  }
  version(bucket: Bucket, key: string, id: string): ObjectVersion | undefined {
    return bucket.entries.get(key)?.versions.find((one) => one.id === id);
  }

  private apply(fact: Fact): void {
    switch (fact.t) {
      case 'bucket': {
        const bucket: Bucket = { name: fact.name, createdMs: fact.createdMs, lock: fact.lock, config: new Map(), entries: new Map(), sorted: new SortedKeys() };
        if (fact.lock) bucket.config.set('versioning', 'Enabled');
        this.buckets.set(fact.name, bucket);
        return;
      }
      case 'bucket-gone': {
        for (const open of [...this.uploads.values()]) if (open.upload.bucket === fact.name) this.dropUpload(open.upload.id);
        this.buckets.delete(fact.name);
        return;
      }
      case 'config':
        if (fact.value === null) this.bucket(fact.bucket).config.delete(fact.name);
        else this.bucket(fact.bucket).config.set(fact.name, fact.value);
        return;
      case 'version': {
        const bucket = this.bucket(fact.bucket);
        retainAll(this.blobs, fact.version.segments);
        const entry = bucket.entries.get(fact.version.key);
        if (!entry) {
          const fresh: Entry = { sort: sortForm(fact.version.key), key: fact.version.key, versions: [fact.version] };
          bucket.entries.set(fresh.key, fresh);
          bucket.sorted.add(fresh);
          return;
        }
        const same = entry.versions.findIndex((one) => one.id === fact.version.id);
        if (same >= 0) releaseAll(this.blobs, entry.versions.splice(same, 1)[0]!.segments);
        entry.versions.unshift(fact.version);
        return;
      }
      case 'version-gone': {
        const bucket = this.bucket(fact.bucket);
        const entry = bucket.entries.get(fact.key);
        const at = entry?.versions.findIndex((one) => one.id === fact.id) ?? -1;
        if (!entry || at < 0) return;
        releaseAll(this.blobs, entry.versions.splice(at, 1)[0]!.segments);
        if (entry.versions.length > 0) return;
        bucket.entries.delete(fact.key);
        bucket.sorted.delete(entry.sort);
        return;
      }
      case 'amend': {
        const versions = this.bucket(fact.bucket).entries.get(fact.version.key)?.versions ?? [];
        const at = versions.findIndex((one) => one.id === fact.version.id);
        if (at >= 0) versions[at] = fact.version;
        return;
      }
      case 'upload':
        this.uploads.set(fact.upload.id, { upload: fact.upload, parts: new Map() });
        return;
      case 'part': {
        const parts = this.uploads.get(fact.uploadId)?.parts;
        if (!parts) throw new Error(`Part of unknown upload ${fact.uploadId}`);
        retainAll(this.blobs, fact.part.segments);
        const old = parts.get(fact.part.number);
        if (old) releaseAll(this.blobs, old.segments);
        parts.set(fact.part.number, fact.part);
        return;
      }
      case 'upload-gone':
        this.dropUpload(fact.uploadId);
        return;
    }
  }

  private dropUpload(id: string): void {
    const open = this.uploads.get(id);
    if (!open) return;
    this.uploads.delete(id);
    for (const part of open.parts.values()) releaseAll(this.blobs, part.segments);
  }

  private bucket(name: string): Bucket {
    const bucket = this.buckets.get(name);
    if (!bucket) throw new Error(`Fact about unknown bucket ${name}`);
    return bucket;
  }

  private *snapshot(): Generator<Fact> {
    for (const bucket of this.buckets.values()) {
      yield { t: 'bucket', name: bucket.name, createdMs: bucket.createdMs, lock: bucket.lock };
      for (const [name, value] of bucket.config) yield { t: 'config', bucket: bucket.name, name, value };
      for (const entry of bucket.sorted) {
        for (const version of [...entry.versions].reverse()) yield { t: 'version', bucket: bucket.name, version };
      }
    }
    for (const { upload, parts } of this.uploads.values()) {
      yield { t: 'upload', upload };
      for (const part of parts.values()) yield { t: 'part', uploadId: upload.id, part };
    }
  }
}
