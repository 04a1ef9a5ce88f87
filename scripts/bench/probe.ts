/**
 * The program that touches what is measured: a child of the benchmark, so that a hang is its alone. It times itself, so that its start does not count,
 * and prints one line of JSON. `node probe.js COMMAND ARGUMENTS`.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Random } from './dataset.js';

const [command = '', ...args] = process.argv.slice(2);
const MiB = 1 << 20;

function timed(work: () => void): number {
  const started = performance.now();
  work();
  return (performance.now() - started) / 1000;
}

/** Reads the whole file; `read.bytes` must be its size. */
function sequential(file: string): number {
  const buffer = Buffer.alloc(MiB);
  const fd = fs.openSync(file, 'r');
  let total = 0;
  for (;;) {
    const got = fs.readSync(fd, buffer, 0, buffer.length, null);
    if (got === 0) break;
    total += got;
  }
  fs.closeSync(fd);
  return total;
}

function sha256(file: string): string {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(MiB);
  const fd = fs.openSync(file, 'r');
  for (let got = fs.readSync(fd, buffer); got > 0; got = fs.readSync(fd, buffer)) hash.update(buffer.subarray(0, got));
  fs.closeSync(fd);
  return hash.digest('hex');
}

function randomOffsets(source: string, count: number, bytes: number): number[] {
  const numbers = new Random(count);
  const blocks = Math.floor(fs.statSync(source).size / bytes);
  return Array.from({ length: count }, () => numbers.between(0, blocks) * bytes);
}

/** @returns seconds; the first 200 reads are compared with the source. */
function random(file: string, source: string, count: number, bytes: number): number {
  const offsets = randomOffsets(source, count, bytes);
  const fd = fs.openSync(file, 'r');
  const original = fs.openSync(source, 'r');
  const wanted = Buffer.alloc(bytes);
  const buffer = Buffer.alloc(bytes);
  let seconds = 0;
  for (const offset of offsets.slice(0, 200)) {
    seconds += timed(() => fs.readSync(fd, buffer, 0, bytes, offset));
    fs.readSync(original, wanted, 0, bytes, offset);
    if (!buffer.equals(wanted)) throw new Error(`Wrong data at ${offset} of ${file}`);
  }
  const rest = offsets.slice(200);
  seconds += timed(() => { for (const offset of rest) fs.readSync(fd, buffer, 0, bytes, offset); });
  fs.closeSync(fd);
  return seconds;
}

/** Like `random`, but so many readers of one file at the same time, each with its own descriptor; compared when all are done. @returns seconds */
async function randomAtOnce(file: string, source: string, count: number, bytes: number, readers: number): Promise<number> {
  const left = randomOffsets(source, count, bytes);
  const handles = await Promise.all(Array.from({ length: readers }, () => fs.promises.open(file, 'r')));
  const started = performance.now();
  await Promise.all(handles.map(async (handle) => {
    const buffer = Buffer.alloc(bytes);
    for (let offset = left.pop(); offset !== undefined; offset = left.pop()) await handle.read(buffer, 0, bytes, offset);
  }));
  const seconds = (performance.now() - started) / 1000;
  await Promise.all(handles.map((handle) => handle.close()));
  random(file, source, count, bytes);
  return seconds;
}

/** Milliseconds to open and read each file, `count` of those in the directory, in no order that can be foreseen; another `seed` takes others. */
function scattered(dir: string, count: number, seed: number): number[] {
  const buffer = Buffer.alloc(MiB);
  const names = fs.readdirSync(dir).sort();
  const numbers = new Random(names.length);
  for (let i = names.length - 1; i > 0; i--) {
    const j = numbers.between(0, i + 1);
    [names[i], names[j]] = [names[j]!, names[i]!];
  }
  return names.slice(seed * count, (seed + 1) * count).map((name) => timed(() => {
    const fd = fs.openSync(path.join(dir, name), 'r');
    fs.readSync(fd, buffer);
    fs.closeSync(fd);
  }) * 1000);
}

/** From `source`, open to close; `flags` w: a new file, r+: over what is there. */
function write(file: string, source: string, flags: string): number {
  const from = fs.openSync(source, 'r');
  const size = fs.fstatSync(from).size;
  const pieces = Array.from({ length: Math.min(64, size / MiB) }, () => Buffer.alloc(MiB));
  let seconds = 0;
  let fd = -1;
  seconds += timed(() => { fd = fs.openSync(file, flags); });
  for (let at = 0; at < size; at += pieces.length * MiB) {
    pieces.forEach((piece, i) => fs.readSync(from, piece, 0, MiB, at + i * MiB));
    seconds += timed(() => pieces.forEach((piece, i) => fs.writeSync(fd, piece, 0, Math.min(MiB, size - at - i * MiB), at + i * MiB)));
  }
  seconds += timed(() => fs.closeSync(fd));
  return seconds;
}

