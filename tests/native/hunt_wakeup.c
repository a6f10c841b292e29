/* Hunts a lost wakeup: futex.h between a writer that rings for every number and readers that sleep for the next.
 *
 * The writer publishes bursts of any length and then often waits until every reader has seen the last of them, a moment
 * before the next: just while they fall asleep. A wakeup is lost if a sleep ended by its timeout although the ring for
 * what it waited for was over before the timeout was due; the clock makes that exact, however busy the machine. A writer
 * that was killed may have rung for nobody (word changed, nobody woken): the next one rings anew. */
#include "hunt.h"
#include <errno.h>
#include <sys/syscall.h>

#define TP_SLICE_NS INT64_C(300000000)

static long calls;
static int timed_out;

static long watched(long number, const void *word, int op, uint32_t value, const void *timeout, void *none, int zero) {
    calls++;
    long result = syscall(number, word, op, value, timeout, none, zero);
    timed_out = result < 0 && errno == ETIMEDOUT;
    return result;
}
#define syscall watched
#include "futex.h"

enum { RINGS = 4096, SPIN = 1000 };

typedef struct {
    _Alignas(128) _Atomic uint64_t count;
    _Alignas(128) _Atomic uint32_t word;
    _Alignas(128) _Atomic uint64_t rung; /* the ring for this number is over */
    struct {
        _Atomic uint64_t number;
        _Atomic int64_t ns; /* when it was over; of this number or a later one */
    } rings[RINGS];
} bell;

static void ring(bell *b, uint64_t number) {
    tp_wake(&b->word);
    atomic_store_explicit(&b->rings[number % RINGS].ns, hunt_ns(), memory_order_relaxed);
    set(&b->rings[number % RINGS].number, number);
    set(&b->rung, number);
}

static void writer(hunt *h, void *at) {
    bell *b = at;
    uint64_t number = get(&b->count);
    ring(b, number);
    while (number < h->upto) {
        for (uint32_t burst = below(2) ? 1 : 1 + below(2000); burst && number < h->upto; burst--) {
            set(&b->count, ++number);
            ring(b, number);
        }
        set(&h->updates, number);
        for (int i = 0; i < READERS && below(8); i++)
            for (int spin = 0; get(&h->readers[i].seen) < number; spin++)
                if (spin > SPIN) sched_yield();
        for (volatile uint32_t pause = below(below(400)); pause; pause--) continue;
    }
}

/* When the ring for a number, or for a later one, was over; INT64_MAX if it is not. */
static int64_t rung_ns(bell *b, uint64_t number) {
    if (get(&b->rings[number % RINGS].number) < number) return INT64_MAX;
    return atomic_load_explicit(&b->rings[number % RINGS].ns, memory_order_relaxed);
}

static void reader(hunt *h, void *at, int me) {
    bell *b = at;
    hunt_reader *r = &h->readers[me];
    uint64_t above = get(&r->seen);
    while (above < h->upto) {
        int64_t begin = hunt_ns();
        long before = calls;
        timed_out = 0;
        uint64_t now = tp_wait_above(&b->count, above, &b->word, INT64_MAX, below(4) ? 0 : below(200));
        int64_t ring = calls > before ? rung_ns(b, above + 1) : INT64_MAX;
        if (timed_out && ring < begin + TP_SLICE_NS)
            hunt_found(h, "lost wakeup: number %llu", (unsigned long long)above + 1);
        count(&r->reads);
        if (calls > before && now > above && !timed_out) {
            count(&r->other);
            int64_t late = hunt_ns() - ring;
            if (late > atomic_load(&r->longest_ns)) atomic_store(&r->longest_ns, late);
        }
        if (now < above) hunt_found(h, "number %llu after %llu", (unsigned long long)now, (unsigned long long)above);
        above = now;
        set(&r->seen, above);
    }
}

/* Not while somebody may be oversleeping: the next writer would wake it. */
static int all_awake(hunt *h, void *at) {
    for (int i = 0; i < READERS; i++)
        if (get(&h->readers[i].seen) < get(&((bell *)at)->rung)) return 0;
    return 1;
}

static void begin(void *at) { ((bell *)at)->word = UINT32_MAX - 5; }

/* Nobody sleeps: how many system calls do a thousand rings make? One each. */
static void count_calls(bell *b) {
    for (uint64_t i = 1; i <= 1000; i++) ring(b, i);
    printf("%ld system calls of 1000 rings\n", calls);
}

int main(int argc, char **argv) {
    static bell alone;
    static const hunt_kind kind = {.name = "wakeup", .size = sizeof(bell), .write = writer, .read = reader,
                                   .may_kill = all_awake, .other = "wakeups", .longest = "from ring to awake",
                                   .none = "lost 0"};
    if (argc > 1 && !strcmp(argv[1], "0")) {
        count_calls(&alone);
        return 0;
    }
    return hunt_main(argc, argv, &kind, begin);
}
