/* Calls that shell tools do not make, each checked on the spot. One case per run: posix-tool CASE DIRECTORY; a failure says where and exits 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHECK(what) do { if (!(what)) { fprintf(stderr, "line %d: %s (errno %d: %s)\n", __LINE__, #what, errno, strerror(errno)); exit(1); } } while (0)

static char path_[4096];
static const char *dir;
static const char *in(const char *name) { snprintf(path_, sizeof path_, "%s/%s", dir, name); return path_; }

static void mmap_case(void) {
  const size_t size = 3 * 1024 * 1024 + 123;
  int fd = open(in("mapped"), O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(fd >= 0);
  CHECK(ftruncate(fd, size) == 0);
  char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  for (size_t i = 0; i < size; i++) map[i] = (char)(i * 7 % 251);
  CHECK(msync(map, size, MS_SYNC) == 0);
  char piece[1000];
  CHECK(pread(fd, piece, sizeof piece, 1000000) == sizeof piece);
  for (size_t i = 0; i < sizeof piece; i++) CHECK(piece[i] == (char)((1000000 + i) * 7 % 251));
  CHECK(pwrite(fd, "written", 7, 2000000) == 7);
  CHECK(memcmp(map + 2000000, "written", 7) == 0); /* one page cache for both */
  /* a mapping outlives its descriptor, and stores after the last close count */
  CHECK(close(fd) == 0);
  memcpy(map + 5, "late", 4);
  CHECK(munmap(map, size) == 0);
  fd = open(in("mapped"), O_RDONLY);
  CHECK(fd >= 0);
  const char *again = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  CHECK(again != MAP_FAILED);
  CHECK(memcmp(again + 5, "late", 4) == 0);
  CHECK(memcmp(again + 2000000, "written", 7) == 0);
  CHECK(again[size - 1] == (char)((size - 1) * 7 % 251));
}

static void unlinked_case(void) {
  int fd = open(in("doomed"), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0);
  CHECK(write(fd, "before", 6) == 6);
  CHECK(unlink(in("doomed")) == 0);
  CHECK(access(in("doomed"), F_OK) == -1 && errno == ENOENT);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 6);
  CHECK(write(fd, "after!", 6) == 6);
  char text[12];
  CHECK(pread(fd, text, 12, 0) == 12 && memcmp(text, "beforeafter!", 12) == 0);
  /* a new file of the same name is another one */
  int other = open(in("doomed"), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(other >= 0 && write(other, "new", 3) == 3);
  CHECK(pread(fd, text, 12, 0) == 12 && memcmp(text, "beforeafter!", 12) == 0);
  CHECK(fchmod(fd, 0640) == 0 && ftruncate(fd, 3) == 0);
  CHECK(fstat(fd, &st) == 0 && st.st_size == 3 && (st.st_mode & 0777) == 0640);
  CHECK(close(fd) == 0 && close(other) == 0);
}

static void append_case(void) {
  int a = open(in("appended"), O_WRONLY | O_CREAT | O_APPEND, 0644), b = open(in("appended"), O_WRONLY | O_APPEND);
  CHECK(a >= 0 && b >= 0);
  for (int i = 0; i < 200; i++) CHECK(write(i % 2 ? a : b, "0123456789", 10) == 10);
  struct stat st;
  CHECK(fstat(a, &st) == 0 && st.st_size == 2000);
  CHECK(close(a) == 0 && close(b) == 0);
  CHECK(truncate(in("appended"), 1234) == 0 && stat(in("appended"), &st) == 0 && st.st_size == 1234);
  CHECK(truncate(in("appended"), 5000) == 0 && stat(in("appended"), &st) == 0 && st.st_size == 5000);
  int fd = open(in("appended"), O_RDONLY);
  char bytes[5000];
  CHECK(pread(fd, bytes, 5000, 0) == 5000 && bytes[1233] == '3' && bytes[1234] == 0 && bytes[4999] == 0);
  CHECK(pread(fd, bytes, 10, 4995) == 5 && pread(fd, bytes, 10, 5000) == 0);
  CHECK(close(fd) == 0);
  fd = open(in("appended"), O_WRONLY | O_TRUNC);
  CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
  CHECK(close(fd) == 0);
}

