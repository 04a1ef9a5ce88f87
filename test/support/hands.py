#!/usr/bin/env python3
"""
System calls by request, below one directory: a JSON list [name, arguments...] per line on stdin, and for each a line with {"ok": value} or {"errno": name}.
The same program works on the mount and on a plain directory, so whatever it answers can be compared. Open files and mappings stay, by slot.
"""
import base64, ctypes, errno, hashlib, json, os, random, stat, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400

root = sys.argv[1]
files = {}     # slot -> descriptor
mappings = {}  # slot -> (address, length, O_PATH descriptor that keeps nothing open)


def call(name, *args):
    if getattr(libc, name)(*args) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def at(path):
    return os.path.join(root, path)


def pattern(seed, length):
    return random.Random(seed).randbytes(length)


def put(fd, offset, data):
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done) if offset is not None else os.write(fd, data[done:])


def get(fd, offset, length):
    parts = []
    while length > 0:
        data = os.pread(fd, length, offset)
        if not data:
            break
        parts.append(data)
        offset, length = offset + len(data), length - len(data)
    return base64.b64encode(b''.join(parts)).decode()


class Path:
    """An open file for one call."""
    def __init__(self, path, flags):
        self.path, self.flags = path, flags

    def __enter__(self):
        self.fd = os.open(at(self.path), self.flags, 0o644)
        return self.fd

    def __exit__(self, *_):
        os.close(self.fd)


