# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Words of shared memory that one process writes and others read or sleep on (futex.h); pages of it."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from tickplant._core.futex cimport (atomic32, atomic64, memory_order_acquire, memory_order_release, tp_load, tp_store,
                                     tp_wait_above, tp_wake)

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *address, size_t length, int advice)


def populate(uint8_t[::1] mapping, Py_ssize_t offset, uint64_t length):
    """Fault pages in for writing without holding the GIL (mmap.madvise holds it); False if the kernel can't."""
    cdef int MADV_POPULATE_WRITE = 23, failed
    within(mapping.shape[0], offset, length)
    if length == 0:
        return True
    with nogil:
        failed = madvise(&mapping[offset], length, MADV_POPULATE_WRITE)
    return failed == 0


cdef class Word:
    """A 64-bit counter in shared memory, loaded with acquire and stored with release."""

    def __init__(self, buffer, Py_ssize_t offset, bint writable=False):
        cdef uint8_t[::1] w
        if writable:
            w = buffer
            self.held = w
        else:
            self.held = buffer
        within(self.held.shape[0], offset, 8)
        aligned(&self.held[offset])
        self.p = <atomic64 *>&self.held[offset]
        self.writable = writable

    def load(self):
        return tp_load(self.p, memory_order_acquire)

    def store(self, uint64_t value):
        if not self.writable:
            raise TypeError("this word is mapped for reading")
        tp_store(self.p, value, memory_order_release)


cdef class Bell:
    """The wakeup (futex.h): a word that readers sleep on."""

    cdef Word word

    def __init__(self, Word word):
        self.word = word

    def ring(self):
        """Wake all sleepers: one system call."""
        if not self.word.writable:
            raise TypeError("this bell is mapped for reading")
        tp_wake(<atomic32 *>self.word.p)

    def wait_above(self, Word value, uint64_t above, int64_t timeout_ns, uint32_t spins=0):
        """The value once it is > above, or what it is after timeout_ns or 100 ms, whichever is sooner."""
        cdef uint64_t now
        cdef atomic64 *v = value.p
        cdef atomic32 *w = <atomic32 *>self.word.p
        with nogil:
            now = tp_wait_above(v, above, w, timeout_ns if timeout_ns > 0 else 0, spins)
        return now
