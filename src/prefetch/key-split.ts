/**
 * Where to cut a range of keys so that several listings share it. A cut is a guess: ranges that meet at any string cover
 * every key, so a bad guess costs one empty answer and never a key. Guesses look at the kind of character (digits count on to 9,
 * letters to z) because names in one directory are mostly numbers, dates or hashes.
 *
 * Keys are compared by their UTF-8 bytes, as S3 orders them.
 */
const digits = '0123456789';
const kinds = [digits, 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'];
const probesMax = 24;
const wide = /[\ud800-\uffff]/;

export function compareKeys(a: string, b: string): number {
  if (wide.test(a) || wide.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Questions (start-after, one key) that find out where names still vary beyond `name`: the answer to the first of them that has
 * one says that nothing greater differs further to the left. @returns `[position, start-after]`, from the left.
 */
export function probesBeyond(name: string): [position: number, after: string][] {
  const probes: [number, string][] = [];
  for (let position = 0; position < name.length && probes.length < probesMax; position++) {
    const code = name.charCodeAt(position);
    if (code < 0x7e) probes.push([position, name.slice(0, position) + String.fromCharCode(code + 1)]);
  }
  return probes;
}

/** An upper bound for guesses: as far as the character at `position` can be expected to count. */
export function expectedEnd(name: string, position: number): string {
  const kind = kindOf(name[position]);
  return name.slice(0, position) + (kind === undefined ? '~' : String.fromCharCode(kind.charCodeAt(kind.length - 1) + 1));
}

/** A string strictly between, about in the middle of the names to be expected there; undefined if there is no good one. */
export function keyBetween(low: string, high: string): string | undefined {
  let at = 0;
  while (at < low.length && low[at] === high[at]) at++;
  const kind = kindOf(low[at]) ?? kindOf(high[at]);
  if (kind === undefined) return undefined;
  const next = kindOf(low[at + 1]) ?? kindOf(high[at + 1]) ?? digits;
  const from = place(kind, low[at]) + fraction(next, low[at + 1]);
  const to = place(kind, high[at]) + fraction(next, high[at + 1]);
  const middle = (from + to) / 2;
  const index = Math.floor(middle);
  const first = kind[index];
  if (first === undefined) return undefined;
  const cut = low.slice(0, at) + first + next[Math.floor((middle - index) * next.length)]!;
  return compareKeys(low, cut) < 0 && compareKeys(cut, high) < 0 ? cut : undefined;
}

function kindOf(char: string | undefined): string | undefined {
  return char === undefined ? undefined : kinds.find((kind) => kind.includes(char));
}

/** Place among the characters of the kind; what is no such character lies before or after them all. */
function place(kind: string, char: string | undefined): number {
  if (char === undefined || char < kind[0]!) return 0;
  const index = kind.indexOf(char);
  return index < 0 ? kind.length : index;
}

function fraction(kind: string, char: string | undefined): number {
  return char === undefined ? 0 : place(kind, char) / kind.length;
}