static void sparse_case(void) {
  int fd = open(in("sparse"), O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(fd >= 0);
  CHECK(pwrite(fd, "head", 4, 0) == 4);
  CHECK(pwrite(fd, "tail", 4, 50 * 1024 * 1024) == 4);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && st.st_size == 50 * 1024 * 1024 + 4);
  CHECK(lseek(fd, 0, SEEK_DATA) == 0);
  off_t hole = lseek(fd, 0, SEEK_HOLE);
  CHECK(hole >= 4 && hole <= 1024 * 1024);
  CHECK(lseek(fd, hole, SEEK_DATA) <= 50 * 1024 * 1024);
  CHECK(lseek(fd, 50 * 1024 * 1024 + 4, SEEK_DATA) == -1 && errno == ENXIO);
  char text[8] = "xxxxxxx";
  CHECK(pread(fd, text, 4, 25 * 1024 * 1024) == 4 && memcmp(text, "\0\0\0\0", 4) == 0);
  CHECK(fallocate(fd, 0, 0, 60 * 1024 * 1024) == 0 && fstat(fd, &st) == 0 && st.st_size == 60 * 1024 * 1024);
  CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 61 * 1024 * 1024) == 0 && fstat(fd, &st) == 0 && st.st_size == 60 * 1024 * 1024);
  CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 50 * 1024 * 1024, 4096) == 0);
  CHECK(pread(fd, text, 4, 50 * 1024 * 1024) == 4 && memcmp(text, "\0\0\0\0", 4) == 0);
  CHECK(ftruncate(fd, 4) == 0 && close(fd) == 0);
}

static void copy_case(void) {
  int from = open(in("copy-from"), O_RDWR | O_CREAT | O_TRUNC, 0644), to = open(in("copy-to"), O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(from >= 0 && to >= 0);
  char block[65536];
  for (int i = 0; i < 32; i++) { memset(block, 'a' + i % 26, sizeof block); CHECK(write(from, block, sizeof block) == sizeof block); }
  off_t in_ = 65536, out = 0;
  size_t left = 30 * 65536;
  while (left > 0) { ssize_t n = copy_file_range(from, &in_, to, &out, left, 0); CHECK(n > 0); left -= n; }
  struct stat st;
  CHECK(fstat(to, &st) == 0 && st.st_size == 30 * 65536);
  CHECK(pread(to, block, 1, 0) == 1 && block[0] == 'b');
  CHECK(pread(to, block, 1, 29 * 65536) == 1 && block[0] == 'a' + 30 % 26);
  CHECK(close(from) == 0 && close(to) == 0);
}

/* Nobody asks for the size between a write and what depends on it. */
static void unseen_case(void) {
  int fd = open(in("unseen"), O_RDWR | O_CREAT | O_TRUNC, 0644), other;
  struct stat st;
  char c;
  CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10 && ftruncate(fd, 0) == 0);
  CHECK(pread(fd, &c, 1, 0) == 0 && fstat(fd, &st) == 0 && st.st_size == 0);
  CHECK(close(fd) == 0);
  fd = open(in("unseen2"), O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10);
  CHECK((other = open(in("unseen2"), O_WRONLY | O_TRUNC)) >= 0);
  CHECK(pread(fd, &c, 1, 0) == 0 && fstat(fd, &st) == 0 && st.st_size == 0);
  CHECK(close(fd) == 0 && close(other) == 0);
  fd = open(in("unseen3"), O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10 && lseek(fd, 5, SEEK_DATA) == 5 && lseek(fd, 5, SEEK_HOLE) == 10);
  CHECK(write(fd, "x", 1) == 1 && fallocate(fd, 0, 0, 4) == 0 && lseek(fd, 0, SEEK_END) == 11);
  CHECK((other = open(in("unseen4"), O_RDWR | O_CREAT | O_TRUNC, 0644)) >= 0);
  off_t from = 0;
  CHECK(copy_file_range(fd, &from, other, NULL, 100, 0) == 11 && pread(other, &c, 1, 10) == 1 && c == 'x');
  CHECK(close(fd) == 0 && close(other) == 0);
  CHECK((fd = open(in("unseen5"), O_WRONLY | O_CREAT, 0644)) >= 0 && write(fd, "abc", 3) == 3);
  CHECK(truncate(in("unseen5"), 3) == 0 && stat(in("unseen5"), &st) == 0 && st.st_size == 3 && close(fd) == 0);
}

static void put(const char *name, const char *text) {
  int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}
static void expect(const char *name, const char *text) {
  char found[100] = "";
  int fd = open(in(name), O_RDONLY);
  CHECK(fd >= 0 && read(fd, found, 99) == (ssize_t)strlen(text) && strcmp(found, text) == 0 && close(fd) == 0);
}

