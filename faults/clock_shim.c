/* A wall clock that can be stepped, for processes that run with LD_PRELOAD=clock_shim.so and the environment
 *
 *   CLOCK_OFFSET   a file of 8 bytes: ns, int64, that are added to the time since 1970
 *
 * The file is mapped, so that whoever writes to it steps the clock of all of them at once. Clocks that count from
 * somewhere else (CLOCK_MONOTONIC) are left alone, as they are when a host's time is set. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static const volatile int64_t *offset;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_OFFSET");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    *(void **)&real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (fd < 0) return;
    void *at = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) offset = at;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *to) {
    if (!real_gettime) begin();
    int failed = real_gettime(clock, to);
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t now = to->tv_sec * SECOND + to->tv_nsec + *offset;
        to->tv_sec = now / SECOND;
        to->tv_nsec = now % SECOND;
    }
    return failed;
}

int gettimeofday(struct timeval *to, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *to = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
