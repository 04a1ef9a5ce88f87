/**
 * The nonce in an object's metadata (J2): `<stem>.<ino>.<gen>.<mgen>`, numbers in base 36. The stem names a series of attempts at one key:
 * it is drawn anew unless an earlier request of the series may still arrive (J6), so a late arrival is recognised by its stem, and what it
 * brought by the rest.
 */
export interface Nonce { readonly stem: string; readonly ino: number; readonly gen: number; readonly mgen: number }

export function newStem(random: () => number): string {
  const word = (): string => Math.floor(random() * 2 ** 40).toString(36).padStart(8, '0');
  return word() + word();
}

export function formatNonce({ stem, ino, gen, mgen }: Nonce): string {
  return [stem, ino.toString(36), gen.toString(36), mgen.toString(36)].join('.');
}

/** undefined for anything else, another program's value included. */
export function parseNonce(text: string | undefined): Nonce | undefined {
  const match = /^([0-9a-z]+)\.([0-9a-z]{1,11})\.([0-9a-z]{1,11})\.([0-9a-z]{1,11})$/.exec(text ?? '');
  if (!match) return undefined;
  const [ino, gen, mgen] = [match[2]!, match[3]!, match[4]!].map((digits) => Number.parseInt(digits, 36));
  return { stem: match[1]!, ino: ino!, gen: gen!, mgen: mgen! };
}
