#!/usr/bin/env python3
"""System calls in the directory given, each family a function; the names to run follow. Prints nothing and exits 0 if all is as POSIX and Linux have it."""
import ctypes, ctypes.util, errno, fcntl, mmap, multiprocessing, os, select, stat, struct, sys, time

libc = ctypes.CDLL(ctypes.util.find_library('c'), use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400


def call(name, *args):
    result = getattr(libc, name)(*args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def fails(code, run, *args):
    try:
        run(*args)
    except OSError as error:
        assert error.errno == code, f'{errno.errorcode[error.errno]} instead of {errno.errorcode[code]}'
        return
    raise AssertionError(f'succeeded instead of {errno.errorcode[code]}')


def write(path, data):
    with open(path, 'wb') as file:
        file.write(data)


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def in_child(run):
    """The answer of `run` in another process."""
    here, there = multiprocessing.Pipe()

    def body():
        try:
            there.send(run())
        except OSError as error:
            there.send(error.errno)
    child = multiprocessing.get_context('fork').Process(target=body)
    child.start()
    answer = here.recv()
    child.join()
    return answer


def link_open(fd, name):
    call('linkat', AT_FDCWD, f'/proc/self/fd/{fd}'.encode(), AT_FDCWD, name.encode(), AT_SYMLINK_FOLLOW)


def tmpfile():
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o640)
    assert os.fstat(fd).st_nlink == 0 and os.listdir('.') == []
    os.write(fd, b'anonymous')
    link_open(fd, 'named')
    assert os.fstat(fd).st_nlink == 1 and os.stat('named').st_ino == os.fstat(fd).st_ino
    os.write(fd, b' then named')
    os.close(fd)
    assert read('named') == b'anonymous then named'
    fd = os.open('.', os.O_TMPFILE | os.O_WRONLY | os.O_EXCL, 0o600)
    fails(errno.ENOENT, link_open, fd, 'never')
    os.close(fd)
    assert os.listdir('.') == ['named']


def renameat2():
    NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4

    def rename(a, b, flags):
        call('renameat2', AT_FDCWD, a.encode(), AT_FDCWD, b.encode(), flags)
    write('a', b'A')
    write('b', b'B')
    os.makedirs('d/below')
    fails(errno.EEXIST, rename, 'a', 'b', NOREPLACE)
    rename('a', 'b', EXCHANGE)
    assert (read('a'), read('b')) == (b'B', b'A')
    rename('a', 'd', EXCHANGE)
    assert os.path.isdir('a/below') and read('d') == b'B'
    fails(errno.EINVAL, rename, 'a', 'a/below', EXCHANGE)
    fails(errno.ENOENT, rename, 'a', 'none', EXCHANGE)
    fails(errno.EINVAL, rename, 'a', 'b', NOREPLACE | EXCHANGE)
    fails(errno.EINVAL, rename, 'a', 'b', WHITEOUT | EXCHANGE)
    rename('b', 'w', WHITEOUT)
    left = os.lstat('b')
    assert stat.S_ISCHR(left.st_mode) and left.st_rdev == 0 and read('w') == b'A', left
    os.rename('w', 'b')
    rename('b', 'c', NOREPLACE)
    assert sorted(os.listdir('.')) == ['a', 'c', 'd']


def statx():
    write('f', b'x' * 5000)
    os.utime('f', ns=(1_000_000_001_000_000_002, -1_500_000_000))
    buffer = ctypes.create_string_buffer(256)
    call('statx', AT_FDCWD, b'f', 0, 0x7ff, buffer)
    mask, blksize, attributes, nlink, uid, gid, mode = struct.unpack_from('=IIQIIIH', buffer, 0)
    ino, size, blocks = struct.unpack_from('=QQQ', buffer, 32)
    atime = struct.unpack_from('=qI', buffer, 64)
    mtime = struct.unpack_from('=qI', buffer, 112)
    assert mask & 0x7ff == 0x7ff and (nlink, size, stat.S_IFMT(mode)) == (1, 5000, stat.S_IFREG) and ino == os.stat('f').st_ino and blocks >= 10
    assert atime == (1_000_000_001, 2), atime
    assert mtime == (-2, 500_000_000), mtime


def seeks():
    fd = os.open('sparse', os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 20)
    os.pwrite(fd, b'd' * 4096, 512 << 10)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 512 << 10 and os.lseek(fd, 0, os.SEEK_HOLE) == 0
    assert os.lseek(fd, 512 << 10, os.SEEK_HOLE) == (512 << 10) + 4096
    fails(errno.ENXIO, os.lseek, fd, 600 << 10, os.SEEK_DATA)
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        fails(errno.ENXIO, os.lseek, fd, -1, whence)
        fails(errno.ENXIO, os.lseek, fd, 1 << 60, whence)
    fails(errno.ENXIO, os.lseek, fd, 1 << 20, os.SEEK_HOLE)
    assert os.lseek(fd, 600 << 10, os.SEEK_HOLE) == 600 << 10
    assert os.fstat(fd).st_blocks < 100
    KEEP, PUNCH, ZERO, COLLAPSE, INSERT = 1, 2, 16, 8, 32

    def fallocate(mode, offset, length):
        call('fallocate', fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
    fallocate(KEEP | PUNCH, 512 << 10, 4096)
    fails(errno.ENXIO, os.lseek, fd, 0, os.SEEK_DATA)
    fallocate(KEEP, 1 << 20, 4096)
    assert os.fstat(fd).st_size == 1 << 20
    fallocate(0, 1 << 20, 4096)
    assert os.fstat(fd).st_size == (1 << 20) + 4096
    os.pwrite(fd, b'x' * 8192, 0)
    fallocate(ZERO, 4000, 100)
    assert os.pread(fd, 8192, 0) == b'x' * 4000 + b'\0' * 100 + b'x' * 4092
    fails(errno.EOPNOTSUPP, fallocate, PUNCH, 0, 4096)
    fails(errno.EFBIG, os.truncate, fd, 6 << 40)
    os.close(fd)


def copy_range():
    data = os.urandom(3_000_000)
    write('from', data)
    source = os.open('from', os.O_RDONLY)
    target = os.open('to', os.O_RDWR | os.O_CREAT)
    done = 0
    while done < len(data):
        done += os.copy_file_range(source, target, len(data) - done, done, done)
    assert read('to') == data
    assert os.copy_file_range(source, target, 100, len(data), 0) == 0
    assert os.copy_file_range(target, target, 1000, 0, 2_000_000) == 1000
    assert os.pread(target, 1000, 2_000_000) == data[:1000]
    fails(errno.EINVAL, os.copy_file_range, target, target, 1000, 0, 500)
    assert os.sendfile(target, source, 0, 5000) == 5000
    os.close(source)
    os.close(target)


def locks():
    write('f', b'x' * 100)
    fd = os.open('f', os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def try_flock():
        other = os.open('f', os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return 'got it'
    assert in_child(try_flock) == errno.EWOULDBLOCK
    fcntl.flock(fd, fcntl.LOCK_UN)
    assert in_child(try_flock) == 'got it'
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)

    def try_range(start):
        other = os.open('f', os.O_RDWR)
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, start)
        return 'got it'
    assert in_child(lambda: try_range(25)) in (errno.EAGAIN, errno.EACCES)
    assert in_child(lambda: try_range(30)) == 'got it'

    def holder():
        other = os.open('f', os.O_RDWR)
        answer = fcntl.fcntl(other, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
        return struct.unpack('hhqqi4x', answer)[1:]
    assert in_child(holder) == (0, 20, 10, os.getpid())
    second = os.open('f', os.O_RDWR)
    os.close(second)  # closing any descriptor drops the process's locks
    assert in_child(lambda: try_range(25)) == 'got it'
    F_OFD_SETLK = 37
    fcntl.fcntl(fd, F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
    assert in_child(lambda: try_range(0)) in (errno.EAGAIN, errno.EACCES)
    os.close(fd)
    assert in_child(lambda: try_range(0)) == 'got it'


def inotify():
    fd = call('inotify_init1', os.O_NONBLOCK)
    call('inotify_add_watch', fd, b'.', 0xfff)

    def events():
        found = []
        while select.select([fd], [], [], 0.5)[0]:
            data = os.read(fd, 65536)
            while data:
                _, mask, _, length = struct.unpack_from('iIII', data)
                found.append((mask & 0xfff, data[16:16 + length].rstrip(b'\0').decode()))
                data = data[16 + length:]
        return found
    write('f', b'x')
    os.rename('f', 'g')
    os.chmod('g', 0o600)
    os.mkdir('d')
    os.unlink('g')
    names = {0x100: 'create', 0x2: 'modify', 0x8: 'close', 0x40: 'from', 0x80: 'to', 0x4: 'attrib', 0x200: 'delete', 0x20: 'open'}
    seen = [(names.get(mask, hex(mask)), name) for mask, name in events()]
    for event in [('create', 'f'), ('modify', 'f'), ('close', 'f'), ('from', 'f'), ('to', 'g'), ('attrib', 'g'), ('create', 'd'), ('delete', 'g')]:
        assert event in seen, (event, seen)
    os.close(fd)


def scans():
    for index in range(500):
        write(f'f{index:03}', b'')
    seen = []
    with os.scandir('.') as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.name)
    assert sorted(seen) == [f'f{index:03}' for index in range(500)] and os.listdir('.') == []
    for index in range(300):
        write(f'g{index:03}', b'')
    renamed = 0
    for name in os.listdir('.'):
        os.rename(name, 'renamed-' + name)
        renamed += 1
    assert renamed == 300 and len(os.listdir('.')) == 300
    directory = libc.opendir
    directory.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(directory(b'.'))

    class Dirent(ctypes.Structure):
        _fields_ = [('ino', ctypes.c_ulong), ('off', ctypes.c_long), ('reclen', ctypes.c_ushort), ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]
    libc.readdir.restype = ctypes.POINTER(Dirent)
    libc.telldir.restype = ctypes.c_long

    def rest():
        found = []
        while True:
            entry = libc.readdir(handle)
            if not entry:
                return found
            found.append(entry.contents.name)
    for _ in range(100):
        libc.readdir(handle)
    place = libc.telldir(handle)
    first = rest()
    libc.seekdir(handle, ctypes.c_long(place))
    assert rest() == first and len(first) == 202
    libc.rewinddir(handle)
    assert len(rest()) == 302
    libc.closedir(handle)


def unlinked():
    fd = os.open('f', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'before')
    os.link('f', 'g')
    os.unlink('f')
    assert os.fstat(fd).st_nlink == 1
    os.unlink('g')
    assert os.fstat(fd).st_nlink == 0
    os.pwrite(fd, b' after', 6)
    os.fchmod(fd, 0o600)
    assert os.pread(fd, 100, 0) == b'before after' and stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    write('f', b'another')
    assert os.pread(fd, 100, 0) == b'before after'
    with mmap.mmap(fd, 12) as memory:
        memory[0:6] = b'mapped'
    assert os.pread(fd, 6, 0) == b'mapped'
    os.ftruncate(fd, 3)
    os.close(fd)
    os.mkdir('d')
    directory = os.open('d', os.O_RDONLY)
    os.rmdir('d')
    assert os.listdir(directory) == []
    fails(errno.ENOENT, lambda: os.open('x', os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)


def setids():
    """Privileges fall with a write, a truncation and a change of owner by somebody who is not root."""
    os.chmod('.', 0o777)
    write('f', b'x' * 100)
    os.chown('f', 65534, 65534)

    def reset():
        os.chmod('f', 0o6775)

    def as_nobody(run):
        def body():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            run()
            return stat.S_IMODE(os.stat('f').st_mode)
        return in_child(body)
    reset()
    assert as_nobody(lambda: os.close(os.open('f', os.O_WRONLY))) == 0o6775

    def one_write():
        fd = os.open('f', os.O_WRONLY)
        os.write(fd, b'y')
        os.close(fd)
    assert as_nobody(one_write) == 0o775
    for change in (lambda: os.truncate('f', 50), lambda: os.close(os.open('f', os.O_WRONLY | os.O_TRUNC))):
        reset()
        assert as_nobody(change) == 0o775
    reset()
    os.chown('f', 65534, 65534)
    assert stat.S_IMODE(os.stat('f').st_mode) == 0o775
    # a new file's group, and its setgid bit, in a setgid directory
    os.mkdir('d')
    os.chown('d', 0, 1234)
    os.chmod('d', 0o2777)
    def make():
        os.umask(0)
        os.close(os.open('d/f', os.O_CREAT | os.O_WRONLY, 0o2775))
        os.mkdir('d/s')
    as_nobody(make)
    assert os.stat('d/f').st_gid == 1234 and stat.S_IMODE(os.stat('d/f').st_mode) == 0o775
    assert os.stat('d/s').st_gid == 1234 and os.stat('d/s').st_mode & stat.S_ISGID
    # the sticky bit
    os.chmod('d', 0o1777)
    write('d/roots', b'')
    assert as_nobody_errno(lambda: os.unlink('d/roots')) in (errno.EPERM, errno.EACCES)


def as_nobody_errno(run):
    def body():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        run()
        return 0
    return in_child(body)


def xattrs():
    write('f', b'')
    os.setxattr('f', 'user.a', b'1', os.XATTR_CREATE)
    fails(errno.EEXIST, os.setxattr, 'f', 'user.a', b'2', os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, 'f', 'user.b', b'2', os.XATTR_REPLACE)
    os.setxattr('f', 'user.a', b'', os.XATTR_REPLACE)
    assert os.getxattr('f', 'user.a') == b'' and os.listxattr('f') == ['user.a']
    fails(errno.ENODATA, os.getxattr, 'f', 'user.none')
    fails(errno.ENOSPC, os.setxattr, 'f', 'user.big', b'x' * 4000)
    fails(errno.E2BIG, os.setxattr, 'f', 'user.big', b'x' * 65537)
    fails(errno.EOPNOTSUPP, os.setxattr, 'f', 'other.a', b'x')
    os.removexattr('f', 'user.a')
    fails(errno.ENODATA, os.removexattr, 'f', 'user.a')
    before = os.stat('f').st_ctime_ns
    time.sleep(0.02)
    os.setxattr('f', 'user.a', b'1')
    assert os.stat('f').st_ctime_ns > before


def main():
    os.umask(0o022)
    root = sys.argv[1]
    for name in sys.argv[2:]:
        directory = os.path.join(root, name)
        os.mkdir(directory)
        os.chdir(directory)
        globals()[name]()
        os.chdir('/')


main()
