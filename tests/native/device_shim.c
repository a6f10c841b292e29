/* A device that fails, for a process that runs with LD_PRELOAD=device_shim.so and the environment
 *
 *   DEVICE_FAULT   write, short, sync, open or folder: which call fails
 *   DEVICE_ERROR   errno
 *   DEVICE_MARK    a file: while it is there, calls fail; so a test decides when it begins
 *   DEVICE_FOLDER  part of the path of the journal that is on the device
 *   DEVICE_LOG     a file: every sync of a segment and every call that failed, a line each
 *
 * `short` writes half of the bytes at first, then refuses. All of this is about segments (*.tpj) only, but for
 * `folder`, which is about the fsync of the folder itself. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is(const char *fault) {
    const char *wanted = getenv("DEVICE_FAULT"), *mark = getenv("DEVICE_MARK");
    return wanted && mark && !strcmp(wanted, fault) && access(mark, F_OK) == 0;
}

static int on_device(const char *path) {
    const char *folder = getenv("DEVICE_FOLDER");
    return folder && strstr(path, folder) != NULL;
}

static int is_segment(const char *path) {
    size_t n = strlen(path);
    return on_device(path) && n > 4 && !strcmp(path + n - 4, ".tpj");
}

static const char *path_of(int fd, char *path, size_t room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, room - 1);
    path[n > 0 ? n : 0] = 0;
    return path;
}

static void say(const char *what) {
    const char *log = getenv("DEVICE_LOG");
    FILE *file = log ? fopen(log, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s\n", what);
    fclose(file);
}

static int refuse(const char *what) {
    say(what);
    errno = atoi(getenv("DEVICE_ERROR"));
    return -1;
}

ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    static int halved;
    char path[4096];
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "write");
    if (is("write") && is_segment(path_of(fd, path, sizeof path))) return refuse("refused write");
    if (is("short") && is_segment(path_of(fd, path, sizeof path))) {
        if (halved++) return refuse("refused write");
        return real(fd, data, size / 2);
    }
    return real(fd, data, size);
}

int fdatasync(int fd) {
    static int (*real)(int);
    char path[4096];
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    if (is_segment(path_of(fd, path, sizeof path))) {
        if (is("sync")) return refuse("refused sync");
        say("sync");
    }
    return real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    char path[4096];
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    if (is("folder") && on_device(path_of(fd, path, sizeof path))) return refuse("refused folder");
    return real(fd);
}

static int opened(const char *name, const char *path, int flags, va_list more) {
    int (*real)(const char *, int, ...);
    *(void **)&real = dlsym(RTLD_NEXT, name);
    if ((flags & O_CREAT) && is("open") && is_segment(path)) return refuse("refused open");
    return flags & (O_CREAT | O_TMPFILE) ? real(path, flags, va_arg(more, mode_t)) : real(path, flags);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int fd = opened("open", path, flags, more);
    va_end(more);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int fd = opened("open64", path, flags, more);
    va_end(more);
    return fd;
}
