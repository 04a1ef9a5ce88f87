/**
 * HTTP/1.1 answers out of the bytes of one connection, wherever those are cut (RFC 9112). Bodies are handed on as slices of what was fed in,
 * never copied or kept. Strict where leniency would put the wrong bytes into a file: two lengths, folded headers, and anything that is
 * not HTTP are errors.
 */
export interface ResponseEvents {
  /** Also for HEAD. Informational answers (1xx) are skipped. */
  head(status: number, headers: Record<string, string>): void;
  /** A part of the body, borrowed until it returns. */
  body(chunk: Buffer): void;
  /** @param reusable the connection can carry another request. */
  end(reusable: boolean): void;
}

export class MalformedResponse extends Error {
  override readonly name = 'MalformedResponse';
}

type State = 'idle' | 'head' | 'length' | 'chunk-size' | 'chunk-data' | 'chunk-crlf' | 'trailer' | 'until-close';

const headBytesMax = 64 << 10;
const lineBytesMax = 8 << 10;
const carriageReturn = 13;
const lineFeed = 10;
const headEnd = Buffer.from('\r\n\r\n');

export class ResponseParser {
  private state: State = 'idle';
  private isHead = false;
  private left = 0;
  /** The start of a head or line that goes on in the next bytes; a copy. */
  private partial: Buffer | undefined;
  private reusable = true;

  constructor(private readonly events: ResponseEvents) {}

  /** Between answers. */
  get isIdle(): boolean { return this.state === 'idle'; }

  /** A request left: the next bytes are its answer. */
  expect(method: string): void {
    this.state = 'head';
    this.isHead = method === 'HEAD';
    this.reusable = true;
  }

  /** @throws MalformedResponse; the connection is of no use any more. */
  feed(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      switch (this.state) {
        case 'idle': throw new MalformedResponse('bytes that nobody asked for');
        case 'head': at = this.readHead(bytes, at); break;
        case 'length': case 'chunk-data': at = this.readBody(bytes, at); break;
        case 'until-close':
          this.events.body(at === 0 ? bytes : bytes.subarray(at));
          return;
        case 'chunk-size': at = this.readLine(bytes, at, this.onChunkSize); break;
        case 'chunk-crlf': at = this.readLine(bytes, at, this.onChunkEnd); break;
        case 'trailer': at = this.readLine(bytes, at, this.onTrailer); break;
        default: this.state satisfies never;
      }
    }
  }

  /** The server closed the connection. @returns whether that is how the answer ends. */
  closed(): boolean {
    if (this.state !== 'until-close') return false;
    this.finish();
    return true;
  }

  private readHead(bytes: Buffer, from: number): number {
    const kept = this.partial?.length ?? 0;
    const all = this.partial ? Buffer.concat([this.partial, bytes.subarray(from)]) : from === 0 ? bytes : bytes.subarray(from);
    const end = all.indexOf(headEnd);
    if (end > headBytesMax || (end < 0 && all.length > headBytesMax)) throw new MalformedResponse(`headers of more than ${headBytesMax} bytes`);
    if (end < 0) {
      this.partial = this.partial ? all : Buffer.from(all);
      return bytes.length;
    }
    this.partial = undefined;
    this.onHead(all.toString('latin1', 0, end));
    return from + end + headEnd.length - kept;
  }

  private onHead(text: string): void {
    const [first = '', ...lines] = text.split('\r\n');
    const status = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(first);
    if (!status) throw new MalformedResponse(`"${first.slice(0, 80)}" is no status line of HTTP/1.1`);
    const code = Number(status[2]);
    const headers = parseHeaders(lines);
    if (code >= 100 && code < 200) {
      if (code === 101) throw new MalformedResponse('a change of protocols that nobody asked for');
      return; // informational: the answer follows
    }
    const connection = headers['connection']?.toLowerCase() ?? '';
    this.reusable = status[1] === '1' ? !/\bclose\b/.test(connection) : /\bkeep-alive\b/.test(connection);
    const coding = headers['transfer-encoding']?.toLowerCase();
    const length = headers['content-length'];
    if (length !== undefined && !/^\d{1,15}$/.test(length)) throw new MalformedResponse(`Content-Length "${length}"`);
    if (this.isHead || code === 204 || code === 304) this.state = 'idle';
    else if (coding !== undefined) {
      if (length !== undefined) throw new MalformedResponse('both Content-Length and Transfer-Encoding');
      if (coding !== 'chunked') throw new MalformedResponse(`Transfer-Encoding "${coding}"`);
      this.state = 'chunk-size';
    } else if (length !== undefined) {
      this.left = Number(length);
      this.state = this.left === 0 ? 'idle' : 'length';
    } else {
      this.state = 'until-close';
      this.reusable = false;
    }
    this.events.head(code, headers);
    if (this.state === 'idle') this.finish();
  }

  private readBody(bytes: Buffer, from: number): number {
    const end = Math.min(bytes.length, from + this.left);
    this.left -= end - from;
    this.events.body(from === 0 && end === bytes.length ? bytes : bytes.subarray(from, end));
    if (this.left === 0) {
      if (this.state === 'length') this.finish();
      else this.state = 'chunk-crlf';
    }
    return end;
  }

  private readLine(bytes: Buffer, from: number, use: (line: string) => void): number {
    const end = bytes.indexOf(lineFeed, from);
    const piece = bytes.subarray(from, end < 0 ? bytes.length : end + 1);
    const line = this.partial ? Buffer.concat([this.partial, piece]) : piece;
    if (line.length > lineBytesMax) throw new MalformedResponse(`a line of more than ${lineBytesMax} bytes`);
    if (end < 0) {
      this.partial = this.partial ? line : Buffer.from(line);
      return bytes.length;
    }
    this.partial = undefined;
    if (line[line.length - 2] !== carriageReturn) throw new MalformedResponse('a line that does not end in CR LF');
    use(line.toString('latin1', 0, line.length - 2));
    return end + 1;
  }

  private readonly onChunkSize = (line: string): void => {
    const size = /^([0-9a-fA-F]{1,12})[ \t]*(?:;|$)/.exec(line)?.[1];
    if (size === undefined) throw new MalformedResponse(`"${line.slice(0, 80)}" is no length of a chunk`);
    this.left = parseInt(size, 16);
    this.state = this.left === 0 ? 'trailer' : 'chunk-data';
  };

  private readonly onChunkEnd = (line: string): void => {
    if (line !== '') throw new MalformedResponse('a chunk longer than it said');
    this.state = 'chunk-size';
  };

  private readonly onTrailer = (line: string): void => {
    if (line === '') this.finish();
  };

  private finish(): void {
    this.state = 'idle';
    this.events.end(this.reusable);
  }
}

function parseHeaders(lines: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (colon < 1 || !/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name)) throw new MalformedResponse(`"${line.slice(0, 80)}" is no header`);
    const value = line.slice(colon + 1).trim();
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else if (name === 'content-length') {
      if (before !== value) throw new MalformedResponse(`Content-Length ${before} and ${value}`);
    } else headers[name] = `${before}, ${value}`;
  }
  return headers;
}
