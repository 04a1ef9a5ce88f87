import type { Journal } from '../journal/journal.js';
import type { Key } from '../s3/object-store.js';

/** A question to S3 under way: remembers every key that changed here, or whose upload was acknowledged, since it was asked (J7). */
export interface ActiveListing {
  touched(key: Key): boolean;
  /** Any key strictly below the prefix: a directory is there as long as something in it is. */
  touchedUnder(prefix: Key): boolean;
  end(): void;
}

/** All listings and HEADs under way. Bounded by the requests in flight; each forgets at its end. */
export class ActiveListings {
  private readonly active = new Set<Set<Key>>();

  constructor(journal: Pick<Journal, 'onTouched'>) {
    journal.onTouched((key) => {
      for (const touched of this.active) touched.add(key);
    });
  }

  start(): ActiveListing {
    const touched = new Set<Key>();
    this.active.add(touched);
    return {
      touched: (key) => touched.has(key),
      touchedUnder: (prefix) => {
        for (const key of touched) if (key.length > prefix.length && key.startsWith(prefix)) return true;
        return false;
      },
      end: () => void this.active.delete(touched),
    };
  }
}
