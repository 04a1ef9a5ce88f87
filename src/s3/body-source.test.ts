import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openBody, PartBuffers } from './body-source.js';

test('a buffer that was given back serves the next part, whole again after a short one', () => {
  const buffers = new PartBuffers();
  const first = buffers.take(100);
  buffers.give(first);
  const short = buffers.take(40);
  expect(short).toHaveLength(40);
  expect(short.buffer).toBe(first.buffer);
  buffers.give(short);
  expect(buffers.take(100).buffer).toBe(first.buffer);
});

test('a part in flight keeps its buffer, and no more are kept for later than one thread sends at once', () => {
  const buffers = new PartBuffers(() => ({ refresh: () => undefined }));
  const taken = Array.from({ length: 20 }, () => buffers.take(10));
  expect(new Set(taken.map(({ buffer }) => buffer)).size).toBe(20);
  for (const buffer of taken) buffers.give(buffer);
  const again = new Set(Array.from({ length: 20 }, () => buffers.take(10).buffer));
  expect(taken.filter(({ buffer }) => again.has(buffer))).toHaveLength(12);
  expect(buffers.take(20)).toHaveLength(20);
});

test('some time after the last part nothing is kept', () => {
  const timers: { run: () => void; refreshed: number }[] = [];
  const buffers = new PartBuffers((run) => {
    const timer = { run, refreshed: 0 };
    timers.push(timer);
    return { refresh: () => timer.refreshed++ };
  });
  const first = buffers.take(10);
  buffers.give(first);
  expect(buffers.take(10).buffer).toBe(first.buffer);
  buffers.give(first);
  expect(timers).toMatchObject([{ refreshed: 1 }]);
  timers[0]!.run();
  expect(buffers.take(10).buffer).not.toBe(first.buffer);
  buffers.give(first);
  expect(timers).toMatchObject([{ refreshed: 2 }]); // armed again
});

test('a body in a used buffer is the range of the file and nothing else', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'hearthfs-body-'));
  try {
    writeFileSync(join(dir, 'f'), '0123456789');
    const buffers = new PartBuffers();
    buffers.give(Buffer.from(new ArrayBuffer(8)).fill('x'));
    const body = await openBody({ kind: 'file', path: join(dir, 'f'), start: 2, end: 6 }, buffers);
    expect(Buffer.from(body as Uint8Array).toString()).toBe('2345');
  } finally {
    rmSync(dir, { recursive: true });
  }
});
