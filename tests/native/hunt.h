/* What the hunts share: one writer that is killed and begun again, readers that are killed too, and what they found.
 *
 * All of them are processes over one shared mapping and include the core's headers as they are. A hunt says what its
 * writer and reader do; a reader that sees what must not be calls hunt_found, and the hunt ends with exit status 1.
 * Usage of each: hunt_NAME UPDATES [SEED] */
#ifndef HUNT_H
#define HUNT_H
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { READERS = 2, FOUND = 1, USAGE = 2, MS = 1000000 };
#define PATIENCE_NS (INT64_C(20000) * MS) /* who does nothing for so long hangs */

typedef struct {
    _Alignas(128) _Atomic uint64_t reads, other, seen;
    _Atomic int64_t longest_ns;
} hunt_reader;

typedef struct {
    _Alignas(128) _Atomic uint64_t updates; /* the writers have done so many */
    _Alignas(128) _Atomic uint32_t quiet;   /* no writer lives just now */
    _Atomic uint32_t lives;                 /* of the writer */
    _Atomic int found;
    char what[200];
    uint64_t upto;
    hunt_reader readers[READERS];
} hunt;

typedef struct {
    const char *name;
    size_t size; /* of what is hunted in; the mapping has it after the struct hunt */
    void (*write)(hunt *h, void *at);
    void (*read)(hunt *h, void *at, int me); /* returns when all updates are done and seen */
    int (*may_kill)(hunt *h, void *at);      /* or NULL */
    int calm;                                /* are readers to go on reading while no writer lives? */
    const char *other, *longest, *none;      /* what hunt_reader.other counts and .longest_ns is; what was not found */
} hunt_kind;

static uint64_t hunt_state = 1;

static inline uint32_t below(uint32_t n) {
    hunt_state ^= hunt_state << 13, hunt_state ^= hunt_state >> 7, hunt_state ^= hunt_state << 17;
    return n ? (uint32_t)(hunt_state >> 32) % n : 0;
}

static inline int64_t hunt_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static inline uint64_t get(const _Atomic uint64_t *word) { return atomic_load_explicit(word, memory_order_acquire); }

static inline void set(_Atomic uint64_t *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_release);
}

/* For words that only one process writes. */
static inline void count(_Atomic uint64_t *word) {
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* A defect: said by the first who finds one. */
static inline _Noreturn void hunt_found(hunt *h, const char *format, ...) {
    int none = 0;
    if (atomic_compare_exchange_strong(&h->found, &none, 1)) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(h->what, sizeof h->what, format, arguments);
        va_end(arguments);
    }
    _exit(FOUND);
}

static inline pid_t hunt_process(hunt *h, const hunt_kind *kind, int me, uint64_t seed) {
    pid_t parent = getpid(), pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(USAGE);
    hunt_state = (seed * READERS + (uint64_t)me + 2) * 0x9e3779b97f4a7c15ull | 1;
    void *at = (char *)h + sizeof(hunt);
    if (me < 0) kind->write(h, at);
    else kind->read(h, at, me);
    _exit(0);
}

/* Has it ended? It must not end but well. */
static inline int hunt_over(hunt *h, pid_t pid, int wait) {
    int status = 0;
    if (waitpid(pid, &status, wait ? 0 : WNOHANG) == 0) return 0;
    if (status && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) atomic_store(&h->found, 1);
    return WIFEXITED(status);
}

static inline void hunt_kill(hunt *h, pid_t *pid) {
    kill(*pid, SIGKILL);
    hunt_over(h, *pid, 1);
    *pid = 0;
}

/* While no writer lives: each reader reads on, unless all is done. */
static inline void hunt_quiet(hunt *h, const hunt_kind *kind) {
    atomic_store(&h->quiet, 1);
    int64_t begin = hunt_ns();
    for (int i = 0; i < READERS && kind->calm; i++) {
        uint64_t from = get(&h->readers[i].reads);
        while (get(&h->readers[i].reads) < from + 20 && get(&h->updates) < h->upto && !atomic_load(&h->found)) {
            sched_yield();
            if (hunt_ns() - begin <= PATIENCE_NS) continue;
            snprintf(h->what, sizeof h->what, "a reader hangs when its writer was killed");
            atomic_store(&h->found, 1);
        }
    }
    atomic_store(&h->quiet, 0);
}

static inline void hunt_report(const hunt *h, const hunt_kind *kind, uint64_t killed, uint64_t readers_killed,
                               int64_t began) {
    uint64_t reads = 0, other = 0;
    int64_t longest = 0;
    for (int i = 0; i < READERS; i++) {
        reads += h->readers[i].reads;
        other += h->readers[i].other;
        if (h->readers[i].longest_ns > longest) longest = h->readers[i].longest_ns;
    }
    printf("%s: updates %llu, reads %llu, %s %llu, longest %s %lld us, "
           "writers killed %llu, readers killed %llu, %s, %.1f s\n",
           kind->name, (unsigned long long)h->updates, (unsigned long long)reads, kind->other,
           (unsigned long long)other, kind->longest, (long long)longest / 1000, (unsigned long long)killed,
           (unsigned long long)readers_killed, kind->none, (double)(hunt_ns() - began) / 1e9);
}

/* Kill and begin again until a writer has come to the end. */
static inline void hunt_supervise(hunt *h, const hunt_kind *kind, uint64_t seed) {
    uint64_t killed = 0, readers_killed = 0;
    int64_t began = hunt_ns();
    pid_t writer = 0, readers[READERS] = {0};
    for (;;) {
        for (int i = 0; i < READERS; i++)
            if (!readers[i]) readers[i] = hunt_process(h, kind, i, ++seed);
        if (!writer) {
            atomic_fetch_add(&h->lives, 1);
            writer = hunt_process(h, kind, -1, ++seed);
        }
        nanosleep(&(struct timespec){0, (long)below(40 * MS)}, NULL);
        for (int i = 0; i < READERS; i++)
            if (hunt_over(h, readers[i], 0)) readers[i] = 0;
        if (atomic_load(&h->found)) break;
        if (hunt_over(h, writer, 0)) {
            writer = 0;
            break;
        }
        if (kind->may_kill && !kind->may_kill(h, (char *)h + sizeof(hunt))) continue;
        if (below(8) == 0) {
            int i = (int)below(READERS);
            if (readers[i]) hunt_kill(h, &readers[i]), readers_killed++;
            continue;
        }
        hunt_kill(h, &writer), killed++;
        hunt_quiet(h, kind);
    }
    int bad = atomic_load(&h->found);
    if (bad && writer) hunt_kill(h, &writer);
    for (int i = 0; i < READERS; i++) {
        if (bad && readers[i]) kill(readers[i], SIGKILL);
        if (readers[i]) hunt_over(h, readers[i], 1);
    }
    if (atomic_load(&h->found)) {
        printf("%s: %s\n", kind->name, h->what[0] ? h->what : "a process ended badly");
        exit(FOUND);
    }
    hunt_report(h, kind, killed, readers_killed, began);
}

static inline int hunt_main(int argc, char **argv, const hunt_kind *kind, void (*begin)(void *at)) {
    if (argc < 2) return USAGE;
    hunt *h = mmap(NULL, sizeof(hunt) + kind->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (h == MAP_FAILED) return USAGE;
    h->upto = strtoull(argv[1], NULL, 10);
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    hunt_state = seed * 0x9e3779b97f4a7c15ull | 1;
    if (begin) begin((char *)h + sizeof(hunt));
    hunt_supervise(h, kind, seed << 32);
    return 0;
}
#endif
