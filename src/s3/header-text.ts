/**
 * Text in HTTP header values. S3 takes ASCII; what is not ASCII travels as an RFC 2047 encoded word, which is also how AWS
 * itself answers with metadata that some client stored as raw UTF-8. Values hearthfs makes are ASCII; this is for carrying
 * foreign ones through rewrites (J12) without crashing and without changing what they mean.
 */
const plain = /^[\x20-\x7e]*$/;
const encodedWord = /=\?([\w-]+)\?([BbQq])\?([^?]*)\?=/g;

export function encodeHeaderText(value: string): string {
  if (plain.test(value) && value.trim() === value) return value;
  return `=?UTF-8?B?${Buffer.from(value, 'utf8').toString('base64')}?=`;
}

/** From what node:http hands over: one char per byte (latin1), which may be raw UTF-8 bytes or encoded words. */
export function decodeHeaderText(raw: string): string {
  if (plain.test(raw)) return raw.includes('=?') ? decodeWords(raw) : raw;
  const bytes = Buffer.from(raw, 'latin1');
  const text = bytes.toString('utf8');
  return decodeWords(text.includes('\ufffd') ? raw : text);
}

function decodeWords(text: string): string {
  // white space between two encoded words is not part of the text
  return text.replace(/(\?=)\s+(=\?)/g, '$1$2').replace(encodedWord, (word: string, charset: string, kind: string, body: string) => {
    const bytes = kind.toUpperCase() === 'B' ? Buffer.from(body, 'base64') : decodeQuoted(body);
    switch (charset.toLowerCase()) {
      case 'utf-8': case 'utf8': return bytes.toString('utf8');
      case 'us-ascii': case 'iso-8859-1': return bytes.toString('latin1');
      default: return word;
    }
  });
}

function decodeQuoted(body: string): Buffer {
  const text = body.replace(/_/g, ' ').replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(text, 'latin1');
}
