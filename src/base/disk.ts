/**
 * Disk calls that carry a label, so that a test can break exactly one of them (`FaultyDisk`). The real disk adds one plain
 * function call to each. Synchronous calls are those the main thread makes on the local disk anyway (pread, pwrite); what may
 * take long (fdatasync, unlink of a big file) runs in libuv's pool.
 *
 * SQLite does its own I/O and bypasses this; only the `-wal` sync of the group commit comes through here.
 */
import fs from 'node:fs';
import { fallocate as libcFallocate, syncfs } from './libc.js';

export interface Disk {
  open(label: string, path: string, flags: number, mode?: number): number;
  /** A new file, open for reading and writing; EEXIST if there is one. */
  create(label: string, path: string, mode: number): Promise<number>;
  close(fd: number): void;
  /** May read less than asked, 0 at end of file. */
  pread(label: string, fd: number, into: Uint8Array, intoOffset: number, length: number, offset: number): number;
  /** May write less than asked; the caller goes on with the rest. */
  pwrite(label: string, fd: number, data: Uint8Array, dataOffset: number, length: number, offset: number): number;
  truncate(label: string, fd: number, sizeBytes: number): void;
  fallocate(label: string, fd: number, mode: number, offset: number, length: number): void;
  /** Resolves when the file's data (and what is needed to find it) is on stable storage. */
  fdatasync(label: string, fd: number): Promise<void>;
  /** The same, for the rare case that nothing may happen before it is done. */
  fdatasyncSync(label: string, fd: number): void;
  /** Makes names created in or removed from the directory durable. */
  syncDirectory(label: string, path: string): Promise<void>;
  syncDirectorySync(label: string, path: string): void;
  /** Everything on the file system that holds `fd`: cheaper than one sync per file where there are hundreds. */
  syncFileSystem(label: string, fd: number): Promise<void>;
  unlink(label: string, path: string): Promise<void>;
  unlinkSync(label: string, path: string): void;
}

/** To open a file whose atime tells when a program read it (passthrough): what this process reads for itself is no such access. Needs the file to be ours. */
export const readUnnoticed = fs.constants.O_RDONLY | fs.constants.O_NOATIME;

export const createFlags = fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL;

export const realDisk: Disk = {
  open: (_label, path, flags, mode) => fs.openSync(path, flags, mode),
  create: (_label, path, mode) => new Promise((resolve, reject) => fs.open(path, createFlags, mode, (error, fd) => (error ? reject(error) : resolve(fd)))),
  close: (fd) => fs.closeSync(fd),
  pread: (_label, fd, into, intoOffset, length, offset) => fs.readSync(fd, into, intoOffset, length, offset),
  pwrite: (_label, fd, data, dataOffset, length, offset) => fs.writeSync(fd, data, dataOffset, length, offset),
  truncate: (_label, fd, sizeBytes) => fs.ftruncateSync(fd, sizeBytes),
  fallocate: (_label, fd, mode, offset, length) => libcFallocate(fd, mode, offset, length),
  fdatasync: (_label, fd) => new Promise((resolve, reject) => fs.fdatasync(fd, (error) => (error ? reject(error) : resolve()))),
  fdatasyncSync: (_label, fd) => fs.fdatasyncSync(fd),
  async syncDirectory(_label, path) {
    const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY); // one trip to the pool instead of three
    try {
      await new Promise<void>((resolve, reject) => fs.fsync(fd, (error) => (error ? reject(error) : resolve())));
    } finally {
      fs.closeSync(fd);
    }
  },
  syncDirectorySync(_label, path) {
    const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  },
  syncFileSystem: (_label, fd) => syncfs(fd),
  unlink: (_label, path) => fs.promises.unlink(path),
  unlinkSync: (_label, path) => fs.unlinkSync(path),
};
