/* Sleeping on shared memory without a lock, a pipe or a cost to the writer when nobody sleeps.
 *
 * Two words: `word` (written by the plant, in a segment that readers map read-only) changes whenever sleepers are woken;
 * `sleepers` (the one page that readers may write) says that somebody may be asleep.
 *
 *   writer                                        reader
 *     make rows visible (release)                   seen = word
 *     fence(seq_cst)             SYNC POINT A       exchange(sleepers, 1)
 *     if (sleepers && exchange(sleepers, 0)) {      fence(seq_cst)                      SYNC POINT A
 *         word = word + 1                           look again: rows? then don't sleep
 *         FUTEX_WAKE(word, all)                     FUTEX_WAIT(word, seen)
 *     }
 *
 * The two fences (A) are a Dekker pair: either the writer sees the flag, or the reader sees the rows. The word changes
 * after the flag is cleared, and a reader reads it before it sets the flag: so if a flag is cleared by a writer whose rows
 * its reader has seen already, the word is no longer `seen`, FUTEX_WAIT returns at once, and the reader sets the flag
 * again. The flag is sticky, not a count: a reader that dies asleep costs one needless wake. A reader that clears the
 * flag out of malice delays others by one slice of TP_SLICE_NS, no more. */
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
static inline void tp_wake(_Atomic uint32_t *word, _Atomic uint32_t *sleepers) {
    atomic_thread_fence(memory_order_seq_cst); /* SYNC POINT A */
    if (!atomic_load_explicit(sleepers, memory_order_relaxed) || !atomic_exchange(sleepers, 0)) return;
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + 1, memory_order_release);
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Wait until *value > above, at most timeout_ns and never longer than one slice (the caller looks for signals and for a
 * dead writer between slices). Looks `spins` times before it sleeps. Returns the value last seen. */
static inline uint64_t tp_wait_above(const _Atomic uint64_t *value, uint64_t above, const _Atomic uint32_t *word,
                                     _Atomic uint32_t *sleepers, int64_t timeout_ns, uint32_t spins) {
    uint64_t now;
    do {
        if ((now = atomic_load_explicit(value, memory_order_acquire)) > above) return now;
    } while (spins--);
    uint32_t seen = atomic_load_explicit(word, memory_order_acquire);
    atomic_exchange(sleepers, 1);
    atomic_thread_fence(memory_order_seq_cst); /* SYNC POINT A */
    if ((now = atomic_load_explicit(value, memory_order_acquire)) > above) return now;
    tp_futex_wait(word, seen, timeout_ns < TP_SLICE_NS ? timeout_ns : TP_SLICE_NS);
    return atomic_load_explicit(value, memory_order_acquire);
}
#endif
