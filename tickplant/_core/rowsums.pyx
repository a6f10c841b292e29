# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Hashes of rows and of instruments' names, and their sums (rowsum.h)."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from tickplant._core.rowsum cimport TP_KEY_SIZE, tp_hash, tp_row_sum, tp_row_sums


def name_hash(bytes name):
    return tp_hash(0, <const uint8_t *>PyBytes_AS_STRING(name), len(name))


cdef _check_rows(Py_ssize_t n, uint32_t row_size):
    if row_size < TP_KEY_SIZE or n % row_size:
        raise ValueError(f"{n} bytes are not whole rows of {row_size} bytes")


def row_sum(const uint8_t[::1] rows, uint32_t row_size, const uint64_t[::1] names):
    """Sum of the row hashes of packed rows; names[code] is the hash of the instrument's name."""
    _check_rows(rows.shape[0], row_size)
    cdef uint64_t total = 0
    if rows.shape[0]:
        with nogil:
            total = tp_row_sum(&rows[0], rows.shape[0] // row_size, row_size, &names[0], names.shape[0])
    return total


def row_sums(const uint8_t[::1] rows, uint32_t row_size, const uint64_t[::1] names, uint64_t[::1] counts, uint64_t[::1] sums,
             uint64_t first=0, const int64_t[::1] numbers=None):
    """Add counts and sums per feed of packed rows to the arrays; returns the ordered sum of these rows."""
    _check_rows(rows.shape[0], row_size)
    cdef uint64_t n = rows.shape[0] // row_size, ordered = 0
    if numbers is not None and numbers.shape[0] != n:
        raise ValueError(f"{numbers.shape[0]} row numbers for {n} rows")
    if counts.shape[0] != sums.shape[0]:
        raise ValueError("counts and sums differ in length")
    cdef const int64_t *given = &numbers[0] if numbers is not None and n else NULL
    if n:
        with nogil:
            ordered = tp_row_sums(&rows[0], n, row_size, &names[0], names.shape[0], &counts[0], &sums[0],
                                  counts.shape[0], given, first)
    return ordered
