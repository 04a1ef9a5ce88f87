/* Prints the file handle of a path (save PATH), or reads what a handle means (read MOUNTPOINT HANDLE; stat: its inode number). ESTALE ends it with 116. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct file_handle *handle;

int main(int argc, char **argv) {
    handle = calloc(1, sizeof *handle + MAX_HANDLE_SZ);
    if (argc == 3 && !strcmp(argv[1], "save")) {
        int mount;
        handle->handle_bytes = MAX_HANDLE_SZ;
        if (name_to_handle_at(AT_FDCWD, argv[2], handle, &mount, 0)) return errno;
        printf("%d:", handle->handle_type);
        for (unsigned i = 0; i < handle->handle_bytes; i++) printf("%02x", handle->f_handle[i]);
        puts("");
        return 0;
    }
    if (argc != 4) return 1;
    char *hex = strchr(argv[3], ':') + 1;
    handle->handle_type = atoi(argv[3]);
    handle->handle_bytes = strlen(hex) / 2;
    for (unsigned i = 0; i < handle->handle_bytes; i++) sscanf(hex + 2 * i, "%2hhx", &handle->f_handle[i]);
    int mount = open(argv[2], O_RDONLY | O_DIRECTORY);
    int fd = open_by_handle_at(mount, handle, O_RDONLY);
    if (fd < 0) return errno;
    if (!strcmp(argv[1], "stat")) {
        struct stat st;
        if (fstat(fd, &st)) return errno;
        printf("%lu\n", (unsigned long)st.st_ino);
        return 0;
    }
    char buffer[4096];
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0) return errno;
    fwrite(buffer, 1, n, stdout);
    return 0;
}