/** Milliseconds of each fsync of a new 4 KiB file. */
function fsyncs(dir: string, count: number): number[] {
  const block = Buffer.alloc(4096, 1);
  return Array.from({ length: count }, (_, i) => {
    const fd = fs.openSync(path.join(dir, `sync-${i}`), 'w');
    fs.writeSync(fd, block);
    const ms = timed(() => fs.fsyncSync(fd)) * 1000;
    fs.closeSync(fd);
    return ms;
  });
}

/** Many readers, each its own file. */
async function streams(dir: string, names: readonly string[]): Promise<number> {
  const started = performance.now();
  await Promise.all(names.map(async (name) => {
    const handle = await fs.promises.open(path.join(dir, name), 'r');
    const buffer = Buffer.alloc(256 << 10);
    for (;;) if ((await handle.read(buffer, 0, buffer.length, null)).bytesRead === 0) break;
    await handle.close();
  }));
  return (performance.now() - started) / 1000;
}

/** Milliseconds of each `stat`, one after the other for so long, with pauses: what somebody notices. */
async function stats(dir: string, names: readonly string[], seconds: number): Promise<number[]> {
  const ms: number[] = [];
  for (const until = performance.now() + seconds * 1000; performance.now() < until; await new Promise((resolve) => setTimeout(resolve, 2))) {
    const name = path.join(dir, names[ms.length % names.length]!);
    ms.push(timed(() => fs.lstatSync(name)) * 1000);
  }
  return ms;
}

/** How long the kernel gets to tell the file system what it has forgotten, before what is asked for again is timed. */
const forgettingMs = 300;
/** Where the scheduler puts program and daemon, on one processor or on two, it mostly decides once per pass, and it is worth a factor of five (033). */
const passesMin = 9;

/**
 * `lstat` of all names, again and again for at least `seconds` of it, each time after the kernel has forgotten all of them. One pass says little: it takes less time than a
 * daemon needs to settle that was started a moment ago. Needs root. @returns seconds of each pass
 */
async function statsForgotten(dir: string, names: readonly string[], seconds: number): Promise<number[]> {
  const files = names.map((name) => path.join(dir, name));
  const passes: number[] = [];
  for (let total = 0; total < seconds || passes.length < passesMin; ) {
    fs.writeFileSync('/proc/sys/vm/drop_caches', '2');
    await new Promise((resolve) => setTimeout(resolve, forgettingMs));
    const pass = timed(() => { for (const file of files) fs.lstatSync(file); });
    passes.push(pass);
    total += pass;
  }
  return passes;
}

/** Each file is made, written, renamed and removed. */
function churn(dir: string, count: number): void {
  const block = Buffer.alloc(4096, 1);
  for (let i = 0; i < count; i++) {
    const [made, renamed] = [path.join(dir, `made-${i}`), path.join(dir, `renamed-${i}`)];
    fs.writeFileSync(made, block);
    fs.renameSync(made, renamed);
    fs.unlinkSync(renamed);
  }
}

async function main(): Promise<unknown> {
  const [first = '', second = '', third = '', fourth = '', fifth = ''] = args;
  switch (command) {
    case 'read': {
      let bytes = 0;
      const seconds = timed(() => { bytes = sequential(first); });
      return { seconds, bytes };
    }
    case 'sha256': return { sha256: sha256(first) };
    case 'random': return { seconds: random(first, second, Number(third), Number(fourth)) };
    case 'random-at-once': return { seconds: await randomAtOnce(first, second, Number(third), Number(fourth), Number(fifth)) };
    case 'scattered': return { ms: scattered(first, Number(second), Number(third)) };
    case 'write': return { seconds: write(first, second, 'w') };
    case 'overwrite': return { seconds: write(first, second, 'r+') };
    case 'fsync': return { ms: fsyncs(first, Number(second)) };
    case 'stat': {
      const names = fs.readFileSync(second, 'utf8').split('\n').map((name) => path.join(first, name));
      return { seconds: timed(() => { for (const name of names) fs.lstatSync(name); }), count: names.length };
    }
    case 'stats-forgotten': return { passes: await statsForgotten(first, fs.readFileSync(second, 'utf8').split('\n'), Number(third)) };
    case 'stats': return { ms: await stats(first, fs.readFileSync(second, 'utf8').split('\n'), Number(third)) };
    case 'churn': return { seconds: timed(() => churn(first, Number(second))) };
    case 'first-byte': {
      const buffer = Buffer.alloc(4096);
      const ms = fs.readdirSync(first).sort().map((name) => timed(() => {
        const fd = fs.openSync(path.join(first, name), 'r');
        fs.readSync(fd, buffer, 0, buffer.length, 0);
        fs.closeSync(fd);
      }) * 1000);
      return { ms };
    }
    case 'rename': return { seconds: timed(() => fs.renameSync(first, second)) };
    case 'list': {
      let count = 0;
      const seconds = timed(() => { count = fs.readdirSync(first).length; });
      return { seconds, count };
    }
    case 'streams': return { seconds: await streams(first, fs.readdirSync(first)) };
    default: throw new Error(`No command ${command}`);
  }
}

process.stdout.write(JSON.stringify(await main()));
