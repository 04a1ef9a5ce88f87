import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MalformedResponse, ResponseParser } from './response-parser.js';

interface Answer { status: number; headers: Record<string, string>; body: string; reusable?: boolean }

/** Feeds `text` cut at `cuts`, as the answers to requests of these methods. */
function parse(text: string, methods: readonly string[] = ['GET'], cuts: readonly number[] = [], close = false): Answer[] {
  const answers: Answer[] = [];
  let current: Answer | undefined;
  const parser = new ResponseParser({
    head: (status, headers) => answers.push((current = { status, headers, body: '' })),
    body: (chunk) => { current!.body += chunk.toString('latin1'); },
    end: (reusable) => { current!.reusable = reusable; },
  });
  const left = [...methods];
  const bytes = Buffer.from(text, 'latin1');
  const ends = [...new Set([...cuts.filter((at) => at > 0 && at < bytes.length), bytes.length])].sort((a, b) => a - b);
  let from = 0;
  for (const end of ends) {
    if (parser.isIdle && left.length > 0) parser.expect(left.shift()!);
    parser.feed(Buffer.from(bytes.subarray(from, end)));
    from = end;
  }
  if (close && !parser.closed()) throw new Error('the end is missing');
  return answers;
}

describe('answers', () => {
  test('with a length, chunked, and up to the end of the connection', () => {
    expect(parse('HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nETag: "e"\r\n\r\nhello')).toEqual([
      { status: 206, headers: { 'content-length': '5', etag: '"e"' }, body: 'hello', reusable: true },
    ]);
    expect(parse('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n')[0]).toMatchObject({ body: 'abc0123456789', reusable: true });
    expect(parse('HTTP/1.1 200 OK\r\n\r\nall that comes', ['GET'], [], true)[0]).toMatchObject({ body: 'all that comes', reusable: false });
    expect(parse('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')[0]).toMatchObject({ body: '', reusable: true });
  });

  test('to HEAD, 204 and 304 have no body, whatever their headers say', () => {
    expect(parse('HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n', ['HEAD'])[0]).toMatchObject({ status: 200, reusable: true });
    expect(parse('HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n')[0]).toMatchObject({ status: 304, reusable: true });
    expect(parse('HTTP/1.1 204 No Content\r\n\r\n')[0]).toMatchObject({ status: 204, reusable: true });
  });

  test('that are only informational are skipped', () => {
    expect(parse('HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx')).toMatchObject([{ status: 200, body: 'x' }]);
  });

  test('say whether the connection can be used again', () => {
    expect(parse('HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\nx')[0]!.reusable).toBe(false);
    expect(parse('HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx')[0]!.reusable).toBe(false);
    expect(parse('HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx')[0]!.reusable).toBe(true);
  });

  test('are the same wherever the bytes are cut', () => {
    const first = 'HTTP/1.1 206 Partial Content\r\nContent-Length: 12\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello\r\n\r\nend';
    const second = 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n11\r\n0123456789abcdef!\r\n0\r\n\r\n';
    const whole = [...parse(first), ...parse(second)];
    fc.assert(fc.property(fc.array(fc.nat(first.length + second.length), { maxLength: 30 }), (cuts) => {
      // the second answer comes to a request of its own, so never in the bytes that end the first
      expect(parse(first + second, ['GET', 'GET'], [...cuts, first.length])).toEqual(whole);
    }));
  });
});

describe('what is refused', () => {
  test.each([
    ['no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['another version', 'HTTP/2.0 200 OK\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd'],
    ['a length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'],
    ['an unknown coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n'],
    ['a folded header', 'HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\n\r\n'],
    ['a header without a name', 'HTTP/1.1 200 OK\r\n: 1\r\n\r\n'],
    ['a chunk longer than it said', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n'],
    ['a chunk length that is none', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n'],
    ['more than was asked for', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n'],
    ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
    ['headers without end', `HTTP/1.1 200 OK\r\n${'X-A: 1\r\n'.repeat(9000)}`],
    ['a line without end', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;${'x'.repeat(9000)}`],
  ])('%s', (_what, text) => {
    expect(() => parse(text)).toThrow(MalformedResponse);
    expect(() => parse(text, ['GET'], Array.from({ length: 40 }, (_, i) => i * 7))).toThrow(MalformedResponse);
  });

  test('an end of the connection inside an answer is not its end', () => {
    expect(() => parse('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab', ['GET'], [], true)).toThrow('the end is missing');
    expect(() => parse('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n', ['GET'], [], true)).toThrow('the end is missing');
    expect(() => parse('HTTP/1.1 200 OK\r\nX-A', ['GET'], [], true)).toThrow('the end is missing');
  });
});
