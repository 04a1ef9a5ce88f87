/**
 * The content files in memory. An id is one object for as long as anybody has it: two of them would each have a presence of their own.
 * The most recently used ones live beyond their users, so that their presence need not be decoded again.
 */
import { LRUCache } from 'lru-cache';
import type { ContentFile } from './content-file.js';

const recentMax = 4096;

export class Handles {
  private readonly refs = new Map<number, WeakRef<ContentFile>>();
  private readonly recent = new LRUCache<number, ContentFile>({ max: recentMax });
  private readonly collected = new FinalizationRegistry<number>((id) => {
    if (this.refs.get(id)?.deref() === undefined) this.refs.delete(id);
  });

  /** Counts as a use. */
  get(id: number): ContentFile | undefined {
    return this.recent.get(id) ?? this.peek(id);
  }

  peek(id: number): ContentFile | undefined {
    return this.refs.get(id)?.deref();
  }

  add(file: ContentFile): void {
    this.refs.set(file.id, new WeakRef(file));
    this.collected.register(file, file.id);
    this.recent.set(file.id, file);
  }

  forget(id: number): void {
    this.refs.delete(id);
    this.recent.delete(id);
  }

  /** The file is removed: who has it still finds it, and finds it removed, not new. Nobody else keeps it. */
  left(file: ContentFile): void {
    this.refs.set(file.id, new WeakRef(file));
    this.recent.delete(file.id);
  }
}