static void rename_case(void) {
  char a[4096], b[5000];
  put("ra", "A");
  put("rb", "B");
  strcpy(a, in("ra"));
  strcpy(b, in("rb"));
  CHECK(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE) == -1 && errno == EEXIST);
  CHECK(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0);
  expect("ra", "B");
  expect("rb", "A");
  int open_ = open(b, O_RDONLY); /* replaced while open: still readable */
  CHECK(rename(a, b) == 0 && access(a, F_OK) == -1);
  char c;
  CHECK(read(open_, &c, 1) == 1 && c == 'A' && close(open_) == 0);
  expect("rb", "B");
  CHECK(mkdir(in("rd1"), 0755) == 0 && mkdir(in("rd2"), 0755) == 0);
  put("rd2/x", "x");
  strcpy(a, in("rd1"));
  strcpy(b, in("rd2"));
  CHECK(rename(a, b) == -1 && (errno == ENOTEMPTY || errno == EEXIST));
  CHECK(rename(b, a) == 0);
  expect("rd1/x", "x");
  CHECK(rmdir(a) == -1 && errno == ENOTEMPTY);
  snprintf(b, sizeof b, "%s/below", a);
  CHECK(rename(a, b) == -1 && errno == EINVAL);
}

static void attributes_case(void) {
  put("attr", "text");
  const char *path = in("attr");
  struct timespec times[2] = {{.tv_sec = 1234567890, .tv_nsec = 987654321}, {.tv_sec = 1000000000, .tv_nsec = 123456789}};
  struct stat st;
  CHECK(utimensat(AT_FDCWD, path, times, 0) == 0 && stat(path, &st) == 0);
  CHECK(st.st_mtim.tv_sec == 1000000000 && st.st_mtim.tv_nsec == 123456789);
  CHECK(st.st_atim.tv_sec == 1234567890 && st.st_atim.tv_nsec == 987654321);
  times[0].tv_nsec = UTIME_OMIT;
  times[1].tv_nsec = UTIME_NOW;
  CHECK(utimensat(AT_FDCWD, path, times, 0) == 0 && stat(path, &st) == 0);
  CHECK(st.st_atim.tv_sec == 1234567890 && st.st_mtim.tv_sec > 1700000000);
  times[0].tv_sec = -5; times[0].tv_nsec = 5; times[1].tv_sec = -1000; times[1].tv_nsec = 999999999; /* before 1970 */
  CHECK(utimensat(AT_FDCWD, path, times, 0) == 0 && stat(path, &st) == 0 && st.st_mtim.tv_sec == -1000 && st.st_mtim.tv_nsec == 999999999);
  CHECK(chmod(path, 04751) == 0 && stat(path, &st) == 0 && (st.st_mode & 07777) == 04751);
  int fd = open(path, O_WRONLY);
  CHECK(fd >= 0 && write(fd, "TEXT", 4) == 4 && close(fd) == 0);
  CHECK(chown(path, 1234, 5678) == 0 && stat(path, &st) == 0 && st.st_uid == 1234 && st.st_gid == 5678 && (st.st_mode & 06000) == 0);
  char value[32];
  CHECK(setxattr(path, "user.colour", "b\0lue", 5, XATTR_CREATE) == 0);
  CHECK(setxattr(path, "user.colour", "x", 1, XATTR_CREATE) == -1 && errno == EEXIST);
  CHECK(getxattr(path, "user.colour", value, sizeof value) == 5 && memcmp(value, "b\0lue", 5) == 0);
  CHECK(listxattr(path, value, sizeof value) == 12 && strcmp(value, "user.colour") == 0);
  CHECK(removexattr(path, "user.colour") == 0 && getxattr(path, "user.colour", value, sizeof value) == -1 && errno == ENODATA);
  CHECK(symlink("../some where/éé", in("link")) == 0 && readlink(in("link"), value, sizeof value) == 18);
  CHECK(mkfifo(in("fifo"), 0600) == 0 && lstat(in("fifo"), &st) == 0 && S_ISFIFO(st.st_mode));
}

static void excl_case(void) {
  int fd = open(in("once"), O_WRONLY | O_CREAT | O_EXCL, 0444); /* writable by who made it */
  CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
  CHECK(open(in("once"), O_WRONLY | O_CREAT | O_EXCL, 0644) == -1 && errno == EEXIST);
  CHECK(open(in("no/such"), O_RDONLY) == -1 && errno == ENOENT);
  CHECK(open(in("once/below"), O_RDONLY) == -1 && errno == ENOTDIR);
  char name[300];
  memset(name, 'n', sizeof name);
  name[256] = 0;
  CHECK(open(in(name), O_WRONLY | O_CREAT, 0644) == -1 && errno == ENAMETOOLONG);
  name[255] = 0;
  CHECK((fd = open(in(name), O_WRONLY | O_CREAT, 0644)) >= 0 && close(fd) == 0);
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  dir = argv[2];
  const struct { const char *name; void (*run)(void); } cases[] = {
    {"mmap", mmap_case}, {"unlinked", unlinked_case}, {"append", append_case}, {"sparse", sparse_case}, {"copy", copy_case}, {"rename", rename_case},
    {"attributes", attributes_case}, {"excl", excl_case}, {"unseen", unseen_case},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) if (strcmp(argv[1], cases[i].name) == 0) { cases[i].run(); return 0; }
  return 2;
}
