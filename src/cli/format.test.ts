import { describe, expect, it } from 'vitest';
import { ManualClock } from '../base/clock.js';
import { bytes, count, duration, micros, printable, table } from './format.js';
import { clockCheck, kernelCheck, requestTimeoutCheck } from './machine-checks.js';
import { ProgressBar } from './progress.js';

describe('format', () => {
  it.each([[0, '0 B'], [1023, '1023 B'], [1024, '1 KiB'], [1536, '1.5 KiB'], [1048575, '1 MiB'], [123456789, '118 MiB'], [20 * 2 ** 30, '20 GiB']])('bytes(%i) is %s', (value, text) => {
    expect(bytes(value)).toBe(text);
  });
  it.each([[0, '0 ms'], [999, '999 ms'], [1500, '1.5 s'], [59_600, '1 m'], [65_000, '1 m 5 s'], [7_320_000, '2 h 2 m'], [90_000_000, '1 d 1 h']])('duration(%i) is %s', (value, text) => {
    expect(duration(value)).toBe(text);
  });
  it('micros, counts and tables read well', () => {
    expect([micros(950), micros(1200), micros(2_500_000)]).toEqual(['950 µs', '1.2 ms', '2.5 s']);
    expect([count(1, 'file'), count(1234567, 'file')]).toEqual(['1 file', '1,234,567 files']);
    expect(table(['a', '>b'], [['x', '10'], ['long', '9']])).toBe('a      b\nx     10\nlong   9\n');
  });
  it('printable keeps a file name from driving the terminal', () => {
    expect(printable('a\x1b[2Jb\nc\tü')).toBe('a\\x1b[2Jb\\nc\\tü');
  });
});

describe('ProgressBar', () => {
  const p = (done: number) => ({ doneItems: done, totalItems: 10, doneBytes: done * 1024, totalBytes: 10240, current: 'x' });
  it('redraws one line on a terminal, not more than ten times a second, and takes it away at the end', () => {
    const clock = new ManualClock();
    const written: string[] = [];
    const bar = new ProgressBar('fetching', { write: (text) => void written.push(text), isTty: true, columns: 120 }, clock);
    for (let i = 1; i <= 10; i++) {
      bar.update(p(i));
      clock.advance(50);
    }
    bar.finish();
    expect(written).toHaveLength(6);
    expect(written[0]).toMatch(/^\rfetching {2}\[##\.+\] {2}10 % {2}1\/10 {2}1 KiB of 10 KiB/);
    expect(written.every((text) => text.startsWith('\r') && !text.includes('\n'))).toBe(true);
    expect(written.at(-1)).toMatch(/^\r +\r$/);
  });
  it('writes a plain line every ten seconds elsewhere, and nothing for a short command', () => {
    const clock = new ManualClock();
    const written: string[] = [];
    const bar = new ProgressBar('fetching', { write: (text) => void written.push(text), isTty: false, columns: 80 }, clock);
    bar.update(p(1));
    expect(written).toEqual([]);
    clock.advance(10_000);
    bar.update(p(5));
    bar.finish();
    expect(written).toEqual([expect.stringMatching(/^fetching .* 50 % .*\n$/)]);
  });
});

describe('machine checks', () => {
  it('name what an older kernel lacks', () => {
    expect(kernelCheck('6.18.1-generic').ok).toBe('ok');
    expect(kernelCheck('6.1.0')).toMatchObject({ ok: 'warn', detail: expect.stringContaining('passthrough') as string });
    expect(kernelCheck('4.19.0').ok).toBe('fail');
  });
  it('fail where the kernel would abort slow requests (K1)', () => {
    expect(requestTimeoutCheck(() => '0\n').ok).toBe('ok');
    expect(requestTimeoutCheck(() => undefined).ok).toBe('ok');
    expect(requestTimeoutCheck((file) => (file.endsWith('default_request_timeout') ? '20\n' : '0\n'))).toMatchObject({ ok: 'fail', advice: expect.stringContaining('sysctl fs.fuse.default_request_timeout=0') as string });
  });
  it('fail on a clock that S3 will refuse', () => {
    expect([clockCheck(100).ok, clockCheck(-120_000).ok, clockCheck(900_000).ok]).toEqual(['ok', 'warn', 'fail']);
  });
});
