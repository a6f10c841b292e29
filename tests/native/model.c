#include "model.h"
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { ARENA = 8192, PLACES = 80, MESSAGES = 40, THREADS = 4, STACK = 1 << 17, DEPTH = 4000 };
enum { RELAXED = 0, ACQUIRE = 2, RELEASE = 3, ACQ_REL = 4, SEQ_CST = 5 };
enum { READY, ASLEEP, OVER };

typedef struct {
    uint8_t at[PLACES]; /* of each place, the first message that may still be seen */
} view;

typedef struct {
    uint64_t value;
    view carries;
} message;

typedef struct {
    uintptr_t address;
    unsigned size;
    int n;
    message messages[MESSAGES];
} place;

typedef struct {
    ucontext_t context;
    void (*run)(void *);
    void *arg;
    int state;
    view now, on_acquire, on_release;
    char stack[STACK];
} thread;

static _Alignas(64) uint8_t arena[ARENA];
static size_t arena_used;
static place places[PLACES];
static thread threads[THREADS];
static int n_places, n_threads, current, preemptions_left;
static view fences, kernel; /* what the last seq_cst fence and the futex's lock have seen */
static ucontext_t outside;
static struct {
    uint16_t taken, of;
} path[DEPTH];
static int depth, known;

static void defect(const char *what) {
    printf("defect: %s\n", what);
    exit(1);
}

void model_must(int holds, const char *what) {
    if (!holds) defect(what);
}

/* One of n: as on the path, or the first that was not tried. */
static int choose(int n) {
    if (n == 1) return 0;
    if (depth == DEPTH) defect("an execution does not end");
    if (depth == known) {
        path[known].taken = 0;
        path[known++].of = (uint16_t)n;
    }
    return path[depth++].taken;
}

static void join(view *a, const view *b) {
    for (int i = 0; i < n_places; i++)
        if (b->at[i] > a->at[i]) a->at[i] = b->at[i];
}

/* Threads that may run: the current one first if it can go on. */
static int ready(int *out) {
    int n = 0;
    if (threads[current].state == READY) out[n++] = current;
    for (int i = 0; i < n_threads; i++)
        if (i != current && threads[i].state == READY) out[n++] = i;
    return n;
}

static void go_on(void) {
    int who[THREADS], n = ready(who), from = current;
    if (n == 0) {
        for (int i = 0; i < n_threads; i++)
            if (threads[i].state == ASLEEP) defect("lost wakeup: a reader sleeps for ever");
        setcontext(&outside);
    }
    int could = threads[current].state == READY;
    int next = could && preemptions_left == 0 ? 0 : choose(n);
    if (could && next) preemptions_left--;
    current = who[next];
    if (current != from) swapcontext(&threads[from].context, &threads[current].context);
}

static void run_thread(void) {
    threads[current].run(threads[current].arg);
    threads[current].state = OVER;
    go_on();
}

static place *place_of(const volatile void *address, unsigned size) {
    uintptr_t a = (uintptr_t)address;
    if (a < (uintptr_t)arena || a >= (uintptr_t)arena + ARENA) return NULL;
    for (int i = 0; i < n_places; i++) {
        place *p = &places[i];
        if (p->address == a && p->size == size) return p;
        if (a < p->address + p->size && p->address < a + size) defect("accesses of different sizes overlap");
    }
    if (n_places == PLACES) defect("too many places");
    place *p = &places[n_places++];
    *p = (place){.address = a, .size = size, .n = 1};
    memcpy(&p->messages[0].value, (void *)a, size);
    return p;
}

static uint8_t *seen(view *v, const place *p) { return &v->at[p - places]; }

static message *see(place *p, int i, int order) {
    thread *t = &threads[current];
    message *m = &p->messages[i];
    if (i > *seen(&t->now, p)) *seen(&t->now, p) = (uint8_t)i;
    join(&t->on_acquire, &t->now);
    join(&t->on_acquire, &m->carries);
    if (order == ACQUIRE || order >= ACQ_REL) join(&t->now, &m->carries);
    return m;
}

static void add(place *p, uint64_t value, int order, const view *with) {
    thread *t = &threads[current];
    if (p->n == MESSAGES) defect("too many stores");
    message *m = &p->messages[p->n];
    m->value = value;
    *seen(&t->now, p) = *seen(&t->on_acquire, p) = (uint8_t)p->n;
    m->carries = order >= RELEASE ? t->now : t->on_release;
    *seen(&m->carries, p) = (uint8_t)p->n++;
    if (with) join(&m->carries, with);
    memcpy((void *)p->address, &value, p->size);
}

static uint64_t load(const volatile void *address, unsigned size, int order) {
    place *p = place_of(address, size);
    uint64_t value = 0;
    if (!p) return memcpy(&value, (const void *)address, size), value;
    go_on();
    int first = *seen(&threads[current].now, p);
    return see(p, first + choose(p->n - first), order)->value;
}

static void store(volatile void *address, unsigned size, uint64_t value, int order) {
    place *p = place_of(address, size);
    if (!p) {
        memcpy((void *)address, &value, size);
        return;
    }
    go_on();
    add(p, value, order, NULL);
}

