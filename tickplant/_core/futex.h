/* Sleeping on shared memory without a lock, a pipe, or a word that a reader writes.
 *
 * One word, written by the plant, in a segment that readers map read-only; each ring changes it.
 *
 *   writer                                        reader
 *     make rows visible                             seen = word (acquire)             SYNC POINT A
 *     word = word + 1 (release)  SYNC POINT A       look again: rows? then don't sleep
 *     FUTEX_WAKE(word, all)                         FUTEX_WAIT(word, seen)
 *
 * A reader that has read the changed word sees the rows (A). One that has not is refused by FUTEX_WAIT, which compares
 * the word under the lock that FUTEX_WAKE takes, or it is on the list by then and is woken.
 *
 * Each ring is a system call, also when nobody sleeps (0.7 us where an empty one takes 0.4). A flag by which sleepers
 * say that they are there would spare it; but memory that readers may write they may also cut short, and the writer
 * would end with SIGBUS. A reader can still move others from the word's list (FUTEX_REQUEUE needs no more than to read
 * it); that delays them by one slice of TP_SLICE_NS, no more. */
#ifndef TP_FUTEX_H
#define TP_FUTEX_H
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef TP_SLICE_NS
#define TP_SLICE_NS INT64_C(100000000)
#endif

static inline void tp_futex_wait(const _Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns) {
    struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    /* Not FUTEX_PRIVATE: the waker is another process. */
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0);
}

/* Call it after what sleepers wait for is visible. */
static inline void tp_wake(_Atomic uint32_t *word) {
    const uint32_t next = atomic_load_explicit(word, memory_order_relaxed) + 1;
    atomic_store_explicit(word, next, memory_order_release); /* SYNC POINT A */
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Wait until *value > above, at most timeout_ns and never longer than one slice (the caller looks for signals and for a
 * dead writer between slices). Looks `spins` times before it sleeps. Returns the value last seen. */
static inline uint64_t tp_wait_above(const _Atomic uint64_t *value, uint64_t above, const _Atomic uint32_t *word,
                                     int64_t timeout_ns, uint32_t spins) {
    uint64_t now;
    do {
        if ((now = atomic_load_explicit(value, memory_order_acquire)) > above) return now;
    } while (spins--);
    uint32_t seen = atomic_load_explicit(word, memory_order_acquire); /* SYNC POINT A */
    if ((now = atomic_load_explicit(value, memory_order_acquire)) > above) return now;
    tp_futex_wait(word, seen, timeout_ns < TP_SLICE_NS ? timeout_ns : TP_SLICE_NS);
    return atomic_load_explicit(value, memory_order_acquire);
}
#endif
