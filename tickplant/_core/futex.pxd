"""futex.h for Cython."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "futex.h" nogil:
    ctypedef uint32_t atomic32 "_Atomic uint32_t"
    ctypedef uint64_t atomic64 "_Atomic uint64_t"
    uint64_t tp_load "atomic_load_explicit"(const atomic64 *p, int order)
    void tp_store "atomic_store_explicit"(atomic64 *p, uint64_t value, int order)
    int memory_order_acquire, memory_order_release
    void tp_wake(atomic32 *word)
    uint64_t tp_wait_above(const atomic64 *value, uint64_t above, const atomic32 *word,
                           int64_t timeout_ns, uint32_t spins)
