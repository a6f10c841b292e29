/* From a commit to who waits for it, one way and without Python: what bench_wake.py measures against.
 *
 *     wake HOW COUNT INTERVAL_NS [COMMITTED BELL]
 *
 * HOW  line   the reader spins on a cache line, which the writer stores a number to
 *      futex  the reader sleeps in FUTEX_WAIT, the writer stores a number and calls FUTEX_WAKE
 *      spin   the reader spins on a committed count, by tp_wait_above and tp_wake of futex.h
 *      sleep  the same, and it sleeps
 *
 * Two processes, the writer on the first processor and the reader on the last; the two words, each FILE:OFFSET, are
 * those of a table and its plant (the first two need none). Commit n of COUNT is due at start + n * INTERVAL_NS; the
 * writer sleeps until shortly before, and spins the rest. Prints, a line each, how many ns after it was due each commit
 * was seen. */
#define _GNU_SOURCE
#include "futex.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { SPIN_NS = 200000, MAP_BYTES = 16384 };

typedef struct {
    _Alignas(64) _Atomic uint64_t committed;
    _Alignas(64) _Atomic uint32_t bell;
    _Alignas(64) _Atomic uint32_t ready;
    _Alignas(64) int64_t start;
} page;

typedef struct {
    _Atomic uint64_t *committed;
    _Atomic uint32_t *bell;
} words;

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void settle(int committer) {
    cpu_set_t allowed, one;
    sched_getaffinity(0, sizeof allowed, &allowed);
    int at = committer ? 0 : CPU_SETSIZE - 1;
    while (!CPU_ISSET(at, &allowed)) at += committer ? 1 : -1;
    CPU_ZERO(&one);
    CPU_SET(at, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void until(int64_t due) {
    int64_t left = due - clock_ns() - SPIN_NS;
    if (left > 0) nanosleep(&(struct timespec){left / 1000000000, left % 1000000000}, NULL);
    while (clock_ns() < due) {}
}

static void commit(const char *how, words *w, uint64_t number) {
    if (!strcmp(how, "futex")) {
        atomic_store_explicit(w->bell, (uint32_t)number, memory_order_release);
        syscall(SYS_futex, w->bell, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
        return;
    }
    atomic_store_explicit(w->committed, number, memory_order_release);
    if (strcmp(how, "line")) tp_wake(w->bell);
}

static uint64_t await_above(const char *how, words *w, uint64_t have) {
    uint64_t now;
    if (!strcmp(how, "line")) {
        while ((now = atomic_load_explicit(w->committed, memory_order_acquire)) <= have) {}
    } else if (!strcmp(how, "futex")) {
        while ((now = atomic_load_explicit(w->bell, memory_order_acquire)) <= have)
            syscall(SYS_futex, w->bell, FUTEX_WAIT, (uint32_t)have, NULL, NULL, 0);
    } else {
        const uint32_t spins = strcmp(how, "sleep") ? UINT32_MAX : 0;
        while ((now = tp_wait_above(w->committed, have, w->bell, TP_SLICE_NS, spins)) <= have) {}
    }
    return now;
}

static int read_all(const char *how, words *w, page *p, uint64_t base, uint64_t count, int64_t interval) {
    int64_t *took = calloc(count, sizeof *took);
    uint64_t have = base;
    if (!took) return 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    settle(0);
    atomic_store(&p->ready, 1);
    while (have < base + count) {
        uint64_t now = await_above(how, w, have);
        int64_t at = clock_ns();
        for (; have < now; have++) took[have - base] = at - p->start - (int64_t)(have - base) * interval;
    }
    for (uint64_t i = 0; i < count; i++) printf("%lld\n", (long long)took[i]);
    return fflush(stdout) != 0;
}

static void *map_word(char *place) {
    char *colon = strrchr(place, ':');
    if (!colon) exit(2);
    *colon = 0;
    int fd = open(place, O_RDWR | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        perror(place);
        exit(2);
    }
    return (char *)at + atol(colon + 1);
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 6) return 2;
    page *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 2;
    words w = {&p->committed, &p->bell};
    if (argc == 6) w = (words){map_word(argv[4]), map_word(argv[5])};
    const uint64_t count = strtoull(argv[2], NULL, 10), base = atomic_load(w.committed);
    const int64_t interval = atoll(argv[3]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    pid_t reader = fork();
    if (reader < 0) return 2;
    if (reader == 0) return read_all(argv[1], &w, p, base, count, interval);
    settle(1);
    while (!atomic_load(&p->ready)) sched_yield();
    p->start = clock_ns() + 1000000 + interval;
    for (uint64_t i = 0; i < count; i++) {
        until(p->start + (int64_t)i * interval);
        commit(argv[1], &w, base + i + 1);
    }
    int status = 1;
    waitpid(reader, &status, 0);
    return status != 0;
}
