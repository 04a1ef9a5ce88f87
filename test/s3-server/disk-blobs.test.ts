import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { BlobStore } from './blob-store.js';
import { readSegments } from './blob-store.js';
import { DiskBlobs } from './disk-blobs.js';
import { MemoryBlobs } from './memory-blobs.js';

let directory: string;
beforeEach(() => { directory = fs.mkdtempSync(join(tmpdir(), 's3-blobs-')); });
afterEach(() => fs.rmSync(directory, { recursive: true }));

async function store(blobs: BlobStore, pieces: readonly Buffer[], sizeBytes?: number): Promise<number> {
  const writer = blobs.create(sizeBytes);
  for (const piece of pieces) await writer.write(piece);
  return writer.finish();
}

async function load(blobs: BlobStore, id: number, start: number, length: number): Promise<Buffer> {
  const out: Buffer[] = [];
  for await (const bytes of readSegments(blobs, [{ blob: id, start, length }])) out.push(bytes);
  return Buffer.concat(out);
}

function opened(): DiskBlobs {
  const blobs = new DiskBlobs(directory);
  blobs.sweep();
  return blobs;
}

describe.each([['memory', () => new MemoryBlobs()], ['disk', opened]] as const)('blobs in %s', (_name, make) => {
  test.each([[0], [1], [65_536], [1 << 20], [(1 << 20) + 1], [9_000_001]])('%i bytes come back as they were, in whole and in part', async (size) => {
    const blobs = make();
    const content = Buffer.alloc(size);
    for (let i = 0; i < size; i += 7) content[i] = i;
    content.subarray(70_000, 600_000).fill(0);
    const pieces: Buffer[] = [];
    for (let at = 0; at < size; at += 65_521) pieces.push(content.subarray(at, at + 65_521));
    for (const announced of [size, undefined]) {
      const id = await store(blobs, pieces, announced);
      expect((await load(blobs, id, 0, size)).equals(content)).toBe(true);
      const middle = size >> 1;
      expect((await load(blobs, id, middle, size - middle)).equals(content.subarray(middle))).toBe(true);
    }
  });

  test('a reader keeps its bytes when the last reference goes', async () => {
    const blobs = make();
    const id = await store(blobs, [Buffer.from('old')]);
    const reader = blobs.open(id);
    blobs.release(id);
    expect((await reader.read(0, 3)).toString()).toBe('old');
    reader.close();
    expect(() => blobs.open(id)).toThrow();
  });
});

describe('blobs on disk', () => {
  test('zeros take no space', async () => {
    const blobs = opened();
    const zeros = Buffer.alloc(1 << 20);
    const id = await store(blobs, [...Array<Buffer>(64).fill(zeros), Buffer.from('end')]);
    const file = join(directory, 'blobs', id.toString(16).padStart(2, '0'), String(id));
    expect(fs.statSync(file).size).toBe((64 << 20) + 3);
    expect(fs.statSync(file).blocks * 512).toBeLessThan(256 << 10);
  });

  test('what nobody references after a restart is swept, and ids are not used again', async () => {
    const first = opened();
    const kept = await store(first, [Buffer.from('kept')]);
    const lost = await store(first, [Buffer.from('lost')]);
    const second = new DiskBlobs(directory);
    second.retain(kept);
    second.sweep();
    expect((await load(second, kept, 0, 4)).toString()).toBe('kept');
    expect(() => second.open(lost)).toThrow();
    expect(await store(second, [Buffer.from('new')])).toBeGreaterThan(lost);
  });

  test('an aborted write leaves no file', async () => {
    const blobs = opened();
    const writer = blobs.create();
    await writer.write(Buffer.alloc(3 << 20, 1));
    writer.abort();
    await expect.poll(() => fs.readdirSync(join(directory, 'blobs'), { recursive: true }).filter((name) => /\/\d+$/.test(String(name)))).toEqual([]);
  });
});
