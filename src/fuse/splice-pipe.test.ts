import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { Errno } from '../base/errno.js';
import { readBytesMax } from './negotiate.js';
import { SplicePipe } from './splice-pipe.js';

const dir = fs.mkdtempSync(path.join(tmpdir(), 'hearthfs-splice-'));
const bytes = Buffer.from(Uint8Array.from({ length: readBytesMax + 8192 }, (_, i) => (i * 7 + (i >> 12)) & 0xff));
const header = Buffer.from('header: 16 bytes, and what follows is not of it');
fs.writeFileSync(path.join(dir, 'file'), bytes);
const file = fs.openSync(path.join(dir, 'file'), 'r');
/** Takes messages one after the other. */
let device: number;
let pipe: SplicePipe;

beforeEach(() => {
  device = fs.openSync(path.join(dir, 'device'), 'w+');
  pipe = new SplicePipe();
});
afterEach(() => {
  pipe.close();
  fs.closeSync(device);
});
afterAll(() => {
  fs.closeSync(file);
  fs.rmSync(dir, { recursive: true });
});

const arrived = (): Buffer => fs.readFileSync(path.join(dir, 'device'));
const message = (offset: number, length: number): Buffer => Buffer.concat([header.subarray(0, 16), bytes.subarray(offset, offset + length)]);
const openDescriptors = (): number => fs.readdirSync('/proc/self/fd').length;

test('the header arrives and then the bytes of the file, wherever in a page they begin and end', () => {
  expect(pipe.send(device, header, 16, file, 4096, 65536)).toBe(16 + 65536);
  expect(pipe.send(device, header, 16, file, 5000, 70_001)).toBe(16 + 70_001);
  expect(arrived().equals(Buffer.concat([message(4096, 65536), message(5000, 70_001)]))).toBe(true);
});

test('the longest READ fits into the pipe that everybody may have; what is longer is not begun', () => {
  expect(pipe.send(device, header, 16, file, 0, readBytesMax)).toBe(16 + readBytesMax);
  expect(pipe.send(device, header, 16, file, 0, readBytesMax + 1)).toBeUndefined();
  expect(pipe.send(device, header, 16, file, 1, readBytesMax)).toBeUndefined();
  expect(arrived().equals(message(0, readBytesMax))).toBe(true);
});

test('of a file that has become shorter nothing is sent, and nothing of it comes with the next message', () => {
  expect(pipe.send(device, header, 16, file, bytes.length - 4096, 8192)).toBeUndefined();
  expect(arrived().length).toBe(0);
  expect(pipe.send(device, header, 16, file, 0, 4096)).toBe(16 + 4096);
  expect(arrived().equals(message(0, 4096))).toBe(true);
});

test('what the device does not take can be sent another way, and the next message is whole', () => {
  const deaf = fs.openSync(path.join(dir, 'device'), 'r');
  expect(pipe.send(deaf, header, 16, file, 0, 65536)).toBeUndefined();
  fs.closeSync(deaf);
  expect(pipe.send(device, header, 16, file, 65536, 65536)).toBe(16 + 65536);
  expect(arrived().equals(message(65536, 65536))).toBe(true);
});

test.runIf(fs.existsSync('/dev/fuse'))('a mount that is gone, or never was, is an answer like that of write(2)', () => {
  const unmounted = fs.openSync('/dev/fuse', 'r+');
  expect(pipe.send(unmounted, header, 16, file, 0, 65536)).toBe(-Errno.EPERM);
  fs.closeSync(unmounted);
});

test('one pipe serves all messages, failed ones leave none behind, and a closed one sends nothing', () => {
  const before = openDescriptors();
  for (let i = 0; i < 5; i++) {
    pipe.send(device, header, 16, file, 0, 4096);
    pipe.send(device, header, 16, file, bytes.length, 4096);
  }
  pipe.send(device, header, 16, file, 0, 4096);
  expect(openDescriptors()).toBe(before + 2);
  pipe.close();
  expect(openDescriptors()).toBe(before);
  expect(pipe.send(device, header, 16, file, 0, 4096)).toBeUndefined();
});
