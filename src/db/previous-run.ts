/** How the previous daemon left the directory (S6). */
export interface PreviousRun {
  /** No database was here. */
  readonly first: boolean;
  /** It closed in order. */
  readonly clean: boolean;
  /** The machine has not been restarted since, so whatever was written is still in the page cache or on disk. */
  readonly sameBoot: boolean;
}

/** Then nobody knows what of the files that were being written reached the disk. */
export function wasPowerCut({ clean, sameBoot }: PreviousRun): boolean { return !clean && !sameBoot; }

/** '1' from the first start after a power cut until what it left is put right, be it by a later start. */
export const powerCutFact = 'power_cut';

interface Facts {
  fact(name: string): string | undefined;
  setFact(name: string, value: string): void;
}

/** In a transaction: this run is the one that runs. */
export function takeOver(facts: Facts, bootId: string): PreviousRun {
  const before = facts.fact('boot_id');
  const isOpen = facts.fact(powerCutFact) === '1';
  const previous = { first: before === undefined, clean: facts.fact('clean') === '1' && !isOpen, sameBoot: before === bootId && !isOpen };
  if (!previous.first && wasPowerCut(previous)) facts.setFact(powerCutFact, '1');
  facts.setFact('boot_id', bootId);
  facts.setFact('clean', '0');
  return previous;
}