static uint64_t exchange(volatile void *address, unsigned size, uint64_t value, int order) {
    place *p = place_of(address, size);
    if (!p) defect("exchanges are of shared words");
    go_on();
    message *m = see(p, p->n - 1, order);
    uint64_t was = m->value;
    add(p, value, order, &m->carries);
    return was;
}

static void fence(int order) {
    thread *t = &threads[current];
    if (order == SEQ_CST) go_on();
    if (order != RELEASE) join(&t->now, &t->on_acquire);
    if (order == SEQ_CST) {
        join(&fences, &t->now);
        join(&t->now, &fences);
        join(&t->on_acquire, &t->now);
    }
    if (order != ACQUIRE) t->on_release = t->now;
}

static void plain(const void *address, unsigned size, int writes) {
    place *p = place_of(address, size);
    if (!p) return;
    if (*seen(&threads[current].now, p) != p->n - 1) defect("data race: a plain access does not see the last store");
    if (writes) add(p, 0, RELAXED, NULL);
}

long model_futex(long number, const void *word, int op, unsigned value, const void *timeout, void *none, int zero) {
    thread *t = &threads[current];
    (void)number, (void)timeout, (void)none, (void)zero;
    fence(SEQ_CST);
    join(&t->now, &kernel);
    if (op == FUTEX_WAIT) {
        place *p = place_of(word, 4);
        int first = *seen(&t->now, p);
        if (see(p, first + choose(p->n - first), RELAXED)->value != value) return errno = EAGAIN, -1;
        join(&kernel, &t->now);
        t->state = ASLEEP;
        go_on();
        join(&t->now, &kernel);
        return 0;
    }
    join(&kernel, &t->now);
    for (int i = 0; i < n_threads; i++)
        if (threads[i].state == ASLEEP) threads[i].state = READY;
    return 0;
}

void *model_shared(size_t size) {
    void *at = arena + arena_used;
    arena_used += (size + 63) / 64 * 64;
    if (arena_used > ARENA) defect("too much shared memory");
    return at;
}

void model_thread(void (*run)(void *), void *arg) {
    thread *t = &threads[n_threads++];
    if (n_threads > THREADS) defect("too many threads");
    memset(&t->now, 0, sizeof(view)), memset(&t->on_acquire, 0, sizeof(view)), memset(&t->on_release, 0, sizeof(view));
    t->run = run, t->arg = arg, t->state = READY;
    getcontext(&t->context);
    t->context.uc_stack.ss_sp = t->stack;
    t->context.uc_stack.ss_size = STACK;
    makecontext(&t->context, run_thread, 0);
}

static void execute(void (*begin)(void), int preemptions) {
    memset(arena, 0, arena_used);
    arena_used = 0;
    n_places = n_threads = depth = 0;
    memset(&fences, 0, sizeof fences), memset(&kernel, 0, sizeof kernel);
    begin();
    preemptions_left = preemptions;
    current = choose(n_threads);
    volatile int done = 0;
    getcontext(&outside);
    if (done) return;
    done = 1;
    setcontext(&threads[current].context);
}

long model_walk(void (*begin)(void), int preemptions) {
    for (long executions = 1;; executions++) {
        execute(begin, preemptions);
        while (known && path[known - 1].taken + 1 == path[known - 1].of) known--;
        if (!known) return executions;
        path[known - 1].taken++;
    }
}

/* What -fsanitize=thread makes of memory accesses. */
void __tsan_init(void) {}
void __tsan_func_entry(void *caller) { (void)caller; }
void __tsan_func_exit(void) {}
void __tsan_read_range(void *p, size_t n) { plain(p, (unsigned)n, 0); }
void __tsan_write_range(void *p, size_t n) { plain(p, (unsigned)n, 1); }
#define OF_SIZE(n, bits)                                                                               \
    void __tsan_read##n(void *p) { plain(p, n, 0); }                                                   \
    void __tsan_write##n(void *p) { plain(p, n, 1); }                                                  \
    void __tsan_unaligned_read##n(void *p) { plain(p, n, 0); }                                         \
    void __tsan_unaligned_write##n(void *p) { plain(p, n, 1); }                                        \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile void *p, int order) {                     \
        return (uint##bits##_t)load(p, n, order);                                                      \
    }                                                                                                  \
    void __tsan_atomic##bits##_store(volatile void *p, uint##bits##_t value, int order) {              \
        store(p, n, value, order);                                                                     \
    }                                                                                                  \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile void *p, uint##bits##_t value, int order) { \
        return (uint##bits##_t)exchange(p, n, value, order);                                           \
    }
OF_SIZE(1, 8) OF_SIZE(2, 16) OF_SIZE(4, 32) OF_SIZE(8, 64)
void __tsan_read16(void *p) { plain(p, 16, 0); }
void __tsan_write16(void *p) { plain(p, 16, 1); }
void __tsan_atomic_thread_fence(int order) { fence(order); }
