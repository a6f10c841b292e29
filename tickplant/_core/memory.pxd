"""Words of shared memory, and what is checked before an address in a mapping is handed to C."""

from libc.stdint cimport uint8_t, uint64_t

from tickplant._core.futex cimport atomic64


cdef inline int within(Py_ssize_t size, Py_ssize_t offset, uint64_t length) except -1:
    if offset < 0 or offset > size or length > <uint64_t>(size - offset):
        raise ValueError(f"bytes [{offset}, {offset} + {length}) are not within {size}")
    return 0


cdef inline int aligned(const void *at) except -1:
    if <size_t>at % 8:
        raise ValueError(f"address {<size_t>at:#x} is not a multiple of 8")
    return 0


cdef class Word:
    cdef const uint8_t[::1] held
    cdef atomic64 *p
    cdef bint writable
