/* Preloaded into a process (LD_PRELOAD), this counts every operation that changes a file below one folder, over all processes
 * that share a counter, and makes the k-th one go wrong:
 *
 *   FAULT_UNDER    the folder; operations elsewhere are left alone
 *   FAULT_COUNTER  a file of eight bytes, shared by all processes: operations so far
 *   FAULT_AT       k, from 1; 0 only counts
 *   FAULT_KIND     kill: SIGKILL before the operation; half: after half of the bytes of a write, else before;
 *                  full: from the k-th on, whatever needs space fails with ENOSPC, in every process;
 *                  readonly: from the k-th on, everything fails with EROFS
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static const char *under, *kind;
static size_t under_length;
static long at;
static long *counter;

static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULT_COUNTER"), *number = getenv("FAULT_AT");
    under = getenv("FAULT_UNDER");
    kind = getenv("FAULT_KIND");
    real_open = dlsym(RTLD_NEXT, "open");
    if (!file || !number || !under || !kind) return;
    under_length = strlen(under);
    at = atol(number);
    int handle = real_open(file, O_RDWR | O_CLOEXEC);
    if (handle < 0) return;
    void *shared = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (shared != MAP_FAILED) counter = shared;
}

static int is_below(const char *path) {
    return !strncmp(path, under, under_length) && (path[under_length] == '/' || !path[under_length]);
}

static int concerns_path(const char *path) { return counter && path && is_below(path); }

static int concerns_file(int file) {
    char link[64], path[PATH_MAX];
    if (!counter) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* 0: go on; 1: half, then die; else an errno. */
static int strike(int needs_space) {
    long now = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    if (at <= 0 || now < at) return 0;
    if (!strcmp(kind, "full")) return needs_space ? ENOSPC : 0;
    if (!strcmp(kind, "readonly")) return EROFS;
    if (now > at) return 0;
    if (!strcmp(kind, "half")) return 1;
    kill(getpid(), SIGKILL);
    return 0;
}

static void die(void) { kill(getpid(), SIGKILL); }

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define ANSWER(concerned, space, half_way, call)            \
    do {                                                    \
        if (concerned) {                                    \
            int what = strike(space);                       \
            if (what == 1) { half_way; die(); }             \
            if (what > 1) { errno = what; return -1; }      \
        }                                                   \
        return call;                                        \
    } while (0)

ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    ANSWER(concerns_file(file), 1, real(file, data, size / 2), real(file, data, size));
}

ssize_t pwrite(int file, const void *data, size_t size, off_t place) {
    REAL(pwrite);
    ANSWER(concerns_file(file), 1, real(file, data, size / 2, place), real(file, data, size, place));
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t place) {
    REAL(pwrite64);
    ANSWER(concerns_file(file), 1, real(file, data, size / 2, place), real(file, data, size, place));
}

int ftruncate(int file, off_t size) {
    REAL(ftruncate);
    ANSWER(concerns_file(file), 0, (void)0, real(file, size));
}

int ftruncate64(int file, off64_t size) {
    REAL(ftruncate64);
    ANSWER(concerns_file(file), 0, (void)0, real(file, size));
}

int fsync(int file) {
    REAL(fsync);
    ANSWER(concerns_file(file), 0, (void)0, real(file));
}

int fdatasync(int file) {
    REAL(fdatasync);
    ANSWER(concerns_file(file), 0, (void)0, real(file));
}

int rename(const char *from, const char *to) {
    REAL(rename);
    ANSWER(concerns_path(to), 0, (void)0, real(from, to));
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    ANSWER(concerns_path(path), 1, (void)0, real(path, mode));
}

int unlink(const char *path) {
    REAL(unlink);
    ANSWER(concerns_path(path), 0, (void)0, real(path));
}

static int opening(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    ANSWER((flags & O_CREAT) && concerns_path(path) && access(path, F_OK), 1, (void)0, real(path, flags, mode));
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    REAL(open);
    return opening(real, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    REAL(open64);
    return opening(real, path, flags, mode);
}
