/**
 * File names are bytes to Linux and UTF-8 text to S3. Inside hearthfs a name is a JavaScript string that is valid Unicode and
 * maps one to one to bytes: bytes that are valid UTF-8 are that text; every other byte 0x80..0xff is the code point
 * U+10FF00 + (byte - 0x80), from the last private plane. A name that really contains such a code point has its bytes mapped
 * the same way, so the mapping is reversible in both directions. So has one that contains the next code point, U+10FF80: no name does,
 * and keys may use it to say that what follows is no name as it stands (`s3/long-keys`).
 */
const escapeBase = 0x10ff00;

/** Never in a name. */
export const noNameMark = '\u{10ff80}';

export const nameBytesMax = 255;

export function nameFromBytes(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = buffer.toString('utf8');
  if (!text.includes('\ufffd') && !hasReserved(text)) return text;
  return decodeSlowly(buffer);
}

export function nameToBytes(name: string): Buffer {
  if (!hasReserved(name)) return Buffer.from(name, 'utf8');
  const parts: Buffer[] = [];
  for (const char of name) {
    const code = char.codePointAt(0)!;
    parts.push(isEscape(code) ? Buffer.from([code - escapeBase + 0x80]) : Buffer.from(char, 'utf8'));
  }
  return Buffer.concat(parts);
}

/** False for text that no file name becomes: it would come back as another. */
export function isNameText(text: string): boolean {
  return !hasReserved(text) || nameFromBytes(nameToBytes(text)) === text;
}

function isEscape(code: number): boolean {
  return code >= escapeBase && code < escapeBase + 0x80;
}

/** An escape, or the mark after them. */
function isReserved(code: number): boolean {
  return code >= escapeBase && code <= escapeBase + 0x80;
}

function hasReserved(text: string): boolean {
  // U+10FF00..U+10FF80 are the surrogate pairs DBFF DF00..DF80
  const at = text.indexOf('\udbff');
  if (at < 0) return false;
  for (const char of text) if (isReserved(char.codePointAt(0)!)) return true;
  return false;
}

function decodeSlowly(bytes: Buffer): string {
  let text = '';
  let at = 0;
  while (at < bytes.length) {
    const length = sequenceLength(bytes, at);
    const char = length === 0 ? '' : bytes.toString('utf8', at, at + length);
    if (length === 0 || isReserved(char.codePointAt(0)!)) {
      for (let i = 0; i < Math.max(1, length); i++) {
        const byte = bytes[at + i]!;
        text += byte < 0x80 ? String.fromCharCode(byte) : String.fromCodePoint(escapeBase + byte - 0x80);
      }
      at += Math.max(1, length);
    } else {
      text += char;
      at += length;
    }
  }
  return text;
}

/** Length of the valid UTF-8 sequence at `at`, 0 if there is none. */
function sequenceLength(bytes: Buffer, at: number): number {
  const first = bytes[at]!;
  if (first < 0x80) return 1;
  const length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xc2 && first < 0xe0 ? 2 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  const text = bytes.toString('utf8', at, at + length);
  return text.includes('\ufffd') && !bytes.subarray(at, at + length).equals(Buffer.from('\ufffd')) ? 0 : Buffer.byteLength(text) === length && [...text].length === 1 ? length : 0;
}
