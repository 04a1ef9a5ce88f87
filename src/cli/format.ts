/** Numbers, times and tables as people read them. */

/** `0 B`, `1.5 KiB`, `20 GiB`: three significant digits at most. */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let scaled = value;
  while (scaled >= 1023.5 && unit < units.length - 1) {
    scaled /= 1024;
    unit++;
  }
  const digits = unit === 0 || scaled >= 99.95 ? 0 : scaled >= 9.995 ? 1 : 2;
  return `${trimZeros(scaled.toFixed(digits))} ${units[unit]}`;
}

/** `350 ms`, `12 s`, `3 m 20 s`, `5 h 2 m`, `4 d 3 h`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${trimZeros((ms / 1000).toFixed(1))} s`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return both(Math.floor(s / 60), 'm', s % 60, 's');
  if (s < 86_400) return both(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'm');
  return both(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3600), 'h');
}

export function ago(iso: string, nowMs: number): string {
  const ms = nowMs - Date.parse(iso);
  return ms < 1000 ? 'just now' : `${duration(ms)} ago`;
}

/** `950 µs`, `12 ms`, `1.2 s`. */
export function micros(us: number): string {
  return us < 1000 ? `${Math.round(us)} µs` : us < 10_000 ? `${trimZeros((us / 1000).toFixed(1))} ms` : duration(us / 1000);
}

/** `1 file`, `2,345 files`. */
export function count(value: number, one: string, many = `${one}s`): string {
  return `${integer(value)} ${value === 1 ? one : many}`;
}

export function integer(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ',');
}

export function percent(fraction: number): string {
  return `${trimZeros((fraction * 100).toFixed(1))} %`;
}

/** File names may hold anything; a terminal must not: control characters are shown escaped. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (char) => (char === '\n' ? '\\n' : char === '\t' ? '\\t' : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`));
}

/** `name   value` lines, values aligned. Values that are undefined are left out. */
export function pairs(rows: readonly (readonly [string, string | undefined])[]): string {
  const shown = rows.filter((row): row is readonly [string, string] => row[1] !== undefined);
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('');
}

/** Columns aligned, numbers (columns whose header starts with `>`) to the right. Nothing but a header for no rows. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const right = header.map((title) => title.startsWith('>'));
  const lines = [header.map((title) => title.replace(/^>/, '')), ...rows];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map((line) => `${line.map((cell, column) => (right[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('  ').trimEnd()}\n`)
    .join('');
}

function both(a: number, unitA: string, b: number, unitB: string): string {
  return b === 0 ? `${a} ${unitA}` : `${a} ${unitA} ${b} ${unitB}`;
}

function trimZeros(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}