class Hands:
    def enter(self, path):
        """All paths are below it from now on; '' is the directory given."""
        global root
        root = os.path.join(sys.argv[1], path)

    # ---- names

    def mkdir(self, path, mode): os.mkdir(at(path), mode)
    def symlink(self, path, target): os.symlink(target, at(path))
    def fifo(self, path, mode): os.mknod(at(path), stat.S_IFIFO | mode)
    def link(self, path, new): os.link(at(path), at(new), follow_symlinks=False)
    def unlink(self, path): os.unlink(at(path))
    def rmdir(self, path): os.rmdir(at(path))
    def rename(self, path, new, flags): call('renameat2', AT_FDCWD, at(path).encode(), AT_FDCWD, at(new).encode(), flags)

    def remove(self, path):
        for name in os.listdir(at(path)):
            below = os.path.join(path, name)
            if stat.S_ISDIR(os.lstat(at(below)).st_mode):
                self.remove(below)
            else:
                os.unlink(at(below))
        os.rmdir(at(path))

    # ---- attributes

    def chmod(self, path, mode): os.chmod(at(path), mode)
    def chown(self, path, uid, gid): os.chown(at(path), uid, gid, follow_symlinks=False)
    def utimes(self, path, sec, nsec): os.utime(at(path), ns=(sec * 10**9, sec * 10**9 + nsec))
    def setxattr(self, path, name, value, flags): os.setxattr(at(path), name, value.encode(), flags)
    def removexattr(self, path, name): os.removexattr(at(path), name)
    def truncate(self, path, size): os.truncate(at(path), size)

    # ---- whole files

    def create(self, path, seed, length):
        with Path(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            put(fd, None, pattern(seed, length))

    def overwrite(self, path, seed, length):
        with Path(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            put(fd, None, pattern(seed, length))

    def put(self, path, text):
        with Path(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            put(fd, None, text.encode())

    def write(self, path, offset, seed, length, more):
        with Path(path, os.O_WRONLY | more) as fd:
            put(fd, offset, pattern(seed, length))

    def append(self, path, seed, length):
        with Path(path, os.O_WRONLY | os.O_APPEND) as fd:
            put(fd, None, pattern(seed, length))

    def read(self, path, offset, length):
        with Path(path, os.O_RDONLY) as fd:
            return get(fd, offset, length)

    def fallocate(self, path, mode, offset, length):
        with Path(path, os.O_RDWR) as fd:
            call('fallocate', fd, mode, offset, length)

    def copy(self, path, offset, new, new_offset, length):
        with Path(path, os.O_RDONLY) as source, Path(new, os.O_RDWR) as target:
            done = 0
            while done < length:
                count = os.copy_file_range(source, target, length - done, offset + done, new_offset + done)
                if count == 0:
                    break
                done += count
            return done

    def store(self, path, offset, seed, length, sync):
        """Through a mapping that is gone before the call returns."""
        with Path(path, os.O_RDWR) as fd:
            self.map_fd('call', fd, offset + length)
            try:
                count = self.map_write('call', offset, seed, length)
                if sync:
                    self.map_sync('call')
                return count
            finally:
                self.unmap('call')

    def fsync_directory(self, path):
        with Path(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.fsync(fd)

    # ---- files that stay open

    def open(self, slot, path, flags): files[slot] = os.open(at(path), flags, 0o640)
    def close(self, slot): os.close(files.pop(slot))
    def fd_read(self, slot, offset, length): return get(files[slot], offset, length)
    def fd_write(self, slot, offset, seed, length): put(files[slot], offset, pattern(seed, length))
    def fd_append(self, slot, seed, length): put(files[slot], None, pattern(seed, length))
    def fd_truncate(self, slot, size): os.ftruncate(files[slot], size)
    def fd_sync(self, slot): os.fsync(files[slot])
    def fd_link(self, slot, path): call('linkat', AT_FDCWD, f'/proc/self/fd/{files[slot]}'.encode(), AT_FDCWD, at(path).encode(), AT_SYMLINK_FOLLOW)
    def fd_chmod(self, slot, mode): os.fchmod(files[slot], mode)

    def fd_stat(self, slot):
        found = os.fstat(files[slot])
        return [found.st_size, found.st_nlink, found.st_mode]

    def fd_inode(self, slot): return os.fstat(files[slot]).st_ino

    def map(self, slot, of): self.map_fd(slot, files[of], 1 << 20)

    def map_fd(self, slot, fd, length):
        path = os.open(f'/proc/self/fd/{fd}', os.O_PATH)
        address = libc.mmap(None, length, 3, 1, fd, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            os.close(path)
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        mappings[slot] = (address, length, path)

    def mapped(self, slot, offset, length):
        """Address and length of what lies within the file: beyond its last page is SIGBUS."""
        address, size, path = mappings[slot]
        return address + offset, max(0, min(offset + length, size, os.fstat(path).st_size) - offset)

    def map_write(self, slot, offset, seed, length):
        address, count = self.mapped(slot, offset, length)
        ctypes.memmove(address, pattern(seed, count), count)
        return count

    def map_read(self, slot, offset, length):
        return base64.b64encode(ctypes.string_at(*self.mapped(slot, offset, length))).decode()

    def map_sync(self, slot): call('msync', mappings[slot][0], mappings[slot][1], 4)

    def map_links(self, slot): return os.fstat(mappings[slot][2]).st_nlink

    def unmap(self, slot):
        address, length, path = mappings.pop(slot)
        os.close(path)
        call('munmap', address, length)

    # ---- to look

    def paths(self):
        """[path, type, inode, links], sorted."""
        found = []
        pending = ['']
        while pending:
            directory = pending.pop()
            for name in os.listdir(at(directory)):
                path = os.path.join(directory, name)
                each = os.lstat(at(path))
                if stat.S_ISDIR(each.st_mode):
                    pending.append(path)
                found.append([path, kind(each.st_mode), each.st_ino, each.st_nlink])
        return sorted(found)

    def tree(self, content):
        return [self.describe(path, content) for path, *_ in self.paths()]

    def describe(self, path, content):
        full = at(path)
        each = os.lstat(full)
        what = kind(each.st_mode)
        entry = {'path': path, 'type': what, 'mode': oct(each.st_mode & 0o7777), 'owner': f'{each.st_uid}:{each.st_gid}', 'ino': each.st_ino, 'links': each.st_nlink, 'mtime': str(each.st_mtime_ns)}
        if what == 'file':
            entry['size'] = each.st_size
            if content:
                with open(full, 'rb') as file:
                    entry['sha1'] = hashlib.sha1(file.read()).hexdigest()
        if what == 'link':
            entry['target'] = os.readlink(full)
        if what in ('file', 'dir'):
            entry['xattrs'] = {name: os.getxattr(full, name).decode() for name in sorted(os.listxattr(full))}
        return entry


def kind(mode):
    return {stat.S_IFREG: 'file', stat.S_IFDIR: 'dir', stat.S_IFLNK: 'link', stat.S_IFIFO: 'fifo'}[stat.S_IFMT(mode)]


os.umask(0o022)
hands = Hands()
for line in sys.stdin:
    name, *args = json.loads(line)
    try:
        answer = {'ok': getattr(hands, name)(*args)}
    except OSError as error:
        answer = {'errno': errno.errorcode[error.errno]}
    print(json.dumps(answer), flush=True)
