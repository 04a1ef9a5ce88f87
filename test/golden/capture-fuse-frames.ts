/**
 * Records what this machine's kernel really sends: `node dist/test/golden/capture-fuse-frames.js > test/golden/fuse-frames.json`, as root.
 * Stands between the device and a session (a socket pair plays the device for the session) and keeps the first frames of each opcode.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import koffi from 'koffi';
import { readRaw, socketPair, SocketType, writeRaw } from '../../src/base/libc.js';
import { silentLog } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import { opcodeName } from '../../src/fuse/abi.js';
import { mountDevice, openDevice, unmount } from '../../src/fuse/mount.js';
import { FuseSession } from '../../src/fuse/session.js';
import { ToyFileSystem } from '../support/toy-fs.js';

const keepPerOpcode = 4;
const script = `
import os, signal, subprocess, time
os.umask(0o022)
os.mkdir('d', 0o2775); os.chown('d', 0, 777); os.chmod('d', 0o2775)
with open('d/f', 'wb') as f: f.write(b'hello'); f.flush(); os.fsync(f.fileno()); os.fdatasync(f.fileno())
with open('d/f', 'rb') as f: f.read(); os.fstat(f.fileno()); os.lseek(f.fileno(), 0, os.SEEK_DATA); os.lseek(f.fileno(), 1, os.SEEK_HOLE)
open('d/f', 'wb').close()
fd = os.open('d/f', os.O_RDWR); os.posix_fallocate(fd, 0, 8192); os.ftruncate(fd, 4096)
fd2 = os.open('d/g', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640); os.copy_file_range(fd, fd2, 1024, 0, 512); os.close(fd); os.close(fd2)
os.truncate('d/g', 7); os.chmod('d/g', 0o4755); os.chown('d/g', 5, 6); os.utime('d/g', ns=(1500000000123456789, -1000000001)); os.utime('d/g')
fd = os.open('d/g', os.O_WRONLY | os.O_APPEND); os.write(fd, b'x'); os.close(fd)
os.symlink('target/\\u00e4', 'd/l'); os.readlink('d/l'); os.link('d/g', 'd/h'); os.rename('d/h', 'd/i'); os.mkfifo('d/p'); os.mknod('d/n', 0o020600, os.makedev(259, 300))
subprocess.run(['mv', '--exchange', 'd/g', 'd/f'], stderr=subprocess.DEVNULL); subprocess.run(['mv', '-n', 'd/i', 'd/j'])
os.setxattr('d/f', 'user.k', b'v\\0w', os.XATTR_CREATE); os.getxattr('d/f', 'user.k'); os.listxattr('d/f'); os.removexattr('d/f', 'user.k')
fd = os.open('d', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(fd, b'1'); os.close(fd)
fd = os.open('d', os.O_RDONLY); os.fsync(fd); os.close(fd)
os.listdir('d'); os.statvfs('.')
open(b'd/b\\xff\\xfe', 'wb').close()
pid = os.fork()
if pid == 0:
    os.setgroups([777]); os.setgid(1000); os.setuid(1000)
    open('d/as-group', 'w').close(); os.mkdir('d/dir-as-group'); os._exit(0)
os.waitpid(pid, 0)
subprocess.run(['stat', 'd/f'], stdout=subprocess.DEVNULL)
p = subprocess.Popen(['cat', 'block'], stdout=subprocess.DEVNULL); time.sleep(0.5); p.send_signal(signal.SIGTERM); p.wait()
os.unlink('d/f'); os.rmdir('d/dir-as-group')
import ctypes; ctypes.CDLL(None).ioctl(os.open('d/j', os.O_RDONLY), 0x5401, 0)
open('/proc/sys/vm/drop_caches', 'w').write('2')
`;

if (process.argv[2] === '--drive') {
  const result = spawnSync('python3', ['-c', script], { cwd: process.argv[3]!, stdio: ['ignore', 'inherit', 'inherit'] });
  process.exit(result.status ?? 1);
}

const mountpoint = fs.mkdtempSync('/tmp/hearthfs-capture-');
fs.chmodSync(mountpoint, 0o755);
const device = openDevice();
mountDevice(device, { mountpoint, source: 'capture', allowOther: true, readOnly: false, suid: false, dev: false });
const [ours, sessionEnd] = socketPair(SocketType.SEQPACKET | SocketType.NONBLOCK);
const frames: Record<string, { request: string; reply?: string }[]> = {};
const open = new Map<string, { request: string; reply?: string }>();
const buffer = Buffer.alloc(2 << 20);
const drain = (from: number, to: number, seen: (frame: Buffer) => void): boolean => {
  for (;;) {
    const length = readRaw(from, buffer, buffer.length);
    if (length === -11) return true;
    if (length === -4 || length === -2) continue;
    if (length <= 0) return false;
    seen(buffer.subarray(0, length));
    writeRaw(to, buffer, length);
  }
};
const fromKernel = koffi.node.poll(device, { readable: true }, () => {
  const alive = drain(device, ours, (frame) => {
    const record = { request: frame.toString('hex') };
    const list = (frames[opcodeName(frame.readUInt32LE(4))] ??= []);
    if (list.length < keepPerOpcode && frame.length < 4096) list.push(record);
    open.set(frame.readBigUInt64LE(8).toString(), record);
  });
  if (alive) return;
  for (const handle of [fromKernel, fromSession]) handle.close();
  fs.closeSync(ours);
});
const fromSession = koffi.node.poll(ours, { readable: true }, () => {
  drain(ours, device, (frame) => {
    const record = open.get(frame.readBigUInt64LE(8).toString());
    if (record && frame.length < 4096) record.reply = frame.toString('hex');
  });
});
FuseSession.start({
  device: sessionEnd, fs: new ToyFileSystem({ files: { block: 10 } }), log: silentLog, metrics: new Metrics(), init: { posixAcl: false },
  onInit: () => undefined, onEnded: () => undefined,
});
const { spawn } = await import('node:child_process');
spawn(process.execPath, [process.argv[1]!, '--drive', mountpoint], { stdio: ['ignore', 'ignore', 'inherit'] }).on('exit', (code) => {
  void unmount(mountpoint, { lazy: true }).then(() => {
    fs.rmdirSync(mountpoint);
    process.stdout.write(`${JSON.stringify(frames, null, 1)}\n`);
    process.exitCode = code ?? 1;
  });
});
