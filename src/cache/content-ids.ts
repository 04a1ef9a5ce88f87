import { shardCount } from './content-dir.js';

/** So many files made one after the other get their names in one directory: one sync makes them all durable. */
export const idsPerShard = 64;
const round = shardCount * idsPerShard;

/** Ids of content files (J3: never used twice): the n-th number of a sequence as an id whose last part, which is its directory, changes every `idsPerShard`. */
export class ContentIds {
  private readonly first: number;

  /** @param nextNumber ascending, also over restarts. */
  constructor(private readonly nextNumber: () => number) {
    this.first = nextNumber();
  }

  next(): number {
    return idOf(this.nextNumber());
  }

  /** Made before this process began. */
  isOfEarlierRun(id: number): boolean {
    return numberOf(id) < this.first;
  }
}

function idOf(number: number): number {
  const inRound = number % round;
  return number - inRound + (inRound % idsPerShard) * shardCount + Math.floor(inRound / idsPerShard);
}

function numberOf(id: number): number {
  const inRound = id % round;
  return id - inRound + (inRound % shardCount) * idsPerShard + Math.floor(inRound / shardCount);
}
