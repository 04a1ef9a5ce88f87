import { shardCount } from './content-dir.js';

/** So many files made one after the other get their names in one directory: one sync makes them all durable. */
export const idsPerShard = 64;
const round = shardCount * idsPerShard;

/**
 * Ids of content files (J3: never used twice): the n-th number of a sequence, its digits in another order, so that the last part, which is the directory,
 * changes every `idsPerShard` files only. Each run begins a round of its own.
 */
export class ContentIds {
  private readonly nextNumber: () => number;
  private readonly first: number;

  /** @param reserve a sequence that ascends, also over restarts, and in each run begins at a multiple of what is asked for. */
  constructor(reserve: (multiple: number) => () => number) {
    this.nextNumber = reserve(round);
    this.first = this.nextNumber();
  }

  next(): number {
    const number = this.nextNumber();
    const inRound = number % round;
    return number - inRound + (inRound % idsPerShard) * shardCount + Math.floor(inRound / idsPerShard);
  }

  isOfEarlierRun(id: number): boolean { return id < this.first; }
}
